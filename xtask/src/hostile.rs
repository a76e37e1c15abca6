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
    /// One round of little traffic: what is lost and who is scored, but no figures.
    #[arg(long)]
    quick: bool,
    /// Measure something instead: `mesh`, `poll-gap` or `txlists`.
    #[arg(long)]
    measure: Option<String>,
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
    if let Some(measure) = &hostile.measure {
        run = run.arg("--measure").arg(measure);
    }
    if hostile.json { run.run_quietly() } else { run.run() }
}
