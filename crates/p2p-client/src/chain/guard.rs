//! What the signer of a commitment has promised before, so that the application does not contradict it.

use std::time::Duration;

use p2p_storage::{Promise, StorageError};
use p2p_types::{Address, B256, BlockNumber, Misbehaviour, UnixSeconds};
use p2p_validation::Elected;

use super::ChainProcessor;

/// How long own promises are kept after their window is over: more than a clock is ever wrong by.
const PROMISES_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A promise that a new one would break: together, both signatures prove a misbehaviour. Only a refusal gives
/// one, so that nobody acknowledges a conflict that they have not been shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// What both would prove.
    pub kind: Misbehaviour,
    /// Whose promises they are.
    pub signer: Address,
    /// The end of the window.
    pub window_end: UnixSeconds,
    /// The height of the commitment that was refused.
    pub block: BlockNumber,
    /// Preconfirmation hash of what is signed already.
    pub signed: B256,
    /// Preconfirmation hash of what was refused.
    pub refused: B256,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, signer, window_end, block, signed, refused } = self;
        write!(
            f,
            "{refused} at block {block} contradicts {signed}, which {signer} has signed for the window that ends at {window_end}: {}",
            kind.label()
        )
    }
}

impl ChainProcessor {
    /// The first earlier promise that a new one would break: of those that the application has published, which the
    /// store keeps until their window is over, then of all that this node has seen of the signer, linked or not.
    pub(super) fn conflict(&self, new: &Elected) -> Result<Option<Conflict>, StorageError> {
        let (signer, window_end, block) = (new.recovered().signer(), new.window_end(), new.block());
        let promise = Promise::from(&**new);
        let own = self.store.promises(&signer, window_end)?;
        let broken = own.iter().find_map(|own| Some((own.conflicts_with(&promise)?, own.hash)));
        Ok(broken.or_else(|| self.witness.conflict(new)).map(|(kind, signed)| Conflict {
            kind,
            signer,
            window_end,
            block,
            signed,
            refused: new.hash(),
        }))
    }

    /// Records what the application is about to publish. Nothing may be stored or sent for it before.
    pub(super) fn promise(&self, new: &Elected) -> Result<(), StorageError> {
        self.store.put_promise(Promise::from(&**new))
    }

    /// Forgets promises for windows that are over: nothing can be signed for them any more.
    pub(super) fn forget_promises(&mut self) -> Result<(), StorageError> {
        let grace = self.validator.config().executor_slot_grace;
        // A clock that jumps ahead by hours must not forget what it can still contradict.
        let over = self.unix.saturating_sub(grace).saturating_sub(PROMISES_KEPT);
        if self.promises_until < over {
            self.promises_until = over;
            self.store.prune_promises(over)?;
        }
        Ok(())
    }
}
