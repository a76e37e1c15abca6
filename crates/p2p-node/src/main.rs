//! The preconfirmation node's command line. Results go to stdout, logs (`RUST_LOG`) and trouble to stderr.
//!
//! | subcommand | module | what it does |
//! |---|---|---|
//! | `db` | [`db`] | counts, checks, copies and prunes a store on disk |
//! | `devnet` | [`devnet`] | runs a whole network in this process |
//! | `run` | [`run`] | runs a node until it is told to stop |
//! | `inspect` | [`inspect`] | reads containers of the wire as hex, writes what is in them as JSON |

#![allow(
    clippy::disallowed_methods,
    reason = "a binary reads the clocks; the libraries take them as arguments"
)]

mod db;
mod devnet;
mod domain;
mod hexadecimal;
mod inspect;
mod lines;
mod log_limit;
mod run;
mod signals;

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use log_limit::LogLimit;

/// What the user wants.
#[derive(Debug, Parser)]
#[command(name = "p2p-node", version, about)]
#[command(after_help = "Logs go to stderr; RUST_LOG chooses what is logged (default: warn).")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant a subcommand; each runs in a module of its own and says how the process exits.
#[derive(Debug, Subcommand)]
enum Command {
    Db(db::DbArgs),
    Devnet(devnet::DevnetArgs),
    Run(Box<run::RunArgs>),
    Inspect(inspect::InspectArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    match cli.command {
        Command::Db(args) => db::run(&args).unwrap_or_else(fail),
        Command::Devnet(args) => on_runtime(devnet::run(args)),
        Command::Run(args) => on_runtime(run::run(*args)),
        Command::Inspect(args) => match inspect::run(&args) {
            Ok(code) => code,
            Err(error) if error.is_usage() => refuse("inspect", error),
            Err(error) => fail(error),
        },
    }
}

/// Runs a command on a runtime of its own.
fn on_runtime<E: Display>(command: impl Future<Output = Result<ExitCode, E>>) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let code = runtime.block_on(command).unwrap_or_else(fail);
    // A thread that waits for a file or a reader is not waited for.
    runtime.shutdown_background();
    code
}

/// Sends what is logged to stderr; stdout belongs to results.
fn log_to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .finish()
        .with(LogLimit::default())
        .init();
}

/// Ends the process as clap does for a bad command line: message and usage on stderr, exit code 2.
fn refuse(subcommand: &str, error: impl Display) -> ! {
    let mut cli = Cli::command();
    cli.build();
    match cli.find_subcommand_mut(subcommand) {
        Some(command) => command.error(ErrorKind::ArgumentConflict, error).exit(),
        None => cli.error(ErrorKind::ArgumentConflict, error).exit(),
    }
}

/// Says what went wrong. Where stderr is closed too, the exit code has to do.
fn fail(error: impl Display) -> ExitCode {
    writeln!(io::stderr(), "error: {error}").ok();
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
