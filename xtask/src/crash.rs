//! `cargo xtask crash`: the store on disk against `kill -9`, or a whole node against that and SIGTERM. The work is done
//! by another binary, so that this one builds without the store; that of the node by its own test.

use clap::Args;

use crate::{error::Error, shell::cargo};

/// How hard.
#[derive(Debug, Clone, Args)]
pub(crate) struct Crash {
    /// How often a writer is killed.
    #[arg(long, default_value_t = 100)]
    cycles: u32,
    /// Kill a node that publishes over JSON-RPC, at once and in order by turns, in place of a writer of the store.
    #[arg(long)]
    node: bool,
    /// Kill one of two nodes that publish different blocks with one key, and their guard's database; and freeze that.
    #[arg(long, conflicts_with = "node")]
    shared_key: bool,
    /// Heights that nodes with one key publish at least.
    #[arg(long, default_value_t = 1_000, requires = "shared_key")]
    heights: u32,
    /// How often their database is killed, and as often frozen.
    #[arg(long, default_value_t = 20, requires = "shared_key")]
    outages: u32,
    /// The seed of the RNG.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Kills writers; an error if anything acknowledged was lost.
pub(crate) fn run(crash: &Crash) -> Result<(), Error> {
    if crash.node {
        return run_test("killed::", crash);
    }
    if crash.shared_key {
        return run_test("shared_key::two_machines", crash);
    }
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "crash"];
    let mut run = cargo(build).arg("--bin").arg("storage-crash").arg("--");
    run = run.arg("--cycles").arg(&crash.cycles.to_string()).arg("--seed").arg(&crash.seed.to_string());
    if crash.json { run.arg("--json").run_quietly() } else { run.run() }
}

/// A test of the node, with so many cycles.
fn run_test(name: &str, crash: &Crash) -> Result<(), Error> {
    let test = ["test", "--quiet", "--package", "p2p-node", "--test", "it", name];
    let (cycles, seed) = (crash.cycles.to_string(), crash.seed.to_string());
    let (heights, outages) = (crash.heights.to_string(), crash.outages.to_string());
    let run = cargo(test).arg("--").arg("--nocapture").env("KILL_CYCLES", &cycles).env("KILL_SEED", &seed);
    let run = run.env("KILL_HEIGHTS", &heights).env("KILL_OUTAGES", &outages);
    if !crash.json {
        return run.run();
    }
    let said = run.read()?;
    // The test's one line among those of its harness.
    if let Some(report) = said.lines().find(|line| line.starts_with('{')) {
        println!("{report}");
    }
    Ok(())
}
