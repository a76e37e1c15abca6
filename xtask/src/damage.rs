//! `cargo xtask damage`: copies of a store on disk, each damaged in one way, against the node's `db verify` and against
//! what a node does when it starts. The work is done by another binary, so that this one builds without the store.

use std::path::PathBuf;

use clap::Args;

use crate::{
    error::Error,
    shell::{cargo, root},
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
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Damages copies; an error if one was killed, panicked, or was called sound by mistake.
pub(crate) fn run(damage: &Damage) -> Result<(), Error> {
    cargo(["build", "--quiet", "--release", "--package", "p2p-node"]).run_quietly()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let node = target.join("release").join(format!("p2p-node{}", std::env::consts::EXE_SUFFIX));
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "damage"];
    let mut run = cargo(build).arg("--bin").arg("storage-damage").arg("--");
    run = run.arg("--copies").arg(&damage.copies.to_string()).arg("--seed").arg(&damage.seed.to_string());
    run = run.arg("--node").arg(&node.to_string_lossy());
    if damage.json { run.arg("--json").run_quietly() } else { run.run() }
}
