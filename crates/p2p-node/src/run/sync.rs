//! `p2p-node sync`: catches up with the network and ends.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Args;
use p2p_client::{P2pClient, Subscription};
use p2p_types::{Base, Head, HeadSyncStatus, SdkEvent};
use serde_json::json;

use super::{Ready, RunError, args::RunArgs, follow, guard::GuardArgs, progress::Progress, settle, start};
use crate::signals::Stop;

/// Catch up with the network, and end
///
/// Takes the options of `run` and needs --datadir. Fetches all that is known to exist above the settled block, commitments and
/// transaction lists, into the store, shows how far it is, and ends with one line of JSON once it is live. It serves no
/// status, metrics or JSON-RPC and publishes nothing: their options may be given and mean nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 once everything is here, 1 if a signal came before or the node failed, 2 for a bad command line. It waits for peers as
long as it takes: `timeout 10m p2p-node sync …` ends it earlier.")]
pub(crate) struct SyncArgs {
    #[command(flatten)]
    run: RunArgs,
}

impl SyncArgs {
    /// Begins to log as the options say.
    ///
    /// # Errors
    /// [`RunError::Collector`].
    pub(crate) fn log(&self) -> Result<(), RunError> {
        self.run.log()
    }
}

/// Catches up.
///
/// # Errors
/// [`RunError`] says what cannot work, why the node ended, or where it stood when a signal came.
pub(crate) async fn sync(args: SyncArgs, mut stop: Stop) -> Result<ExitCode, RunError> {
    if args.run.datadir.is_none() {
        return Err(RunError::SyncInMemory);
    }
    // It publishes nothing, and so must not lead.
    let run = RunArgs { guard: GuardArgs::default(), ..args.run };
    let Ready { client, events, l1, l2, base, .. } = tokio::select! {
        biased;
        () = stop.requested() => return Err(RunError::NotSynced { status: HeadSyncStatus::Idle }),
        ready = start(run) => ready?,
    };
    let progress = Progress::new();
    let ended = tokio::select! {
        biased;
        () = stop.requested() => Err(RunError::NotSynced { status: client.status() }),
        ended = follow(l1, &client) => ended.map(|()| None),
        ended = settle(l2, &client) => ended.map(|()| None),
        live = until_live(&client, events, base, &progress) => live,
    };
    progress.clear();
    let shut_down = tokio::select! {
        biased;
        () = stop.insisted() => Err(RunError::Forced),
        shut_down = client.shutdown() => shut_down.map_err(RunError::from),
    };
    let head = ended?;
    shut_down?;
    writeln!(io::stdout(), "{}", json!({ "event": "synced", "head": head })).map_err(RunError::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until all that is known to exist is stored. The head; none while the chain above the base is empty.
async fn until_live(
    client: &P2pClient,
    mut events: Subscription,
    base: Option<Base>,
    progress: &Progress,
) -> Result<Option<Head>, RunError> {
    if let Some(base) = base {
        client.chain().l2_synced(base).await?;
    }
    loop {
        match events.next_event().await {
            Ok(Some(SdkEvent::Status { status })) => progress.show(&status),
            // Events of blocks may be lost. The last status is told by the client itself.
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => {
                return Err(client.closed().await.err().map_or(RunError::Died("client"), RunError::from));
            }
        }
        if let HeadSyncStatus::Live { head } = client.status() {
            return Ok(head);
        }
    }
}
