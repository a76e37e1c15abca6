//! `cargo xtask damage`: copies of a store on disk, each damaged in one way, against the node's `db verify` and against
//! what a node does when it starts. The work is done by another binary, so that this one builds without the store.

use clap::Args;

use crate::{
    error::Error,
    shell::{Profile, built, cargo},
};

/// How many.
#[derive(Debug, Clone, Args)]
pub(crate) struct Damage {
    /// How many copies are damaged.
    #[arg(long, default_value_t = 500)]
    copies: u32,
    /// Where the dice begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the ways of damage whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Damages copies; an error if one was killed, panicked, or was called sound by mistake.
pub(crate) fn run(damage: &Damage) -> Result<(), Error> {
    let node = built("p2p-node", Profile::Release)?;
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "damage"];
    let mut run = cargo(build).arg("--bin").arg("storage-damage").arg("--");
    run = run.arg("--copies").arg(&damage.copies.to_string()).arg("--seed").arg(&damage.seed.to_string());
    run = run.arg("--node").arg(&node.to_string_lossy()).arg("--only").arg(&damage.only);
    if damage.json { run.arg("--json").run_quietly() } else { run.run() }
}
