//! What L1 takes out of the chain: by a reorg, what is anchored to blocks that are no longer canonical; by another schedule, what
//! nobody was elected for.

use p2p_types::{B256, BlockNumber, U256, UnixSeconds};
use p2p_validation::Authenticated;

/// The blocks that an L1 reorg has taken out of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct L1Reorg {
    /// The lowest L1 block that was replaced.
    pub anchor: BlockNumber,
    /// Height of the lowest block that is affected; none if no block is.
    pub from: Option<BlockNumber>,
    /// Preconfirmation hashes of the affected blocks, lowest first.
    pub affected: Vec<B256>,
}

/// The blocks that a change of the schedule has taken out of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleReorg {
    /// What was signed at or after this second was judged again.
    pub since: UnixSeconds,
    /// Height of the lowest block that is affected; none if no block is.
    pub from: Option<BlockNumber>,
    /// Preconfirmation hashes of the affected blocks, lowest first.
    pub affected: Vec<B256>,
}

/// What came of judging some heights again.
#[derive(Debug, Clone)]
pub(crate) struct Rejudged {
    pub(crate) reorg: ScheduleReorg,
    /// The height to go on from, unless that was all.
    pub(crate) next: Option<BlockNumber>,
}

impl ScheduleReorg {
    /// Nothing is affected.
    pub(crate) const fn none(since: UnixSeconds) -> Self {
        Self { since, from: None, affected: Vec::new() }
    }

    /// Adds what was found at greater heights.
    pub(crate) fn append(&mut self, above: Self) {
        self.from = self.from.or(above.from);
        self.affected.extend(above.affected);
    }
}

/// L1 has replaced its blocks from `anchor` on, as we heard at this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replaced {
    anchor: BlockNumber,
    at: UnixSeconds,
}

impl Replaced {
    /// L1 has replaced its blocks from `anchor` on, beside what it had `before`.
    pub(super) fn from(anchor: BlockNumber, at: UnixSeconds, before: Option<Self>) -> Self {
        Self { anchor: before.map_or(anchor, |before| before.anchor.min(anchor)), at }
    }

    /// What is left when the L1 blocks from `anchor` on are canonical again.
    pub(super) fn restored(self, anchor: BlockNumber) -> Option<Self> {
        (self.anchor < anchor).then_some(self)
    }

    /// The clock shows this: if that is earlier, it was ahead when we heard, and nothing that is still to be signed is concerned.
    pub(super) fn not_after(self, now: UnixSeconds) -> Self {
        Self { at: self.at.min(now), ..self }
    }

    /// Whether a commitment is anchored to what was replaced and was signed before we heard of that.
    pub(super) fn withdraws(&self, commitment: &Authenticated) -> bool {
        commitment.timestamp() <= self.at
            && commitment.preconf().anchor_block_number >= U256::from(self.anchor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_blocks_below_those_that_are_canonical_again_stay_replaced() {
        let replaced = Replaced::from(5, UnixSeconds::new(1), None);
        assert_eq!(replaced.restored(6).map(|left| left.anchor), Some(5));
        assert!(replaced.restored(5).is_none() && replaced.restored(4).is_none());
        let lower = Replaced::from(3, UnixSeconds::new(2), Some(replaced));
        assert_eq!(lower.restored(5).map(|left| left.anchor), Some(3));
        let higher = Replaced::from(9, UnixSeconds::new(2), Some(lower));
        assert_eq!((higher.anchor, higher.at), (3, UnixSeconds::new(2)));
        assert_eq!(higher.not_after(UnixSeconds::new(1)).at, UnixSeconds::new(1), "the clock was ahead");
        assert_eq!(higher.not_after(UnixSeconds::new(9)).at, UnixSeconds::new(2));
    }
}
