//! One run: a quiet beginning, the attack, and what is left of it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use p2p_sim::{
    actor::{Actor, Adversary, Scene, Seat},
    stage::{BASE, GENESIS, Owner, WINDOW, WallClock},
};
use p2p_types::{Address, B256, Base, PeerId};
use preconfirmation_p2p::sim::{Link, SimNetwork};
use tokio::{runtime::Builder, time::sleep_until};

use crate::{
    node::Node,
    plan::{ATTACK, BEFORE, HONEST, Plan, QUIET, TURNS},
};

/// Seconds after the attack within which all are on one chain, and live.
const LIVE_WITHIN: u64 = 15;

/// Seconds of blocks that L1 leaves unsettled: more than two turns.
const UNSETTLED: u64 = 36;

/// How much more an honest application may be told than on a quiet day.
const TIMES_QUIET: usize = 3;

/// What is peculiar to a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Only its preconfer knows of a window in time; the others some seconds after its beginning. Else everybody knows two
    /// windows ahead.
    pub(crate) late_schedule: bool,
    /// Seconds between two blocks of an honest preconfer.
    pub(crate) pace: u64,
    /// How many times as much may travel between nodes as on a quiet day, but for what adversaries themselves send; none where each
    /// message is another promise, or has a budget of its sender.
    pub(crate) times_traffic: Option<u64>,
}

pub(crate) const PLAIN: Shape = Shape { late_schedule: false, pace: 3, times_traffic: None };

/// Many messages that say the same.
pub(crate) const FLOOD: Shape = Shape { times_traffic: Some(2), ..PLAIN };

pub(crate) const LATE_SCHEDULE: Shape = Shape { late_schedule: true, ..PLAIN };

/// As many blocks as fit into a turn.
pub(crate) const HASTY: Shape = Shape { pace: 1, ..PLAIN };

/// What is compared with a quiet run.
#[derive(Debug, Clone)]
struct Told {
    /// Events from the beginning of the attack until all is over, by node.
    events: Vec<usize>,
    /// Frames between nodes, but for what adversaries have sent of their own accord.
    frames: u64,
}

/// What quiet runs have told.
static QUIET_RUNS: Mutex<BTreeMap<(u64, usize, bool, u64), Told>> = Mutex::new(BTreeMap::new());

/// Plays a plan, and the same without an attack.
pub(crate) fn play<A: Adversary>(plan: &Plan, cast: &impl Fn(Seat, &mut fastrand::Rng) -> A) {
    let told = run(plan, cast);
    let Shape { late_schedule, pace, times_traffic } = plan.shape;
    let key = (plan.seed, plan.adversaries, late_schedule, pace);
    let known = QUIET_RUNS.lock().unwrap().get(&key).cloned();
    let quiet = known.unwrap_or_else(|| run(&plan.quiet(), cast));
    for (node, (told, quiet)) in told.events.iter().zip(&quiet.events).enumerate() {
        assert!(*told <= TIMES_QUIET * quiet, "node {node} was told {told}, and {quiet} on a quiet day");
    }
    if let Some(times) = times_traffic {
        let (frames, quiet) = (told.frames, quiet.frames);
        assert!(frames <= times * quiet, "{frames} frames, and {quiet} on a quiet day");
    }
    QUIET_RUNS.lock().unwrap().insert(key, quiet);
}

fn run<A: Adversary>(plan: &Plan, cast: &impl Fn(Seat, &mut fastrand::Rng) -> A) -> Told {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::set(plan).await;
        let mut adversaries = stage.cast(cast).await;
        stage.run(if plan.attacks { &mut adversaries } else { &mut [] }).await
    })
}

/// All honest nodes and what L1 says.
struct Stage<'a> {
    plan: &'a Plan,
    signers: Vec<Address>,
    network: SimNetwork,
    clock: WallClock,
    nodes: Vec<Node>,
    /// What each was told to be settled last.
    bases: Vec<Base>,
    settled: Base,
    rng: fastrand::Rng,
    /// Frames of gossip that adversaries have sent of their own accord.
    said: Arc<AtomicU64>,
    /// Windows whose preconfers have published, and what their clients have refused to publish.
    published: BTreeSet<usize>,
    refused: usize,
    /// It is time for a block.
    due: bool,
}

impl<'a> Stage<'a> {
    /// Nodes in a ring, each connected to the next two.
    async fn set(plan: &'a Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
        let network = SimNetwork::new(plan.seed);
        let millis = |millis| Duration::from_millis(millis);
        network.set_links(Link {
            delay: millis(rng.u64(5..80)),
            jitter: millis(rng.u64(0..60)),
            ..Link::default()
        });
        let clock = WallClock::start();
        let mut nodes = Vec::new();
        for index in 0..HONEST {
            nodes.push(Node::start(&network, clock, u8::try_from(1 + index).unwrap()).await);
        }
        for (index, node) in nodes.iter().enumerate() {
            for step in [1, 2] {
                node.client.network().dial(nodes[(index + step) % HONEST].address().await).await.unwrap();
            }
        }
        let settled = Base::at(BASE);
        Self {
            plan,
            signers: plan.signers(),
            network,
            clock,
            nodes,
            bases: vec![settled; HONEST],
            settled,
            rng,
            said: Arc::default(),
            published: BTreeSet::new(),
            refused: 0,
            due: false,
        }
    }

    /// Adversaries, each connected to all honest nodes or to some of them.
    async fn cast<A: Adversary>(&mut self, cast: &impl Fn(Seat, &mut fastrand::Rng) -> A) -> Vec<A> {
        let (mut adversaries, plot) = (Vec::new(), Arc::default());
        for index in 0..self.plan.adversaries {
            let mut victims: Vec<PeerId> = self.nodes.iter().map(Node::id).collect();
            self.rng.shuffle(&mut victims);
            let (half, others) = victims.split_at(HONEST / 2);
            let said = &self.said;
            let to_all = self.rng.bool();
            let byte = u8::try_from(100 + 2 * index).unwrap();
            let first =
                Actor::start(&self.network, byte, if to_all { &victims } else { half }, said.clone()).await;
            let second = Actor::start(&self.network, byte + 1, others, said.clone()).await;
            let owner = Owner::Adversary(index);
            let (signer, number) = (self.plan.signer(owner), owner.key());
            let (actors, elected, plot) = ([first, second], self.plan.elected, Arc::clone(&plot));
            let seat = Seat { actors, signer, number, elected, throttle: 1, plot };
            adversaries.push(cast(seat, &mut self.rng));
        }
        adversaries
    }

    async fn run<A: Adversary>(&mut self, adversaries: &mut [A]) -> Told {
        while self.clock.window() < BEFORE {
            self.second(&mut [] as &mut [A]).await;
        }
        assert!(self.is_settled(), "before the attack: {self:?}");
        assert_eq!(self.refused, 0, "{:?}", self.nodes[0].client);
        let before: Vec<usize> = self.nodes.iter().map(Node::events).collect();
        while self.clock.window() < BEFORE + ATTACK {
            self.second(adversaries).await;
        }
        for (window, owner) in self.plan.owners.iter().enumerate().take(BEFORE + ATTACK) {
            let is_heard = matches!(owner, Owner::Adversary(_)) || self.published.contains(&window);
            assert!(is_heard, "no block of window {window}: {self:?}");
        }
        self.settles::<A>("after the attack").await;
        let end = BEFORE + ATTACK + QUIET;
        while self.clock.window() < end {
            self.second(&mut [] as &mut [A]).await;
        }
        // The network works: all follow the next preconfer.
        while self.clock.window() == end {
            self.second(&mut [] as &mut [A]).await;
        }
        self.settles::<A>("when the next preconfer has had its turn").await;
        assert!(self.published.contains(&end), "{self:?}");
        assert!(self.bases.iter().all(|base| base.number > BASE), "{:?}", self.bases);
        if self.plan.attacks {
            assert!(self.nodes.iter().any(Node::has_noticed), "an attack that nobody notices tests nothing");
        }
        let most = if self.plan.attacks { self.plan.adversaries.min(TURNS) } else { 0 };
        for node in &self.nodes {
            let turns = node.turns_displaced(self.plan);
            assert!(turns <= most, "{turns} turns of others were displaced at once");
        }
        let events = self.nodes.iter().zip(before).map(|(node, before)| node.events() - before).collect();
        Told { events, frames: self.network.counts().sent - self.said.load(Ordering::Relaxed) }
    }

    /// A second of everybody's life. Honest preconfers sign but for the quiet after an attack.
    async fn second<A: Adversary>(&mut self, adversaries: &mut [A]) {
        let (now, window) = (self.clock.now(), self.clock.window());
        let (seconds, owner) = ((now - GENESIS) % WINDOW, self.plan.owners.get(window).copied());
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let in_time = owner == Some(Owner::Honest(index)) || seconds > 5;
            let known = if self.plan.shape.late_schedule { usize::from(in_time) } else { 3 };
            node.learn(self.plan, window + known);
        }
        let pace = self.plan.shape.pace;
        // In the first second nobody has asked anybody for a head.
        self.due |= now > GENESIS && seconds % pace == 1 % pace;
        let is_quiet = (BEFORE + ATTACK..BEFORE + ATTACK + QUIET).contains(&window);
        if let Some(Owner::Honest(index)) = owner
            && !is_quiet
            && std::mem::take(&mut self.due)
        {
            match self.nodes[index].build(self.plan, self.clock).await {
                Ok(()) => drop(self.published.insert(window)),
                // Not live for the moment, or bound by what it has signed before its chain was replaced: tries again.
                Err(_) => {
                    self.refused += 1;
                    self.due = true;
                }
            }
        }
        if !adversaries.is_empty() {
            let rng = RefCell::new(self.rng.fork());
            let (clock, settled, signers) = (self.clock, self.settled, self.signers.as_slice());
            let scene = Scene { clock, signers, store: self.nodes[0].storage.as_ref(), settled, rng };
            for adversary in adversaries {
                adversary.act(&scene).await;
            }
        }
        self.settle(seconds).await;
        sleep_until(self.clock.at(now + 1)).await;
        if seconds % 3 == 0 {
            self.assert_nobody_pays().await;
        }
        self.nodes.iter().for_each(Node::check_bounds);
    }

    /// L1 moves once a window; each node hears of it at a moment of its own.
    async fn settle(&mut self, seconds: u64) {
        if seconds == 0 {
            let lowest =
                self.nodes.iter().filter_map(|node| node.client.chain().head()).map(|head| head.number).min();
            let next = lowest.unwrap_or_default().saturating_sub(UNSETTLED / self.plan.shape.pace);
            if next > self.settled.number
                && self.follows(self.settled).await
                && let Some(block) = self.nodes[0].at(next).await
            {
                self.settled = Base { number: next, hash: Some(block.hash) };
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if seconds != (index as u64 * WINDOW) / HONEST as u64 || self.bases[index] == self.settled {
                continue;
            }
            let known = node.at(self.settled.number).await.map(|block| block.hash);
            let by_number = known == self.settled.hash && self.rng.u8(0..3) == 0;
            let base = if by_number { Base::at(self.settled.number) } else { self.settled };
            node.client.chain().update_head(base).await.unwrap();
            self.bases[index] = self.settled;
        }
    }

    /// Whether what the first node has stands on what is settled.
    async fn follows(&self, settled: Base) -> bool {
        settled.hash.is_none()
            || self.nodes[0].at(settled.number).await.map(|block| block.hash) == settled.hash
    }

    fn heads(&self) -> Vec<Option<(u64, B256)>> {
        self.nodes
            .iter()
            .map(|node| node.client.chain().head().map(|head| (head.number, head.hash)))
            .collect()
    }

    fn agree(&self) -> bool {
        let heads = self.heads();
        heads.iter().all(|head| head.is_some() && *head == heads[0])
    }

    fn is_settled(&self) -> bool {
        self.agree() && self.nodes.iter().all(|node| node.client.status().is_live())
    }

    /// All are on one chain some time soon, and live.
    async fn settles<A: Adversary>(&mut self, when: &str) {
        let from = self.clock.now();
        while !self.is_settled() {
            assert!(self.clock.now() - from < LIVE_WITHIN, "{when}: {self:?}");
            self.second(&mut [] as &mut [A]).await;
        }
    }

    /// No honest peer has been charged by another one.
    async fn assert_nobody_pays(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            for peer in node.client.network().peers().await.unwrap() {
                let is_honest = self.nodes.iter().any(|other| other.id() == peer.peer);
                let is_spared = peer.score >= 0.0 && peer.banned_for.is_none() && peer.ready;
                assert!(!is_honest || is_spared, "{index}: {peer:?}");
            }
        }
    }
}

impl fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.client)).finish()
    }
}
