//! `p2p-node preconfer`: a node that signs. An example of a preconfer, for private networks.

use std::process::ExitCode;

use clap::Args;

use super::{RunError, args::RunArgs, run, signing::SigningArgs};
use crate::signals::Stop;

/// Propose the blocks of a directory, for private networks
///
/// Takes the options of `run`. In the turns of its key it proposes the blocks of --blocks on the head, each as soon as the one before it
/// is out: builds the commitment, has it judged and recorded, signs it and publishes it. Outside of its turns it waits. The first
/// block that cannot be published ends the node with exit code 1.
///
/// Needs --datadir, where what was signed is remembered.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 after Ctrl-C, SIGTERM or a closed stdout, 1 if the node failed or a block cannot be published, 2 for a bad command line.")]
pub(crate) struct PreconferArgs {
    #[command(flatten)]
    run: RunArgs,

    #[command(flatten)]
    signing: SigningArgs,
}

impl PreconferArgs {
    /// Begins to log as the options say.
    ///
    /// # Errors
    /// [`RunError::Collector`].
    pub(crate) fn log(&self) -> Result<(), RunError> {
        self.run.log()
    }
}

/// Runs a node that is a preconfer.
///
/// # Errors
/// As [`run`]; [`RunError::Proposal`] names the block that cannot be published.
pub(crate) async fn preconfer(args: PreconferArgs, stop: Stop) -> Result<ExitCode, RunError> {
    if args.run.datadir.is_none() && !args.run.forget_on_restart {
        return Err(RunError::PreconferInMemory);
    }
    run(RunArgs { signing: Some(args.signing), ..args.run }, stop).await
}
