//! `cargo xtask netns`: hosts of one network, each in a network namespace of its own. The work is done by another binary, so that this
//! one builds without the network.

use clap::Subcommand;

use crate::{
    error::Error,
    shell::{Profile, built, cargo},
};

/// What is measured between the hosts.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Netns {
    /// How long transaction lists are on their way over narrow lines, with and without turns.
    Lists {
        /// Hosts on one switch, each with four links to others.
        #[arg(long, default_value_t = 16)]
        hosts: u8,
        /// Of each line, each way, as `tc` has it.
        #[arg(long, default_value = "50mbit")]
        rate: String,
        /// Of each list.
        #[arg(long, default_value_t = 2_097_152)]
        bytes: usize,
        /// Print the result as JSON, and nothing else on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Whole nodes whose network breaks and heals: a partition, a line that flaps, a host that is killed; one host is far away
    /// and behind NAT, one has IPv6 only. Fails unless all are on one chain again in time, without gaps, and nobody was penalised.
    Faults {
        /// How long the partition lasts, seconds.
        #[arg(long, default_value_t = 60)]
        partition: u64,
        /// Print the result as JSON, and nothing else on stdout.
        #[arg(long)]
        json: bool,
    },
}

/// Measures; an error if something did not arrive.
pub(crate) fn run(netns: &Netns) -> Result<(), Error> {
    let hosts = |profile: &[&str]| {
        let build = [&["run", "--quiet"], profile, &["--package", "xtask", "--features", "hosts"]].concat();
        cargo(build).arg("--bin").arg("network-hosts").arg("--")
    };
    let (run, json) = match netns {
        Netns::Lists { hosts: number, rate, bytes, json } => {
            let run = hosts(&["--release"]).arg("lists").arg("--hosts").arg(&number.to_string());
            (run.arg("--rate").arg(rate).arg("--bytes").arg(&bytes.to_string()), json)
        }
        Netns::Faults { partition, json } => {
            // What counts is the time on the clock, not how fast the nodes are.
            let node = built("p2p-node", Profile::Debug)?;
            let run = hosts(&[]).arg("faults").arg("--node").arg(&node.to_string_lossy());
            (run.arg("--partition").arg(&partition.to_string()), json)
        }
    };
    if *json { run.run_quietly() } else { run.run() }
}
