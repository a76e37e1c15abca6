//! `cargo xtask crash`: the store on disk against `kill -9`. The work is done by another binary, so that this
//! one builds without the store.

use clap::Args;

use crate::{error::Error, shell::cargo};

/// How hard.
#[derive(Debug, Clone, Args)]
pub(crate) struct Crash {
    /// How often a writer is killed.
    #[arg(long, default_value_t = 100)]
    cycles: u32,
    /// Where the dice begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Kills writers; an error if anything acknowledged was lost.
pub(crate) fn run(crash: &Crash) -> Result<(), Error> {
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "crash"];
    let mut run = cargo(build).arg("--bin").arg("storage-crash").arg("--");
    run = run.arg("--cycles").arg(&crash.cycles.to_string()).arg("--seed").arg(&crash.seed.to_string());
    if crash.json { run.arg("--json").run_quietly() } else { run.run() }
}
