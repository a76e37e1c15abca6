//! `cargo xtask sim`: whole clients on a simulated network, seed by seed. The work is done by another crate, so that this one builds
//! without the network.

use clap::Args;

use crate::{error::Error, shell::cargo};

/// Which seeds.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sim {
    /// The seeds, as `A..B`: from A to B, B left out.
    #[arg(long, default_value = "0..200")]
    seeds: String,
    /// Honest nodes. Of all nodes, 30 % are adversaries.
    #[arg(long, default_value_t = 7)]
    nodes: u8,
    /// Only these faults of the scenario, by their numbers, as the shrunk scenario of a failed seed has them.
    #[arg(long)]
    only: Option<String>,
    /// Seeds at a time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print the result as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Plays them; an error if something did not hold.
pub(crate) fn run(sim: &Sim) -> Result<(), Error> {
    let build = ["run", "--quiet", "--release", "--package", "p2p-sim", "--", "--seeds", &sim.seeds];
    let mut run = cargo(build).arg("--nodes").arg(&sim.nodes.to_string());
    run = run.arg("--threads").arg(&sim.threads.to_string());
    if let Some(only) = &sim.only {
        run = run.arg("--only").arg(only);
    }
    if sim.json { run.arg("--json").run_quietly() } else { run.run() }
}
