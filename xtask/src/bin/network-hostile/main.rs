//! Hostile peers against honest nodes, over real sockets: an author and a reader that know each other only
//! through a victim, and an adversary that does its worst to the victim. The same messages are sent once in
//! quiet and once under attack. Prints one line of JSON; fails if an honest message was lost.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a tool; its input is its own")]

mod cases;
mod frames;
mod measure;
mod peer;
mod rig;

use std::{collections::BTreeMap, fs, process::ExitCode, time::Duration};

use clap::Parser;
use libp2p::identity::Keypair;
use preconfirmation_types::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetHead, GetHeadRequest, U256,
};
use serde::Serialize;
use tokio::task::JoinSet;

use cases::{Asks, Case, Expected};
use rig::{CHAIN, Delivered, Failure, Load, Node, deliver};

/// Hostile peers against honest nodes.
#[derive(Parser)]
struct Args {
    /// Only the adversaries whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// A quarter of the traffic.
    #[arg(long)]
    quick: bool,
    /// Measure something instead.
    #[arg(long)]
    measure: Option<Measure>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Measure {
    /// Copies and latency of lists by the size of the mesh.
    Mesh,
    /// How long the service keeps its task while lists of 2 MiB come.
    PollGap,
}

/// What became of one adversary's attack.
#[derive(Serialize)]
struct Report {
    honest_sent: u64,
    honest_lost: u64,
    /// 99 of 100 messages took so much longer at most than in quiet.
    p99_ratio: f64,
    p99_ms: f64,
    /// Most memory of the whole process, all nodes and adversaries together.
    peak_mib: u64,
    /// Whether the adversary is scored as the table of scores says.
    scored: bool,
    /// Most invalid messages of one attacker that reached the check of signatures at one neighbour.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(measure) = args.measure {
        let measured = runtime.block_on(async {
            match measure {
                Measure::Mesh => measure::mesh().await,
                Measure::PollGap => measure::poll_gap().await,
            }
        });
        return if measured.inspect_err(|error| eprintln!("{error}")).is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    match runtime.block_on(suite(&args)) {
        Ok(reports) => {
            let lost: u64 = reports.values().map(|report| report.honest_lost).sum();
            match serde_json::to_string(&reports) {
                Ok(line) if lost == 0 => {
                    println!("{line}");
                    ExitCode::SUCCESS
                }
                Ok(line) => {
                    eprintln!("{lost} honest messages were lost");
                    println!("{line}");
                    ExitCode::FAILURE
                }
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn suite(args: &Args) -> Result<BTreeMap<&'static str, Report>, Failure> {
    let seconds = if args.quick { 3 } else { 12 };
    let mut reports = BTreeMap::new();
    for case in cases::all(seconds)? {
        if case.name.contains(&args.only) {
            let report = against(&case, seconds).await?;
            eprintln!("{}: {}", case.name, serde_json::to_string(&report)?);
            reports.insert(case.name, report);
        }
    }
    let name = "InvalidFloodBy4Of20";
    if name.contains(&args.only) {
        let report = flood_of_four(seconds).await?;
        eprintln!("{name}: {}", serde_json::to_string(&report)?);
        reports.insert(name, report);
    }
    Ok(reports)
}

/// One adversary.
async fn against(case: &Case, seconds: u32) -> Result<Report, Failure> {
    let (author, victim, reader) = (Node::start()?, Node::start()?, Node::start()?);
    author.dial(&victim).await?;
    reader.dial(&victim).await?;
    victim.meets(2).await?;
    author.meets(1).await?;
    reader.meets(1).await?;
    let load = Load {
        messages: u64::from(seconds) * 50,
        every: Duration::from_millis(20),
        list_bytes: if case.lists { 1024 * 1024 } else { 0 },
    };
    forget_peak()?;
    let quiet = deliver(&author, &[&reader], 1, load).await?;

    let address = victim.handle.listen_addrs().await?.remove(0);
    let mut attack = JoinSet::new();
    attack.spawn(peer::run(CHAIN, case.identity.clone(), address.clone(), case.plan.clone()));
    for _ in 1..case.crowd {
        attack.spawn(peer::run(CHAIN, Keypair::generate_ed25519(), address.clone(), case.plan.clone()));
    }
    let peer = case.peer();
    let (handle, asks) = (victim.handle.clone(), case.asks);
    let asking = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tick.tick().await;
            // The answer does not matter, the score does.
            match asks {
                Asks::Nothing => break,
                Asks::Head => drop(handle.request::<GetHead>(peer, GetHeadRequest {}).await),
                Asks::Page => {
                    let request =
                        GetCommitmentsByNumberRequest { start_block_number: U256::from(1), max_count: 8 };
                    drop(handle.request::<GetCommitmentsByNumber>(peer, request).await);
                }
            }
        }
    });
    let under_attack = deliver(&author, &[&reader], 1_000_000, load).await?;
    // A peer that does not read is given its time.
    if case.expected == Expected::Disconnected {
        let gone = async {
            while victim.handle.peers().await?.iter().any(|status| status.peer == peer) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok::<_, Failure>(())
        };
        drop(tokio::time::timeout(Duration::from_secs(12), gone).await);
    }
    let scored = is_scored(&victim, case).await?;
    asking.abort();
    attack.shutdown().await;
    report(quiet, under_attack, scored, None)
}

/// Whether the victim thinks of the adversary what the table says.
async fn is_scored(victim: &Node, case: &Case) -> Result<bool, Failure> {
    let peers = victim.handle.peers().await?;
    let status = peers.iter().find(|status| status.peer == case.peer());
    Ok(match (case.expected, status) {
        (Expected::Charged, Some(status)) => status.application_score < -0.5 || status.banned.is_some(),
        (Expected::Rejected, Some(status)) => status.score < -0.5 && status.application_score == 0.0,
        (Expected::Untouched, Some(status)) => status.application_score >= 0.0 && status.score >= 0.0,
        // A crowd need not get in.
        (Expected::Untouched, None) => case.crowd > 1,
        (Expected::Disconnected, status) => status.is_none(),
        (Expected::Charged | Expected::Rejected, None) => false,
    })
}

/// Sixteen honest nodes and four that flood four of them each.
async fn flood_of_four(seconds: u32) -> Result<Report, Failure> {
    const HONEST: usize = 16;
    const NEIGHBOURS: usize = 4;
    let mut nodes = Vec::new();
    for _ in 0..HONEST {
        nodes.push(Node::start()?);
    }
    for (index, node) in nodes.iter().enumerate() {
        for step in [1, 3, 5] {
            node.dial(&nodes[(index + step) % HONEST]).await?;
        }
    }
    for node in &nodes {
        node.meets(6).await?;
    }
    let load = Load { messages: u64::from(seconds) * 10, every: Duration::from_millis(100), list_bytes: 0 };
    let readers: Vec<_> = nodes[1..].iter().collect();
    forget_peak()?;
    let quiet = deliver(&nodes[0], &readers, 1, load).await?;
    let mut attack = JoinSet::new();
    let mut attackers = Vec::new();
    for attacker in 0..4 {
        let identity = Keypair::generate_ed25519();
        attackers.push(identity.public().to_peer_id());
        let plan = cases::invalid_flood(&identity, seconds)?;
        for neighbour in 0..NEIGHBOURS {
            let victim = &nodes[(attacker * NEIGHBOURS + neighbour) % HONEST];
            let address = victim.handle.listen_addrs().await?.remove(0);
            attack.spawn(peer::run(CHAIN, identity.clone(), address, plan.clone()));
        }
    }
    let under_attack = deliver(&nodes[0], &readers, 1_000_000, load).await?;
    let most = |node: &Node| node.seen().invalid.values().copied().max().unwrap_or_default();
    let checked = nodes.iter().map(most).max().unwrap_or_default();
    // Only who floods is checked, and nobody passes it on.
    let scored = checked > 0
        && nodes.iter().all(|node| node.seen().invalid.keys().all(|peer| attackers.contains(peer)));
    attack.shutdown().await;
    report(quiet, under_attack, scored, Some(checked))
}

fn report(
    quiet: Delivered,
    attack: Delivered,
    scored: bool,
    checked: Option<u64>,
) -> Result<Report, Failure> {
    let least = Duration::from_micros(100);
    Ok(Report {
        honest_sent: quiet.sent + attack.sent,
        honest_lost: quiet.lost + attack.lost,
        p99_ratio: attack.p99.as_secs_f64() / quiet.p99.max(least).as_secs_f64(),
        p99_ms: attack.p99.as_secs_f64() * 1000.0,
        peak_mib: peak()?,
        scored,
        checked,
    })
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
