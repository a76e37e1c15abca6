//! What happens in a run: who is there, whose windows it has, and what goes wrong when. All of it follows from a seed.

use std::fmt;

use fastrand::Rng;
use serde::Serialize;

use crate::{
    cast::Role,
    stage::{GENESIS, Owner, WINDOW, anchor},
};

/// Windows before the first fault, in which honest preconfers begin the chain.
pub(crate) const BEFORE: usize = 1;

/// Windows of faults.
pub(crate) const FAULTY: usize = 5;

/// Windows of honest preconfers after that, and of silence.
pub(crate) const AFTER: usize = 8;

/// Milliseconds from the beginning to the end of the last fault.
pub(crate) const FAULTS_END: u64 = ((BEFORE + FAULTY) as u64) * WINDOW * 1000;

/// Something that goes wrong, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// Its number in the scenario as it was drawn.
    pub id: usize,
    /// Milliseconds from the beginning.
    pub at: u64,
    /// Milliseconds that it lasts, if it does.
    pub lasts: u64,
    /// What it is.
    pub kind: Kind,
}

/// What can go wrong. Nodes are told by their numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Kind {
    /// Frames from and to a node are lost, so many in a hundred.
    Loss { node: usize, percent: u8 },
    /// They take so much longer.
    Slow { node: usize, millis: u64 },
    /// Its lines carry so many bytes a second.
    Narrow { node: usize, bytes_per_second: u32 },
    /// Frames arrive twice and overtake each other, so many in a hundred.
    Disorder { node: usize, percent: u8 },
    /// These nodes on one side, everybody else on the other.
    Partition { side: Vec<usize> },
    /// A node crashes, at once or at a write to its store, and comes back with what was stored.
    Crash { node: usize, after_writes: Option<u64>, last_is_stored: bool },
    /// A node is shut down, and comes back with its store.
    Leave { node: usize },
    /// A node is not there from the beginning: it joins with an empty store.
    Join { node: usize },
    /// The clock of a node is off by so many seconds.
    Skew { node: usize, seconds: i64 },
    /// L1 reorganises: the window of that moment has another preconfer.
    Reelection { node: usize },
    /// L1 reorganises: what was settled last is not settled.
    Unsettled,
    /// L1 reorganises: its blocks from this one on are replaced, and with them the anchors of blocks; for a while, or for good.
    Replaced { from: u64, for_good: bool },
    /// Whoever has the turn signs another block for the height of its last one, and asks its client to publish that.
    SecondBlock,
    /// An adversary does what it does.
    Attack { adversary: usize },
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    /// What all of it is drawn from.
    pub seed: u64,
    /// Honest nodes.
    pub honest: usize,
    /// Adversaries, each with two identities.
    pub cast: Vec<Role>,
    /// Who is elected, by window.
    pub owners: Vec<Owner>,
    /// Milliseconds that links take, and up to so many more.
    pub delay: u64,
    pub jitter: u64,
    /// Windows that the schedule is known for in advance.
    pub known_ahead: usize,
    /// Seconds between two blocks of an honest preconfer.
    pub pace: u64,
    /// Honest nodes whose stores are on disks that lose what is not synced; those of others are in memory that survives.
    pub disks: Vec<usize>,
    /// In order of time.
    pub faults: Vec<Fault>,
}

impl Scenario {
    /// What a seed gives with so many honest nodes: of all nodes, 30 % are adversaries.
    pub fn draw(seed: u64, honest: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let adversaries = honest * 3 / 7;
        let cast: Vec<Role> = (0..adversaries)
            .map(|index| {
                let elected = index == 0 || rng.bool();
                let roles: &[Role] = if elected { &Role::ELECTED } else { &Role::UNSTAKED };
                roles[rng.usize(..roles.len())]
            })
            .collect();
        let owners = owners(rng, honest, &cast);
        let mut scenario = Self {
            seed,
            honest,
            cast,
            owners,
            delay: rng.u64(5..80),
            jitter: rng.u64(0..60),
            known_ahead: rng.usize(1..4),
            pace: rng.u64(1..4),
            disks: Vec::new(),
            faults: Vec::new(),
        };
        scenario.faults = faults(rng, &scenario);
        scenario.draw_more(&mut Rng::with_seed(!seed));
        scenario
    }

    /// Disks, and reorgs of L1 that replace anchors. They are drawn apart, so that the seeds that once failed are what they were.
    fn draw_more(&mut self, rng: &mut Rng) {
        self.disks = (0..self.honest).filter(|_| rng.u8(0..4) == 0).collect();
        for _ in 0..[0, 0, 1, 2][rng.usize(..4)] {
            let at = rng.u64(BEFORE as u64 * WINDOW * 1000..FAULTS_END - 10_000);
            let lasts = rng.u64(0..FAULTS_END - at);
            let from = anchor(GENESIS + at / 1000) - rng.u64(0..2);
            let kind = Kind::Replaced { from, for_good: rng.bool() };
            self.faults.push(Fault { id: self.faults.len(), at, lasts, kind });
        }
        self.faults.sort_by_key(|fault| fault.at);
    }

    /// The same with these faults alone.
    #[must_use]
    pub fn only(mut self, ids: &[usize]) -> Self {
        self.faults.retain(|fault| ids.contains(&fault.id));
        self
    }

    /// Whether honest nodes may hold something against each other for a while: their views of L1 or of time differ.
    pub fn has_other_views(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.kind, Kind::Skew { .. } | Kind::Reelection { .. }))
    }
}

/// Honest preconfers in turn, and elected adversaries in some of the windows of faults; the last of these is honest.
fn owners(rng: &mut Rng, honest: usize, cast: &[Role]) -> Vec<Owner> {
    let mut order: Vec<usize> = (0..honest).collect();
    rng.shuffle(&mut order);
    let windows = BEFORE + FAULTY + AFTER;
    let mut owners: Vec<Owner> = (0..windows).map(|window| Owner::Honest(order[window % honest])).collect();
    let elected: Vec<usize> = (0..cast.len()).filter(|index| cast[*index].is_elected()).collect();
    for turn in 0..rng.usize(1..4) {
        if let Some(adversary) = elected.get(turn % elected.len().max(1)) {
            owners[rng.usize(BEFORE..BEFORE + FAULTY - 1)] = Owner::Adversary(*adversary);
        }
    }
    owners
}

fn faults(rng: &mut Rng, scenario: &Scenario) -> Vec<Fault> {
    let begin = BEFORE as u64 * WINDOW * 1000;
    let mut kinds = Vec::new();
    for adversary in 0..scenario.cast.len() {
        // All through, but for a beginning of its own.
        kinds.push((rng.u64(begin..begin + 10_000), FAULTS_END, Kind::Attack { adversary }));
    }
    let mut has_partition = false;
    for _ in 0..rng.usize(2..8) {
        let (at, lasts) = (rng.u64(begin..FAULTS_END - 10_000), rng.u64(2_000..25_000));
        let kind = kind(rng, scenario.honest);
        let is_partition = matches!(kind, Kind::Partition { .. });
        if !is_partition || !std::mem::replace(&mut has_partition, true) {
            kinds.push((at, lasts, kind));
        }
    }
    kinds.sort_by_key(|(at, ..)| *at);
    let faults = kinds.into_iter().enumerate();
    faults.map(|(id, (at, lasts, kind))| Fault { id, at, lasts: lasts.min(FAULTS_END - at), kind }).collect()
}

fn kind(rng: &mut Rng, honest: usize) -> Kind {
    let node = rng.usize(..honest);
    match rng.u8(0..16) {
        0 => Kind::Loss { node, percent: rng.u8(5..60) },
        1 => Kind::Slow { node, millis: rng.u64(100..1_500) },
        2 => Kind::Narrow { node, bytes_per_second: rng.u32(1_000..20_000) },
        3 => Kind::Disorder { node, percent: rng.u8(10..60) },
        4 | 5 => {
            let mut nodes: Vec<usize> = (0..honest).collect();
            rng.shuffle(&mut nodes);
            nodes.truncate(rng.usize(1..=honest.div_ceil(2)));
            nodes.sort_unstable();
            Kind::Partition { side: nodes }
        }
        6..=8 => {
            Kind::Crash { node, after_writes: rng.bool().then(|| rng.u64(0..12)), last_is_stored: rng.bool() }
        }
        9 => Kind::Leave { node },
        10 => Kind::Join { node },
        11 => {
            let seconds = [rng.i64(-5..=5), rng.i64(-60..=60), rng.i64(-3_600..=3_600)][rng.usize(..3)];
            Kind::Skew { node, seconds }
        }
        12 | 13 => Kind::Reelection { node },
        14 => Kind::Unsettled,
        _ => Kind::SecondBlock,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at as f64 / 1000.0, self.lasts as f64 / 1000.0);
        write!(f, "{:>2}  {at:>6.3} s for {lasts:>6.3} s  {:?}", self.id, self.kind)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, honest, cast, owners, delay, jitter, known_ahead, pace, disks, faults } = self;
        writeln!(f, "seed {seed}: {honest} honest nodes, on disks {disks:?}, adversaries {cast:?}")?;
        writeln!(
            f,
            "links of {delay} to {} ms, a block every {pace} s, {known_ahead} windows known ahead",
            delay + jitter
        )?;
        writeln!(f, "turns {owners:?}")?;
        faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}
