//! Whose request is served next, and who gives way. No clock: every call says what time it is.
//!
//! Lists have places of their own, apart from heads and pages, so that nobody who fetches lists, or leaves them unread,
//! keeps others from asking where the chain is. Within each kind a peer and a host have at most a share of the places.
//! What finds no place waits; peers take turns. Where all places are taken, the oldest request of whoever holds most
//! gives way to one who holds less, if its answer is not on its way, or is not being read.
//!
//! A request that has no answer on its way [`ANSWER_WITHIN`] after it came is *overdue*: it is answered without one.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{
    config::ServingConfig,
    serving::{Asker, Host},
};

/// When a request is answered without an answer of the application. Deployed peers wait for 10 s; half of that is left
/// for the way.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An answer that takes so long to write is not being read: 2 MiB in this time are 6 Mbit/s. Whoever is slower is only
/// interrupted where others need its place.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// Most requests that wait, of all peers. Each takes some hundred bytes.
const MAX_WAITING: usize = 2048;

/// What a request asks for, as far as it takes another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A head or a page.
    Small,
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// The application has it.
    Asked,
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
    state: State,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next<K> {
    /// The application is to be asked.
    pub(crate) serve: K,
    /// This one gives way to it: it is answered at once, or interrupted if it is being written.
    pub(crate) instead_of: Option<K>,
}

#[derive(Debug)]
struct Places<K> {
    all: usize,
    /// Peers of which something waits, whose turn it is first; with what waits, oldest first.
    turns: VecDeque<PeerId>,
    waiting: HashMap<PeerId, VecDeque<K>>,
    active: Vec<K>,
}

impl<K> Places<K> {
    fn new(all: usize) -> Self {
        Self { all: all.max(1), turns: VecDeque::new(), waiting: HashMap::new(), active: Vec::new() }
    }
}

/// All requests of peers that have no whole answer yet, by key.
#[derive(Debug)]
pub(crate) struct InboundRequests<K> {
    per_peer: usize,
    requests: HashMap<K, Request>,
    small: Places<K>,
    lists: Places<K>,
    waiting: usize,
}

impl<K: Copy + Eq + Hash> InboundRequests<K> {
    pub(crate) fn new(config: &ServingConfig) -> Self {
        let all = config.in_work.get();
        Self {
            per_peer: config.in_work_per_peer.get(),
            requests: HashMap::new(),
            small: Places::new(all - all / 2),
            lists: Places::new(all / 2),
            waiting: 0,
        }
    }

    const fn places(&mut self, kind: Kind) -> &mut Places<K> {
        match kind {
            Kind::Small => &mut self.small,
            Kind::List => &mut self.lists,
        }
    }

    /// A request has come. If too many wait, the oldest of whoever has most of them is given back, which may be this
    /// one: it is to be answered at once.
    #[must_use]
    pub(crate) fn push(&mut self, key: K, asker: Asker, kind: Kind, now: Instant) -> Option<K> {
        let request = Request { asker, kind, came: now, state: State::Waiting };
        self.requests.insert(key, request);
        let places = self.places(kind);
        let queue = places.waiting.entry(asker.peer).or_default();
        if queue.is_empty() {
            places.turns.push_back(asker.peer);
        }
        queue.push_back(key);
        self.waiting += 1;
        if self.waiting <= MAX_WAITING {
            return None;
        }
        let queues = self.small.waiting.values().chain(self.lists.waiting.values());
        let most = queues.max_by_key(|queue| queue.len()).and_then(|queue| queue.front().copied())?;
        self.remove(most);
        Some(most)
    }

    /// The next request that has a place, at least if somebody gives way.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Next<K>> {
        let small = self.next_of(Kind::Small, now);
        small.or_else(|| self.next_of(Kind::List, now))
    }

    fn next_of(&mut self, kind: Kind, now: Instant) -> Option<Next<K>> {
        if self.places(kind).turns.is_empty() {
            return None;
        }
        let (per_peer, all) = (self.per_peer, self.places(kind).all);
        // Three quarters: a host leaves something for others.
        let per_host = (all - all / 4).max(1);
        let held = self.held(kind);
        let full = self.places(kind).active.len() >= all;
        let yields = if full { self.yields(kind, &held, now) } else { None };
        if full && yields.is_none() {
            return None;
        }
        let places = match kind {
            Kind::Small => &mut self.small,
            Kind::List => &mut self.lists,
        };
        for _ in 0..places.turns.len() {
            let peer = places.turns.pop_front()?;
            let Some(queue) = places.waiting.get_mut(&peer) else { continue };
            let Some(request) = queue.front().and_then(|key| self.requests.get_mut(key)) else { continue };
            let mine = held.of(&request.asker);
            let allowed = match yields {
                None => mine.peer < per_peer && mine.host < per_host,
                Some((_, other, holds)) => {
                    let less = if other == request.asker.host {
                        mine.peer < holds.peer
                    } else {
                        mine.host < holds.host
                    };
                    less && mine.peer < per_peer
                }
            };
            if !allowed {
                places.turns.push_back(peer);
                continue;
            }
            let serve = queue.pop_front()?;
            if queue.is_empty() {
                places.waiting.remove(&peer);
            } else {
                places.turns.push_back(peer);
            }
            request.state = State::Asked;
            places.active.push(serve);
            self.waiting -= 1;
            let instead_of = yields.map(|(key, ..)| key);
            if let Some(key) = instead_of {
                self.remove(key);
            }
            return Some(Next { serve, instead_of });
        }
        None
    }

    /// Who gives way if anybody does: the oldest of whoever holds most, among those that can.
    fn yields(&self, kind: Kind, held: &Held, now: Instant) -> Option<(K, Host, Holds)> {
        let places = match kind {
            Kind::Small => &self.small,
            Kind::List => &self.lists,
        };
        let can = |state: State| match state {
            State::Unpaid => true,
            State::Writing { since } => now.saturating_duration_since(since) >= STALLED_AFTER,
            // The application is what is slow, and it goes on with it in any case.
            State::Waiting | State::Asked => false,
        };
        let candidates = places.active.iter().filter_map(|key| {
            let request = self.requests.get(key).filter(|request| can(request.state))?;
            Some((*key, request.asker.host, held.of(&request.asker), request.came))
        });
        let most = candidates.min_by_key(|(.., holds, came)| {
            (std::cmp::Reverse(holds.host), std::cmp::Reverse(holds.peer), *came)
        });
        most.map(|(key, host, holds, _)| (key, host, holds))
    }

    fn held(&self, kind: Kind) -> Held {
        let places = match kind {
            Kind::Small => &self.small,
            Kind::List => &self.lists,
        };
        let mut held = Held::default();
        for request in places.active.iter().filter_map(|key| self.requests.get(key)) {
            *held.peers.entry(request.asker.peer).or_default() += 1;
            *held.hosts.entry(request.asker.host).or_default() += 1;
        }
        held
    }

    /// The answer is there and waits until it is paid for.
    pub(crate) fn unpaid(&mut self, key: K) {
        self.set(key, State::Unpaid);
    }

    /// The answer is being written.
    pub(crate) fn writing(&mut self, key: K, now: Instant) {
        self.set(key, State::Writing { since: now });
    }

    fn set(&mut self, key: K, state: State) {
        if let Some(request) = self.requests.get_mut(&key) {
            request.state = state;
        }
    }

    /// A request has ended, or is answered without the application: it holds no place any more.
    pub(crate) fn remove(&mut self, key: K) {
        let Some(request) = self.requests.remove(&key) else { return };
        let places = self.places(request.kind);
        if request.state != State::Waiting {
            places.active.retain(|of| *of != key);
            return;
        }
        if let Some(queue) = places.waiting.get_mut(&request.asker.peer) {
            queue.retain(|of| *of != key);
            if queue.is_empty() {
                places.waiting.remove(&request.asker.peer);
                places.turns.retain(|of| *of != request.asker.peer);
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
        let open = |request: &Request| !matches!(request.state, State::Writing { .. }) && which(request);
        let keys: Vec<_> = self.requests.iter().filter(|(_, of)| open(of)).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.remove(*key));
        keys
    }

    /// How many wait for a place.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }
}

/// How many places are held, by peer and by host.
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
}
