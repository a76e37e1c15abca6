//! The waiting room: what cannot be judged yet.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, PeerId, UnixSeconds};
use p2p_validation::Missing;

/// How much may wait, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingLimits {
    /// All entries together.
    pub entries: NonZeroUsize,
    /// Bytes that all entries have in memory, what their values point to not counted.
    pub bytes: NonZeroUsize,
    /// Entries brought by one peer.
    pub per_peer: NonZeroUsize,
    /// Entries that wait for the same thing.
    pub per_key: NonZeroUsize,
    /// Entries of one height.
    pub per_height: NonZeroUsize,
    /// How long an entry waits.
    pub ttl: Duration,
}

impl Default for PendingLimits {
    /// 4,096 entries in 8 MiB, 512 of one peer, 16 for one parent or window, 64 of one height, two minutes.
    fn default() -> Self {
        let nz = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            entries: nz(4096),
            bytes: nz(8 * 1024 * 1024),
            per_peer: nz(512),
            per_key: nz(16),
            per_height: nz(64),
            ttl: Duration::from_secs(120),
        }
    }
}

/// What [`PendingPool::insert`] did.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Added<T> {
    /// It waits.
    Waiting,
    /// It waits, and these older entries of the same peer, or of the peers with most entries, had to go.
    Evicted(Vec<T>),
    /// The same commitment waits already; this one is handed back.
    Known(T),
    /// Enough others wait for the same thing or at the same height, and no peer has more of them than this one's
    /// would have; or there is no room for a single entry. This one is handed back.
    Crowded(T),
}

/// Commitments that wait for their parent or for the schedule. Bounded in all by count and by bytes, per peer, per
/// thing waited for and per height: whoever fills it pushes out their own entries, not those of others.
#[derive(Debug)]
pub struct PendingPool<T> {
    limits: PendingLimits,
    /// In order of arrival, which is also the order in which they expire.
    entries: BTreeMap<u64, Entry<T>>,
    next: u64,
    by_hash: HashMap<B256, u64>,
    by_missing: HashMap<Missing, Vec<u64>>,
    by_height: HashMap<BlockNumber, Vec<u64>>,
    /// Entries a peer has here; `None` counts the application's own.
    by_peer: HashMap<Option<PeerId>, Vec<u64>>,
}

#[derive(Debug)]
struct Entry<T> {
    hash: B256,
    block: BlockNumber,
    missing: Missing,
    peer: Option<PeerId>,
    since: Instant,
    value: T,
}

impl<T> PendingPool<T> {
    /// An empty waiting room.
    #[must_use]
    pub fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            next: 0,
            by_hash: HashMap::new(),
            by_missing: HashMap::new(),
            by_height: HashMap::new(),
            by_peer: HashMap::new(),
        }
    }

    /// What an entry has in memory: itself, and its number in four indexes next to three keys.
    const ENTRY_BYTES: usize =
        size_of::<Entry<T>>() + size_of::<B256>() + size_of::<Missing>() + 5 * size_of::<u64>();

    /// Lets a commitment of this height wait for what it misses.
    pub fn insert(
        &mut self,
        now: Instant,
        (block, hash): (BlockNumber, B256),
        missing: Missing,
        peer: Option<PeerId>,
        value: T,
    ) -> Added<T> {
        if self.by_hash.contains_key(&hash) {
            return Added::Known(value);
        }
        let PendingLimits { entries, bytes, per_peer, per_key, per_height, .. } = self.limits;
        let most = entries.get().min(bytes.get() / Self::ENTRY_BYTES);
        let for_key = self.place(self.by_missing.get(&missing), per_key, peer);
        let for_height = self.place(self.by_height.get(&block), per_height, peer);
        let (Some(for_key), Some(for_height)) = (for_key, for_height) else { return Added::Crowded(value) };
        if most == 0 {
            return Added::Crowded(value);
        }
        let mut evicted: Vec<T> = for_key.and_then(|seq| self.remove(seq)).into_iter().collect();
        // The first one may have made room for both.
        if self.by_height.get(&block).is_some_and(|there| there.len() >= per_height.get()) {
            evicted.extend(for_height.and_then(|seq| self.remove(seq)));
        }
        if self.by_peer.get(&peer).map_or(0, Vec::len) >= per_peer.get() {
            evicted.extend(self.evict_oldest_of(peer));
        }
        if self.entries.len() >= most {
            // Ties go to the peer of the oldest entry, so that the choice does not depend on hashing.
            let most = self.by_peer.iter().max_by_key(|(_, own)| (own.len(), std::cmp::Reverse(own.first())));
            evicted.extend(most.map(|(peer, _)| *peer).and_then(|peer| self.evict_oldest_of(peer)));
        }
        let seq = self.next;
        self.next += 1;
        self.entries.insert(seq, Entry { hash, block, missing, peer, since: now, value });
        self.by_hash.insert(hash, seq);
        self.by_missing.entry(missing).or_default().push(seq);
        self.by_height.entry(block).or_default().push(seq);
        self.by_peer.entry(peer).or_default().push(seq);
        if evicted.is_empty() { Added::Waiting } else { Added::Evicted(evicted) }
    }

    /// Whether an entry of this peer has a place among others: at once, or in the place of the oldest entry of the
    /// peer that has most there. None if that one has no more than this one would.
    #[allow(clippy::option_option, reason = "no place, a free one, or that of another")]
    fn place(
        &self,
        there: Option<&Vec<u64>>,
        limit: NonZeroUsize,
        peer: Option<PeerId>,
    ) -> Option<Option<u64>> {
        let there = there.map_or(&[][..], Vec::as_slice);
        if there.len() < limit.get() {
            return Some(None);
        }
        let mut peers: HashMap<Option<PeerId>, (usize, std::cmp::Reverse<u64>)> = HashMap::new();
        for seq in there {
            let of = self.entries.get(seq).and_then(|entry| entry.peer);
            peers.entry(of).or_insert((0, std::cmp::Reverse(*seq))).0 += 1;
        }
        let own = peers.get(&peer).map_or(0, |(count, _)| *count);
        let (count, std::cmp::Reverse(oldest)) = *peers.values().max()?;
        (count > own + 1).then_some(Some(oldest))
    }

    /// Takes out everything that waits for this parent, in order of arrival.
    pub fn take_parent(&mut self, parent: B256) -> Vec<T> {
        self.take(&Missing::Parent(parent))
    }

    /// Takes out everything whose schedule `is_known` now, in order of arrival.
    pub fn take_scheduled(&mut self, mut is_known: impl FnMut(UnixSeconds) -> bool) -> Vec<T> {
        let mut known: Vec<Missing> = self
            .by_missing
            .keys()
            .filter(|missing| matches!(missing, Missing::Schedule(end) if is_known(*end)))
            .copied()
            .collect();
        known.sort_unstable();
        known.iter().flat_map(|missing| self.take(missing)).collect()
    }

    /// Takes out everything, in order of arrival.
    pub fn take_all(&mut self) -> Vec<T> {
        self.by_hash.clear();
        self.by_missing.clear();
        self.by_height.clear();
        self.by_peer.clear();
        std::mem::take(&mut self.entries).into_values().map(|entry| entry.value).collect()
    }

    /// Everything that waits, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// Takes out what has waited too long.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some((&seq, oldest)) = self.entries.first_key_value() {
            if now.saturating_duration_since(oldest.since) < self.limits.ttl {
                break;
            }
            expired.extend(self.remove(seq));
        }
        expired
    }

    /// Whether anything waits for a schedule.
    #[must_use]
    pub fn waits_for_schedule(&self) -> bool {
        self.by_missing.keys().any(|missing| matches!(missing, Missing::Schedule(_)))
    }

    /// When the next entry expires.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(_, oldest)| oldest.since + self.limits.ttl)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that all entries have in memory, what their values point to not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len().saturating_mul(Self::ENTRY_BYTES)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn take(&mut self, missing: &Missing) -> Vec<T> {
        let waiting = self.by_missing.get(missing).cloned().unwrap_or_default();
        waiting.into_iter().filter_map(|seq| self.remove(seq)).collect()
    }

    fn evict_oldest_of(&mut self, peer: Option<PeerId>) -> Option<T> {
        let oldest = *self.by_peer.get(&peer)?.first()?;
        self.remove(oldest)
    }

    fn remove(&mut self, seq: u64) -> Option<T> {
        let Entry { hash, block, missing, peer, value, .. } = self.entries.remove(&seq)?;
        self.by_hash.remove(&hash);
        let forget = |list: &mut Vec<u64>| {
            list.retain(|other| *other != seq);
            list.is_empty()
        };
        if self.by_missing.get_mut(&missing).is_some_and(forget) {
            self.by_missing.remove(&missing);
        }
        if self.by_height.get_mut(&block).is_some_and(forget) {
            self.by_height.remove(&block);
        }
        if self.by_peer.get_mut(&peer).is_some_and(forget) {
            self.by_peer.remove(&peer);
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(entries: usize, per_peer: usize) -> PendingPool<u32> {
        let nz = |n| NonZeroUsize::new(n).unwrap();
        let (entries, per_peer, per_key, per_height) = (nz(entries), nz(per_peer), nz(3), nz(5));
        let (bytes, ttl) = (nz(1 << 20), Duration::from_secs(10));
        PendingPool::new(PendingLimits { entries, bytes, per_peer, per_key, per_height, ttl })
    }

    fn hash(n: u32) -> B256 {
        B256::left_padding_from(&n.to_be_bytes())
    }

    fn parent(n: u32) -> Missing {
        Missing::Parent(hash(1_000_000 + n))
    }

    fn parent_hash(n: u32) -> B256 {
        hash(1_000_000 + n)
    }

    #[test]
    fn what_waited_for_a_parent_comes_out_in_order_of_arrival() {
        let (mut pool, now) = (pool(10, 10), Instant::now());
        for n in [3, 1, 2] {
            assert_eq!(pool.insert(now, (u64::from(n), hash(n)), parent(0), None, n), Added::Waiting);
        }
        assert_eq!(pool.insert(now, (9, hash(9)), parent(1), None, 9), Added::Waiting);
        assert_eq!(pool.take_parent(hash(1_000_000)), [3, 1, 2]);
        assert_eq!(pool.take_parent(hash(1_000_000)), [0; 0]);
        assert_eq!(pool.len(), 1);
        assert_eq!(pool.insert(now, (8, hash(8)), parent(0), None, 8), Added::Waiting);
        assert_eq!(pool.iter().copied().collect::<Vec<_>>(), [9, 8]);
        assert_eq!(pool.take_all(), [9, 8]);
        assert!(pool.is_empty() && pool.take_parent(hash(1_000_000)).is_empty());
    }

    #[test]
    fn the_same_commitment_waits_once_and_a_parent_has_room_for_few() {
        let (mut pool, now) = (pool(10, 10), Instant::now());
        for n in 0..3 {
            assert_eq!(pool.insert(now, (u64::from(n), hash(n)), parent(0), None, n), Added::Waiting);
        }
        assert_eq!(pool.insert(now, (1, hash(1)), parent(0), None, 7), Added::Known(7));
        assert_eq!(pool.insert(now, (3, hash(3)), parent(0), None, 3), Added::Crowded(3));
    }

    #[test]
    fn a_flooding_peer_pushes_out_only_its_own() {
        let (mut pool, now) = (pool(6, 4), Instant::now());
        let (honest, flooder) = (peer(1), peer(2));
        for n in 0..2 {
            assert_eq!(pool.insert(now, (u64::from(n), hash(n)), parent(n), honest, n), Added::Waiting);
        }
        for n in 100..104 {
            assert_eq!(pool.insert(now, (u64::from(n), hash(n)), parent(n), flooder, n), Added::Waiting);
        }
        // Over its own share, and then over the share of all: both times the flooder pays.
        assert_eq!(pool.insert(now, (104, hash(104)), parent(104), flooder, 104), Added::Evicted(vec![100]));
        assert_eq!(pool.insert(now, (2, hash(2)), parent(2), honest, 2), Added::Evicted(vec![101]));
        assert_eq!(pool.len(), 6);
        for n in 0..3 {
            assert_eq!(pool.take_parent(hash(1_000_000 + n)), [n]);
        }
    }

    #[test]
    fn entries_expire_exactly_after_their_time() {
        let (mut pool, start) = (pool(10, 10), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(pool.insert(start, (1, hash(1)), parent(1), None, 1), Added::Waiting);
        assert_eq!(pool.insert(start + second, (2, hash(2)), parent(2), None, 2), Added::Waiting);
        assert_eq!(pool.next_deadline(), Some(start + 10 * second));
        assert_eq!(pool.expire(start + 10 * second - Duration::from_nanos(1)), [0; 0]);
        assert_eq!(pool.expire(start + 10 * second), [1]);
        assert_eq!(pool.expire(start + 11 * second), [2]);
        assert!(
            pool.is_empty()
                && pool.by_hash.is_empty()
                && pool.by_missing.is_empty()
                && pool.by_height.is_empty()
                && pool.by_peer.is_empty()
        );
    }

    #[test]
    fn schedules_are_taken_when_they_are_known() {
        let (mut pool, now) = (pool(10, 10), Instant::now());
        for (n, end) in [(1, 30), (2, 10), (3, 20)] {
            let missing = Missing::Schedule(UnixSeconds::new(end));
            assert_eq!(pool.insert(now, (u64::from(n), hash(n)), missing, None, n), Added::Waiting);
        }
        assert_eq!(pool.take_scheduled(|end| end.get() <= 20), [2, 3]);
        assert!(pool.waits_for_schedule());
        assert_eq!(pool.take_scheduled(|_| true), [1]);
        assert!(!pool.waits_for_schedule());
    }

    fn peer(n: u8) -> Option<PeerId> {
        Some(PeerId::from_bytes(&[0, 1, n]).unwrap())
    }

    #[test]
    fn a_flood_stays_within_count_and_bytes_and_leaves_the_others_their_entries() {
        let nz = |n| NonZeroUsize::new(n).unwrap();
        let room = 50 * PendingPool::<u32>::ENTRY_BYTES;
        for (entries, bytes) in [(nz(50), nz(1 << 20)), (nz(1_000), nz(room))] {
            let limits = PendingLimits { entries, bytes, per_peer: nz(1_000), ..PendingLimits::default() };
            let (mut pool, now) = (PendingPool::new(limits), Instant::now());
            for n in 0..10 {
                assert_eq!(pool.insert(now, (7, hash(n)), parent(n), peer(1), n), Added::Waiting);
            }
            for n in 100..10_000 {
                // At every height, at one height, for every parent, for one parent.
                let (block, key) = [(u64::from(n), n), (7, n), (u64::from(n), 3), (7, 3)][n as usize % 4];
                let added = pool.insert(now, (block, hash(n)), parent(key), peer(2), n);
                assert!(
                    !matches!(&added, Added::Evicted(gone) if gone.iter().any(|n| *n < 100)),
                    "{added:?}"
                );
                assert!(pool.len() <= 50 && pool.bytes() <= room);
            }
            assert_eq!(pool.len(), 50, "the flood has what is left");
            for n in 0..10 {
                assert!(pool.take_parent(parent_hash(n)).contains(&n));
            }
        }
    }

    #[test]
    fn who_crowds_a_parent_or_a_height_makes_room_for_those_who_do_not() {
        for at_height in [false, true] {
            let (mut pool, now) = (pool(100, 100), Instant::now());
            let limit = if at_height { 5 } else { 3 };
            let mut add = |n: u32, from| {
                let (block, key) = if at_height { (7, parent(n)) } else { (u64::from(n), parent(0)) };
                pool.insert(now, (block, hash(n)), key, from, n)
            };
            for n in 0..limit {
                assert_eq!(add(n, peer(2)), Added::Waiting);
            }
            assert_eq!(add(50, peer(2)), Added::Crowded(50), "nobody has more");
            assert_eq!(add(51, peer(1)), Added::Evicted(vec![0]), "the flooder's oldest");
            for n in 60..80 {
                let added = add(n, peer(2));
                assert_eq!(added, Added::Crowded(n));
            }
        }
    }

    #[test]
    fn one_place_may_be_enough_for_a_parent_and_its_height() {
        let (mut pool, now) = (pool(100, 100), Instant::now());
        for n in 0..5 {
            let key = parent(if n < 3 { 0 } else { n });
            assert_eq!(pool.insert(now, (7, hash(n)), key, peer(2), n), Added::Waiting);
        }
        assert_eq!(pool.insert(now, (7, hash(9)), parent(0), peer(1), 9), Added::Evicted(vec![0]));
    }
}
