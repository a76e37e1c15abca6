//! Hosts of one network, each in a network namespace of its own, with narrow lines between them: how long a transaction list is on its
//! way to the median host and to the last one, while large messages take turns and while they do not; or whole nodes whose network
//! breaks and heals. Prints one line of JSON.
//! Needs root; says so and skips elsewhere.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss, reason = "a tool; its input is its own")]

mod faults;
mod host;
mod lists;
mod namespaces;
mod preconfer;
mod relay;
mod soak;
mod trend;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Hosts of one network, each in a network namespace.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How long transaction lists are on their way.
    Lists(lists::Lists),
    /// Whether nodes are on one chain again after their network has healed.
    Faults(faults::Faults),
    /// Whether nodes stay as large as they are, for a long time.
    Soak(soak::Soak),
    /// Be one of the hosts, until stdin ends.
    #[command(hide = true)]
    Host(host::Host),
    /// Be the long way from where this runs to a host, until stdin ends.
    #[command(hide = true)]
    Relay(relay::Relay),
    /// Tell the status of a node, from where it is.
    #[command(hide = true)]
    Status { address: String },
}

fn main() -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                match Args::parse().command {
                    Command::Lists(lists) => lists::run(&lists).await,
                    Command::Faults(faults) => faults::run(&faults),
                    Command::Soak(soak) => soak::run(&soak),
                    Command::Host(host) => host::run(&host).await,
                    Command::Relay(relay) => relay.run(),
                    Command::Status { address } => {
                        println!("{}", p2p_fixtures::node::status(&address));
                        Ok(())
                    }
                }
            })
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
