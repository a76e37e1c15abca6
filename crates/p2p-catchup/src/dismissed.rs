//! Dismissed claims: heads of peers whose branch was fetched and is not the chain.
//!
//! A peer's head may belong to a branch that loses the fork choice, or whose ancestors the peer does not serve. Once its pages
//! have shown that, the claim is no height to reach for as long as the peer repeats it. Its pages are requested again from time
//! to time, in case the peer has changed to another branch of the same height.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2p_types::{Address, B256, BlockNumber};

use crate::deadlines::after;

/// Failed ancestor searches for the blocks of one signer after which further ones no longer keep the node from being live. They
/// are made all the same.
const FREE_SEARCHES: u32 = 3;

/// Most signers whose failed searches are remembered. The one of the oldest failure is forgotten first.
const SIGNERS: usize = 64;

/// A dismissed claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dismissed {
    pub(crate) claim: BlockNumber,
    /// The highest block of its branch that the peer has served.
    pub(crate) tip: B256,
    /// All of the branch is stored, and loses the fork choice. Otherwise the peer does not serve its ancestors.
    pub(crate) linked: bool,
    /// How often the peer's claims have been dismissed.
    pub(crate) times: u32,
    /// Its pages are not requested from the peer before this.
    pub(crate) retry_at: Instant,
}

/// Failed ancestor searches by the signer of the first block that did not link. The budget is the signer's and not the peer's, as
/// only an elected signer can make such blocks, while peers are free.
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

    /// A search for a signer's blocks has succeeded.
    pub(crate) fn succeeded(&mut self, signer: &Address) {
        self.0.remove(signer);
    }

    /// Whether a signer's budget is used up, and the last failure is not older than `memory`.
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
    fn a_signer_has_a_budget_of_three_failed_searches() {
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
    fn the_memory_of_failed_searches_is_bounded() {
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
