//! The pending pool: commitments that wait for their parent, their schedule or their block time.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, PeerId, UnixSeconds};
use p2p_validation::Missing;

/// Limits of the pending pool. A commitment that waits for its parent is signed by an elected preconfer; one that waits for
/// a schedule can be signed by anybody, so these have limits of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingLimits {
    /// Entries that wait for a parent.
    pub entries: NonZeroUsize,
    /// Memory of all entries in bytes, heap data of their values not counted. If it is too small for both entry limits, each
    /// gets half.
    pub bytes: NonZeroUsize,
    /// Entries that wait for a parent, for each peer.
    pub per_peer: NonZeroUsize,
    /// Entries that wait for the same parent.
    pub per_key: NonZeroUsize,
    /// Entries of one height that wait for a parent.
    pub per_height: NonZeroUsize,
    /// Entries that wait for a schedule, or for the moment at which they are due.
    pub untimed: NonZeroUsize,
    /// Of these, for each peer.
    pub untimed_per_peer: NonZeroUsize,
    /// Time to live of an entry, from its arrival.
    pub ttl: Duration,
}

impl Default for PendingLimits {
    /// 4,096 entries that wait for a parent, 512 a peer, 16 a parent, 64 a height; 1,024 that wait for a schedule or their
    /// time, 64 a peer; 8 MiB; two minutes.
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

/// What the pool knows of a pending commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The height that it shows to exist: its own, or the one below a handover.
    pub block: BlockNumber,
    /// Its preconfirmation hash.
    pub hash: B256,
    /// The transaction list that it names; none for a handover.
    pub txlist: Option<B256>,
    /// What it waits for.
    pub missing: Missing,
    /// The peer that sent it; none for the application's own.
    pub peer: Option<PeerId>,
    /// Whether its signer has been elected before. Entries of other signers are evicted first.
    pub known_signer: bool,
    /// When it first arrived. Does not change when it is inserted again.
    pub since: Instant,
}

/// What [`PendingPool::insert`] did.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Added<T> {
    /// It was added.
    Waiting,
    /// It was added, and these entries of the same peer, or of the peers with most entries, were evicted.
    Evicted(Vec<T>),
    /// The same commitment is pending already; this one is returned.
    Known(T),
    /// A limit is reached and no other peer has more entries under it than this one would have. It is returned.
    Crowded(T),
}

/// The two classes of entries, each with limits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Class {
    Parent,
    Untimed,
}

impl Class {
    const fn of(missing: Missing) -> Self {
        match missing {
            Missing::Parent(_) => Self::Parent,
            Missing::Schedule(_) | Missing::Time(_) => Self::Untimed,
        }
    }
}

/// The pending pool. Bounded by count and by bytes, for each peer, parent and height: a peer that floods it evicts its own
/// entries, not those of others.
#[derive(Debug)]
pub struct PendingPool<T> {
    limits: PendingLimits,
    /// By sequence number, in order of insertion.
    entries: BTreeMap<u64, Entry<T>>,
    next: u64,
    by_hash: HashMap<B256, u64>,
    /// Of those that wait for a parent, how many name a list.
    by_txlist: HashMap<B256, usize>,
    by_missing: BTreeMap<Missing, Vec<u64>>,
    /// Of those that wait for a parent.
    by_height: BTreeMap<BlockNumber, Vec<u64>>,
    by_peer: HashMap<(Class, Option<PeerId>), Vec<u64>>,
    /// In order of expiry.
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
            by_txlist: HashMap::new(),
            by_missing: BTreeMap::new(),
            by_height: BTreeMap::new(),
            by_peer: HashMap::new(),
            by_age: BTreeSet::new(),
            untimed: 0,
        }
    }

    /// Memory of an entry: itself, its sequence number in five indexes next to four keys, and the count of its list.
    const ENTRY_BYTES: usize = size_of::<Entry<T>>()
        + 2 * size_of::<B256>()
        + size_of::<usize>()
        + size_of::<Missing>()
        + size_of::<Instant>()
        + 6 * size_of::<u64>();

    /// Adds a commitment.
    pub fn insert(&mut self, pending: Pending, value: T) -> Added<T> {
        let Pending { block, hash, txlist, missing, peer, known_signer, since } = pending;
        if self.by_hash.contains_key(&hash) {
            return Added::Known(value);
        }
        let PendingLimits { per_key, per_height, per_peer, untimed_per_peer, .. } = self.limits;
        let class = Class::of(missing);
        let (most, of_peer) = match class {
            Class::Parent => (self.most(self.limits.entries), per_peer),
            Class::Untimed => (self.most(self.limits.untimed), untimed_per_peer),
        };
        if most == 0 {
            return Added::Crowded(value);
        }
        let mut evicted = Vec::new();
        if class == Class::Parent {
            let for_key = self.make_room(self.by_missing.get(&missing), per_key, peer);
            let for_height = self.make_room(self.by_height.get(&block), per_height, peer);
            let (Some(for_key), Some(for_height)) = (for_key, for_height) else {
                return Added::Crowded(value);
            };
            evicted.extend(for_key.and_then(|seq| self.remove(seq)));
            // Evicting for the parent may have made room at the height as well.
            if self.by_height.get(&block).is_some_and(|there| there.len() >= per_height.get()) {
                evicted.extend(for_height.and_then(|seq| self.remove(seq)));
            }
        }
        if self.by_peer.get(&(class, peer)).map_or(0, Vec::len) >= of_peer.get() {
            match self.least_of((class, peer), known_signer) {
                Some(seq) => evicted.extend(self.remove(seq)),
                None => return Added::Crowded(value),
            }
        }
        if self.count(class) >= most {
            // Ties are broken by the oldest entry, so that the choice does not depend on hashing.
            let of_share = self.by_peer.iter().filter(|((of, _), _)| *of == class);
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
        self.by_peer.entry((class, peer)).or_default().push(seq);
        self.by_age.insert((since, seq));
        match class {
            Class::Parent => {
                self.by_height.entry(block).or_default().push(seq);
                if let Some(txlist) = txlist {
                    *self.by_txlist.entry(txlist).or_default() += 1;
                }
            }
            Class::Untimed => self.untimed += 1,
        }
        if evicted.is_empty() { Added::Waiting } else { Added::Evicted(evicted) }
    }

    /// The entry limit of a class, within the memory of both.
    fn most(&self, class: NonZeroUsize) -> usize {
        let PendingLimits { entries, untimed, bytes, .. } = self.limits;
        let (wanted, room) = (entries.get().saturating_add(untimed.get()), bytes.get() / Self::ENTRY_BYTES);
        if wanted <= room { class.get() } else { class.get().min(room / 2) }
    }

    fn count(&self, class: Class) -> usize {
        match class {
            Class::Parent => self.entries.len() - self.untimed,
            Class::Untimed => self.untimed,
        }
    }

    /// The entry of a peer to evict: its oldest of a signer that was never elected; else its oldest, if `any` may be evicted.
    fn least_of(&self, key: (Class, Option<PeerId>), any: bool) -> Option<u64> {
        let own = self.by_peer.get(&key)?;
        let unknown = |seq: &&u64| self.entries.get(*seq).is_some_and(|entry| !entry.pending.known_signer);
        own.iter().find(unknown).or_else(|| own.first().filter(|_| any)).copied()
    }

    /// What an entry of this peer must evict under a limit: nothing, or the oldest entry of the peer with the most there.
    /// None if that peer has no more than this one would have.
    #[allow(clippy::option_option, reason = "refused, or admitted with or without an eviction")]
    fn make_room(
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

    /// Removes and returns what waits for this parent, in order of arrival.
    pub fn take_parent(&mut self, parent: B256) -> Vec<T> {
        self.take(&Missing::Parent(parent))
    }

    /// Removes and returns what waits for a schedule that `is_known` now, window by window, in order of arrival.
    pub fn take_scheduled(&mut self, mut is_known: impl FnMut(UnixSeconds) -> bool) -> Vec<T> {
        let all = Missing::Schedule(UnixSeconds::new(0))..=Missing::Schedule(UnixSeconds::new(u64::MAX));
        self.take_missing(all, |missing| matches!(missing, Missing::Schedule(end) if is_known(*end)))
    }

    /// Removes and returns what is due.
    pub fn take_due(&mut self, now: UnixSeconds) -> Vec<T> {
        self.take_missing(Missing::Time(UnixSeconds::new(0))..=Missing::Time(now), |_| true)
    }

    /// Removes and returns what waits for a parent and shows heights up to this one, lowest first.
    pub fn take_up_to(&mut self, block: BlockNumber) -> Vec<T> {
        let found: Vec<u64> = self.by_height.range(..=block).flat_map(|(_, seqs)| seqs).copied().collect();
        found.into_iter().filter_map(|seq| self.remove(seq)).collect()
    }

    fn take_missing(
        &mut self,
        range: RangeInclusive<Missing>,
        which: impl FnMut(&&Missing) -> bool,
    ) -> Vec<T> {
        let found: Vec<Missing> =
            self.by_missing.range(range).map(|(missing, _)| missing).filter(which).copied().collect();
        found.iter().flat_map(|missing| self.take(missing)).collect()
    }

    /// Whether anything waits for this parent.
    #[must_use]
    pub fn waits_for(&self, parent: &B256) -> bool {
        self.by_missing.contains_key(&Missing::Parent(*parent))
    }

    /// What waits for this parent.
    pub fn waiting_for(&self, parent: &B256) -> impl Iterator<Item = &T> {
        let waiting = self.by_missing.get(&Missing::Parent(*parent)).into_iter().flatten();
        waiting.filter_map(|seq| self.entries.get(seq)).map(|entry| &entry.value)
    }

    /// Whether anything that waits for a parent names this transaction list.
    #[must_use]
    pub fn names(&self, txlist: &B256) -> bool {
        self.by_txlist.contains_key(txlist)
    }

    /// The highest height that entries waiting for a parent show to exist.
    #[must_use]
    pub fn highest(&self) -> Option<BlockNumber> {
        self.by_height.last_key_value().map(|(block, _)| *block)
    }

    /// All entries, in order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// All entries, mutable, in order of insertion.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    /// Removes and returns expired entries.
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
        (self.count(Class::Parent), self.count(Class::Untimed))
    }

    /// When the next entry expires.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_age.first().map(|(since, _)| *since + self.limits.ttl)
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the pool is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory of all entries, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len() * Self::ENTRY_BYTES
    }

    fn take(&mut self, missing: &Missing) -> Vec<T> {
        let waiting = self.by_missing.get(missing).cloned().unwrap_or_default();
        waiting.into_iter().filter_map(|seq| self.remove(seq)).collect()
    }

    fn remove(&mut self, seq: u64) -> Option<T> {
        let Entry { pending: Pending { block, hash, txlist, missing, peer, since, .. }, value } =
            self.entries.remove(&seq)?;
        self.by_hash.remove(&hash);
        self.by_age.remove(&(since, seq));
        let class = Class::of(missing);
        let forget = |list: &mut Vec<u64>| {
            list.retain(|other| *other != seq);
            list.is_empty()
        };
        if self.by_missing.get_mut(&missing).is_some_and(forget) {
            self.by_missing.remove(&missing);
        }
        if self.by_peer.get_mut(&(class, peer)).is_some_and(forget) {
            self.by_peer.remove(&(class, peer));
        }
        match class {
            Class::Parent => {
                if self.by_height.get_mut(&block).is_some_and(forget) {
                    self.by_height.remove(&block);
                }
                if let Some(txlist) = txlist
                    && let Some(named) = self.by_txlist.get_mut(&txlist)
                {
                    *named -= 1;
                    if *named == 0 {
                        self.by_txlist.remove(&txlist);
                    }
                }
            }
            Class::Untimed => self.untimed -= 1,
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests;
