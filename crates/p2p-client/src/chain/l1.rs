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

/// A reorg of L1 that we heard of.
#[derive(Debug, Clone, Copy)]
struct Reorg {
    /// The lowest block that was replaced.
    anchor: BlockNumber,
    /// When we heard of it.
    at: UnixSeconds,
}

/// Most reorgs that are remembered. The oldest is forgotten first: it concerns blocks that peers have least of.
const REORGS: usize = 64;

/// The reorgs of L1 that still matter: each begins at a higher block than those before it.
#[derive(Debug, Default)]
pub(super) struct Replaced(Vec<Reorg>);

impl Replaced {
    /// L1 has replaced its blocks from `anchor` on.
    pub(super) fn add(&mut self, anchor: BlockNumber, at: UnixSeconds) {
        // It says more than those that begin there or above.
        self.restore(anchor);
        if self.0.len() >= REORGS {
            self.0.remove(0);
        }
        self.0.push(Reorg { anchor, at });
    }

    /// The L1 blocks from `anchor` on are canonical again.
    pub(super) fn restore(&mut self, anchor: BlockNumber) {
        self.0.retain(|reorg| reorg.anchor < anchor);
    }

    /// The clock shows this: if that is earlier than when we heard of a reorg, it was ahead then, and nothing that is still to be
    /// signed is concerned.
    pub(super) fn set_clock(&mut self, now: UnixSeconds) {
        self.0.iter_mut().for_each(|reorg| reorg.at = reorg.at.min(now));
    }

    /// Whether a commitment is anchored to what was replaced and was signed before we heard of that.
    pub(super) fn withdraws(&self, commitment: &Authenticated) -> bool {
        let (signed, anchor) = (commitment.timestamp(), commitment.preconf().anchor_block_number);
        self.0.iter().any(|reorg| signed <= reorg.at && anchor >= U256::from(reorg.anchor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(reorgs: &[(BlockNumber, u64)]) -> Replaced {
        let mut replaced = Replaced::default();
        reorgs.iter().for_each(|(anchor, at)| replaced.add(*anchor, UnixSeconds::new(*at)));
        replaced
    }

    fn all(replaced: &Replaced) -> Vec<(BlockNumber, u64)> {
        replaced.0.iter().map(|reorg| (reorg.anchor, reorg.at.get())).collect()
    }

    #[test]
    fn l1_blocks_below_those_that_are_canonical_again_stay_replaced() {
        let mut one = replaced(&[(5, 1)]);
        one.restore(6);
        assert_eq!(all(&one), [(5, 1)]);
        one.restore(5);
        assert!(all(&one).is_empty());
        let mut two = replaced(&[(3, 2), (9, 4)]);
        two.restore(5);
        assert_eq!(all(&two), [(3, 2)]);
    }

    #[test]
    fn a_reorg_takes_the_place_of_those_that_it_covers() {
        assert_eq!(all(&replaced(&[(5, 1), (9, 2), (5, 3)])), [(5, 3)]);
        assert_eq!(all(&replaced(&[(5, 1), (9, 2), (7, 3)])), [(5, 1), (7, 3)]);
        let many: Vec<_> = (0..100).map(|n| (n, n)).collect();
        assert_eq!(all(&replaced(&many)), &many[100 - REORGS..]);
    }

    #[test]
    fn a_clock_that_was_ahead_is_set_right() {
        let mut two = replaced(&[(3, 2), (9, 40)]);
        two.set_clock(UnixSeconds::new(5));
        assert_eq!(all(&two), [(3, 2), (9, 5)]);
    }
}
