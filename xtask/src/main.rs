//! The workspace's own commands: `cargo xtask ci` before a push, `cargo xtask ci --fast` while working, each
//! step of them alone, and `cargo xtask bench`.

#![allow(clippy::disallowed_methods, reason = "a tool that times its steps; no library depends on it")]

mod bench;
mod ci;
mod circles;
mod coverage;
mod crash;
mod damage;
mod error;
mod fuzz;
mod hadolint;
mod hostile;
mod l1;
mod layering;
mod lengths;
mod links;
mod machine;
mod monitoring;
mod msrv;
mod netns;
mod package;
mod promql;
mod promtool;
mod report;
mod series;
mod shell;
mod sim;
mod soak;
mod source;
mod step;
mod supply;
mod threats;
mod tools;
mod tree;
mod walks;
mod without;
mod words;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    bench::Suite,
    step::{Scope, Step},
};

/// The workspace's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All steps below, in order; the first failure stops.
    Ci {
        /// The inner loop: formatting, clippy without tests and benches, layering, and the unit tests of
        /// libraries and binaries. No scenarios, no docs, no packages.
        #[arg(long)]
        fast: bool,
    },
    /// Measures, and writes what it saw to docs/benchmarks.md.
    Bench {
        /// What to measure; everything without.
        #[arg(long)]
        suite: Option<Suite>,
        /// How many times each is run; of several, the document shows the spread.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
        runs: u8,
        /// End with one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// How many lines of each inner crate its own tests run. Fails if that is too few in one; needs cargo-llvm-cov.
    Coverage(coverage::Coverage),
    /// Kills a process that writes to the store on disk, again and again. Fails if anything that it
    /// acknowledged is lost.
    Crash(crash::Crash),
    /// Damages copies of a store on disk in every way. Fails unless each is refused in one line, or is sound.
    Damage(damage::Damage),
    /// The fuzz targets under libFuzzer, where nightly and cargo-fuzz are installed. Fails if one crashes.
    Fuzz(fuzz::Fuzz),
    /// Hostile peers against honest nodes, over real sockets. Fails if an honest message is lost.
    Hostile(hostile::Hostile),
    /// Two nodes that learn from L1 who may sign, for each generation of contracts. Fails unless they agree about every
    /// block and nobody is penalised.
    L1(l1::L1),
    /// Hosts of one network, each in a network namespace of its own (root). Fails if something does not arrive.
    #[command(subcommand)]
    Netns(netns::Netns),
    /// Runs every test under load and faults and writes what came of it to `docs/reliability.md`. Fails if one fails.
    Report(report::Report),
    /// Whole clients on a simulated network, with faults and adversaries, seed by seed. Fails if something does not hold, and says
    /// how to repeat it with the fewest faults.
    Sim(sim::Sim),
    /// Whole nodes at ten times the expected load for a long time. Fails if something is lost or somebody is penalised.
    Soak(soak::Soak),
    /// Takes one rule at a time out of a copy of the workspace. Fails unless a fuzz target notices each within a minute.
    Without(without::Without),
    #[command(flatten)]
    One(Step),
}

fn main() -> ExitCode {
    let good = match Cli::parse().command {
        Command::Ci { fast } => ci::run(if fast { Scope::Fast } else { Scope::Full }),
        Command::Bench { suite, runs, json } => {
            bench::run(suite, runs, json).inspect_err(|error| eprintln!("{error}")).is_ok()
        }
        Command::Coverage(coverage) => {
            coverage::run(&coverage).inspect_err(|error| eprintln!("{error}")).is_ok()
        }
        Command::Crash(crash) => crash::run(&crash).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Damage(damage) => damage::run(&damage).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Fuzz(fuzz) => fuzz::run(&fuzz).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Hostile(hostile) => hostile::run(&hostile).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::L1(l1) => l1::run(&l1).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Netns(netns) => netns::run(&netns).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Report(report) => report::run(&report).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Sim(sim) => sim::run(&sim).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Soak(soak) => soak::run(&soak).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::Without(without) => without::run(&without).inspect_err(|error| eprintln!("{error}")).is_ok(),
        Command::One(step) => ci::run_one(step),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
