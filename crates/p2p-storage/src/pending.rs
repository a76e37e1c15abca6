//! The pending pool: commitments that cannot be judged yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, PeerId, UnixSeconds};
use p2p_validation::Missing;

/// How much may wait, and for how long. What waits for its parent is signed by elected preconfers; anybody can sign what
/// waits for a schedule, so that has a share of its own and takes no room from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingLimits {
    /// Entries that wait for a parent.
    pub entries: NonZeroUsize,
    /// Bytes that all entries have in memory, what their values point to not counted. Halves both shares where it is
    /// too small for them.
    pub bytes: NonZeroUsize,
    /// Entries that one peer brought and that wait for a parent.
    pub per_peer: NonZeroUsize,
    /// Entries that wait for the same parent.
    pub per_key: NonZeroUsize,
    /// Entries of one height that wait for a parent.
    pub per_height: NonZeroUsize,
    /// Entries that wait for a schedule, or for the moment at which they are due.
    pub untimed: NonZeroUsize,
    /// Of these, those that one peer brought.
    pub untimed_per_peer: NonZeroUsize,
    /// How long an entry waits, from its arrival on.
    pub ttl: Duration,
}

impl Default for PendingLimits {
    /// 4,096 entries for parents, 512 of one peer, 16 for one parent, 64 of one height; 1,024 for schedules, 64 of one
    /// peer; all in 8 MiB; two minutes.
    fn default() -> Self {
        let nz = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            entries: nz(4096),
            bytes: nz(8 * 1024 * 1024),
            per_peer: nz(512),
            per_key: nz(16),
            per_height: nz(64),
            untimed: nz(1024),
            untimed_per_peer: nz(64),
            ttl: Duration::from_secs(120),
        }
    }
}

/// What the pool has to know of a commitment that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The height that it promises: its own, or of a handover the one before.
    pub block: BlockNumber,
    /// Its preconfirmation hash.
    pub hash: B256,
    /// What it waits for.
    pub missing: Missing,
    /// Who brought it; none for the application's own.
    pub peer: Option<PeerId>,
    /// Whether its signer has been elected before. Others make room for it.
    pub known_signer: bool,
    /// When it arrived. It keeps its age however often it comes back here.
    pub since: Instant,
}

/// What [`PendingPool::insert`] did.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Added<T> {
    /// It waits.
    Waiting,
    /// It waits, and these entries of the same peer, or of the peers with most entries, had to go.
    Evicted(Vec<T>),
    /// The same commitment waits already; this one is handed back.
    Known(T),
    /// Enough others wait for the same thing or at the same height, and no peer has more of them than this one's
    /// would have; or the peer has its share. This one is handed back.
    Crowded(T),
}

/// What shares a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Share {
    Parent,
    Untimed,
}

impl Share {
    const fn of(missing: Missing) -> Self {
        match missing {
            Missing::Parent(_) => Self::Parent,
            Missing::Schedule(_) | Missing::Time(_) => Self::Untimed,
        }
    }
}

/// Commitments that wait for their parent, their schedule or their time. Bounded in all by count and by bytes, per peer,
/// per parent and per height: whoever fills it pushes out their own entries, not those of others.
#[derive(Debug)]
pub struct PendingPool<T> {
    limits: PendingLimits,
    /// In order of arrival here.
    entries: BTreeMap<u64, Entry<T>>,
    next: u64,
    by_hash: HashMap<B256, u64>,
    by_missing: BTreeMap<Missing, Vec<u64>>,
    /// Of those that wait for a parent.
    by_height: BTreeMap<BlockNumber, Vec<u64>>,
    by_peer: HashMap<(Share, Option<PeerId>), Vec<u64>>,
    /// The order in which they expire.
    by_age: BTreeSet<(Instant, u64)>,
    untimed: usize,
}

#[derive(Debug)]
struct Entry<T> {
    pending: Pending,
    value: T,
}

impl<T> PendingPool<T> {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            next: 0,
            by_hash: HashMap::new(),
            by_missing: BTreeMap::new(),
            by_height: BTreeMap::new(),
            by_peer: HashMap::new(),
            by_age: BTreeSet::new(),
            untimed: 0,
        }
    }

    /// What an entry has in memory: itself, and its number in five indexes next to four keys.
    const ENTRY_BYTES: usize = size_of::<Entry<T>>()
        + size_of::<B256>()
        + size_of::<Missing>()
        + size_of::<Instant>()
        + 6 * size_of::<u64>();

    /// Lets a commitment wait.
    pub fn insert(&mut self, pending: Pending, value: T) -> Added<T> {
        let Pending { block, hash, missing, peer, known_signer, since } = pending;
        if self.by_hash.contains_key(&hash) {
            return Added::Known(value);
        }
        let PendingLimits { per_key, per_height, per_peer, untimed_per_peer, .. } = self.limits;
        let share = Share::of(missing);
        let (most, of_peer) = match share {
            Share::Parent => (self.most(self.limits.entries), per_peer),
            Share::Untimed => (self.most(self.limits.untimed), untimed_per_peer),
        };
        if most == 0 {
            return Added::Crowded(value);
        }
        let mut evicted = Vec::new();
        if share == Share::Parent {
            let for_key = self.place(self.by_missing.get(&missing), per_key, peer);
            let for_height = self.place(self.by_height.get(&block), per_height, peer);
            let (Some(for_key), Some(for_height)) = (for_key, for_height) else {
                return Added::Crowded(value);
            };
            evicted.extend(for_key.and_then(|seq| self.remove(seq)));
            // The first one may have made room for both.
            if self.by_height.get(&block).is_some_and(|there| there.len() >= per_height.get()) {
                evicted.extend(for_height.and_then(|seq| self.remove(seq)));
            }
        }
        if self.by_peer.get(&(share, peer)).map_or(0, Vec::len) >= of_peer.get() {
            match self.least_of((share, peer), known_signer) {
                Some(seq) => evicted.extend(self.remove(seq)),
                None => return Added::Crowded(value),
            }
        }
        if self.count(share) >= most {
            // Ties go to the peer of the oldest entry, so that the choice does not depend on hashing.
            let of_share = self.by_peer.iter().filter(|((of, _), _)| *of == share);
            let fullest = of_share.max_by_key(|(_, own)| (own.len(), std::cmp::Reverse(own.first())));
            let fullest = fullest.map(|(key, _)| *key);
            let gone = fullest.and_then(|fullest| self.least_of(fullest, true));
            evicted.extend(gone.and_then(|seq| self.remove(seq)));
        }
        let seq = self.next;
        self.next += 1;
        self.entries.insert(seq, Entry { pending, value });
        self.by_hash.insert(hash, seq);
        self.by_missing.entry(missing).or_default().push(seq);
        self.by_peer.entry((share, peer)).or_default().push(seq);
        self.by_age.insert((since, seq));
        match share {
            Share::Parent => self.by_height.entry(block).or_default().push(seq),
            Share::Untimed => self.untimed += 1,
        }
        if evicted.is_empty() { Added::Waiting } else { Added::Evicted(evicted) }
    }

    /// How many entries a share may have, within the bytes of both.
    fn most(&self, share: NonZeroUsize) -> usize {
        let PendingLimits { entries, untimed, bytes, .. } = self.limits;
        let (wanted, room) = (entries.get().saturating_add(untimed.get()), bytes.get() / Self::ENTRY_BYTES);
        if wanted <= room { share.get() } else { share.get().min(room / 2) }
    }

    fn count(&self, share: Share) -> usize {
        match share {
            Share::Parent => self.entries.len() - self.untimed,
            Share::Untimed => self.untimed,
        }
    }

    /// The entry of a peer that goes first: its oldest of a signer that was never elected; any, if `any` may go.
    fn least_of(&self, key: (Share, Option<PeerId>), any: bool) -> Option<u64> {
        let own = self.by_peer.get(&key)?;
        let unknown = |seq: &&u64| self.entries.get(*seq).is_some_and(|entry| !entry.pending.known_signer);
        own.iter().find(unknown).or_else(|| own.first().filter(|_| any)).copied()
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
            let of = self.entries.get(seq).and_then(|entry| entry.pending.peer);
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

    /// Takes out everything whose schedule `is_known` now, window by window, in order of arrival.
    pub fn take_scheduled(&mut self, mut is_known: impl FnMut(UnixSeconds) -> bool) -> Vec<T> {
        self.take_missing(|missing| matches!(missing, Missing::Schedule(end) if is_known(*end)))
    }

    /// Takes out everything that is due.
    pub fn take_due(&mut self, now: UnixSeconds) -> Vec<T> {
        self.take_missing(|missing| matches!(missing, Missing::Time(due) if *due <= now))
    }

    /// Takes out what waits for a parent and promises a height up to this one, lowest first.
    pub fn take_up_to(&mut self, block: BlockNumber) -> Vec<T> {
        let found: Vec<u64> = self.by_height.range(..=block).flat_map(|(_, seqs)| seqs).copied().collect();
        found.into_iter().filter_map(|seq| self.remove(seq)).collect()
    }

    fn take_missing(&mut self, which: impl FnMut(&&Missing) -> bool) -> Vec<T> {
        let found: Vec<Missing> = self.by_missing.keys().filter(which).copied().collect();
        found.iter().flat_map(|missing| self.take(missing)).collect()
    }

    /// Whether anything waits for this parent.
    #[must_use]
    pub fn waits_for(&self, parent: &B256) -> bool {
        self.by_missing.contains_key(&Missing::Parent(*parent))
    }

    /// The highest height that is promised by what waits for a parent.
    #[must_use]
    pub fn highest(&self) -> Option<BlockNumber> {
        self.by_height.last_key_value().map(|(block, _)| *block)
    }

    /// Everything that waits, in order of arrival here.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// Everything that waits, in order of arrival here, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    /// Takes out what has waited too long.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(&(since, seq)) = self.by_age.first() {
            if now.saturating_duration_since(since) < self.limits.ttl {
                break;
            }
            expired.extend(self.remove(seq));
        }
        expired
    }

    /// Whether anything waits for a schedule or for its time.
    #[must_use]
    pub const fn waits_for_time(&self) -> bool {
        self.untimed > 0
    }

    /// How many wait for a parent, and how many for a schedule or for their time.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.count(Share::Parent), self.count(Share::Untimed))
    }

    /// When the next entry expires.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_age.first().map(|(since, _)| *since + self.limits.ttl)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the entries have in memory, by their count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len() * Self::ENTRY_BYTES
    }

    fn take(&mut self, missing: &Missing) -> Vec<T> {
        let waiting = self.by_missing.get(missing).cloned().unwrap_or_default();
        waiting.into_iter().filter_map(|seq| self.remove(seq)).collect()
    }

    fn remove(&mut self, seq: u64) -> Option<T> {
        let Entry { pending: Pending { block, hash, missing, peer, since, .. }, value } =
            self.entries.remove(&seq)?;
        self.by_hash.remove(&hash);
        self.by_age.remove(&(since, seq));
        let share = Share::of(missing);
        let forget = |list: &mut Vec<u64>| {
            list.retain(|other| *other != seq);
            list.is_empty()
        };
        if self.by_missing.get_mut(&missing).is_some_and(forget) {
            self.by_missing.remove(&missing);
        }
        if self.by_peer.get_mut(&(share, peer)).is_some_and(forget) {
            self.by_peer.remove(&(share, peer));
        }
        match share {
            Share::Parent => {
                if self.by_height.get_mut(&block).is_some_and(forget) {
                    self.by_height.remove(&block);
                }
            }
            Share::Untimed => self.untimed -= 1,
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(entries: usize, per_peer: usize) -> PendingPool<u32> {
        let nz = |n| NonZeroUsize::new(n).unwrap();
        PendingPool::new(PendingLimits {
            entries: nz(entries),
            bytes: nz(1 << 20),
            per_peer: nz(per_peer),
            per_key: nz(3),
            per_height: nz(5),
            untimed: nz(8),
            untimed_per_peer: nz(4),
            ttl: Duration::from_secs(10),
        })
    }

    impl PendingPool<u32> {
        fn add(
            &mut self,
            since: Instant,
            (block, hash): (BlockNumber, B256),
            missing: Missing,
            peer: Option<PeerId>,
            value: u32,
        ) -> Added<u32> {
            let known_signer = false;
            self.insert(Pending { block, hash, missing, peer, known_signer, since }, value)
        }
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
            assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(0), None, n), Added::Waiting);
        }
        assert_eq!(pool.add(now, (9, hash(9)), parent(1), None, 9), Added::Waiting);
        assert_eq!(pool.take_parent(hash(1_000_000)), [3, 1, 2]);
        assert_eq!(pool.take_parent(hash(1_000_000)), [0; 0]);
        assert_eq!(pool.len(), 1);
        assert_eq!(pool.add(now, (8, hash(8)), parent(0), None, 8), Added::Waiting);
        assert_eq!(pool.iter().copied().collect::<Vec<_>>(), [9, 8]);
        assert!(pool.waits_for(&parent_hash(1)) && !pool.waits_for(&parent_hash(2)));
        assert_eq!((pool.highest(), pool.take_up_to(7)), (Some(9), vec![]));
        assert_eq!((pool.take_up_to(8), pool.highest()), (vec![8], Some(9)));
        assert_eq!((pool.take_up_to(9), pool.highest()), (vec![9], None));
        assert!(pool.is_empty() && pool.take_parent(hash(1_000_000)).is_empty());
    }

    #[test]
    fn the_same_commitment_waits_once_and_a_parent_has_room_for_few() {
        let (mut pool, now) = (pool(10, 10), Instant::now());
        for n in 0..3 {
            assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(0), None, n), Added::Waiting);
        }
        assert_eq!(pool.add(now, (1, hash(1)), parent(0), None, 7), Added::Known(7));
        assert_eq!(pool.add(now, (3, hash(3)), parent(0), None, 3), Added::Crowded(3));
    }

    #[test]
    fn a_flooding_peer_pushes_out_only_its_own() {
        let (mut pool, now) = (pool(6, 4), Instant::now());
        let (honest, flooder) = (peer(1), peer(2));
        for n in 0..2 {
            assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(n), honest, n), Added::Waiting);
        }
        for n in 100..104 {
            assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(n), flooder, n), Added::Waiting);
        }
        // Over its own share, and then over the share of all: both times the flooder pays.
        assert_eq!(pool.add(now, (104, hash(104)), parent(104), flooder, 104), Added::Evicted(vec![100]));
        assert_eq!(pool.add(now, (2, hash(2)), parent(2), honest, 2), Added::Evicted(vec![101]));
        assert_eq!(pool.len(), 6);
        for n in 0..3 {
            assert_eq!(pool.take_parent(hash(1_000_000 + n)), [n]);
        }
    }

    #[test]
    fn entries_expire_exactly_after_their_time() {
        let (mut pool, start) = (pool(10, 10), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(pool.add(start, (1, hash(1)), parent(1), None, 1), Added::Waiting);
        assert_eq!(pool.add(start + second, (2, hash(2)), parent(2), None, 2), Added::Waiting);
        assert_eq!(pool.next_deadline(), Some(start + 10 * second));
        assert_eq!(pool.expire(start + 10 * second - Duration::from_nanos(1)), [0; 0]);
        assert_eq!(pool.expire(start + 10 * second), [1]);
        assert_eq!(pool.expire(start + 11 * second), [2]);
        assert!(
            pool.is_empty()
                && pool.by_age.is_empty()
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
            assert_eq!(pool.add(now, (u64::from(n), hash(n)), missing, None, n), Added::Waiting);
        }
        assert_eq!(pool.take_scheduled(|end| end.get() <= 20), [2, 3]);
        assert_eq!((pool.waits_for_time(), pool.counts(), pool.highest()), (true, (0, 1), None));
        assert_eq!(pool.take_scheduled(|_| true), [1]);
        assert!(!pool.waits_for_time());
        for (n, due) in [(1, 30), (2, 10)] {
            let missing = Missing::Time(UnixSeconds::new(due));
            assert_eq!(pool.add(now, (u64::from(n), hash(n)), missing, None, n), Added::Waiting);
        }
        assert_eq!(pool.take_due(UnixSeconds::new(29)), [2]);
        assert_eq!((pool.take_due(UnixSeconds::new(30)), pool.is_empty()), (vec![1], true));
    }

    #[test]
    fn what_comes_back_keeps_its_age() {
        let (mut pool, start) = (pool(10, 10), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(pool.add(start + 5 * second, (2, hash(2)), parent(2), None, 2), Added::Waiting);
        // Arrived before, judged in the meantime, and waiting for something else now.
        assert_eq!(pool.add(start, (1, hash(1)), parent(1), None, 1), Added::Waiting);
        assert_eq!(pool.next_deadline(), Some(start + 10 * second));
        assert_eq!(pool.expire(start + 10 * second), [1]);
    }

    #[test]
    fn what_anybody_can_sign_takes_no_room_from_what_was_elected() {
        let (mut pool, now) = (pool(6, 6), Instant::now());
        let schedule = |n: u64| Missing::Schedule(UnixSeconds::new(n));
        for n in 0..100_u8 {
            // Each peer has its share of that, and all of them have theirs.
            let from = peer(n % 10);
            assert!(!matches!(
                pool.add(now, (7, hash(n.into())), schedule(n.into()), from, n.into()),
                Added::Waiting if n >= 8
            ));
        }
        assert_eq!(pool.counts(), (0, 8));
        for n in 200..206 {
            assert_eq!(pool.add(now, (7 + u64::from(n), hash(n)), parent(n), peer(1), n), Added::Waiting);
        }
        assert_eq!(pool.counts(), (6, 8));
    }

    #[test]
    fn strangers_make_room_for_signers_that_were_elected_before() {
        let (mut pool, now) = (pool(6, 6), Instant::now());
        let pending = |n: u32, known_signer| Pending {
            block: 7,
            hash: hash(n),
            missing: Missing::Schedule(UnixSeconds::new(100)),
            peer: peer(1),
            known_signer,
            since: now,
        };
        assert_eq!(pool.insert(pending(0, true), 0), Added::Waiting);
        for n in 1..4 {
            assert_eq!(pool.insert(pending(n, false), n), Added::Waiting);
        }
        // The peer has its share: its strangers push out one another, and go for those who were elected.
        assert_eq!(pool.insert(pending(4, false), 4), Added::Evicted(vec![1]));
        assert_eq!(pool.insert(pending(5, true), 5), Added::Evicted(vec![2]));
        for n in 6..8 {
            assert!(matches!(pool.insert(pending(n, true), n), Added::Evicted(_)));
        }
        assert_eq!(pool.insert(pending(8, false), 8), Added::Crowded(8));
        assert_eq!(pool.insert(pending(9, true), 9), Added::Evicted(vec![0]), "of the known, the oldest");
    }

    fn peer(n: u8) -> Option<PeerId> {
        Some(PeerId::from_bytes(&[0, 1, n]).unwrap())
    }

    #[test]
    fn a_flood_stays_within_count_and_bytes_and_leaves_the_others_their_entries() {
        let nz = |n| NonZeroUsize::new(n).unwrap();
        let room = 50 * PendingPool::<u32>::ENTRY_BYTES;
        for (entries, bytes) in [(nz(50), nz(1 << 20)), (nz(1_000), nz(room))] {
            let (per_peer, untimed) = (nz(1_000), nz(1));
            let bytes = NonZeroUsize::new(2 * bytes.get()).unwrap();
            let limits = PendingLimits { entries, bytes, per_peer, untimed, ..PendingLimits::default() };
            let (mut pool, now) = (PendingPool::new(limits), Instant::now());
            for n in 0..10 {
                assert_eq!(pool.add(now, (7, hash(n)), parent(n), peer(1), n), Added::Waiting);
            }
            for n in 100..10_000 {
                // At every height, at one height, for every parent, for one parent.
                let (block, key) = [(u64::from(n), n), (7, n), (u64::from(n), 3), (7, 3)][n as usize % 4];
                let added = pool.add(now, (block, hash(n)), parent(key), peer(2), n);
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
                pool.add(now, (block, hash(n)), key, from, n)
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
            assert_eq!(pool.add(now, (7, hash(n)), key, peer(2), n), Added::Waiting);
        }
        assert_eq!(pool.add(now, (7, hash(9)), parent(0), peer(1), 9), Added::Evicted(vec![0]));
    }
}
