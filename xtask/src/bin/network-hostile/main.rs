//! Hostile peers against honest nodes, over real sockets: an author and a reader that know each other only
//! through a victim, and an adversary that attacks the victim. The same traffic is sent without and under attack, in turns. Prints one line of JSON; fails if an honest message was lost, a newcomer was not served, an
//! adversary was not scored as it should be, or a figure is above its bound.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a tool; its input is its own")]

mod attack;
mod cases;
mod frames;
mod gossip_cases;
mod host;
mod log;
mod measure;
mod newcomer;
mod peer;
mod peer_cases;
mod request_cases;
mod rig;
mod suite;

use std::process::ExitCode;

use clap::Parser;
use libp2p::Multiaddr;

use cases::Case;
use rig::Failure;
use suite::Extent;

/// Hostile peers against honest nodes.
#[derive(Parser)]
struct Args {
    /// Only the adversaries whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// One round of little traffic: what is lost and who is scored, but no figures.
    #[arg(long)]
    quick: bool,
    /// Measure something instead.
    #[arg(long)]
    measure: Option<Measure>,
    /// Be this adversary, until stdin ends.
    #[arg(long, hide = true)]
    attack: Option<String>,
    /// Which one of those with this name.
    #[arg(long, hide = true, default_value_t)]
    number: u32,
    /// How long floods last.
    #[arg(long, hide = true, default_value_t)]
    seconds: u32,
    /// Whom it attacks.
    #[arg(long, hide = true)]
    victim: Vec<Multiaddr>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Measure {
    /// Copies and latency of lists by the size of the mesh.
    Mesh,
    /// How long the service keeps its task while lists of 2 MiB come.
    PollGap,
    /// How long a thousand lists take between two nodes with default settings.
    Txlists,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(&args)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    if let Some(name) = &args.attack {
        let case = Case::named(name).ok_or("no such adversary")?;
        return attack::carry_out(case, args.number, args.seconds, &args.victim).await;
    }
    match args.measure {
        Some(Measure::Mesh) => return measure::mesh().await,
        Some(Measure::PollGap) => return measure::poll_gap().await,
        Some(Measure::Txlists) => return measure::txlists().await,
        None => {}
    }
    log::count()?;
    let reports = suite::run(&args.only, if args.quick { Extent::QUICK } else { Extent::FULL }).await?;
    println!("{}", serde_json::to_string(&reports)?);
    let failed: Vec<_> = reports
        .iter()
        .filter(|(_, report)| !report.failed().is_empty())
        .map(|(name, report)| format!("{name}: {}", report.failed().join(", ")))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("what does not hold: {}", failed.join("; ")).into()) }
}
