//! What the signer of a commitment has promised before. Read from the store, so that it outlives a restart.

use p2p_storage::{StorageError, StoredCommitment};
use p2p_types::{Address, B256, BlockNumber, Misbehaviour, U256, UnixSeconds};
use p2p_validation::Elected;

use super::Chain;

/// A signer and the end of its window.
pub(super) type Turn = (Address, UnixSeconds);

/// Most heights that are searched for an earlier promise, each way.
const MAX_HEIGHTS: usize = 4096;

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

impl Chain {
    /// The first promise found in the store, history and handovers included, that a new one would break.
    pub(super) fn conflict(&mut self, new: &Elected) -> Result<Option<Conflict>, StorageError> {
        let (signer, window_end, block) = (new.recovered().signer(), new.window_end(), new.block());
        let mine = |stored: &StoredCommitment| {
            stored.recovered.signer() == signer
                && stored.recovered.signed().preconf().submission_window_end == U256::from(window_end.get())
        };
        let found = |kind, signed| {
            Ok(Some(Conflict { kind, signer, window_end, block, signed, refused: new.hash() }))
        };
        let other =
            self.store.at(block)?.into_iter().find(|stored| mine(stored) && stored.hash() != new.hash());
        if let Some(other) = other {
            return found(Misbehaviour::Equivocation, other.hash());
        }
        // What did not link is not in the store, and is signed all the same.
        if let Some(other) = self.forwarded.other(new) {
            return found(Misbehaviour::Equivocation, other);
        }
        if !new.is_eop_only()
            && let Some(eop) = self.handed_over(new, mine)?
        {
            return found(Misbehaviour::BlockAfterEop, eop);
        }
        if new.preconf().eop
            && let Some(later) = self.block_above(new, mine)?
        {
            return found(Misbehaviour::BlockAfterEop, later);
        }
        Ok(None)
    }

    /// A handover of the same turn below a block. Looks down as far as the window goes, or as it has looked
    /// before.
    fn handed_over(
        &mut self,
        new: &Elected,
        mine: impl Fn(&StoredCommitment) -> bool,
    ) -> Result<Option<B256>, StorageError> {
        let turn = (new.recovered().signer(), new.window_end());
        let looked = self.no_eop_below.filter(|(known, _)| *known == turn).map_or(0, |(_, height)| height);
        let opens = U256::from(new.window().start.get());
        let settled = self.store.base()?.map_or(0, |base| base.number);
        for height in (looked..new.block()).rev().take(MAX_HEIGHTS) {
            let here = self.store.at(height)?;
            let eop = |stored: &&StoredCommitment| mine(stored) && stored.recovered.signed().preconf().eop;
            if let Some(eop) = here.iter().find(eop) {
                return Ok(Some(eop.hash()));
            }
            if here.is_empty() && height > settled {
                // A gap: what is below may be told of later.
                return Ok(None);
            }
            // Block times grow: below a block of before the window there is nothing of this window.
            if here.is_empty() || self.store.by_block(height)?.is_some_and(|block| time(&block) < opens) {
                break;
            }
        }
        self.no_eop_below = Some((turn, new.block()));
        Ok(None)
    }

    /// A block of the same turn above a handover.
    fn block_above(
        &self,
        new: &Elected,
        mine: impl Fn(&StoredCommitment) -> bool,
    ) -> Result<Option<B256>, StorageError> {
        for height in (new.block()..BlockNumber::MAX).skip(1).take(MAX_HEIGHTS) {
            let here = self.store.at(height)?;
            let block = |stored: &&StoredCommitment| {
                mine(stored) && !stored.recovered.signed().preconf().is_eop_only()
            };
            if let Some(block) = here.iter().find(block) {
                return Ok(Some(block.hash()));
            }
            if here.is_empty() {
                break;
            }
        }
        Ok(None)
    }
}

fn time(stored: &StoredCommitment) -> U256 {
    stored.recovered.signed().preconf().timestamp
}
