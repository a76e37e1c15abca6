//! Transaction lists that no commitment has asked for yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use p2p_types::{B256, PeerId, TxList};

/// How much of them is held, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLimits {
    /// Bytes of all. Each list counts 128 bytes more than it has, so that a flood of tiny ones is bounded as well.
    pub bytes: usize,
    /// Bytes of those that one peer brought.
    pub bytes_per_peer: usize,
    /// How long each is held.
    pub ttl: Duration,
}

/// What [`HeldTxLists::insert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Held {
    /// It is held.
    New,
    /// It was held already.
    Known,
    /// Its sender has used up its budget, or there is no room and nobody has brought more.
    OverBudget,
}

/// A preconfer publishes the list before the commitment that names it (§6), and anybody can publish lists
/// that nothing ever names. So a list waits here, bounded by bytes and age, until a linked commitment
/// names it: only then is it stored and shown.
///
/// Each peer has a budget. Where there is no room for all budgets, the peer that has brought most makes some: whoever
/// floods loses their own lists, not those of others.
#[derive(Debug)]
pub struct HeldTxLists {
    limits: HeldLimits,
    lists: HashMap<B256, Entry>,
    /// In order of arrival, which is also the order in which they expire.
    order: BTreeMap<u64, B256>,
    next: u64,
    bytes: usize,
    by_peer: HashMap<PeerId, Share>,
    /// The peers by what is held in their budgets. Ties go to the higher id, so that no choice depends on hashing.
    by_bytes: BTreeSet<(usize, PeerId)>,
}

/// What is held in the budget of a peer.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// In order of arrival.
    order: BTreeSet<u64>,
}

#[derive(Debug)]
struct Entry {
    txlist: TxList,
    seq: u64,
    since: Instant,
    /// Whose budget it is held in; none if a commitment that waits names it, or the application brought it.
    peer: Option<PeerId>,
}

impl HeldTxLists {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(limits: HeldLimits) -> Self {
        Self {
            limits,
            lists: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            bytes: 0,
            by_peer: HashMap::new(),
            by_bytes: BTreeSet::new(),
        }
    }

    fn cost(txlist: &TxList) -> usize {
        txlist.bytes().len().saturating_add(128)
    }

    /// Holds a list in the budget of a peer; in nobody's if a commitment that waits names it, or the application has
    /// brought it. Says also how many others had to go for it.
    pub fn insert(&mut self, now: Instant, peer: Option<PeerId>, txlist: TxList) -> (Held, usize) {
        let cost = Self::cost(&txlist);
        if self.lists.contains_key(&txlist.hash()) {
            return (Held::Known, 0);
        }
        let mut gone = self.expire(now);
        let own = peer.and_then(|peer| self.by_peer.get(&peer)).map_or(0, |share| share.bytes);
        let over = peer.is_some() && own.saturating_add(cost) > self.limits.bytes_per_peer;
        if over || cost > self.limits.bytes {
            return (Held::OverBudget, gone);
        }
        while self.bytes.saturating_add(cost) > self.limits.bytes {
            let fullest = self.by_bytes.last().and_then(|(_, peer)| self.by_peer.get(peer));
            let make_room = fullest.filter(|share| peer.is_none() || share.bytes > own.saturating_add(cost));
            let oldest = match make_room {
                Some(share) => share.order.first(),
                None if peer.is_none() => self.order.keys().next(),
                None => None,
            };
            let Some(oldest) = oldest.and_then(|seq| self.order.get(seq)).copied() else {
                return (Held::OverBudget, gone);
            };
            self.take(&oldest);
            gone += 1;
        }
        let (hash, seq) = (txlist.hash(), self.next);
        self.next += 1;
        self.bytes += cost;
        self.order.insert(seq, hash);
        if let Some(peer) = peer {
            let share = self.by_peer.entry(peer).or_default();
            self.by_bytes.remove(&(share.bytes, peer));
            share.bytes += cost;
            share.order.insert(seq);
            self.by_bytes.insert((share.bytes, peer));
        }
        self.lists.insert(hash, Entry { txlist, seq, since: now, peer });
        (Held::New, gone)
    }

    /// Takes a list out because a commitment names it.
    pub fn take(&mut self, hash: &B256) -> Option<TxList> {
        let Entry { txlist, seq, peer, .. } = self.lists.remove(hash)?;
        let cost = Self::cost(&txlist);
        self.order.remove(&seq);
        self.bytes -= cost;
        if let Some(peer) = peer
            && let Some(share) = self.by_peer.get_mut(&peer)
        {
            self.by_bytes.remove(&(share.bytes, peer));
            share.bytes -= cost;
            share.order.remove(&seq);
            if share.order.is_empty() {
                self.by_peer.remove(&peer);
            } else {
                self.by_bytes.insert((share.bytes, peer));
            }
        }
        Some(txlist)
    }

    /// Drops what is too old; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut gone = 0;
        while let Some(hash) = self.order.values().next().copied()
            && let Some(entry) = self.lists.get(&hash)
            && now.saturating_duration_since(entry.since) >= self.limits.ttl
        {
            self.take(&hash);
            gone += 1;
        }
        gone
    }

    /// Bytes held, the allowance for each list included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fill: u8, len: usize) -> TxList {
        TxList::new(vec![fill; len].into(), len).unwrap()
    }

    fn peer(n: u8) -> Option<PeerId> {
        Some(PeerId::from_bytes(&[0, 1, n]).unwrap())
    }

    fn held(bytes: usize, bytes_per_peer: usize) -> HeldTxLists {
        HeldTxLists::new(HeldLimits { bytes, bytes_per_peer, ttl: Duration::from_secs(1) })
    }

    #[test]
    fn a_list_is_taken_once() {
        let (mut held, now) = (held(1_000, 1_000), Instant::now());
        let one = list(1, 100);
        assert_eq!(held.insert(now, peer(1), one.clone()), (Held::New, 0));
        assert_eq!(held.insert(now, peer(2), one.clone()), (Held::Known, 0));
        assert_eq!(held.take(&one.hash()), Some(one.clone()));
        assert_eq!(held.take(&one.hash()), None);
        assert!(held.bytes() == 0 && held.by_peer.is_empty() && held.order.is_empty());
        assert!(held.by_bytes.is_empty());
    }

    #[test]
    fn a_peer_has_a_budget_that_age_gives_back() {
        let (mut held, now) = (held(10_000, 500), Instant::now());
        for fill in 0..2 {
            assert_eq!(held.insert(now, peer(1), list(fill, 122)), (Held::New, 0));
        }
        assert_eq!(held.insert(now, peer(1), list(2, 1)), (Held::OverBudget, 0));
        assert_eq!(held.insert(now, peer(2), list(2, 1)), (Held::New, 0), "another one has its own");
        assert_eq!(held.insert(now, None, list(3, 5_000)), (Held::New, 0), "a commitment names it");
        let later = now + Duration::from_secs(1);
        assert_eq!(held.insert(later, peer(1), list(4, 122)), (Held::New, 4));
    }

    #[test]
    fn who_has_brought_most_makes_room_and_nobody_else() {
        let (mut held, now) = (held(1_000, 1_000), Instant::now());
        for fill in 0..3 {
            assert_eq!(held.insert(now, peer(1), list(fill, 122)), (Held::New, 0));
        }
        assert_eq!(held.insert(now, peer(2), list(10, 122)), (Held::New, 0));
        assert_eq!(held.insert(now, peer(3), list(11, 122)), (Held::New, 1), "the flooder's oldest");
        assert_eq!(held.take(&list(0, 122).hash()), None);
        // Nobody has more than this one would: two lists each are fair.
        assert_eq!(held.insert(now, peer(2), list(12, 122)), (Held::OverBudget, 0));
        assert_eq!(held.insert(now, peer(1), list(13, 122)), (Held::OverBudget, 0));
        for (fill, there) in [(1, true), (2, true), (10, true), (11, true), (12, false)] {
            assert_eq!(held.take(&list(fill, 122).hash()).is_some(), there, "{fill}");
        }
    }

    #[test]
    fn what_is_named_has_room_before_what_is_not() {
        let (mut held, now) = (held(1_000, 1_000), Instant::now());
        for fill in 0..4 {
            assert_eq!(held.insert(now, peer(fill), list(fill, 122)), (Held::New, 0));
        }
        for fill in 10..14 {
            assert_eq!(held.insert(now, None, list(fill, 122)), (Held::New, 1));
        }
        assert_eq!(held.insert(now, peer(9), list(20, 122)), (Held::OverBudget, 0));
        assert_eq!(held.insert(now, None, list(21, 122)), (Held::New, 1), "of the named, the oldest");
        assert_eq!(held.insert(now, None, list(22, 2_000)), (Held::OverBudget, 0));
        assert_eq!(held.bytes(), 1_000);
    }

    #[test]
    fn what_is_too_old_goes() {
        let (mut held, now) = (held(1_000, 1_000), Instant::now());
        assert_eq!(held.insert(now, peer(1), list(1, 10)), (Held::New, 0));
        assert_eq!(held.expire(now + Duration::from_millis(999)), 0);
        assert_eq!(held.expire(now + Duration::from_secs(1)), 1);
        assert_eq!(held.bytes(), 0);
    }

    /// Untrusted peers that fill the memory with tiny lists must not make a list that displaces them search through all of them.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a search takes more than ten times as long as is allowed")]
    fn room_is_made_without_a_search() {
        const MIB: usize = 1024 * 1024;
        let (mut held, now) = (held(8 * MIB, MIB), Instant::now());
        let lists = MIB / 132;
        for n in 0..8 {
            for k in 0..lists {
                let bytes = u32::try_from(usize::from(n) * lists + k).unwrap().to_be_bytes().to_vec();
                let txlist = TxList::new(bytes.into(), MIB).unwrap();
                assert_eq!(held.insert(now, peer(n), txlist), (Held::New, 0));
            }
        }
        let begun = Instant::now();
        let (inserted, gone) = held.insert(now, None, list(1, 2 * MIB));
        assert_eq!(inserted, Held::New);
        assert!((2 * lists - 10..=2 * lists + 10).contains(&gone), "{gone}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
