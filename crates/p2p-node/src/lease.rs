//! `p2p-node lease`: who signs, of several nodes with one key, and a change of it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use p2p_guard_postgres::{LeaseControl, LeaseStatus};
use serde_json::json;

use crate::run::{GuardDatabase, GuardError};

/// Say which of the nodes that share a signing guard leads, or have another one lead
#[derive(Debug, Args)]
pub(crate) struct LeaseArgs {
    #[command(subcommand)]
    command: LeaseCommand,
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Write who leads, as one JSON object
    Status(GuardDatabase),
    /// End the lease of the node that leads, so that another one takes it within a second
    ///
    /// The one that led stands by from then on, and competes again after 8 s. Writes who it was, as one JSON object.
    Release(GuardDatabase),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error("writing stdout: {0}")]
    Output(#[from] io::Error),
}

/// Does what was asked.
///
/// # Errors
/// [`LeaseError`].
pub(crate) async fn run(args: LeaseArgs) -> Result<ExitCode, LeaseError> {
    let of = |database: &GuardDatabase| {
        LeaseControl::new(database.for_lease()?).map_err(|error| LeaseError::Guard(error.into()))
    };
    let answer = match &args.command {
        LeaseCommand::Status(database) => {
            let status = of(database)?.status().await.map_err(GuardError::from)?;
            let LeaseStatus { node, is_held, is_released, token, remaining, .. } = status;
            json!({
                "node": node,
                "held": is_held,
                "released": is_released,
                "token": token,
                "remaining_s": remaining.as_secs_f64(),
            })
        }
        LeaseCommand::Release(database) => {
            json!({ "released": of(database)?.release().await.map_err(GuardError::from)? })
        }
    };
    writeln!(io::stdout(), "{answer}")?;
    Ok(ExitCode::SUCCESS)
}
