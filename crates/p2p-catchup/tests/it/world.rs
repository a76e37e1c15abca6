//! A small world in virtual time: a chain that grows, peers of all kinds, a lossy network, and a node that
//! does what the client does around the machine.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use fastrand::Rng;
use p2p_catchup::{
    Backoff, CatchUp, CatchUpConfig, Failure, ImportVerdict, Input, Output, Reply, Request, RequestId,
};
use p2p_types::{Address, B256, BlockNumber, Head, HeadSyncStatus, Offence, PeerId};
use p2p_validation::Authenticated;

use crate::{
    chain::{self, head_of, peer},
    peers::{Kind, LENGTH, blocks},
};

/// How long gossip may take to bring a list.
const TXLIST_GRACE: Duration = Duration::from_millis(500);

/// How long gossip may take to bring a parent, and for how long a parent keeps us from being live that nobody has.
const GAP_GRACE: Duration = Duration::from_millis(500);
const WAITING_TTL: Duration = Duration::from_secs(4);

/// After which a reply does not count.
const DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) kind: Kind,
    pub(crate) up: bool,
    /// What it last told the machine since it came.
    told: Option<BlockNumber>,
    /// Pages asked of it that can have failed since one of its pages moved the head.
    pages_asked: usize,
    /// Those of them without a reply.
    pages_open: BTreeSet<RequestId>,
}

enum Event {
    Reply {
        id: RequestId,
        from: PeerId,
        reply: Reply,
    },
    Import {
        id: RequestId,
        from: PeerId,
        page: Vec<Authenticated>,
    },
    Gossip(usize),
    GossipTxList(BlockNumber),
    /// An elected preconfer signs something on a parent that does not exist.
    Invent,
    /// The settled tip moves, or is told again.
    Settle,
    Stored(B256),
    Grow,
    Toggle(PeerId),
}

/// What the world does to messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Share of requests that get no reply.
    pub(crate) loss: f64,
    /// Share of pages whose schedule is not known.
    pub(crate) deferred: f64,
    /// Whether blocks are made and peers come and go.
    pub(crate) busy: bool,
    /// Whether an elected preconfer invents parents.
    pub(crate) invents: bool,
    /// Whether the base moves every second.
    pub(crate) settles: bool,
}

pub(crate) const CALM: Weather =
    Weather { loss: 0.0, deferred: 0.0, busy: false, invents: false, settles: false };

/// Most of what an inventor has in the pool.
const INVENTED: usize = 20;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) machine: CatchUp,
    pub(crate) begun: Instant,
    pub(crate) now: Instant,
    pub(crate) weather: Weather,
    pub(crate) actors: BTreeMap<PeerId, Actor>,
    pub(crate) reports: Vec<(PeerId, Offence)>,
    /// Blocks that exist.
    pub(crate) height: usize,
    /// The node's store.
    pub(crate) chain: Vec<Authenticated>,
    lists: BTreeSet<B256>,
    /// Until when gossip may bring a list that is not here.
    fresh: BTreeMap<B256, Instant>,
    pool: BTreeMap<BlockNumber, Authenticated>,
    /// Heights and parents of what an inventor has signed.
    invented: VecDeque<(BlockNumber, B256)>,
    inventions: u64,
    pub(crate) base: BlockNumber,
    /// Pages asked for in all.
    pub(crate) pages_asked: usize,
    /// Since when something waits above the head.
    waits_since: Option<Instant>,
    /// What has waited there until it expired.
    expired: Option<BlockNumber>,
    /// Whose head was asked when, of those that have not left since.
    heads_asked: BTreeMap<RequestId, (PeerId, Instant)>,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    pub(crate) steps: u64,
    pub(crate) statuses: u64,
    pub(crate) was_live: u64,
    trace: Option<DefaultHasher>,
}

impl World {
    pub(crate) fn new(seed: u64, height: usize, kinds: &[Kind]) -> Self {
        let config = CatchUpConfig {
            page_size: 4.try_into().unwrap(),
            pages_in_flight: 3.try_into().unwrap(),
            txlists_in_flight: 6.try_into().unwrap(),
            txlists_per_peer: 3.try_into().unwrap(),
            missing_txlists_limit: 8.try_into().unwrap(),
            head_peers: 2.try_into().unwrap(),
            head_refresh: Duration::from_secs(4),
            head_stale: Duration::from_secs(12),
            request_deadline: DEADLINE,
            txlist_grace: TXLIST_GRACE,
            gap_grace: GAP_GRACE,
            waiting_ttl: WAITING_TTL,
            backoff: Backoff { max: Duration::from_secs(10), ..Backoff::recommended() },
            exclude_for: Duration::from_secs(60),
            ..Default::default()
        };
        let begun = Instant::now();
        let mut world = Self {
            rng: Rng::with_seed(seed),
            machine: CatchUp::new(config, seed).unwrap(),
            begun,
            now: begun,
            weather: CALM,
            actors: BTreeMap::new(),
            reports: Vec::new(),
            height,
            chain: Vec::new(),
            lists: BTreeSet::new(),
            fresh: BTreeMap::new(),
            pool: BTreeMap::new(),
            invented: VecDeque::new(),
            inventions: 0,
            base: 0,
            pages_asked: 0,
            waits_since: None,
            expired: None,
            heads_asked: BTreeMap::new(),
            events: BTreeMap::new(),
            count: 0,
            steps: 0,
            statuses: 0,
            was_live: 0,
            trace: None,
        };
        for (n, &kind) in kinds.iter().enumerate() {
            world.actors.insert(
                peer(n as u8),
                Actor { kind, up: false, told: None, pages_asked: 0, pages_open: BTreeSet::new() },
            );
        }
        world
    }

    pub(crate) fn traced(mut self) -> Self {
        self.trace = Some(DefaultHasher::new());
        self
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace.as_ref().unwrap().finish()
    }

    /// Starts with the first `stored` true blocks, and with a fork on top of them if `forked`.
    pub(crate) fn start(&mut self, stored: usize, forked: bool) {
        let take = stored.saturating_sub(if forked { 2 } else { 0 });
        let mut chain = blocks().truth[..take].to_vec();
        if forked && stored >= 2 {
            chain.extend(blocks().forks[take].iter().take(1 + self.rng.usize(..2)).cloned());
        }
        for block in &chain {
            self.lists.insert(block.txlist_hash().unwrap());
        }
        self.chain = chain;
        let head = self.head();
        self.input(Input::Start { base: 0, head });
        if self.weather.busy {
            self.later(2_000, Event::Grow);
        }
        if self.weather.invents {
            self.later(500, Event::Invent);
        }
        if self.weather.settles {
            self.later(1_000, Event::Settle);
        }
        for (id, kind) in self.actors.iter().map(|(id, actor)| (*id, actor.kind)).collect::<Vec<_>>() {
            if kind == Kind::Flapper || self.weather.busy {
                self.later(3_000, Event::Toggle(id));
            }
        }
    }

    pub(crate) fn head(&self) -> Option<Head> {
        self.chain.last().map(head_of).filter(|head| head.number > self.base)
    }

    pub(crate) fn set_up(&mut self, id: PeerId, up: bool) {
        self.heads_asked.retain(|_, (asked, _)| *asked != id);
        let actor = self.actors.get_mut(&id).unwrap();
        if actor.up != up {
            // What it owes is remembered.
            (actor.up, actor.told) = (up, None);
            actor.pages_open.clear();
            self.input(if up { Input::PeerUp(id) } else { Input::PeerDown(id) });
        }
    }

    pub(crate) fn all_up(&mut self) {
        for id in self.actors.keys().copied().collect::<Vec<_>>() {
            self.set_up(id, true);
        }
    }

    fn later(&mut self, within_millis: u64, event: Event) {
        self.count += 1;
        let at = self.now + Duration::from_millis(1 + self.rng.u64(..within_millis));
        self.events.insert((at, self.count), event);
    }

    /// The next thing that happens. False if nothing ever will.
    pub(crate) fn step(&mut self) -> bool {
        self.steps += 1;
        let event = self.events.first_key_value().map(|(&(at, _), _)| at);
        let deadline = self.machine.next_deadline();
        let Some(at) = event.into_iter().chain(deadline).min() else {
            return false;
        };
        assert!(at >= self.now);
        self.now = at;
        if event == Some(at) {
            let (_, event) = self.events.pop_first().unwrap();
            self.happen(event);
        } else {
            self.input(Input::Tick);
            assert!(self.machine.next_deadline().is_none_or(|next| next > at), "busy loop");
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Reply { id, from, reply } => {
                let asked = self.heads_asked.remove(&id);
                for actor in self.actors.values_mut() {
                    actor.pages_open.remove(&id);
                }
                if let Reply::Head { block } = reply
                    && asked.is_some_and(|(_, at)| self.now < at + DEADLINE)
                    && let Some(actor) = self.actors.get_mut(&from).filter(|actor| actor.up)
                {
                    actor.told = Some(block);
                }
                self.input(Input::Reply { id, from, reply });
            }
            Event::Import { id, from, page } => self.import(id, from, &page),
            Event::Grow => {
                if self.height < LENGTH && self.weather.busy {
                    self.height += 1;
                    if self.rng.f64() < 0.7 {
                        self.later(300, Event::Gossip(self.height - 1));
                    }
                    if self.rng.f64() < 0.5 {
                        self.later(600, Event::GossipTxList(self.height as u64));
                    }
                    self.later(2_000, Event::Grow);
                }
            }
            Event::Gossip(index) => self.gossip(&blocks().truth[index]),
            Event::GossipTxList(block) => {
                let hash = chain::txlist(block).hash();
                if self.lists.insert(hash) {
                    self.input(Input::TxListStored { hash });
                }
            }
            Event::Stored(hash) => {
                // Whoever wanted it may be gone.
                if self.chain.iter().any(|block| block.txlist_hash() == Some(hash)) {
                    self.lists.insert(hash);
                    self.input(Input::TxListStored { hash });
                }
            }
            Event::Invent => {
                if self.weather.invents {
                    self.invent();
                    self.later(500, Event::Invent);
                }
            }
            Event::Settle => {
                if self.weather.settles {
                    self.settle();
                    self.later(1_000, Event::Settle);
                }
            }
            Event::Toggle(id) => {
                let actor = &self.actors[&id];
                if self.weather.busy || actor.kind == Kind::Flapper {
                    let up = !actor.up;
                    self.set_up(id, up);
                    let within = if self.actors[&id].kind == Kind::Flapper { 1_500 } else { 8_000 };
                    self.later(within, Event::Toggle(id));
                }
            }
        }
    }

    /// A commitment on a parent that does not exist, at any height that is plausible; the oldest make room.
    fn invent(&mut self) {
        self.inventions += 1;
        let mut parent = B256::repeat_byte(0xee);
        parent[..8].copy_from_slice(&self.inventions.to_be_bytes());
        let block = self.rng.u64(2..self.chain.len() as u64 + 20);
        self.invented.push_back((block, parent));
        if self.invented.len() > INVENTED
            && let Some((_, parent)) = self.invented.pop_front()
        {
            self.input(Input::OrphanGone { parent });
        }
        self.input(Input::Orphan { block, parent, signer: Address::repeat_byte(0x66) });
        self.tell_waiting();
    }

    /// The base moves, or is told once more; all that waits is judged anew. What may still be switched stays above it.
    fn settle(&mut self) {
        let truth =
            self.chain.iter().zip(&blocks().truth).take_while(|(ours, truth)| ours.hash() == truth.hash());
        let settled = (truth.count() as u64).min((self.height as u64).saturating_sub(8));
        self.base = self.base.max(settled.min(self.base + self.rng.u64(..3)));
        let (base, head) = (self.base, self.head());
        self.input(Input::Settled { base });
        self.input(Input::Applied { head });
        for (block, parent) in self.invented.clone() {
            self.input(Input::OrphanGone { parent });
            self.input(Input::Orphan { block, parent, signer: Address::repeat_byte(0x66) });
        }
        self.tell_waiting();
    }

    /// Stores a block that links, with what its transaction list needs.
    fn store(&mut self, block: &Authenticated, live: bool) {
        let index = block.block() as usize - 1;
        for dropped in self.chain.drain(index..).collect::<Vec<_>>() {
            let hash = dropped.txlist_hash().unwrap();
            self.fresh.remove(&hash);
            self.input(Input::TxListNotNeeded { block: dropped.block(), hash });
        }
        self.chain.push(block.clone());
        let hash = block.txlist_hash().unwrap();
        if !self.lists.contains(&hash) {
            if live {
                self.fresh.entry(hash).or_insert(self.now + TXLIST_GRACE);
            }
            self.input(Input::TxListMissing { block: block.block(), hash, live });
        }
    }

    fn links(&self, block: &Authenticated) -> bool {
        match block.block() {
            1 => true,
            number => {
                self.chain.get(number as usize - 2).is_some_and(|parent| parent.hash() == block.parent_hash())
            }
        }
    }

    fn knows(&self, block: &Authenticated) -> bool {
        self.chain.get(block.block() as usize - 1).is_some_and(|known| known.hash() == block.hash())
    }

    /// What waited and links now.
    fn drain_pool(&mut self, live: bool) {
        while let Some(block) =
            self.pool.get(&(self.chain.len() as u64 + 1)).filter(|block| self.links(block)).cloned()
        {
            self.store(&block, live);
        }
        let reached = self.chain.len() as u64;
        let waiting = self.pool.split_off(&(reached + 1));
        let gone = std::mem::replace(&mut self.pool, waiting);
        for block in gone.values() {
            self.input(Input::OrphanGone { parent: block.parent_hash() });
        }
        if !gone.is_empty() {
            self.tell_waiting();
        }
    }

    fn level(&self) -> Option<BlockNumber> {
        let invented = self.invented.iter().map(|(block, _)| *block).max();
        invented.max(self.pool.last_key_value().map(|(&block, _)| block))
    }

    /// Tells the level of what waits.
    fn tell_waiting(&mut self) {
        let highest = self.level();
        self.input(Input::Waiting { highest });
    }

    /// Notes since when something waits above the head, unless its wait has expired.
    fn note_waiting(&mut self) {
        let above = self.level().filter(|level| *level > self.chain.len() as u64);
        let expired = self.waits_since.is_some_and(|since| self.now >= since + WAITING_TTL);
        if expired {
            self.expired = self.expired.max(above);
        }
        let anew = above.is_some() && above > self.expired;
        self.waits_since = above.and(self.waits_since.or(anew.then_some(self.now)));
    }

    fn gossip(&mut self, block: &Authenticated) {
        if self.knows(block) {
            return;
        }
        if self.links(block) {
            self.store(block, true);
            self.drain_pool(true);
            let head = self.head();
            self.input(Input::Applied { head });
        } else {
            self.pool.insert(block.block(), block.clone());
            let signer = block.recovered().signer();
            self.input(Input::Orphan { block: block.block(), parent: block.parent_hash(), signer });
            self.tell_waiting();
        }
    }

    fn import(&mut self, id: RequestId, from: PeerId, page: &[Authenticated]) {
        let before = self.head();
        let mut verdict = ImportVerdict::Linked;
        for (index, block) in page.iter().enumerate() {
            if block.recovered().signer() != blocks().truth[0].recovered().signer() {
                verdict = ImportVerdict::Unusable { index };
                break;
            }
            if self.rng.f64() < self.weather.deferred {
                verdict = ImportVerdict::Deferred;
                break;
            }
            if self.knows(block) {
                continue;
            }
            if !self.links(block) {
                verdict = ImportVerdict::Unlinked { index };
                break;
            }
            self.store(block, false);
        }
        self.drain_pool(false);
        let head = self.head();
        if head != before
            && let Some(actor) = self.actors.get_mut(&from)
        {
            actor.pages_asked = actor.pages_open.len();
        }
        let applied_first = self.rng.bool();
        if head != before && applied_first {
            self.input(Input::Applied { head });
        }
        self.input(Input::Imported { id, head, verdict });
        if head != before && !applied_first {
            self.input(Input::Applied { head });
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.note_waiting();
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll_output() {
            if let Some(trace) = &mut self.trace {
                (self.now - self.begun).hash(trace);
                format!("{output:?}").hash(trace);
            }
            match output {
                Output::Send { id, to, request } => self.asked(id, to, request),
                Output::Import { id, from, page } => self.later(100, Event::Import { id, from, page }),
                Output::TxList { txlist, .. } => self.later(50, Event::Stored(txlist.hash())),
                Output::Report { peer, offence } => self.reports.push((peer, offence)),
                Output::Status(status) => {
                    self.statuses += 1;
                    self.was_live += u64::from(status.is_live());
                }
            }
        }
        // Between a block stored and the head told, the machine cannot know.
    }

    fn asked(&mut self, id: RequestId, to: PeerId, request: Request) {
        let actor = self.actors.get_mut(&to).unwrap();
        assert!(actor.up, "asked a peer that is not there");
        if request == Request::Head {
            self.heads_asked.insert(id, (to, self.now));
        }
        if matches!(request, Request::Page { .. }) {
            actor.pages_asked += 1;
            self.pages_asked += 1;
            actor.pages_open.insert(id);
        }
        let kind = actor.kind;
        let lost = self.rng.f64() < self.weather.loss;
        if let Some(reply) = kind.answer(request, self.height).filter(|_| !lost) {
            let within = if self.rng.u8(..20) == 0 { 4_000 } else { 300 };
            self.later(within, Event::Reply { id, from: to, reply });
        } else if self.rng.bool() {
            self.later(1_000, Event::Reply { id, from: to, reply: Reply::Failed(Failure::NotAnswered) });
        }
    }

    /// What live means: nothing that the node has been told of is missing.
    pub(crate) fn check(&self) {
        let HeadSyncStatus::Live { head } = self.machine.status() else {
            return;
        };
        assert_eq!(head, self.head(), "the head told is the head stored");
        let fresh = |hash| self.fresh.get(&hash).is_some_and(|until| *until >= self.now);
        let lacks = self.chain.iter().find(|block| {
            let hash = block.txlist_hash().unwrap();
            !self.lists.contains(&hash) && !fresh(hash)
        });
        assert!(lacks.is_none(), "live without the txlist of {:?}", lacks.map(Authenticated::block));
        let applied = self.chain.len() as u64;
        if let Some(since) = self.waits_since {
            let waits = self.now - since;
            let missing = waits > GAP_GRACE && waits < WAITING_TTL;
            assert!(!missing, "live at {applied} while {:?} waits since {waits:?}", self.level());
        }
        for (id, actor) in self.actors.iter().filter(|(_, actor)| actor.up && actor.kind == Kind::Honest) {
            // A peer that left pages unanswered again and again has lost its say for a while.
            assert!(
                actor.told.is_none_or(|told| told <= applied) || actor.pages_asked >= 3,
                "live at {applied} while {id} is honest and says {:?}",
                actor.told
            );
        }
    }

    /// Whether everything that exists is here, and the machine knows.
    pub(crate) fn is_done(&self) -> bool {
        self.machine.status().is_live()
            && self.chain.len() == self.height
            && self.chain.iter().zip(&blocks().truth).all(|(ours, true_one)| ours.hash() == true_one.hash())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.begun
    }

    pub(crate) fn run_until(&mut self, end: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        while self.elapsed() < end {
            if done(self) {
                return true;
            }
            if !self.step() {
                return done(self);
            }
            self.check();
        }
        false
    }
}
