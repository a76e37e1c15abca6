//! A run: everybody's life, second by second, with faults in between.

use std::{
    cell::RefCell,
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use fastrand::Rng;
use p2p_client::P2pClientError;
use p2p_types::{Base, PeerId};
use preconfirmation_p2p::sim::SimNetwork;
use tokio::{
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use crate::{
    actor::Scene,
    crash::Store,
    judge::{Acknowledged, Judge},
    l1::L1,
    lines::Lines,
    node::{Life, Node},
    scenario::{FAULTS_END, Fault, Kind, Scenario},
    stage::{BASE, Block, GENESIS, Owner, WINDOW, WallClock, key},
    villains::{Villain, cast},
    violation::{Broken, Invariant, Violation, holds},
};

/// Seconds after the last fault within which all are live on one chain.
pub const CONVERGES_WITHIN: u64 = 60;

/// Seconds that all stay so before the run ends.
const STAYS: u64 = 14;

/// Seconds of blocks that L1 leaves unsettled: more than two turns.
const UNSETTLED: u64 = 36;

/// No call takes longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// What came of a run in which everything held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A fingerprint of all that was sent, and of what came of it.
    pub trace: u64,
    /// Seconds of virtual time.
    pub seconds: u64,
    /// Seconds after the last fault until all were live on one chain.
    pub converged_after: u64,
    /// Frames between nodes.
    pub frames: u64,
    /// Blocks that honest nodes have published.
    pub published: usize,
    /// Blocks that their clients have refused to publish, as they contradict what the signer has promised before.
    pub refused: usize,
}

/// What happens between two seconds.
#[derive(Debug, Clone, Copy)]
enum Event {
    Begins(usize),
    Ends(usize),
    /// A node hears what L1 has elected for the windows from this one on.
    Hears {
        node: usize,
        window: usize,
    },
    /// A node hears that L1 has replaced its blocks from this one on.
    HearsOfReplaced {
        node: usize,
        anchor: u64,
    },
    /// A node hears that they are canonical again.
    HearsOfRestored {
        node: usize,
        anchor: u64,
    },
}

pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    network: SimNetwork,
    clock: WallClock,
    rng: Rng,
    nodes: Vec<Node>,
    villains: Vec<Villain>,
    lines: Lines,
    /// Milliseconds, in order.
    timeline: VecDeque<(u64, Event)>,
    l1: L1,
    /// Clients that have crashed and are being put away.
    ending: Vec<Option<JoinHandle<()>>>,
    judge: Judge,
    published: usize,
    refused: usize,
    agreed_since: Option<u64>,
    /// When the last fault is over, and with it the last turn for which an honest node has signed by a wrong clock.
    faults_end: u64,
}

impl<'a> World<'a> {
    pub(crate) async fn new(scenario: &'a Scenario) -> Self {
        let clock = WallClock::start();
        let base = Base::at(BASE);
        let network = SimNetwork::new(scenario.seed);
        let node = |index| {
            let is_on_disk = scenario.disks.contains(&index);
            let store = if is_on_disk { Store::on_disk(index) } else { Store::in_memory() };
            Node::new(index, clock, &scenario.owners, base, store)
        };
        let Scenario { honest, owners, .. } = scenario;
        let mut timeline: Vec<_> = (0..scenario.faults.len())
            .flat_map(|index| {
                let Fault { at, lasts, .. } = scenario.faults[index];
                [(at, Event::Begins(index)), (at + lasts, Event::Ends(index))]
            })
            .collect();
        timeline.sort_by_key(|(at, _)| *at);
        let mut world = Self {
            scenario,
            clock,
            rng: Rng::with_seed(scenario.seed ^ 0x5eed),
            nodes: (0..*honest).map(node).collect(),
            villains: Vec::new(),
            lines: Lines::new(scenario),
            timeline: timeline.into(),
            l1: L1::new(owners, base),
            ending: (0..*honest).map(|_| None).collect(),
            judge: Judge::new(*honest, scenario.cast.len(), owners, scenario.has_other_views()),
            published: 0,
            refused: 0,
            agreed_since: None,
            faults_end: FAULTS_END / 1000,
            network,
        };
        world.lines.apply(&world.network, &[]);
        let is_late = |node| scenario.faults.iter().any(|fault| fault.kind == Kind::Join { node });
        for index in (0..*honest).filter(|index| !is_late(*index)) {
            world.start(index).await;
        }
        let ids: Vec<PeerId> = world.nodes.iter().map(|node| node.id).collect();
        world.villains = cast(scenario, &world.network, &ids, &mut world.rng).await;
        world
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap()
    }

    /// Starts a node, once the client that it had is gone.
    async fn start(&mut self, index: usize) {
        if let Some(ending) = self.ending[index].take() {
            drop(ending.await);
        }
        let (windows, base) = (self.windows_known(), self.l1.settled());
        let node = &mut self.nodes[index];
        if node.life.is_none() {
            node.start(&self.network, &self.l1.owners, base, windows).await;
            self.connect_all();
            self.lines.apply(&self.network, &self.peers());
        }
    }

    fn windows_known(&self) -> usize {
        self.clock.window() + 1 + self.scenario.known_ahead
    }

    fn peers(&self) -> Vec<(Option<usize>, PeerId)> {
        let honest = self.nodes.iter().map(|node| (Some(node.index), node.id));
        let others = self.villains.iter().flat_map(Villain::ids).map(|id| (None, id));
        honest.chain(others).collect()
    }

    /// Whoever has lost a connection dials again: honest nodes in a ring, each the next two; adversaries their victims.
    fn connect_all(&self) {
        let honest = self.nodes.len();
        let up = |index: usize| self.nodes[index].alive().is_some();
        for index in (0..honest).filter(|index| up(*index)) {
            for other in [1, 2].map(|step| (index + step) % honest).into_iter().filter(|other| up(*other)) {
                self.network.connect(self.nodes[index].id, self.nodes[other].id);
            }
        }
    }

    /// Ends a client: in the middle of whatever it does, or in order.
    async fn stop(&mut self, index: usize, in_order: bool) {
        let Some(life) = self.nodes[index].life.take() else { return };
        if in_order {
            drop(life.client.shutdown().await);
            life.power.cut();
        } else {
            life.power.cut();
            self.fell(index, life);
        }
    }

    /// A client has crashed: it is put away, and its store is what was stored.
    fn fell(&mut self, index: usize, life: Life) {
        self.ending[index] = Some(tokio::spawn(async move { drop(life.client.shutdown().await) }));
        self.nodes[index].store.recover(&mut self.rng);
    }

    pub(crate) async fn run(mut self) -> Result<Outcome, Violation> {
        let lived = self.live().await;
        lived.map_err(|Broken { node, invariant, detail }| Violation {
            seed: self.scenario.seed,
            at: self.millis(),
            node,
            invariant,
            detail,
        })
    }

    async fn live(&mut self) -> Result<Outcome, Broken> {
        let late = |_| Broken {
            node: None,
            invariant: Invariant::Running,
            detail: "a call was not answered within a minute".into(),
        };
        let mut second = 0;
        loop {
            while let Some((at, event)) = self.timeline.front().copied().filter(|(at, _)| *at < second * 1000)
            {
                self.timeline.pop_front();
                sleep_until(self.clock.at(GENESIS) + Duration::from_millis(at)).await;
                timeout(ANSWERS_WITHIN, self.event(event)).await.map_err(late)??;
            }
            sleep_until(self.clock.at(GENESIS + second)).await;
            timeout(ANSWERS_WITHIN, self.look(second)).await.map_err(late)??;
            if let Some(converged_after) = self.converged(second)? {
                return Ok(self.outcome(second, converged_after));
            }
            timeout(ANSWERS_WITHIN, self.second(second)).await.map_err(late)??;
            second += 1;
        }
    }

    fn outcome(&self, seconds: u64, converged_after: u64) -> Outcome {
        let mut hasher = DefaultHasher::new();
        self.network.trace().hash(&mut hasher);
        for node in &self.nodes {
            node.chain().iter().for_each(|stored| stored.hash().hash(&mut hasher));
            (node.stats().commitments, node.stats().evidence).hash(&mut hasher);
        }
        let (frames, published, refused) = (self.network.counts().sent, self.published, self.refused);
        Outcome { trace: hasher.finish(), seconds, converged_after, frames, published, refused }
    }

    // What happens.

    async fn event(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Begins(fault) => self.begins(&self.scenario.faults[fault].clone()).await?,
            Event::Ends(fault) => self.ends(&self.scenario.faults[fault].clone()).await,
            Event::Hears { node, window } => {
                let owners = self.l1.owners.clone();
                self.nodes[node].hear_of_election(&owners, window).await;
            }
            Event::HearsOfReplaced { node, anchor } => self.nodes[node].hear_of_replaced(anchor).await?,
            Event::HearsOfRestored { node, anchor } => self.nodes[node].hear_of_restored(anchor).await,
        }
        Ok(())
    }

    async fn begins(&mut self, fault: &Fault) -> Result<(), Broken> {
        match &fault.kind {
            Kind::Loss { .. } | Kind::Slow { .. } | Kind::Narrow { .. } | Kind::Disorder { .. } => {
                self.lines.begin(fault);
                self.lines.apply(&self.network, &self.peers());
            }
            Kind::Partition { side } => {
                self.network.partition(side.iter().map(|index| self.nodes[*index].id))
            }
            Kind::Crash { node, after_writes: None, .. } => self.stop(*node, false).await,
            Kind::Crash { node, after_writes: Some(writes), last_is_stored } => {
                let node = &self.nodes[*node];
                if let Some(life) = node.alive() {
                    life.power.cut_after(*writes, *last_is_stored, &node.store);
                }
            }
            Kind::Leave { node } => self.stop(*node, true).await,
            Kind::Join { .. } => {}
            Kind::Skew { node, seconds } => self.nodes[*node].set_offset(*seconds),
            Kind::Reelection { node } => self.reelect(*node, fault.at),
            Kind::Unsettled => self.l1.unsettle(),
            Kind::Replaced { from, .. } => {
                self.all_hear(fault.at, |node| Event::HearsOfReplaced { node, anchor: *from });
            }
            Kind::SecondBlock => self.sign_twice().await?,
            Kind::Attack { adversary } => self.villains[*adversary].acts = true,
        }
        Ok(())
    }

    async fn ends(&mut self, fault: &Fault) {
        match &fault.kind {
            Kind::Loss { .. } | Kind::Slow { .. } | Kind::Narrow { .. } | Kind::Disorder { .. } => {
                self.lines.end(fault);
                self.lines.apply(&self.network, &self.peers());
            }
            Kind::Partition { .. } => self.network.heal(),
            Kind::Crash { node, .. } => {
                if let Some(life) = self.nodes[*node].alive() {
                    // It had nothing to write.
                    life.power.keep_on();
                }
                self.bury();
                self.rise(*node).await;
            }
            Kind::Leave { node } | Kind::Join { node } => self.rise(*node).await,
            Kind::Skew { node, .. } => self.nodes[*node].set_offset(0),
            Kind::Attack { adversary } => {
                let villain = &mut self.villains[*adversary];
                villain.acts = false;
                villain.adversary.relent().await;
            }
            Kind::Replaced { from, for_good: false } => {
                self.all_hear(fault.at + fault.lasts, |node| Event::HearsOfRestored { node, anchor: *from });
            }
            Kind::Reelection { .. } | Kind::Unsettled | Kind::Replaced { .. } | Kind::SecondBlock => {}
        }
    }

    async fn rise(&mut self, index: usize) {
        self.start(index).await;
        let id = self.nodes[index].id;
        self.villains.iter().for_each(|villain| villain.connect(&self.network, index, id));
    }

    /// Puts clients away that have crashed by themselves.
    fn bury(&mut self) {
        for index in 0..self.nodes.len() {
            if let Some(life) = self.nodes[index].life.take_if(|life| life.power.is_off()) {
                self.fell(index, life);
            }
        }
    }

    /// L1 elects another one for the window of this moment; each node hears of it some time later.
    fn reelect(&mut self, node: usize, at: u64) {
        let window = usize::try_from(at / (WINDOW * 1000)).unwrap();
        self.l1.owners[window] = Owner::Honest(node);
        self.judge.reelected(window, Owner::Honest(node));
        self.all_hear(at, |node| Event::Hears { node, window });
    }

    /// Each node hears of what has happened on L1 some time later.
    fn all_hear(&mut self, at: u64, event: impl Fn(usize) -> Event) {
        for node in 0..self.nodes.len() {
            let hears = at + self.rng.u64(0..2_000);
            let place = self.timeline.partition_point(|(at, _)| *at <= hears);
            self.timeline.insert(place, (hears, event(node)));
        }
    }

    /// Asks clients to publish a second block for the height of their head: none may.
    async fn sign_twice(&mut self) -> Result<(), Broken> {
        for node in &self.nodes {
            let (Some(life), Some((_, next))) = (node.alive(), node.next_block(0)) else { continue };
            let Some(last) = node.at(next.number() - 1) else { continue };
            let preconf = last.recovered.signed().preconf();
            let signer = key(Owner::Honest(node.index).key());
            let end: u64 = next.signed.preconf().submission_window_end.to();
            if last.recovered.signer() != signer.address() || preconf.submission_window_end.to::<u64>() != end
            {
                continue;
            }
            let parent = crate::stage::Parent {
                number: last.block - 1,
                hash: preconf.parent_preconfirmation_hash,
                timestamp: 0,
            };
            let second = Block::on(parent, preconf.timestamp.to(), end, 9, &signer);
            let published = life.client.publisher().publish_block(second.signed, second.txlist).await;
            holds(published.is_err(), node.index, Invariant::Guarded, || {
                format!("a second block {} was published: {published:?}", last.block)
            })?;
        }
        Ok(())
    }

    /// A second of everybody's life.
    async fn second(&mut self, second: u64) -> Result<(), Broken> {
        self.bury();
        let windows = self.windows_known();
        self.nodes.iter_mut().for_each(|node| node.learn(windows));
        self.connect_all();
        let is_over = second >= self.faults_end + STAYS;
        // In the first second nobody has asked anybody for a head.
        if second > 0 && second.is_multiple_of(self.scenario.pace) && !is_over {
            for index in 0..self.nodes.len() {
                self.publish(index).await?;
            }
        }
        self.attack().await;
        self.settle(second).await;
        Ok(())
    }

    /// Publishes as an honest preconfer does, if this node believes that it is its turn.
    async fn publish(&mut self, index: usize) -> Result<(), Broken> {
        let node = &self.nodes[index];
        let (Some(life), Some((window, block))) = (node.alive(), node.next_block(0)) else { return Ok(()) };
        let (number, hash, is_right) = (block.number(), block.hash(), node.offset() == 0);
        let published = life.client.publisher().publish_block(block.signed, block.txlist).await;
        self.refused += usize::from(matches!(published, Err(P2pClientError::Conflict(_))));
        // Not live for the moment, or bound by what it has signed before its chain was replaced: tries again.
        if published.is_err() || life.power.is_off() {
            return Ok(());
        }
        self.published += 1;
        if !is_right {
            // What it has built on that nobody else knows is decided by the turn that follows.
            self.faults_end = self.faults_end.max((window as u64 + 1) * WINDOW);
        }
        // By L1 it may have been somebody else's turn for a moment already, or that of what it builds on.
        let all_know = !self.timeline.iter().any(|(_, event)| matches!(event, Event::Hears { .. }));
        if is_right && all_know && self.l1.owners[window] == Owner::Honest(index) {
            self.judge.acknowledge(Acknowledged { node: index, number, hash, window });
        }
        Ok(())
    }

    async fn attack(&mut self) {
        let signers = self.l1.signers();
        // A disk may lose its power while they act.
        let is_readable = |node: &&Node| node.alive().is_some() && !node.store.is_on_disk();
        let Some(followed) = self.nodes.iter().find(is_readable) else { return };
        let rng = RefCell::new(self.rng.fork());
        let (clock, settled) = (self.clock, self.l1.settled());
        let scene = Scene { clock, signers: &signers, store: &*followed.store, settled, rng };
        for villain in self.villains.iter_mut().filter(|villain| villain.acts) {
            villain.adversary.act(&scene).await;
        }
    }

    /// L1 moves once a window; each node hears of it at a moment of its own.
    async fn settle(&mut self, second: u64) {
        let second = second % WINDOW;
        if second == 0 {
            self.l1.settle_next(&self.nodes, UNSETTLED / self.scenario.pace);
        }
        let (settled, honest) = (self.l1.settled(), self.nodes.len() as u64);
        for node in &mut self.nodes {
            if second != (node.index as u64 * WINDOW) / honest
                || node.base == settled
                || node.alive().is_none()
            {
                continue;
            }
            let known = node.at(settled.number).map(|block| block.hash());
            let by_number = known == settled.hash && self.rng.u8(0..3) == 0;
            let base = if by_number { Base::at(settled.number) } else { settled };
            node.hear_of_base(base).await;
            // What it was told is the same block.
            node.base = base;
        }
    }

    // What is seen of it.

    async fn look(&mut self, second: u64) -> Result<(), Broken> {
        let honest: Vec<PeerId> = self.nodes.iter().map(|node| node.id).collect();
        for node in &self.nodes {
            self.judge.look(node, second)?;
            if second.is_multiple_of(3) {
                self.judge.charges(node, &honest).await?;
            }
            if second.is_multiple_of(4) {
                self.judge.acknowledged(node, &self.l1.hashes)?;
            }
        }
        Ok(())
    }

    /// After the last fault: how soon all are live on one chain, once they have stayed so.
    fn converged(&mut self, second: u64) -> Result<Option<u64>, Broken> {
        let Some(after) = second.checked_sub(self.faults_end) else { return Ok(None) };
        let head = |node: &Node| node.alive().and_then(|_| node.store.head().unwrap());
        let heads: Vec<_> = self.nodes.iter().map(head).collect();
        let is_live = |node: &Node| node.alive().is_some_and(|life| life.client.status().is_live());
        let agree = heads.iter().all(|head| *head == heads[0]) && self.nodes.iter().all(is_live);
        if !agree {
            self.agreed_since = None;
        }
        let since = agree.then(|| *self.agreed_since.get_or_insert(after));
        holds(agree || after < CONVERGES_WITHIN, None, Invariant::Converged, || {
            let states = self.nodes.iter().zip(&heads).map(|(node, head)| {
                let status = node.life.as_ref().map(|life| life.client.status());
                format!("{}: {head:?} {status:?}", node.index)
            });
            states.collect::<Vec<_>>().join("; ")
        })?;
        // Blocks have ended, so that no head is on its way.
        Ok(since.filter(|_| after >= STAYS + 2))
    }
}
