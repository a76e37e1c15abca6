//! `p2p-node completions` and `man`: what shells and `man` know of the commands, made from them.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Command};
use clap_complete::Shell;

/// Write a script that completes commands and options in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  p2p-node completions bash > /etc/bash_completion.d/p2p-node
  p2p-node completions zsh > \"${fpath[1]}/_p2p-node\"
  p2p-node completions fish > ~/.config/fish/completions/p2p-node.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write the man pages into a directory
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  p2p-node man /usr/local/share/man/man1; man p2p-node-run")]
pub(crate) struct ManArgs {
    /// The directory, made where it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes the script.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "p2p-node", &mut script);
    // clap_complete 4.6.12 takes the hyphen of the name for the beginning of a subcommand in half of the places for bash.
    let script = String::from_utf8_lossy(&script).replace("p2p__subcmd__node", "p2p__node");
    io::stdout().write_all(script.as_bytes())
}

/// Writes a page for each command.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<(), ManError> {
    let failed = |source| ManError { directory: args.directory.clone(), source };
    fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(command, &args.directory).map_err(failed)
}

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; let this user write there, or choose another directory", directory.display())]
pub(crate) struct ManError {
    directory: PathBuf,
    source: io::Error,
}
