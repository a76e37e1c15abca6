//! The machine: inputs are dealt with, then everything that can be done is done.

use std::time::Instant;

use p2p_types::{BlockNumber, HeadSyncStatus, Offence, PeerId, Stall, UnixSeconds};

use crate::{
    CatchUpConfig, ConfigError, Failure, Input, Output, Reply, RequestId,
    chain::{Chain, Moved},
    context::{Asked, Context, Purpose},
    heads::Heads,
    imports::Importing,
    pages::{Answer, Page, Pages},
    peers::PATIENCE,
    rate::Rate,
    time::{Agenda, after},
    txlists::TxLists,
    walks::Walks,
};

/// Brings a node from any gap to live. See the crate's documentation for the rules.
///
/// Drive it with [`handle`](Self::handle) for each input; then take outputs until there is none, and come
/// back with the next input, or with [`Input::Tick`] at [`next_deadline`](Self::next_deadline).
#[derive(Debug)]
#[must_use]
pub struct CatchUp {
    pub(crate) ctx: Context,
    pub(crate) chain: Chain,
    pub(crate) heads: Heads,
    pub(crate) pages: Pages,
    pub(crate) walks: Walks,
    pub(crate) txlists: TxLists,
    /// The page that the caller is importing.
    pub(crate) importing: Option<Importing>,
    /// Pages have moved the head since heads were asked for the last time.
    pub(crate) progressed: bool,
    /// The height to reach when it was last looked at.
    last_target: BlockNumber,
    /// Everybody has been asked in vain, and nothing has come since.
    pub(crate) stuck: bool,
    /// When something was first seen above the head, if it still is.
    gap_since: Option<Instant>,
    rate: Rate,
    /// The wall clock's time at a moment.
    wall: Option<(Instant, UnixSeconds)>,
    stalled_since: Option<UnixSeconds>,
    /// No block can be above this, by the schedule.
    ceiling: Option<BlockNumber>,
    deadline: Option<Instant>,
    status: HeadSyncStatus,
    told: HeadSyncStatus,
}

impl CatchUp {
    /// A machine that waits for [`Input::Start`]. The same seed and the same inputs give the same outputs.
    ///
    /// # Errors
    /// [`ConfigError`] if the settings do not go together.
    pub fn new(config: CatchUpConfig, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            ctx: Context::new(config, seed),
            chain: Chain::default(),
            heads: Heads::default(),
            pages: Pages::default(),
            walks: Walks::default(),
            txlists: TxLists::default(),
            importing: None,
            progressed: false,
            last_target: 0,
            stuck: false,
            gap_since: None,
            rate: Rate::default(),
            wall: None,
            stalled_since: None,
            ceiling: None,
            deadline: None,
            status: HeadSyncStatus::Idle,
            told: HeadSyncStatus::Idle,
        })
    }

    /// Says what the wall clock shows at a moment: what is told of time in the status follows from it. Without
    /// it, time is counted from the first input on.
    pub const fn set_wall_clock(&mut self, now: Instant, unix: UnixSeconds) {
        self.wall = Some((now, unix));
    }

    /// Takes in what happened. `now` must not go back.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let mut agenda = Agenda::new(now);
        self.wall.get_or_insert((now, UnixSeconds::new(0)));
        let (started, before) = (self.chain.started, self.chain.applied());
        self.take_in(now, input);
        match self.chain.applied() {
            applied if applied < before || started != self.chain.started => self.rate.restart(now, applied),
            applied if applied > before => self.rate.reached(now, applied),
            _ => {}
        }
        for (id, peer) in self.ctx.overdue(&mut agenda) {
            self.fail(now, id, peer, Failure::NotAnswered);
        }
        self.status = self.plan(&mut agenda);
        // What was asked for just now has a deadline too.
        self.ctx.overdue(&mut agenda);
        self.deadline = agenda.next();
    }

    /// The next thing to do, if there is one. The status comes last, and only if it is another than the
    /// last one that came out here.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.ctx.outputs.pop_front() {
            return Some(output);
        }
        (self.told != self.status).then(|| {
            self.told = self.status;
            Output::Status(self.status)
        })
    }

    /// When to come back with [`Input::Tick`] if nothing else happens; none if there is nothing to wait for.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Where catch-up stands.
    #[must_use]
    pub const fn status(&self) -> HeadSyncStatus {
        self.status
    }

    fn take_in(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start { base, head } => {
                self.chain.start(base, head);
                self.pages.clear();
                self.walks.restart(base);
                self.outdate_import();
                self.heads.doubt();
                self.hope();
            }
            Input::PeerUp(peer) => {
                if self.ctx.peers.up(peer) && self.chain.started {
                    self.hope();
                    self.heads.greet(&mut self.ctx, now, peer);
                }
            }
            Input::PeerDown(peer) => self.peer_down(now, peer),
            Input::Reply { id, from, reply } => self.reply(now, id, from, reply),
            Input::Imported { id, head, verdict } => self.imported(now, id, head, verdict),
            Input::Applied { head } => {
                let moved = self.chain.move_head(head);
                if let Some(head) = self.chain.head() {
                    self.walks.settle([head.hash]);
                }
                match moved {
                    Moved::No => {}
                    Moved::Up => self.hope(),
                    Moved::Back => {
                        self.pages.clear();
                        self.walks.stop();
                        self.ctx.peers.forget_claims();
                        self.heads.doubt();
                        self.hope();
                        self.outdate_import();
                    }
                }
            }
            Input::Seen { block } => self.see(block),
            Input::Orphan { block, parent } => {
                self.see(block);
                if self.walks.add_orphan(&self.chain, block, parent) {
                    self.hope();
                    if block.saturating_sub(1) <= self.chain.applied() {
                        // A sibling is missing: who has come that far by now?
                        self.heads.doubt();
                    }
                }
            }
            Input::Unseen { highest } => {
                self.chain.unsee(highest);
                self.walks.give_up_above(highest);
                self.hope();
            }
            Input::TxListWanted { block, hash, live } => {
                self.txlists.want(&mut self.ctx, now, block, hash, live);
            }
            Input::TxListArrived { hash } => {
                if self.txlists.arrived(&hash) {
                    self.hope();
                }
            }
            Input::TxListUnwanted { block, hash } => self.txlists.unwant(block, hash),
            Input::Ceiling { block } => self.ceiling = Some(block),
            Input::Pace { peer, pace } => {
                if let Some(peer) = self.ctx.peers.get_mut(&peer) {
                    peer.learn(pace);
                }
            }
            Input::Tick => {}
        }
    }

    /// Something came that may help.
    pub(crate) const fn hope(&mut self) {
        self.stuck = false;
        self.heads.encourage();
    }

    fn see(&mut self, block: BlockNumber) {
        if self.chain.see(block) {
            self.hope();
        }
    }

    fn peer_down(&mut self, now: Instant, peer: PeerId) {
        for id in self.ctx.open_of(&peer) {
            self.fail(now, id, peer, Failure::NotAnswered);
        }
        self.walks.stop_peer(&peer);
        self.ctx.peers.down(&peer, now);
    }

    fn reply(&mut self, now: Instant, id: RequestId, from: PeerId, reply: Reply) {
        if let Reply::Failed(failure) = reply {
            return self.fail(now, id, from, failure);
        }
        let Some(asked) = self.ctx.close(id, &from) else { return };
        self.ctx.answered(now, &asked);
        match (asked.purpose, reply) {
            (Purpose::Head, Reply::Head { block }) => {
                let stand = self.chain.stand();
                self.heads.heard(&mut self.ctx, now, (id, from), block, stand);
            }
            (Purpose::Page(first), Reply::Page(items)) => {
                let answer = self.pages.fill(id, first, items);
                self.weigh(now, from, first, answer);
            }
            (Purpose::Walk, Reply::Page(items)) => {
                let first = self.walks.from().unwrap_or_default();
                let page = Page { id, peer: from, items };
                let answer = self.walks.fill(id, self.ctx.config.page_size, page);
                self.weigh(now, from, first, answer);
            }
            (Purpose::TxList(hash), Reply::TxList(txlist)) if txlist.hash() == hash => {
                if self.txlists.hand(id, &hash, txlist.bytes().len().max(1)) {
                    self.hope();
                    self.ctx.outputs.push_back(Output::TxList { from, txlist });
                }
                if let Some(peer) = self.ctx.peers.get_mut(&from) {
                    peer.failures = 0;
                    peer.misses /= 2;
                }
            }
            (Purpose::TxList(hash), Reply::TxList(_)) => {
                self.ctx.report(now, from, Offence::WrongAnswer);
                self.txlists.lost(id, &hash, from, true);
            }
            (Purpose::TxList(hash), Reply::TxListNotFound) => {
                if let Some(peer) = self.ctx.peers.get_mut(&from) {
                    peer.failures = peer.failures.saturating_sub(1);
                    peer.misses = peer.misses.saturating_add(1);
                }
                self.txlists.lost(id, &hash, from, true);
            }
            // A reply to another kind of question is the caller's mix-up, not the peer's.
            (_, _) => self.end(now, id, &asked, Failure::NotAnswered),
        }
    }

    fn weigh(&mut self, now: Instant, peer: PeerId, first: BlockNumber, answer: Answer) {
        match answer {
            Answer::Full | Answer::Unwanted => {}
            Answer::Short(last) => self.ctx.lower_claim(&peer, last),
            Answer::Empty => {
                self.ctx.lower_claim(&peer, first.saturating_sub(1));
                self.ctx.unkept(now, &peer, PATIENCE);
            }
            Answer::Wrong => self.ctx.report(now, peer, Offence::WrongAnswer),
        }
    }

    fn fail(&mut self, now: Instant, id: RequestId, peer: PeerId, failure: Failure) {
        if let Some(asked) = self.ctx.close(id, &peer) {
            self.end(now, id, &asked, failure);
        }
    }

    /// A request has ended without a usable answer.
    fn end(&mut self, now: Instant, id: RequestId, asked: &Asked, failure: Failure) {
        let peer = asked.peer;
        let page = matches!(asked.purpose, Purpose::Page(_) | Purpose::Walk);
        match failure {
            Failure::NotAnswered => self.ctx.unanswered(now, &peer, page),
            Failure::Misbehaved(offence) => self.ctx.report(now, peer, offence),
            Failure::Charged(_) => self.ctx.strike(now, &peer),
        }
        match asked.purpose {
            Purpose::Head => {
                let stand = self.chain.stand();
                self.heads.lost(&mut self.ctx, now, id, stand);
            }
            Purpose::Page(from) => self.pages.lost(id, from),
            Purpose::Walk => {
                let trusted = self.ctx.peers.get(&peer).is_some_and(|peer| peer.is_trusted());
                self.walks.lost(id, trusted);
            }
            Purpose::TxList(hash) => self.txlists.lost(id, &hash, peer, failure != Failure::NotAnswered),
        }
    }

    /// The height to reach, by the claims that count and by what was seen.
    fn target(&self) -> BlockNumber {
        let claim = self.ctx.peers.best_claim().unwrap_or_default();
        self.chain.seen().max(self.ceiling.map_or(claim, |ceiling| claim.min(ceiling)))
    }

    /// Does what can be done, and says where that leaves us.
    fn plan(&mut self, agenda: &mut Agenda) -> HeadSyncStatus {
        if !self.chain.started {
            return HeadSyncStatus::WaitingForL2;
        }
        let now = agenda.now();
        self.ctx.peers.readmit(agenda, self.ctx.config.max_strikes.get());
        let target = self.target();
        if target < self.last_target {
            // A claim is gone that was to be reached: withdrawn, not kept, or its peer has left.
            self.heads.doubt();
        }
        self.last_target = target;
        if self.progressed && self.chain.applied() >= target {
            // The end is reached that peers told of a while ago: is it still the end?
            self.progressed = false;
            self.heads.doubt();
        }
        self.gap_since = self.chain.is_behind_seen().then(|| self.gap_since.unwrap_or(now));
        let gap = self.gap_since.is_some_and(|since| agenda.due(after(since, self.ctx.config.gap_grace)));
        self.heads.plan(&mut self.ctx, agenda, self.chain.stand(), gap);

        if self.txlists.missing() < self.ctx.config.wanted_limit.get() {
            self.walks.plan(&mut self.ctx, agenda, &self.chain, self.heads.was_heard());
            self.import_next();
            if let Some(from) = self.first_to_ask() {
                self.pages.plan(&mut self.ctx, agenda, (from, target), self.walks.strayed());
            }
        }
        let txlists_in_grace = self.txlists.plan(&mut self.ctx, agenda);
        let in_grace = txlists_in_grace || (self.gap_since.is_some() && !gap) || self.heads.is_coming(now);
        self.judge(agenda, in_grace)
    }

    fn judge(&mut self, agenda: &mut Agenda, in_grace: bool) -> HeadSyncStatus {
        let (applied, target) = (self.chain.applied(), self.target());
        let peers = self.ctx.peers.askable().count();
        let complete = applied >= target && self.txlists.missing() == 0 && !self.walks.has_orphans();
        if self.heads.are_confirmed(&self.ctx, agenda) && complete && self.walks.strayed().is_none() {
            (self.stuck, self.stalled_since) = (false, None);
            return HeadSyncStatus::Live { head: self.chain.head() };
        }
        let at_work = self.ctx.has_open() || self.importing.is_some() || self.txlists.is_storing();
        let idle = !at_work && !in_grace && !agenda.is_paced();
        self.stuck |= idle && peers > 0;
        let why = match self.txlists.lowest() {
            _ if peers == 0 => Stall::NoPeers,
            _ if !self.stuck => {
                self.stalled_since = None;
                return HeadSyncStatus::Syncing {
                    applied,
                    seen: self.chain.seen(),
                    target,
                    commitments_per_second: self.rate.per_second(agenda),
                    txlists_missing: self.txlists.missing(),
                    peers,
                };
            }
            Some(lowest) if applied >= target => {
                Stall::WaitingForData { lowest, txlists: self.txlists.missing() }
            }
            _ => Stall::NothingDelivered,
        };
        let since = *self.stalled_since.get_or_insert(unix(self.wall, agenda.now()));
        HeadSyncStatus::Stalled { why, since, applied, target }
    }
}

fn unix(wall: Option<(Instant, UnixSeconds)>, now: Instant) -> UnixSeconds {
    let (at, unix) = wall.unwrap_or((now, UnixSeconds::new(0)));
    unix.saturating_add(now.saturating_duration_since(at))
}
