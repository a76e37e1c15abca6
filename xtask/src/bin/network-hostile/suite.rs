//! The suite: for each adversary the same honest traffic in quiet and under attack, in turns.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use preconfirmation_p2p::{NetworkConfig, NetworkHandle, PeersConfig};
use preconfirmation_types::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetHead, GetHeadRequest, U256,
};
use serde::Serialize;

use crate::{
    attack::Attack,
    cases::{self, Asks, Case, Expected, FOUR_OF_TWENTY},
    log,
    newcomer::{self, Announced},
    rig::{Failure, Load, Node, deliver},
};

/// How long a victim may take to notice that its adversary is gone, or that it has to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most that 99 of 100 messages may take under attack, by what they take in quiet.
const P99_RATIO: f64 = 2.0;

/// Most memory of the process of all honest nodes: they hold what was published in the last six seconds, and 32 MiB for a
/// peer that does not read.
const PEAK_MIB: u64 = 256;

/// Most time until somebody new has been answered a head, a page and a list.
const NEWCOMER_MS: f64 = 5000.0;

/// The honest nodes write fewer lines to their logs, all together.
const LOG_LINES: u64 = 100;

/// Most invalid messages of one attacker that may reach the check of signatures at one neighbour.
const CHECKED: u64 = 300;

/// Peers that a victim remembers where it has to find one, and of one subnet: few, so that the first keys that come are many.
const KNOWN: NonZeroUsize = NonZeroUsize::new(20).unwrap();
const KNOWN_PER_SUBNET: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Peers that it dials of four subnets.
const DIALLED: usize = 8;

/// How often a case is measured whose figures are above the bound only for the machine's sake: what else runs on it lengthens
/// some messages, under attack or in quiet.
const ATTEMPTS: u32 = 3;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Turns, each in quiet and then under attack by somebody unknown so far.
    rounds: u32,
    /// Seconds of honest traffic in each half of a turn.
    seconds: u32,
    /// Commitments a second.
    rate: u32,
    /// Whether adversaries that only answer, and badly, come at the same time, each to a victim of its own.
    together: bool,
    /// Whether adversaries only get the processor time that nobody else wants.
    aside: bool,
    /// Whether there is enough traffic for figures.
    figures: bool,
}

impl Extent {
    /// Enough for figures.
    pub(crate) const FULL: Self =
        Self { rounds: 5, seconds: 2, rate: 200, together: false, aside: true, figures: true };

    /// Enough to see that nothing is lost and everybody is scored.
    pub(crate) const QUICK: Self =
        Self { rounds: 1, seconds: 1, rate: 50, together: true, aside: false, figures: false };
}

/// What became of the attacks of one adversary.
#[derive(Serialize)]
pub(crate) struct Report {
    honest_sent: u64,
    honest_lost: u64,
    /// 99 of 100 messages took so much longer at most than in quiet: the middle round's time under attack by
    /// the middle round's in quiet.
    p99_ratio: f64,
    p99_ms: f64,
    /// Most memory of the process of all honest nodes.
    peak_mib: u64,
    /// How long it took at most until somebody new had connected under attack and was answered a head, a page and a list.
    newcomer_ms: f64,
    /// Lines that the honest nodes wrote to their logs, all together, as `p2p-node run` limits them.
    log_lines: u64,
    /// Whether the adversary is scored as the table of scores says.
    scored: bool,
    /// Frames that the adversary got rid of in its most successful round.
    written: u64,
    /// Most invalid messages of one attacker that reached the check of signatures at one neighbour.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<u64>,
    /// What does not hold.
    failed: Vec<&'static str>,
}

impl Report {
    /// Notes what does not hold.
    fn judge(mut self, extent: Extent) -> Self {
        let held = [
            ("honest_lost", self.honest_lost == 0),
            ("p99_ratio", !extent.figures || self.p99_ratio <= P99_RATIO),
            ("peak_mib", self.peak_mib < PEAK_MIB),
            ("newcomer_ms", self.newcomer_ms < NEWCOMER_MS),
            ("log_lines", self.log_lines < LOG_LINES),
            ("scored", self.scored),
            ("checked", self.checked.is_none_or(|checked| checked < CHECKED)),
        ];
        self.failed = held.into_iter().filter(|(_, holds)| !holds).map(|(name, _)| name).collect();
        self
    }

    /// What does not hold, by the names of the fields.
    pub(crate) fn failed(&self) -> &[&'static str] {
        &self.failed
    }
}

/// What is noted over the rounds.
#[derive(Default)]
struct Notes {
    sent: u64,
    lost: u64,
    quiet: Vec<Duration>,
    attacked: Vec<Duration>,
    newcomer: Duration,
    written: u64,
    scored: bool,
}

impl Notes {
    fn report(mut self, lines: u64, checked: Option<u64>) -> Result<Report, Failure> {
        let middle = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
        };
        let (quiet, attacked) = (middle(&mut self.quiet), middle(&mut self.attacked));
        Ok(Report {
            honest_sent: self.sent,
            honest_lost: self.lost,
            p99_ratio: attacked / quiet,
            p99_ms: attacked * 1000.0,
            peak_mib: peak()?,
            newcomer_ms: self.newcomer.as_secs_f64() * 1000.0,
            log_lines: log::lines() - lines,
            scored: self.scored,
            written: self.written,
            checked,
            failed: Vec::new(),
        })
    }
}

/// All adversaries whose names contain this.
pub(crate) async fn run(only: &str, extent: Extent) -> Result<BTreeMap<&'static str, Report>, Failure> {
    let wanted = |case: &&Case| case.name.contains(only);
    let (first, others): (Vec<_>, Vec<_>) = cases::all()
        .zip(0..)
        .filter(|(case, _)| wanted(case))
        .partition(|(case, _)| extent.together && case.asks != Asks::Nothing);
    let mut reports = BTreeMap::new();
    let mut note = |name, report: Report| {
        let report = report.judge(extent);
        eprintln!("{name}: {}", serde_json::to_string(&report)?);
        reports.insert(name, report);
        Ok::<_, Failure>(())
    };
    forget_peak()?;
    let together = try_join_all(first.iter().map(|(case, index)| against(case, *index, extent))).await?;
    for ((case, _), report) in first.iter().zip(together) {
        note(case.name, report)?;
    }
    for (case, index) in others {
        note(case.name, measured(extent, async || against(case, index, extent).await).await?)?;
    }
    if wanted(&&FOUR_OF_TWENTY) {
        note(FOUR_OF_TWENTY.name, measured(extent, async || four_of_twenty(extent).await).await?)?;
    }
    Ok(reports)
}

/// Measures, again where only the figures are above their bound.
async fn measured(
    extent: Extent,
    measure: impl AsyncFn() -> Result<Report, Failure>,
) -> Result<Report, Failure> {
    let mut attempt = 1;
    loop {
        forget_peak()?;
        let report = measure().await?.judge(extent);
        if report.failed() != ["p99_ratio"] || attempt == ATTEMPTS {
            return Ok(report);
        }
        attempt += 1;
    }
}

/// An author and a reader that know each other only through a victim.
async fn against(case: &Case, index: u32, extent: Extent) -> Result<Report, Failure> {
    let lines = log::lines();
    let (author, reader) = (Node::start()?, Node::start()?);
    let announced = if case.found { Some(Announced::free()?) } else { None };
    let victim = Node::with(|config| {
        config.connections.limit_private = case.public;
        if let Some(announced) = &announced {
            looks_for(announced, config);
        }
    })?;
    author.dial(&victim).await?;
    reader.dial(&victim).await?;
    victim.meets(2).await?;
    author.meets(1).await?;
    reader.meets(1).await?;
    let load = Load {
        messages: u64::from(extent.seconds * extent.rate),
        every: Duration::from_secs(1) / extent.rate,
        // Five in a second.
        list_every: if case.lists { u64::from(extent.rate / 5) } else { u64::MAX },
    };
    let address = victim.handle.listen_addrs().await?.remove(0);
    let mut notes = Notes { scored: true, ..Notes::default() };
    let mut block = 1;
    for round in 0..extent.rounds {
        let quiet = deliver(&author, &[&reader], block, load).await?;
        block += load.messages;

        let number = (index * extent.rounds + round) * 1000;
        let attack =
            Attack::start(case, number, extent.seconds + 1, std::slice::from_ref(&address), extent.aside)
                .await?;
        let asking = tokio::spawn(ask(victim.handle.clone(), cases::peer(number)?, case.asks));
        let joining = tokio::spawn(joins_in_the_middle(victim.handle.clone(), announced.clone(), extent));
        let attacked = deliver(&author, &[&reader], block, load).await?;
        let (newcomer, took) = joining.await??;
        notes.newcomer = notes.newcomer.max(took);
        block += load.messages;
        notes.scored &= is_scored(&victim, case, number).await? && is_kept(&victim, &newcomer).await?;
        drop(newcomer);
        asking.abort();
        notes.written = notes.written.max(attack.stop().await?);
        // In quiet it is quiet.
        eventually(async || {
            Ok(victim.handle.peers().await?.iter().filter(|p| p.banned_for.is_none()).count() == 2)
        })
        .await?;

        notes.sent += quiet.sent + attacked.sent;
        notes.lost += quiet.lost + attacked.lost;
        notes.quiet.push(quiet.p99);
        notes.attacked.push(attacked.p99);
    }
    notes.report(lines, None)
}

/// A victim that has heard of somebody, and of no more peers than a few subnets can name.
fn looks_for(announced: &Announced, config: &mut NetworkConfig) {
    let few = PeersConfig::default();
    (config.peers.low, config.peers.high) = (few.low, few.high);
    (config.peers.retry, config.peers.max_retry) = (Duration::from_millis(200), Duration::from_millis(400));
    (config.peers.known, config.peers.known_per_subnet) = (KNOWN, KNOWN_PER_SUBNET);
    config.bootnodes.extend(announced.named().to_string().parse().ok());
}

/// A newcomer joins when half of the honest traffic has gone: by itself; or, where it has to be found, where it is announced, once
/// adversaries have what they can get of the peers that a node dials.
async fn joins_in_the_middle(
    known: NetworkHandle,
    announced: Option<Announced>,
    extent: Extent,
) -> Result<(Option<Node>, Duration), Failure> {
    tokio::time::sleep(Duration::from_secs(extent.seconds.into()) / 2).await;
    Ok(match announced {
        Some(announced) => {
            let start = Instant::now();
            while known.peers().await?.iter().filter(|peer| !peer.inbound).count() < DIALLED
                && start.elapsed() < PATIENCE
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let (newcomer, took) = announced.is_found(known.local_peer_id()).await?;
            (Some(newcomer), took)
        }
        None => (None, newcomer::joins(known).await?),
    })
}

/// Whether the victim is still connected to who was found, if anybody had to be.
async fn is_kept(victim: &Node, found: &Option<Node>) -> Result<bool, Failure> {
    let Some(found) = found else { return Ok(true) };
    let peers = victim.handle.peers().await?;
    let peer = found.handle.local_peer_id();
    Ok(peers.iter().any(|status| status.peer == peer && !status.inbound && status.banned_for.is_none()))
}

/// Asks a peer again and again. The answers do not matter, the score does.
async fn ask(handle: NetworkHandle, peer: libp2p::PeerId, asks: Asks) {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tick.tick().await;
        match asks {
            Asks::Nothing => return,
            Asks::Head => drop(handle.request::<GetHead>(peer, GetHeadRequest {}).await),
            Asks::Page => {
                let request =
                    GetCommitmentsByNumberRequest { start_block_number: U256::from(1), max_count: 8 };
                drop(handle.request::<GetCommitmentsByNumber>(peer, request).await);
            }
        }
    }
}

/// Whether the victim thinks of the adversary what the table says. What has to happen is given its time.
async fn is_scored(victim: &Node, case: &Case, number: u32) -> Result<bool, Failure> {
    let adversary = cases::peer(number)?;
    let scored = eventually(async || {
        let peers = victim.handle.peers().await?;
        let status = peers.iter().find(|status| status.peer == adversary);
        Ok(match (case.expected, status) {
            (Expected::Charged, Some(status)) => {
                status.application_score < -0.5 || status.banned_for.is_some()
            }
            (Expected::Rejected, Some(status)) => status.score < -0.5 && status.application_score == 0.0,
            (Expected::Untouched, Some(status)) => status.application_score >= 0.0 && status.score >= 0.0,
            // A crowd need not get in.
            (Expected::Untouched, None) => case.crowd > 1,
            (Expected::Disconnected, status) => status.is_none(),
            (Expected::Charged | Expected::Rejected, None) => false,
        })
    })
    .await?;
    if !scored {
        let peers = victim.handle.peers().await?;
        eprintln!("{}: {:?}", case.name, peers.iter().find(|status| status.peer == adversary));
    }
    Ok(scored)
}

/// Sixteen honest nodes and four that flood four of them each.
async fn four_of_twenty(extent: Extent) -> Result<Report, Failure> {
    const HONEST: usize = 16;
    const NEIGHBOURS: usize = 4;
    let lines = log::lines();
    let mut nodes = Vec::new();
    for _ in 0..HONEST {
        nodes.push(Node::start()?);
    }
    for (index, node) in nodes.iter().enumerate() {
        for step in [1, 3, 5] {
            node.dial(&nodes[(index + step) % HONEST]).await?;
        }
    }
    let mut addresses = Vec::new();
    for node in &nodes {
        node.meets(6).await?;
        addresses.push(node.handle.listen_addrs().await?.remove(0));
    }
    let rate = extent.rate / 10;
    let load = Load {
        messages: u64::from(extent.seconds * rate),
        every: Duration::from_secs(1) / rate,
        list_every: u64::MAX,
    };
    let readers: Vec<_> = nodes[1..].iter().collect();
    let (mut notes, mut attackers) = (Notes::default(), Vec::new());
    let mut block = 1;
    for round in 0..extent.rounds {
        let quiet = deliver(&nodes[0], &readers, block, load).await?;
        block += load.messages;
        let mut attacks = Vec::new();
        for (victims, number) in addresses.chunks(NEIGHBOURS).zip(1_000_000 + round * 1000..) {
            attackers.push(cases::peer(number)?);
            attacks.push(Attack::start(&FOUR_OF_TWENTY, number, extent.seconds + 1, victims, extent.aside));
        }
        let attacks = try_join_all(attacks).await?;
        let joining = tokio::spawn(joins_in_the_middle(nodes[0].handle.clone(), None, extent));
        let attacked = deliver(&nodes[0], &readers, block, load).await?;
        notes.newcomer = notes.newcomer.max(joining.await??.1);
        block += load.messages;
        let written = try_join_all(attacks.into_iter().map(Attack::stop)).await?;
        notes.written = notes.written.max(written.iter().sum());
        notes.sent += quiet.sent + attacked.sent;
        notes.lost += quiet.lost + attacked.lost;
        notes.quiet.push(quiet.p99);
        notes.attacked.push(attacked.p99);
    }
    let most = |node: &Node| node.seen().invalid.values().copied().max().unwrap_or_default();
    let checked = nodes.iter().map(most).max().unwrap_or_default();
    // All who flood are noticed, only they, and nobody passes it on.
    notes.scored = checked > 0
        && nodes.iter().all(|node| {
            let seen = node.seen();
            seen.invalid.keys().all(|peer| attackers.contains(peer))
                && seen.invalid.len() == extent.rounds as usize
        });
    notes.report(lines, Some(checked))
}

/// Asks again and again until it is so. Whether it was so in time.
async fn eventually(is_so: impl AsyncFn() -> Result<bool, Failure>) -> Result<bool, Failure> {
    let start = Instant::now();
    while !is_so().await? {
        if start.elapsed() > PATIENCE {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(true)
}

/// Starts the kernel's count of the most memory anew.
fn forget_peak() -> Result<(), Failure> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// The most memory since then, in MiB.
fn peak() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024)
}
