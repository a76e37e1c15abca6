//! One run: a quiet beginning, the attack, and what is left of it.

use std::{cell::RefCell, collections::BTreeMap, sync::Mutex, time::Duration};

use p2p_types::{B256, Base};
use preconfirmation_p2p::sim::{Link, SimNetwork};
use tokio::{runtime::Builder, time::sleep};

use crate::{
    actor::{Actor, Adversary, Seat},
    node::Node,
    stage::{ATTACK, BASE, BEFORE, GENESIS, HONEST, Owner, Parent, Plan, QUIET, WINDOW, WallClock},
};

/// Seconds after the attack within which all are live, on one chain.
const SETTLED_WITHIN: u64 = 15;

/// Blocks that L1 leaves unsettled: more than two turns of them.
const UNSETTLED: u64 = 10;

/// Seconds between two blocks of an honest preconfer.
const PACE: u64 = 3;

/// How much more an honest application may be told than on a quiet day.
const TIMES_QUIET: usize = 3;

/// What is peculiar to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Everybody knows the schedule of two more windows.
    Plain,
    /// Only its preconfer knows of a window in time; the others some seconds after its beginning.
    LateSchedule,
}

/// What adversaries see of it.
pub(crate) struct Scene<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) clock: WallClock,
    pub(crate) nodes: &'a [Node],
    pub(crate) settled: Base,
    /// Seconds since the attack began.
    pub(crate) second: u64,
    dice: RefCell<fastrand::Rng>,
}

impl Scene<'_> {
    /// What an adversary that follows an honest node knows to be the head.
    pub(crate) async fn tip(&self) -> Parent {
        self.nodes[0].tip().await
    }

    pub(crate) async fn at(&self, number: u64) -> Option<Parent> {
        self.nodes[0].at(number).await
    }

    pub(crate) fn dice(&self) -> std::cell::RefMut<'_, fastrand::Rng> {
        self.dice.borrow_mut()
    }
}

/// Events from the beginning of the attack until all is over, by node.
type Told = Vec<usize>;

/// What quiet runs have told.
static QUIET_RUNS: Mutex<BTreeMap<(u64, Shape), Told>> = Mutex::new(BTreeMap::new());

/// Plays a plan, and the same without adversaries.
pub(crate) fn play<A: Adversary>(plan: &Plan, cast: &impl Fn(Seat, &mut fastrand::Rng) -> A) {
    let told = run(plan, cast);
    let known = QUIET_RUNS.lock().unwrap().get(&(plan.seed, plan.shape)).cloned();
    let quiet = known.unwrap_or_else(|| run(&plan.quiet(), cast));
    for (node, (told, quiet)) in told.iter().zip(&quiet).enumerate() {
        assert!(*told <= TIMES_QUIET * quiet, "node {node} was told {told}, and {quiet} on a quiet day");
    }
    QUIET_RUNS.lock().unwrap().insert((plan.seed, plan.shape), quiet);
}

fn run<A: Adversary>(plan: &Plan, cast: &impl Fn(Seat, &mut fastrand::Rng) -> A) -> Told {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::set(plan).await;
        let mut adversaries = stage.cast(cast).await;
        stage.run(&mut adversaries).await
    })
}

/// All honest nodes and what L1 says.
struct Stage<'a> {
    plan: &'a Plan,
    network: SimNetwork,
    clock: WallClock,
    nodes: Vec<Node>,
    /// What each was told to be settled last.
    bases: Vec<Base>,
    settled: Base,
    dice: fastrand::Rng,
    /// Blocks that honest preconfers have published, and that their clients have refused to publish.
    published: usize,
    refused: usize,
}

impl<'a> Stage<'a> {
    /// Nodes in a ring, each connected to the next two.
    async fn set(plan: &'a Plan) -> Self {
        let mut dice = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
        let network = SimNetwork::new(plan.seed);
        let millis = |millis| Duration::from_millis(millis);
        network.set_links(Link {
            delay: millis(dice.u64(5..80)),
            jitter: millis(dice.u64(0..60)),
            ..Link::default()
        });
        let clock = WallClock::start();
        let mut nodes = Vec::new();
        for index in 0..HONEST {
            nodes.push(Node::start(&network, clock, u8::try_from(1 + index).unwrap()).await);
        }
        for (index, node) in nodes.iter().enumerate() {
            for step in [1, 2] {
                node.client.dial(nodes[(index + step) % HONEST].address().await).await.unwrap();
            }
        }
        let settled = Base::at(BASE);
        Self {
            plan,
            network,
            clock,
            nodes,
            bases: vec![settled; HONEST],
            settled,
            dice,
            published: 0,
            refused: 0,
        }
    }

    /// Adversaries, each connected to all honest nodes or to some of them.
    async fn cast<A: Adversary>(&mut self, cast: &impl Fn(Seat, &mut fastrand::Rng) -> A) -> Vec<A> {
        let mut adversaries = Vec::new();
        for index in 0..self.plan.adversaries {
            let mut victims: Vec<&Node> = self.nodes.iter().collect();
            self.dice.shuffle(&mut victims);
            let (half, others) = victims.split_at(HONEST / 2);
            let to_all = self.dice.bool();
            let byte = u8::try_from(100 + 2 * index).unwrap();
            let first = Actor::start(&self.network, byte, if to_all { &victims } else { half }).await;
            let second = Actor::start(&self.network, byte + 1, others).await;
            let signer = self.plan.signer(Owner::Adversary(index));
            let seat = Seat { actors: [first, second], signer, elected: self.plan.elected };
            adversaries.push(cast(seat, &mut self.dice));
        }
        adversaries
    }

    async fn run<A: Adversary>(&mut self, adversaries: &mut [A]) -> Told {
        let window = |windows: usize| windows as u64 * WINDOW;
        for _ in 0..window(BEFORE) {
            self.second(&mut [] as &mut [A], None).await;
        }
        self.assert_settled("before the attack");
        assert_eq!(self.refused, 0, "{:?}", self.nodes[0].client);
        let before: Vec<usize> = self.nodes.iter().map(Node::events).collect();
        for second in 0..window(ATTACK) {
            self.second(adversaries, Some(second)).await;
        }
        assert!(
            self.published > 2 * window(BEFORE) as usize / PACE as usize - 2,
            "honest preconfers are heard"
        );
        let ended = self.clock.now();
        while !self.is_settled() && self.clock.now() < ended + SETTLED_WITHIN {
            self.second(&mut [] as &mut [A], None).await;
        }
        self.assert_settled("after the attack");
        let end = BEFORE + ATTACK + QUIET;
        while self.clock.window() < end {
            self.second(&mut [] as &mut [A], None).await;
        }
        // The network works: all follow the next preconfer.
        let refused = self.refused;
        while self.clock.window() == end {
            self.second(&mut [] as &mut [A], None).await;
        }
        self.assert_settled("when the next preconfer has had its turn");
        assert_eq!(self.refused, refused);
        if self.plan.adversaries > 0 {
            assert!(self.nodes.iter().any(Node::has_noticed), "an attack that nobody notices tests nothing");
        }
        for node in &self.nodes {
            let turns = node.turns_displaced(self.plan);
            assert!(turns <= self.plan.adversaries, "{turns} turns of others were displaced at once");
        }
        self.nodes.iter().zip(before).map(|(node, before)| node.events() - before).collect()
    }

    /// A second of everybody's life. Honest preconfers sign but for the quiet after an attack.
    async fn second<A: Adversary>(&mut self, adversaries: &mut [A], attack: Option<u64>) {
        let (now, window) = (self.clock.now(), self.clock.window());
        let (seconds, owner) = ((now - GENESIS) % WINDOW, self.plan.owners.get(window).copied());
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let in_time =
                self.plan.shape == Shape::Plain || owner == Some(Owner::Honest(index)) || seconds > 5;
            let known =
                if self.plan.shape == Shape::Plain { window + 3 } else { window + usize::from(in_time) };
            node.learn(self.plan, known);
        }
        let is_quiet = (BEFORE + ATTACK..BEFORE + ATTACK + QUIET).contains(&window);
        if let Some(Owner::Honest(index)) = owner
            && !is_quiet
            && seconds % PACE == 1
        {
            match self.nodes[index].build(self.plan, self.clock).await {
                Ok(()) => self.published += 1,
                Err(_) => self.refused += 1,
            }
        }
        if let Some(second) = attack {
            let dice = RefCell::new(self.dice.fork());
            let (plan, clock, nodes, settled) = (self.plan, self.clock, self.nodes.as_slice(), self.settled);
            let scene = Scene { plan, clock, nodes, settled, second, dice };
            for adversary in adversaries {
                adversary.act(&scene).await;
            }
        }
        self.settle(seconds).await;
        sleep(Duration::from_secs(1)).await;
        self.assert_nobody_pays().await;
        self.nodes.iter().for_each(Node::check_bounds);
    }

    /// L1 moves once a window; each node hears of it at a moment of its own.
    async fn settle(&mut self, seconds: u64) {
        if seconds == 0 {
            let lowest =
                self.nodes.iter().filter_map(|node| node.client.head()).map(|head| head.number).min();
            let next = lowest.unwrap_or_default().saturating_sub(UNSETTLED);
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
            let by_number = known == self.settled.hash && self.dice.u8(0..3) == 0;
            let base = if by_number { Base::at(self.settled.number) } else { self.settled };
            node.client.update_head(base).await.unwrap();
            self.bases[index] = self.settled;
        }
    }

    /// Whether what the first node has stands on what is settled.
    async fn follows(&self, settled: Base) -> bool {
        settled.hash.is_none()
            || self.nodes[0].at(settled.number).await.map(|block| block.hash) == settled.hash
    }

    fn heads(&self) -> Vec<Option<(u64, B256)>> {
        self.nodes.iter().map(|node| node.client.head().map(|head| (head.number, head.hash))).collect()
    }

    fn is_settled(&self) -> bool {
        let heads = self.heads();
        heads.iter().all(|head| head.is_some() && *head == heads[0])
            && self.nodes.iter().all(|node| node.client.status().is_live())
    }

    fn assert_settled(&self, when: &str) {
        let statuses: Vec<_> = self.nodes.iter().map(|node| node.client.status()).collect();
        assert!(self.is_settled(), "{when}: {:?}, {statuses:?}", self.heads());
    }

    /// No honest peer has been charged by another one.
    async fn assert_nobody_pays(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            for peer in node.client.peers().await.unwrap() {
                let is_honest = self.nodes.iter().any(|other| other.id() == peer.peer);
                assert!(!is_honest || (peer.score >= 0.0 && peer.banned_for.is_none()), "{index}: {peer:?}");
            }
        }
    }
}
