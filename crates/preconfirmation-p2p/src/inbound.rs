//! Whose request is served next, and who gives way. No clock: every call says what time it is.
//!
//! Lists have slots of their own, apart from heads and pages, so that nobody who fetches lists, or leaves them unread,
//! keeps others from asking where the chain is. Within each kind a peer and a host have at most a share of the slots.
//! What finds no slot waits; peers take turns. Where all slots are taken, the oldest request of whoever holds most
//! gives way to one who holds less, if its answer is not on its way, or is not being read.
//!
//! A request that has no answer on its way [`ANSWER_WITHIN`] after it came is *overdue*: it is answered without one.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::Hash,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{config::ServingConfig, ip::Host};

/// When a request is answered without an answer of the application. Deployed peers wait for 10 s; half of that is left
/// for the way.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An answer that takes so long to write is not being read: 2 MiB in this time are 6 Mbit/s. Whoever is slower is only
/// interrupted where others need its slot.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// Most requests that wait, of all peers. Each takes some hundred bytes.
const MAX_WAITING: usize = 2048;

/// Most requests of one peer that wait, of each kind. With those in flight they are fewer than the hundred streams of a
/// protocol that deployed peers have on a connection: what they ask beyond fails at their end, and they ban us for it.
const MAX_WAITING_PER_PEER: usize = 80;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) peer: PeerId,
    pub(crate) host: Host,
}

/// What a request asks for, as far as it takes another slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A head or a page.
    Small,
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InboundState {
    Waiting,
    /// The application has it.
    WithApplication,
    /// The answer is there, and waits until it is paid for.
    Unpaid,
    /// The answer is being written.
    Writing {
        since: Instant,
    },
}

#[derive(Debug, Clone, Copy)]
struct Request {
    asker: Asker,
    kind: Kind,
    came: Instant,
    state: InboundState,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next<K> {
    /// The application is to be asked.
    pub(crate) serve: K,
    /// This one gives way to it: it is answered at once, or interrupted if it is being written.
    pub(crate) instead_of: Option<K>,
}

/// Where a waiting request goes.
enum Slot<K> {
    Free,
    /// The slot of another, which gives way.
    Of(K),
    None,
}

#[derive(Debug)]
struct Slots<K> {
    all: usize,
    /// Peers of which something waits, whose turn it is first; with what waits, oldest first.
    turns: VecDeque<PeerId>,
    waiting: HashMap<PeerId, VecDeque<K>>,
    active: Vec<K>,
    held: Held,
}

impl<K> Slots<K> {
    fn new(all: usize) -> Self {
        Self {
            all: all.max(1),
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            active: Vec::new(),
            held: Held::default(),
        }
    }
}

/// All requests of peers that have no whole answer yet, by key.
#[derive(Debug)]
pub(crate) struct InboundRequests<K> {
    per_peer: usize,
    requests: HashMap<K, Request>,
    small: Slots<K>,
    lists: Slots<K>,
    waiting: usize,
}

impl<K: Copy + Eq + Hash> InboundRequests<K> {
    pub(crate) fn new(config: &ServingConfig) -> Self {
        let all = config.in_flight.get();
        Self {
            per_peer: config.in_flight_per_peer.get(),
            requests: HashMap::new(),
            small: Slots::new(all - all / 2),
            lists: Slots::new(all / 2),
            waiting: 0,
        }
    }

    const fn slots(&self, kind: Kind) -> &Slots<K> {
        match kind {
            Kind::Small => &self.small,
            Kind::List => &self.lists,
        }
    }

    const fn slots_mut(&mut self, kind: Kind) -> &mut Slots<K> {
        match kind {
            Kind::Small => &mut self.small,
            Kind::List => &mut self.lists,
        }
    }

    /// A request has come. If too many of this peer wait, its oldest is given back, and if too many wait in all, the
    /// oldest of whoever has most of them: it is to be answered at once.
    #[must_use]
    pub(crate) fn push(&mut self, key: K, asker: Asker, kind: Kind, now: Instant) -> Option<K> {
        let request = Request { asker, kind, came: now, state: InboundState::Waiting };
        self.requests.insert(key, request);
        let slots = self.slots_mut(kind);
        let queue = slots.waiting.entry(asker.peer).or_default();
        if queue.is_empty() {
            slots.turns.push_back(asker.peer);
        }
        queue.push_back(key);
        let of_peer = queue.front().copied().filter(|_| queue.len() > MAX_WAITING_PER_PEER);
        self.waiting += 1;
        let goes = if of_peer.is_some() {
            of_peer
        } else if self.waiting > MAX_WAITING {
            let queues = self.small.waiting.values().chain(self.lists.waiting.values());
            queues.max_by_key(|queue| queue.len()).and_then(|queue| queue.front().copied())
        } else {
            None
        };
        goes.inspect(|key| self.remove(*key))
    }

    /// The next request that has a slot, at least if somebody gives way.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Next<K>> {
        let small = self.next_of(Kind::Small, now);
        small.or_else(|| self.next_of(Kind::List, now))
    }

    fn next_of(&mut self, kind: Kind, now: Instant) -> Option<Next<K>> {
        let slots = self.slots(kind);
        if slots.turns.is_empty() {
            return None;
        }
        let yielding = self.yielding(kind, now);
        if slots.active.len() >= slots.all && yielding.is_empty() {
            return None;
        }
        for _ in 0..self.slots(kind).turns.len() {
            let peer = self.slots_mut(kind).turns.pop_front()?;
            let oldest = self.slots(kind).waiting.get(&peer).and_then(|queue| queue.front().copied());
            let request = oldest.and_then(|key| Some((key, self.requests.get(&key)?.asker)));
            let Some((serve, asker)) = request else { continue };
            let instead_of = match self.slot_for(&asker, kind, &yielding) {
                Slot::Free => None,
                Slot::Of(other) => Some(other),
                Slot::None => {
                    self.slots_mut(kind).turns.push_back(peer);
                    continue;
                }
            };
            let slots = self.slots_mut(kind);
            if let Some(queue) = slots.waiting.get_mut(&peer) {
                queue.pop_front();
                if queue.is_empty() {
                    slots.waiting.remove(&peer);
                } else {
                    slots.turns.push_back(peer);
                }
            }
            slots.active.push(serve);
            slots.held.add(&asker);
            self.waiting -= 1;
            self.set(serve, InboundState::WithApplication);
            if let Some(other) = instead_of {
                self.remove(other);
            }
            return Some(Next { serve, instead_of });
        }
        None
    }

    /// Whether there is a slot for a waiting request.
    fn slot_for(&self, asker: &Asker, kind: Kind, yielding: &Yielding<K>) -> Slot<K> {
        let slots = self.slots(kind);
        let mine = slots.held.of(asker);
        if mine.peer >= self.per_peer {
            return Slot::None;
        }
        // Three quarters: a host leaves something for others.
        let host_is_full = mine.host >= (slots.all - slots.all / 4).max(1);
        if slots.active.len() < slots.all && !host_is_full {
            return Slot::Free;
        }
        let at_host = yielding.of_host.get(&asker.host).filter(|of| mine.peer < of.holds.peer);
        let elsewhere = yielding.elsewhere(asker.host);
        let elsewhere = elsewhere.filter(|of| !host_is_full && mine.host < of.holds.host);
        let most = at_host.into_iter().chain(elsewhere).min_by_key(|of| of.rank());
        most.map_or(Slot::None, |of| Slot::Of(of.key))
    }

    /// Which requests may give way.
    fn yielding(&self, kind: Kind, now: Instant) -> Yielding<K> {
        let slots = self.slots(kind);
        let can = |state: InboundState| match state {
            InboundState::Unpaid => true,
            InboundState::Writing { since } => now.saturating_duration_since(since) >= STALLED_AFTER,
            // The application is what is slow, and it goes on with it in any case.
            InboundState::Waiting | InboundState::WithApplication => false,
        };
        let requests = slots.active.iter().filter_map(|key| Some((*key, self.requests.get(key)?)));
        let candidates = requests.filter(|(_, request)| can(request.state)).enumerate();
        Yielding::of(candidates.map(|(place, (key, Request { asker, came, .. }))| Candidate {
            key,
            host: asker.host,
            holds: slots.held.of(asker),
            came: *came,
            place,
        }))
    }

    /// The answer is there and waits until it is paid for.
    pub(crate) fn unpaid(&mut self, key: K) {
        self.set(key, InboundState::Unpaid);
    }

    /// The answer is being written.
    pub(crate) fn writing(&mut self, key: K, now: Instant) {
        self.set(key, InboundState::Writing { since: now });
    }

    fn set(&mut self, key: K, state: InboundState) {
        if let Some(request) = self.requests.get_mut(&key) {
            request.state = state;
        }
    }

    /// A request has ended, or is answered without the application: it holds no slot any more.
    pub(crate) fn remove(&mut self, key: K) {
        let Some(request) = self.requests.remove(&key) else { return };
        let slots = self.slots_mut(request.kind);
        if request.state != InboundState::Waiting {
            slots.active.retain(|of| *of != key);
            slots.held.remove(&request.asker);
            return;
        }
        if let Some(queue) = slots.waiting.get_mut(&request.asker.peer) {
            queue.retain(|of| *of != key);
            if queue.is_empty() {
                slots.waiting.remove(&request.asker.peer);
                slots.turns.retain(|of| *of != request.asker.peer);
            }
        }
        self.waiting -= 1;
    }

    /// Takes the requests that are to be answered without an answer of the application: they have waited for it long
    /// enough.
    #[must_use]
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<K> {
        self.unanswered(|request| now.saturating_duration_since(request.came) >= ANSWER_WITHIN)
    }

    /// Takes all requests whose answer is not being written.
    #[must_use]
    pub(crate) fn drain(&mut self) -> Vec<K> {
        self.unanswered(|_| true)
    }

    fn unanswered(&mut self, which: impl Fn(&Request) -> bool) -> Vec<K> {
        let open =
            |request: &Request| !matches!(request.state, InboundState::Writing { .. }) && which(request);
        let keys: Vec<_> = self.requests.iter().filter(|(_, of)| open(of)).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.remove(*key));
        keys
    }

    /// How many wait for a slot.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }
}

/// How many slots are held, by peer and by host.
#[derive(Debug, Default)]
struct Held {
    peers: HashMap<PeerId, usize>,
    hosts: HashMap<Host, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Holds {
    peer: usize,
    host: usize,
}

impl Held {
    fn of(&self, asker: &Asker) -> Holds {
        let peer = self.peers.get(&asker.peer).copied().unwrap_or_default();
        Holds { peer, host: self.hosts.get(&asker.host).copied().unwrap_or_default() }
    }

    fn add(&mut self, asker: &Asker) {
        *self.peers.entry(asker.peer).or_default() += 1;
        *self.hosts.entry(asker.host).or_default() += 1;
    }

    fn remove(&mut self, asker: &Asker) {
        decrement(self.peers.entry(asker.peer));
        decrement(self.hosts.entry(asker.host));
    }
}

fn decrement<T>(entry: Entry<'_, T, usize>) {
    if let Entry::Occupied(mut held) = entry {
        *held.get_mut() -= 1;
        if *held.get() == 0 {
            held.remove();
        }
    }
}

/// A request that may give way to another.
#[derive(Debug, Clone, Copy)]
struct Candidate<K> {
    key: K,
    host: Host,
    holds: Holds,
    came: Instant,
    place: usize,
}

impl<K> Candidate<K> {
    /// The least gives way: of whoever holds most its oldest.
    const fn rank(&self) -> (Reverse<usize>, Reverse<usize>, Instant, usize) {
        (Reverse(self.holds.host), Reverse(self.holds.peer), self.came, self.place)
    }
}

/// Which requests may give way: of each host only the first, as one for whom that one does not give way has no other there.
#[derive(Debug)]
struct Yielding<K> {
    of_host: HashMap<Host, Candidate<K>>,
    /// The first of all, and the first of another host.
    first: [Option<Candidate<K>>; 2],
}

impl<K: Copy> Yielding<K> {
    fn of(candidates: impl Iterator<Item = Candidate<K>>) -> Self {
        let mut of_host = HashMap::<_, Candidate<K>>::new();
        for candidate in candidates {
            let first = of_host.entry(candidate.host).or_insert(candidate);
            if candidate.rank() < first.rank() {
                *first = candidate;
            }
        }
        let first = of_host.values().min_by_key(|of| of.rank()).copied();
        let others = of_host.values().filter(|of| first.is_some_and(|first| of.host != first.host));
        let first = [first, others.min_by_key(|of| of.rank()).copied()];
        Self { of_host, first }
    }

    fn is_empty(&self) -> bool {
        self.of_host.is_empty()
    }

    /// The first of another host.
    fn elsewhere(&self, host: Host) -> Option<&Candidate<K>> {
        self.first.iter().flatten().find(|of| of.host != host)
    }
}

#[cfg(test)]
mod tests {
    use p2p_fixtures::assert_as_cheap;

    use super::*;

    fn asker(host: u8) -> Asker {
        let address = format!("/ip4/10.0.0.{host}/tcp/1").parse().unwrap();
        Asker { peer: PeerId::random(), host: Host::or_unknown(Some(&address)) }
    }

    /// Eight slots for lists, eight for the rest; four for a peer, six for a host.
    fn requests() -> InboundRequests<u32> {
        InboundRequests::new(&ServingConfig {
            in_flight: 16.try_into().unwrap(),
            in_flight_per_peer: 4.try_into().unwrap(),
            ..ServingConfig::default()
        })
    }

    fn start(requests: &mut InboundRequests<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| requests.next(now)).map(|next| next.serve).collect()
    }

    /// Asks for these and has as many in flight as can be.
    fn ask(
        requests: &mut InboundRequests<u32>,
        asker: Asker,
        keys: std::ops::Range<u32>,
        now: Instant,
    ) -> Vec<u32> {
        for key in keys {
            assert_eq!(requests.push(key, asker, Kind::List, now), None);
        }
        start(requests, now)
    }

    #[test]
    fn what_finds_no_place_is_served_when_there_is_one() {
        let (mut requests, now) = (requests(), Instant::now());
        assert_eq!(ask(&mut requests, asker(1), 0..6, now), [0, 1, 2, 3]);
        requests.writing(2, now);
        requests.remove(2);
        assert_eq!(start(&mut requests, now), [4]);
        assert_eq!(requests.waiting(), 1);
    }

    #[test]
    fn lists_leave_heads_and_pages_their_places() {
        let (mut requests, now) = (requests(), Instant::now());
        for host in 0..4 {
            ask(&mut requests, asker(host), u32::from(host) * 10..u32::from(host) * 10 + 4, now);
        }
        assert_eq!(requests.push(100, asker(9), Kind::List, now), None);
        assert_eq!(requests.next(now), None);
        assert_eq!(requests.push(101, asker(9), Kind::Small, now), None);
        assert_eq!(requests.next(now), Some(Next { serve: 101, instead_of: None }));
    }

    #[test]
    fn peers_take_turns() {
        let (mut requests, now) = (requests(), Instant::now());
        let (one, two) = (asker(1), asker(2));
        assert_eq!(ask(&mut requests, one, 0..4, now).len(), 4);
        assert_eq!(ask(&mut requests, two, 10..14, now).len(), 4);
        assert!(ask(&mut requests, one, 4..6, now).is_empty());
        assert!(ask(&mut requests, two, 14..16, now).is_empty());
        for done in [0, 10, 1, 11] {
            requests.remove(done);
        }
        assert_eq!(start(&mut requests, now), [4, 14, 5, 15]);
    }

    #[test]
    fn who_does_not_read_gives_way_to_who_holds_less() {
        let (mut requests, now) = (requests(), Instant::now());
        // Two hosts leave everything unread.
        for (host, keys) in [(1, 0..4), (2, 10..14)] {
            ask(&mut requests, asker(host), keys.clone(), now);
            keys.for_each(|key| requests.writing(key, now));
        }
        let newcomer = asker(3);
        assert!(ask(&mut requests, newcomer, 20..21, now).is_empty());
        let stalled = now + STALLED_AFTER;
        assert_eq!(requests.next(stalled - Duration::from_millis(1)), None);
        let next = requests.next(stalled).unwrap();
        assert_eq!((next.serve, next.instead_of.is_some()), (20, true));
        // Whoever holds as much as those gets nothing of theirs.
        assert!(ask(&mut requests, newcomer, 21..26, stalled).len() < 4);
    }

    #[test]
    fn many_names_of_one_host_leave_room_for_others_and_for_each_other() {
        let (mut requests, now) = (requests(), Instant::now());
        let keys = |index: u32| index * 10..index * 10 + 3;
        for index in 0..4 {
            ask(&mut requests, asker(1), keys(index), now);
        }
        let held: Vec<_> = requests.lists.active.clone();
        assert_eq!(held.len(), 6);
        assert_eq!(ask(&mut requests, asker(2), 90..91, now), [90]);
        // An honest neighbour at the same address has a slot as soon as one of theirs is stalled.
        let neighbour = asker(1);
        requests = self::requests();
        for index in 0..2 {
            let asker = asker(1);
            ask(&mut requests, asker, keys(index), now);
            keys(index).for_each(|key| requests.writing(key, now));
        }
        assert!(ask(&mut requests, neighbour, 80..81, now).is_empty());
        let next = requests.next(now + STALLED_AFTER).unwrap();
        assert_eq!((next.serve, next.instead_of.is_some()), (80, true));
    }

    #[test]
    fn an_answer_that_is_not_paid_for_gives_way_at_once() {
        let (mut requests, now) = (requests(), Instant::now());
        ask(&mut requests, asker(1), 0..4, now);
        ask(&mut requests, asker(2), 10..14, now);
        assert!(ask(&mut requests, asker(3), 20..21, now).is_empty());
        requests.unpaid(12);
        assert_eq!(requests.next(now), Some(Next { serve: 20, instead_of: Some(12) }));
    }

    #[test]
    fn nothing_waits_for_longer_than_five_seconds() {
        let (mut requests, now) = (requests(), Instant::now());
        ask(&mut requests, asker(1), 0..6, now);
        requests.writing(0, now);
        requests.unpaid(1);
        assert!(requests.overdue(now + ANSWER_WITHIN - Duration::from_millis(1)).is_empty());
        let mut overdue = requests.overdue(now + ANSWER_WITHIN);
        overdue.sort_unstable();
        // WithApplication, not paid for, waiting: all but what is being written.
        assert_eq!(overdue, [1, 2, 3, 4, 5]);
        assert_eq!((requests.waiting(), requests.lists.active.len()), (0, 1));
    }

    #[test]
    fn of_too_many_of_a_peer_that_wait_its_oldest_goes() {
        let (mut requests, now) = (requests(), Instant::now());
        let (greedy, modest) = (asker(1), asker(2));
        let most = u32::try_from(MAX_WAITING_PER_PEER).unwrap();
        for key in 0..most {
            assert_eq!(requests.push(key, greedy, Kind::List, now), None);
        }
        assert_eq!(requests.push(most, greedy, Kind::List, now), Some(0));
        assert_eq!(requests.push(most + 1, greedy, Kind::List, now), Some(1));
        assert_eq!(requests.push(most + 2, greedy, Kind::Small, now), None);
        assert_eq!(requests.push(most + 3, modest, Kind::List, now), None);
    }

    #[test]
    fn of_too_many_in_all_that_wait_the_oldest_of_whoever_has_most_goes() {
        let (mut requests, now) = (requests(), Instant::now());
        let mut keys = 0..;
        let (greedy, modest) = (asker(1), asker(3));
        for _ in 0..50 {
            assert_eq!(requests.push(keys.next().unwrap(), greedy, Kind::List, now), None);
        }
        while requests.waiting() < MAX_WAITING {
            assert_eq!(requests.push(keys.next().unwrap(), asker(2), Kind::List, now), None);
        }
        assert_eq!(requests.push(keys.next().unwrap(), modest, Kind::Small, now), Some(0));
        assert_eq!(requests.push(keys.next().unwrap(), greedy, Kind::List, now), Some(1));
        assert_eq!(requests.waiting(), MAX_WAITING);
    }

    /// The next request, looked for among all that wait and all that have a slot.
    fn expected(requests: &InboundRequests<u32>, kind: Kind, now: Instant) -> Option<Next<u32>> {
        let slots = requests.slots(kind);
        let active: Vec<_> = slots.active.iter().map(|key| (*key, requests.requests[key])).collect();
        let of_peer = |asker: Asker| active.iter().filter(|(_, of)| of.asker.peer == asker.peer).count();
        let of_host = |asker: Asker| active.iter().filter(|(_, of)| of.asker.host == asker.host).count();
        slots.turns.iter().find_map(|peer| {
            let serve = slots.waiting[peer][0];
            let asker = requests.requests[&serve].asker;
            let host_is_full = of_host(asker) >= slots.all - slots.all / 4;
            if of_peer(asker) >= requests.per_peer {
                return None;
            }
            if active.len() < slots.all && !host_is_full {
                return Some(Next { serve, instead_of: None });
            }
            let may_go = active.iter().filter(|(_, of)| match of.state {
                InboundState::Unpaid => true,
                InboundState::Writing { since } => now - since >= STALLED_AFTER,
                _ => false,
            });
            let holds_more = may_go.filter(|(_, of)| {
                if of.asker.host == asker.host {
                    of_peer(asker) < of_peer(of.asker)
                } else {
                    !host_is_full && of_host(asker) < of_host(of.asker)
                }
            });
            let most = holds_more
                .min_by_key(|(_, of)| (Reverse(of_host(of.asker)), Reverse(of_peer(of.asker)), of.came))?;
            Some(Next { serve, instead_of: Some(most.0) })
        })
    }

    #[test]
    fn whoever_is_next_is_the_one_that_a_search_finds() {
        let mut given_way = 0;
        for seed in 0..64 {
            let (mut rng, mut requests, mut now) =
                (fastrand::Rng::with_seed(seed), requests(), Instant::now());
            let askers: Vec<_> = (0..8).map(|n| asker(n / 2 % 3)).collect();
            for key in 0..512 {
                let kind = if rng.bool() { Kind::List } else { Kind::Small };
                let _full = requests.push(key, askers[rng.usize(..askers.len())], kind, now);
                let next = expected(&requests, Kind::Small, now).or(expected(&requests, Kind::List, now));
                assert_eq!(requests.next(now), next, "seed {seed}, request {key}");
                given_way += u32::from(next.is_some_and(|next| next.instead_of.is_some()));
                let slots = [&requests.small.active[..], &requests.lists.active].concat();
                match (rng.choice(slots), rng.u8(..4)) {
                    (Some(key), 0) => requests.unpaid(key),
                    (Some(key), 1) => requests.writing(key, now),
                    (Some(key), 2) => requests.remove(key),
                    _ => now += STALLED_AFTER / 4,
                }
            }
            let open: Vec<_> = requests.requests.keys().copied().collect();
            open.into_iter().for_each(|key| requests.remove(key));
            assert!(requests.small.held.peers.is_empty() && requests.lists.held.hosts.is_empty());
        }
        assert!(given_way > 1000, "{given_way}");
    }

    #[test]
    fn a_request_costs_little_more_where_all_slots_are_taken_and_everybody_waits() {
        let cost = |peers: u16| {
            let config = ServingConfig { in_flight: 64.try_into().unwrap(), ..ServingConfig::default() };
            let (mut requests, now) = (InboundRequests::new(&config), Instant::now());
            let asker = |n: u16| {
                let [high, low] = n.to_be_bytes();
                let address = format!("/ip4/10.0.{high}.{low}/tcp/1").parse().unwrap();
                Asker { peer: PeerId::random(), host: Host::or_unknown(Some(&address)) }
            };
            for n in 0..peers {
                let asker = asker(n);
                for key in 0..2 {
                    assert_eq!(requests.push(u32::from(n) * 2 + key, asker, Kind::List, now), None);
                }
            }
            start(&mut requests, now);
            let asker = asker(u16::MAX);
            let begun = Instant::now();
            for key in 1_000_000..1_000_256 {
                assert_eq!(requests.push(key, asker, Kind::List, now), None);
                let _next = requests.next(now + STALLED_AFTER);
                requests.remove(key);
            }
            begun.elapsed()
        };
        assert_as_cheap("a request", 10, || cost(160), || cost(0));
    }
}
