//! What a preconfer proposes: the blocks of its directory, each until it is out.

use std::{mem::discriminant, path::Path, time::Duration};

use p2p_client::{
    P2pClient, Preconfer,
    preconfer::{ProposeError, Proposed},
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    blocks::{self, BlockFileError, Proposal},
    error::RunError,
    signing::SigningArgs,
};

/// How often the directory is looked at, and what may succeed later is tried again.
const TICK: Duration = Duration::from_millis(200);

/// Proposes the blocks of the directory as they come.
///
/// # Errors
/// [`RunError::Keystore`], [`RunError::Proposal`].
pub(super) async fn propose(client: &P2pClient, args: SigningArgs) -> Result<(), RunError> {
    let folder = args.blocks.clone();
    let signer = spawn_blocking(move || args.signer()).await.map_err(|_| RunError::Died("keystore"))??;
    let preconfer = client.preconfer(signer);
    tracing::info!(address = %preconfer.address(), "the key is open");
    loop {
        let wrong = |path: &Path, source: BlockFileError| RunError::Block { path: path.to_owned(), source };
        let Some(path) = blocks::first(&folder).map_err(|error| wrong(&folder, error.into()))? else {
            sleep(TICK).await;
            continue;
        };
        let proposal = Proposal::read(&path, client.now()).map_err(|error| wrong(&path, error))?;
        let proposed = published(&preconfer, &proposal)
            .await
            .map_err(|source| RunError::Proposal { path: path.clone(), source: Box::new(source) })?;
        let Proposed { block, hash, outcome } = proposed;
        tracing::info!(block, %hash, ?outcome, path = %path.display(), "proposed");
        blocks::done(&path).map_err(|error| wrong(&path, error.into()))?;
    }
}

/// Proposes the same block until it is published, or cannot be.
async fn published(preconfer: &Preconfer, proposal: &Proposal) -> Result<Proposed, ProposeError> {
    let mut told = None;
    loop {
        let proposed = match proposal.clone() {
            Proposal::Block { fields, txlist, last: false } => preconfer.propose(fields, txlist).await,
            Proposal::Block { fields, txlist, last: true } => preconfer.hand_over_with(fields, txlist).await,
            Proposal::Handover => preconfer.hand_over().await,
        };
        let error = match proposed {
            Err(error) if error.is_retryable() => error,
            ended => return ended,
        };
        let reason = match &error {
            ProposeError::NotReady(why) => discriminant(why),
            _ => {
                tracing::warn!("a block is tried again: {error}");
                sleep(TICK).await;
                continue;
            }
        };
        // Each reason once, not each time that it holds still.
        if told != Some(reason) {
            tracing::info!("a block waits: {error}");
            told = Some(reason);
        }
        sleep(TICK).await;
    }
}
