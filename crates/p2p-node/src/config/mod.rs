//! Options of a node beside the command line: the file of `--config`, the environment, and `p2p-node config`, which checks and
//! shows them.
//!
//! | module | what lives there |
//! |---|---|
//! | [`options`] | every option, taken from clap's command of `run` |
//! | [`mod@file`] | the file |
//! | [`layers`] | file, environment and command line as one |
//! | [`mod@print`], [`sample`] | what `config print` and `config sample` write |
//! | [`error`] | what can be wrong |

mod error;
mod file;
#[cfg(feature = "test-utils")]
pub(crate) mod fuzz;
mod layers;
mod options;
mod print;
mod sample;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Args, Command, Subcommand};

use crate::run::{self, RunArgs};
use error::CommandError;
use options::NodeOption;

pub(crate) use layers::{Layered, Setting, gather, one_line};

/// Check and show what a node would run with
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

/// One variant a subcommand.
#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the options of `run`, and the files that they name
    ///
    /// Takes the same options, from file, environment and command line. Exit code 0 if a node could start with them, else 1 or 2 with
    /// a line that says what is wrong. Nothing is changed, on disk or elsewhere, and nobody is asked: whether ports are free
    /// and endpoints answer shows at the start. A node that runs with the same --datadir is no problem.
    Check(Box<Checked>),
    /// Show what `run` would have: each value, and where it comes from
    ///
    /// As TOML. Users, passwords, paths and queries of URLs are left out, for they may be secret.
    Print(Box<Checked>),
    /// Write a file with every option, its help and an example, all commented out
    Sample,
}

/// The options of a node.
#[derive(Debug, Args)]
struct Checked {
    #[command(flatten)]
    run: RunArgs,
}

/// Adds the names in the environment to the help of whatever takes the options of a node.
pub(crate) fn tell_variables(command: Command) -> Command {
    let nodes = |config: Command| {
        ["check", "print"]
            .iter()
            .fold(config, |config, name| config.mut_subcommand(name, options::tell_variables))
    };
    let command = ["run", "sync", "preconfer"]
        .iter()
        .fold(command, |command, name| command.mut_subcommand(name, options::tell_variables));
    command.mut_subcommand("config", nodes)
}

/// The settings, and what follows from them for options that nobody has given.
fn with_derived(settings: &[Setting], args: &RunArgs) -> Vec<Setting> {
    // Where nothing follows, `config check` tells why.
    let derived = run::derived(args).ok();
    let set = |option: &NodeOption| settings.iter().find(|of| of.option.key() == option.key()).cloned();
    let follows = |option: NodeOption| {
        let (_, value) = derived.iter().flatten().find(|(key, _)| *key == option.key())?;
        Some(Setting::derived(option, value, settings))
    };
    options::all().into_iter().filter_map(|option| set(&option).or_else(|| follows(option))).collect()
}

/// Does what was asked.
///
/// # Errors
/// [`CommandError`].
pub(crate) fn run(args: ConfigArgs, settings: &[Setting]) -> Result<ExitCode, CommandError> {
    let text = match args.command {
        ConfigCommand::Check(args) => {
            run::check(&args.run)?;
            String::new()
        }
        ConfigCommand::Print(args) => print::print(&with_derived(settings, &args.run)),
        ConfigCommand::Sample => sample::sample(),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::Output(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
