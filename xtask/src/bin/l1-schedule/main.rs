//! Two nodes on a local Ethereum node with a block a second. They learn from its contracts who may sign, publish what the elected
//! preconfers sign, and follow hand-overs, an operator that is removed in the middle of an epoch, and an L1 reorg of three blocks
//! that takes the removal back. Once for each generation of contracts, all at the same time. Prints one line of JSON; fails unless
//! both nodes agree about every block and nobody was penalised.

#![allow(clippy::disallowed_methods, reason = "it watches other processes in real time")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool; its input is its own")]

mod network;
mod play;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, thread};

use clap::Parser;

use network::Generation;

/// Two nodes that learn from L1 who may sign.
#[derive(Parser)]
struct Args {
    /// The node's program.
    #[arg(long)]
    node: PathBuf,
    /// Only the generations whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let generations = Generation::ALL.into_iter().filter(|of| of.name().contains(&args.only));
    let runs: Vec<_> = generations
        .map(|generation| {
            let program = args.node.clone();
            (generation, thread::spawn(move || play::run(generation, &program)))
        })
        .collect();
    let mut good = !runs.is_empty();
    let mut reports = BTreeMap::new();
    for (generation, run) in runs {
        match run.join() {
            Ok(report) => {
                good &= report.is_good();
                reports.insert(generation.name(), report);
            }
            Err(_) => {
                eprintln!("{} failed", generation.name());
                good = false;
            }
        }
    }
    println!("{}", serde_json::json!({ "generation": reports }));
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
