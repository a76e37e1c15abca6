//! `cargo xtask hostile`: hostile peers against honest nodes, over real sockets. The work is done by another
//! binary, so that this one builds without the network.

use clap::Args;

use crate::{error::Error, shell::cargo};

/// Which, and how hard.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hostile {
    /// Only the adversaries whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// A quarter of the traffic.
    #[arg(long)]
    quick: bool,
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the suite; an error if an honest message was lost.
pub(crate) fn run(hostile: &Hostile) -> Result<(), Error> {
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "hostile"];
    let mut run = cargo(build).arg("--bin").arg("network-hostile").arg("--");
    run = run.arg("--only").arg(&hostile.only);
    if hostile.quick {
        run = run.arg("--quick");
    }
    if hostile.json { run.run_quietly() } else { run.run() }
}
