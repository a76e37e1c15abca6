//! `cargo xtask netns`: hosts of one network, each in a network namespace of its own. The work is done by another binary, so that this
//! one builds without the network.

use clap::Subcommand;

use crate::{error::Error, shell::cargo};

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
}

/// Measures; an error if something did not arrive.
pub(crate) fn run(netns: &Netns) -> Result<(), Error> {
    let Netns::Lists { hosts, rate, bytes, json } = netns;
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "hosts"];
    let run = cargo(build).arg("--bin").arg("network-hosts").arg("--").arg("lists");
    let run = run.arg("--hosts").arg(&hosts.to_string()).arg("--rate").arg(rate);
    let run = run.arg("--bytes").arg(&bytes.to_string());
    if *json { run.run_quietly() } else { run.run() }
}
