//! The preconfirmation node's command line, as a library: `main` is all of it, and nothing else here is for others. Results go to stdout, logs (`RUST_LOG`) and errors to stderr.
//!
//! | subcommand | module | what it does |
//! |---|---|---|
//! | `config` | `config` | checks and shows the options of a node, from file, environment and command line |
//! | `db` | `db` | counts, checks, copies and prunes a store on disk |
//! | `devnet` | `devnet` | runs a whole network in this process |
//! | `health` | `health` | asks a running node whether it is well |
//! | `run` | `run` | runs a node until it is told to stop |
//! | `watch` | `watch` | shows the status of a running node in a terminal |
//! | `publish` | `publish` | publishes blocks of a file through a running node |
//! | `preconfer` | `run` | a node that signs and proposes the blocks of a directory |
//! | `sync` | `run` | catches up with the network and ends |
//! | `lease` | `lease` | says which of several nodes with one key signs, and has another one sign |
//! | `keygen`, `peer-id`, `enr` | `key` | makes a key and shows what others are told of it |
//! | `completions`, `man` | `man` | what shells and `man` know of the commands |
//! | `inspect` | `inspect` | reads containers of the wire as hex, writes what is in them as JSON |

#![allow(
    clippy::disallowed_methods,
    reason = "a binary reads the clocks; the libraries take them as arguments"
)]

#[cfg(feature = "operator")]
mod clock;
#[cfg(feature = "operator")]
mod config;
#[cfg(feature = "operator")]
mod db;
mod devnet;
mod domain;
#[cfg(all(feature = "operator", feature = "test-utils"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "operator")]
mod health;
mod hexadecimal;
mod inspect;
mod key;
#[cfg(feature = "operator")]
mod lease;
mod lines;
mod log;
mod log_limit;
mod man;
#[cfg(feature = "otlp")]
mod otlp;
mod panics;
#[cfg(feature = "operator")]
mod publish;
mod rotation;
#[cfg(feature = "operator")]
mod run;
mod signals;
#[cfg(feature = "operator")]
mod slow_spans;
#[cfg(all(feature = "operator", unix))]
mod watch;

#[cfg(feature = "operator")]
use std::env;
use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

#[cfg(feature = "operator")]
use clap::FromArgMatches as _;
use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use log::fail;
use signals::Stop;

/// What the user wants.
#[derive(Debug, Parser)]
#[command(name = "p2p-node", version, about)]
#[command(
    after_help = "Logs go to stderr; RUST_LOG chooses what is logged (default: info for run, warn else; run has --log.level)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant a subcommand; each runs in a module of its own and says how the process exits.
#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "operator")]
    Config(config::ConfigArgs),
    #[cfg(feature = "operator")]
    Db(db::DbArgs),
    Devnet(devnet::DevnetArgs),
    #[cfg(feature = "operator")]
    Run(Box<run::RunArgs>),
    #[cfg(feature = "operator")]
    Sync(Box<run::SyncArgs>),
    #[cfg(feature = "operator")]
    Preconfer(Box<run::PreconferArgs>),
    #[cfg(feature = "operator")]
    Publish(publish::PublishArgs),
    #[cfg(feature = "operator")]
    Health(health::HealthArgs),
    #[cfg(feature = "operator")]
    Lease(lease::LeaseArgs),
    #[cfg(all(feature = "operator", unix))]
    Watch(watch::WatchArgs),
    Inspect(inspect::InspectArgs),
    Keygen(key::KeygenArgs),
    PeerId(key::PeerIdArgs),
    Enr(key::EnrArgs),
    Completions(man::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Begins to log, as the options of a node say and RUST_LOG of a tool.
    ///
    /// # Errors
    /// Why a node's spans cannot be sent.
    fn log(&self) -> Result<(), String> {
        #[cfg(feature = "operator")]
        let of_node = |begun: Result<(), run::RunError>| begun.map_err(|error| error.to_string());
        match self {
            #[cfg(feature = "operator")]
            Self::Run(args) => of_node(args.log()),
            #[cfg(feature = "operator")]
            Self::Sync(args) => of_node(args.log()),
            #[cfg(feature = "operator")]
            Self::Preconfer(args) => of_node(args.log()),
            _ => {
                log::start_for_tool();
                Ok(())
            }
        }
    }
}

/// Does what the command line says, and tells how the process exits.
#[must_use]
pub fn main() -> ExitCode {
    let given = match read() {
        Ok(given) => given,
        Err(code) => return code,
    };
    if let Err(error) = given.cli.command.log() {
        return fail(error);
    }
    panics::log_in_one_line();
    let code = execute(given);
    #[cfg(feature = "otlp")]
    otlp::finish();
    code
}

/// Does what was asked.
fn execute(given: Given) -> ExitCode {
    #[cfg(feature = "operator")]
    for warning in &given.layered.warnings {
        tracing::warn!("{warning}");
    }
    match given.cli.command {
        #[cfg(feature = "operator")]
        Command::Config(args) => config::run(args, &given.layered.settings).unwrap_or_else(fail),
        #[cfg(feature = "operator")]
        Command::Db(args) => db::run(&args).unwrap_or_else(fail),
        Command::Devnet(args) => on_runtime(async |stop| devnet::run(args, stop).await),
        #[cfg(feature = "operator")]
        Command::Run(args) => on_runtime(async |stop| run::run(*args, stop).await),
        #[cfg(feature = "operator")]
        Command::Sync(args) => on_runtime(async |stop| run::sync(*args, stop).await),
        #[cfg(feature = "operator")]
        Command::Preconfer(args) => on_runtime(async |stop| run::preconfer(*args, stop).await),
        #[cfg(feature = "operator")]
        Command::Publish(args) => publish::run(&args).unwrap_or_else(fail),
        #[cfg(feature = "operator")]
        Command::Health(args) => health::run(&args).unwrap_or_else(fail),
        #[cfg(feature = "operator")]
        Command::Lease(args) => on_runtime(async |_| lease::run(args).await),
        #[cfg(all(feature = "operator", unix))]
        Command::Watch(args) => on_runtime(async |stop| watch::run(args, stop).await),
        Command::Inspect(args) => match inspect::run(&args) {
            Ok(code) => code,
            Err(error) if error.is_usage() => refuse("inspect", error),
            Err(error) => fail(error),
        },
        Command::Keygen(args) => show(key::keygen(&args)),
        Command::PeerId(args) => show(key::peer_id(&args)),
        Command::Enr(args) => show(key::enr(&args)),
        Command::Completions(args) => written(man::completions(&args, command_line())),
        Command::Man(args) => man::man(&args, command_line()).map_or_else(fail, |()| ExitCode::SUCCESS),
    }
}

/// The commands, as `--help` tells of them.
fn command_line() -> clap::Command {
    let command = Cli::command();
    #[cfg(feature = "operator")]
    let command = config::tell_variables(command);
    command
}

/// Writes a result of one line.
fn show<E: Display>(result: Result<String, E>) -> ExitCode {
    result.map_or_else(fail, |line| written(writeln!(io::stdout(), "{line}")))
}

/// How a process ends that has written to stdout. A reader that has seen enough is no failure.
fn written(result: io::Result<()>) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(format_args!("writing stdout: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What the user has given.
struct Given {
    cli: Cli,
    #[cfg(feature = "operator")]
    layered: config::Layered,
}

/// Reads the command line. A wrong one ends the process.
#[cfg(not(feature = "operator"))]
fn read() -> Result<Given, ExitCode> {
    Ok(Given { cli: Cli::parse() })
}

/// Reads the command line, with what file and environment add to it. A wrong command line ends the process; where another part may
/// be wrong, one line says so.
#[cfg(feature = "operator")]
fn read() -> Result<Given, ExitCode> {
    let environment: Vec<_> = env::vars_os().collect();
    let wrong = |error: &dyn Display| {
        fail(error);
        ExitCode::from(WRONG)
    };
    let layered = config::gather(env::args_os().collect(), &environment).map_err(|error| wrong(&error))?;
    let matches = command_line().try_get_matches_from(&layered.arguments);
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Given { cli, layered }),
        Err(error) if error.use_stderr() && layered.in_one_line() => Err(wrong(&config::one_line(&error))),
        Err(error) => error.exit(),
    }
}

/// The exit code of options that make no sense, as clap has it.
#[cfg(feature = "operator")]
const WRONG: u8 = 2;

/// Runs a command on a runtime of its own. Signals are listened to before anything else happens.
fn on_runtime<E: Display>(command: impl AsyncFnOnce(Stop) -> Result<ExitCode, E>) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let code = runtime.block_on(async {
        match Stop::listen() {
            Ok(stop) => command(stop).await.unwrap_or_else(fail),
            Err(error) => fail(format_args!("signals cannot be received: {error}")),
        }
    });
    // A thread that waits for a file or a reader is not waited for.
    runtime.shutdown_background();
    code
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
