//! `cargo xtask l1`: two nodes that learn from L1 who may sign, on a local Ethereum node, for each generation of contracts.
//! The work is done by another binary, so that this one builds without the protocol.

use clap::Args;

use crate::{
    error::Error,
    shell::{Profile, built, cargo},
    tools,
};

/// Which, and how it is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct L1 {
    /// Only the generations whose names contain this: `v1`, `v2`, `whitelist`.
    #[arg(long, default_value = "")]
    only: String,
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the nodes; an error if they did not agree, or somebody was penalised.
pub(crate) fn run(l1: &L1) -> Result<(), Error> {
    if !tools::anvil()? {
        return Err(Error::Missing { what: "anvil, which `cargo xtask anvil` installs by npm" });
    }
    // What counts is the time on the clock, not how fast the nodes are.
    let node = built("p2p-node", Profile::Debug)?;
    let build = ["run", "--quiet", "--package", "xtask", "--features", "l1", "--bin", "l1-schedule", "--"];
    let run = cargo(build).arg("--node").arg(&node.to_string_lossy()).arg("--only").arg(&l1.only);
    if l1.json { run.run_quietly() } else { run.run() }
}
