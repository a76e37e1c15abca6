//! Transaction lists that no commitment has asked for yet.

use std::time::{Duration, Instant};

use p2p_types::{B256, TxList};
use schnellru::{LruMap, UnlimitedCompact};

/// A preconfer publishes the list before the commitment that names it (§6), and anybody can publish lists
/// that nothing ever names. So a list waits here, bounded by bytes and age, until a linked commitment
/// names it: only then is it stored and shown. The least recently added goes first.
pub struct HeldTxLists {
    lists: LruMap<B256, (TxList, Instant), UnlimitedCompact>,
    bytes: usize,
    limit: usize,
    ttl: Duration,
}

impl HeldTxLists {
    /// A place for at most `limit` bytes of lists, each for at most `ttl`. Each list counts 128 bytes more
    /// than it has, so that a flood of tiny ones is bounded as well.
    #[must_use]
    pub fn new(limit: usize, ttl: Duration) -> Self {
        Self { lists: LruMap::new(UnlimitedCompact), bytes: 0, limit, ttl }
    }

    fn cost(txlist: &TxList) -> usize {
        txlist.bytes().len().saturating_add(128)
    }

    /// Holds a list; returns how many older ones had to go for it. One that alone exceeds the limit is not
    /// held and counts as gone.
    pub fn insert(&mut self, now: Instant, txlist: TxList) -> usize {
        let cost = Self::cost(&txlist);
        if cost > self.limit {
            return 1;
        }
        if self.lists.peek(&txlist.hash()).is_some() {
            return 0;
        }
        let mut gone = self.expire(now);
        while self.bytes + cost > self.limit && self.pop_oldest() {
            gone += 1;
        }
        self.bytes += cost;
        self.lists.insert(txlist.hash(), (txlist, now));
        gone
    }

    /// Takes a list out because a commitment names it.
    pub fn take(&mut self, hash: &B256) -> Option<TxList> {
        let (txlist, _) = self.lists.remove(hash)?;
        self.bytes -= Self::cost(&txlist);
        Some(txlist)
    }

    /// Drops what is too old; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut gone = 0;
        while let Some((_, (_, since))) = self.lists.peek_oldest()
            && now.saturating_duration_since(*since) >= self.ttl
            && self.pop_oldest()
        {
            gone += 1;
        }
        gone
    }

    /// Bytes held, the allowance for each list included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn pop_oldest(&mut self) -> bool {
        let Some((_, (txlist, _))) = self.lists.pop_oldest() else {
            return false;
        };
        self.bytes -= Self::cost(&txlist);
        true
    }
}

impl std::fmt::Debug for HeldTxLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldTxLists").field("lists", &self.lists.len()).field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fill: u8, len: usize) -> TxList {
        TxList::new(vec![fill; len].into(), len).unwrap()
    }

    #[test]
    fn a_list_is_taken_once() {
        let mut held = HeldTxLists::new(1_000, Duration::from_secs(1));
        let one = list(1, 100);
        assert_eq!(held.insert(Instant::now(), one.clone()), 0);
        assert_eq!(held.insert(Instant::now(), one.clone()), 0);
        assert_eq!(held.take(&one.hash()), Some(one.clone()));
        assert_eq!(held.take(&one.hash()), None);
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn the_oldest_go_when_bytes_run_out_and_the_too_large_is_not_held() {
        let (mut held, now) = (HeldTxLists::new(1_000, Duration::from_secs(1)), Instant::now());
        for fill in 0..4 {
            assert_eq!(held.insert(now, list(fill, 122)), 0);
        }
        assert_eq!(held.bytes(), 1_000);
        assert_eq!(held.insert(now, list(9, 200)), 2);
        assert_eq!(held.take(&list(1, 122).hash()), None);
        assert!(held.take(&list(2, 122).hash()).is_some());
        assert_eq!(held.insert(now, list(10, 873)), 1);
        assert!(held.take(&list(9, 200).hash()).is_some());
    }

    #[test]
    fn what_is_too_old_goes() {
        let (mut held, now) = (HeldTxLists::new(1_000, Duration::from_secs(1)), Instant::now());
        assert_eq!(held.insert(now, list(1, 10)), 0);
        assert_eq!(held.expire(now + Duration::from_millis(999)), 0);
        assert_eq!(held.expire(now + Duration::from_secs(1)), 1);
        assert_eq!(held.bytes(), 0);
    }
}
