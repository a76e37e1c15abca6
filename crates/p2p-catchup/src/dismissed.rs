//! Claims that do not count because the branch behind them was looked into and is not the chain.
//!
//! A peer's head may belong to a branch that loses the fork choice, or whose ancestors the peer does not serve. Once its
//! pages have shown that, the claim is no height to reach any more: it is *dismissed*, for as long as the peer repeats it.
//! The peer is asked for its pages again from time to time, in case it has come to another branch of the same height.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2p_types::{Address, B256, BlockNumber};

use crate::time::after;

/// Searches for the ancestors of one signer's blocks that may fail before further ones stop to keep the node from being
/// live. They are made all the same.
const FREE_SEARCHES: u32 = 3;

/// Signers of whom failed searches are remembered. Whose last one is the oldest goes first.
const SIGNERS: usize = 64;

/// A claim of a peer that was looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dismissed {
    /// The claim.
    pub(crate) claim: BlockNumber,
    /// The highest block that the peer has shown of its branch.
    pub(crate) tip: B256,
    /// All of the branch is stored, and it loses the fork choice. Otherwise the peer does not serve its ancestors.
    pub(crate) linked: bool,
    /// How often the peer's claims have been dismissed.
    pub(crate) times: u32,
    /// The peer is not asked for pages of it before.
    pub(crate) retry_at: Instant,
}

/// Failed searches for ancestors by the signer of the block that they began with. Whoever signs blocks costs nothing but
/// its own stake to do so, so that a budget of its signer, not of the peer, bounds how long they keep a node from being
/// live.
#[derive(Debug, Default)]
pub(crate) struct FailedSearches(BTreeMap<Address, (u32, Instant)>);

impl FailedSearches {
    /// Counts one.
    pub(crate) fn add(&mut self, now: Instant, signer: Address) {
        let (searches, last) = self.0.entry(signer).or_insert((0, now));
        (*searches, *last) = (searches.saturating_add(1), now);
        if self.0.len() > SIGNERS
            && let Some((_, oldest)) = self.0.iter().map(|(signer, (_, last))| (*last, *signer)).min()
        {
            self.0.remove(&oldest);
        }
    }

    /// A search has succeeded: its signer's blocks are worth waiting for.
    pub(crate) fn succeeded(&mut self, signer: &Address) {
        self.0.remove(signer);
    }

    /// Whether the budget of a signer is used up, by failures of which the last is not older than `memory`.
    pub(crate) fn exhausted(&self, now: Instant, signer: &Address, memory: Duration) -> bool {
        self.0
            .get(signer)
            .is_some_and(|(searches, last)| *searches >= FREE_SEARCHES && after(*last, memory) > now)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn a_signer_has_three_failures_until_they_are_old_or_one_succeeds() {
        let (start, signer, memory) = (Instant::now(), Address::repeat_byte(1), Duration::from_secs(60));
        let mut failed = FailedSearches::default();
        for expected in [false, false, true] {
            failed.add(start, signer);
            assert_eq!(failed.exhausted(start, &signer, memory), expected);
        }
        assert!(!failed.exhausted(start, &Address::repeat_byte(2), memory));
        assert!(!failed.exhausted(start + memory, &signer, memory));
        failed.succeeded(&signer);
        assert!(!failed.exhausted(start, &signer, memory));
    }

    #[test]
    fn a_bounded_number_of_signers_is_remembered_and_the_oldest_goes_first() {
        let (start, memory) = (Instant::now(), Duration::from_secs(60));
        let mut failed = FailedSearches::default();
        for byte in 0..=64 {
            for _ in 0..3 {
                failed.add(start + Duration::from_millis(64 - u64::from(byte)), Address::repeat_byte(byte));
            }
        }
        let exhausted = |byte| failed.exhausted(start, &Address::repeat_byte(byte), memory);
        assert_eq!((0..=64).filter(|byte| !exhausted(*byte)).count(), 1);
    }
}
