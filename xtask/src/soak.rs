//! `cargo xtask soak`: whole nodes for a long time. The work is done by another binary, so that this one builds without the network.

use clap::Args;

use crate::{
    error::Error,
    shell::{Profile, built, cargo},
};

/// For how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct Soak {
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the nodes; an error if something was lost, or somebody was penalised.
pub(crate) fn run(soak: &Soak) -> Result<(), Error> {
    let node = built("p2p-node", Profile::Release)?;
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "hosts"];
    let run = cargo(build).arg("--bin").arg("network-hosts").arg("--").arg("soak");
    let run = run.arg("--node").arg(&node.to_string_lossy()).arg("--minutes").arg(&soak.minutes.to_string());
    if soak.json { run.run_quietly() } else { run.run() }
}
