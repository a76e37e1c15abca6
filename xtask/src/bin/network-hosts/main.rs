//! Hosts of one network, each in a network namespace of its own, with narrow lines between them: how long a transaction list is on its
//! way to the median host and to the last one, while large messages take turns and while they do not. Prints one line of JSON.
//! Needs root; says so and skips elsewhere.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss, reason = "a tool; its input is its own")]

mod host;
mod lists;
mod namespaces;

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
    /// Be one of the hosts, until stdin ends.
    #[command(hide = true)]
    Host(host::Host),
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
                    Command::Host(host) => host::run(&host).await,
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
