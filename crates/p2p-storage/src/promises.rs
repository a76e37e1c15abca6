//! Promises of the application's own signers: what the slashing guard compares.

use std::cmp::Ordering;

use p2p_types::{Address, B256, BlockNumber, Misbehaviour, UnixSeconds};
use p2p_validation::Authenticated;

/// Limit of stored promises: weeks of them, if they are pruned.
pub(crate) const MAX_PROMISES: usize = 1 << 20;

/// A promise of one of our own signers. It must not sign another block of the same height and window, nor a block after it
/// has handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Promise {
    /// The end of the submission window.
    pub window_end: UnixSeconds,
    /// Who has signed.
    pub signer: Address,
    /// The height.
    pub block: BlockNumber,
    /// The preconfirmation hash.
    pub hash: B256,
    /// Whether it hands over (EOP).
    pub eop: bool,
    /// Whether it makes no block.
    pub eop_only: bool,
}

impl From<&Authenticated> for Promise {
    fn from(commitment: &Authenticated) -> Self {
        Self {
            window_end: commitment.window_end(),
            signer: commitment.recovered().signer(),
            block: commitment.block(),
            hash: commitment.hash(),
            eop: commitment.preconf().eop,
            eop_only: commitment.is_eop_only(),
        }
    }
}

impl Promise {
    /// The misbehaviour that both promises of one signer would prove.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> Option<Misbehaviour> {
        let one_turn = (self.window_end, self.signer) == (other.window_end, other.signer);
        if !one_turn || self.hash == other.hash {
            return None;
        }
        let (lower, higher) = match self.block.cmp(&other.block) {
            Ordering::Equal => return Some(Misbehaviour::Equivocation),
            Ordering::Less => (self, other),
            Ordering::Greater => (other, self),
        };
        // A handover forbids the blocks above it, and no other handover.
        (lower.eop && !higher.eop_only).then_some(Misbehaviour::BlockAfterEop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_conflict_by_height_and_after_a_handover() {
        let block = |block, hash| Promise {
            window_end: UnixSeconds::new(9),
            signer: Address::ZERO,
            block,
            hash: B256::repeat_byte(hash),
            eop: false,
            eop_only: false,
        };
        let last = |number, hash| Promise { eop: true, ..block(number, hash) };
        let declines = |number, hash| Promise { eop_only: true, ..last(number, hash) };
        let (equivocation, after) = (Some(Misbehaviour::Equivocation), Some(Misbehaviour::BlockAfterEop));
        for (one, other, conflict) in [
            (block(5, 1), block(5, 1), None),
            (block(5, 1), block(5, 2), equivocation),
            (block(5, 1), block(6, 2), None),
            (block(5, 1), declines(5, 2), equivocation),
            (block(5, 1), declines(6, 2), None),
            (block(6, 1), declines(5, 2), after),
            (last(5, 1), block(5, 2), equivocation),
            (last(5, 1), block(6, 2), after),
            (last(5, 1), last(6, 2), after),
            (last(5, 1), declines(6, 2), None),
            (declines(5, 1), declines(6, 2), None),
            (block(5, 1), Promise { signer: Address::repeat_byte(1), ..block(5, 2) }, None),
            (block(5, 1), Promise { window_end: UnixSeconds::new(8), ..block(5, 2) }, None),
        ] {
            assert_eq!(one.conflicts_with(&other), conflict, "{one:?} {other:?}");
            assert_eq!(other.conflicts_with(&one), conflict, "{other:?} {one:?}");
        }
    }
}
