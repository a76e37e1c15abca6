//! What lies between the nodes: who is connected, and what becomes of a frame on its way.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use preconfirmation_types::{Bytes, Topic};
use tokio::sync::mpsc;

use super::now;

/// Most frames on their way to one node. What does not fit is lost, and counted.
const INBOX: usize = 64 * 1024;

/// A reordered frame takes up to so many times as long as it would have.
const REORDERED: u32 = 4;

/// What each frame has on the line besides its content: headers of TCP, noise and yamux, about.
const HEADERS: usize = 100;

/// Nothing is on a line for longer: by then its request has failed (§10), and gossip that has waited for so long is dropped. So
/// what a narrow line could not carry does not hold up what comes when it is wide again.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);

/// What becomes of what travels from one node to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// What every frame takes. Where it is zero, nothing can be reordered.
    pub delay: Duration,
    /// How much the line carries in a second: a frame begins when those before it are sent, and is lost where it would not be sent
    /// in ten seconds. Without a limit if none.
    pub bytes_per_second: Option<NonZeroU32>,
    /// Up to so much more, drawn for each frame. Order is kept all the same.
    pub jitter: Duration,
    /// The share of frames that never arrive, from 0 to 1.
    pub loss: f64,
    /// The share of frames that arrive twice.
    pub duplicate: f64,
    /// The share of frames that take up to four times as long, so that later ones overtake them.
    pub reorder: f64,
}

impl Default for Link {
    /// 5 ms, any bandwidth, and nothing goes wrong.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5),
            bytes_per_second: None,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
        }
    }
}

/// What the links have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimCounts {
    /// Frames that were given to a link.
    pub sent: u64,
    /// Of these, frames that were lost.
    pub lost: u64,
    /// Frames that were doubled.
    pub duplicated: u64,
    /// Frames that were held up.
    pub reordered: u64,
    /// Frames that found the inbox of their node or the line full, and were lost, too.
    pub overflowed: u64,
}

/// What travels.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    /// The connection stands.
    Hello,
    /// It has closed.
    Bye,
    Gossip {
        topic: Topic,
        ssz: Bytes,
        author: PeerId,
    },
    Request {
        id: u64,
        protocol: &'static str,
        ssz: Bytes,
    },
    /// Without bytes: the stream was closed.
    Response {
        id: u64,
        ssz: Option<Bytes>,
    },
}

impl Frame {
    fn bytes(&self) -> usize {
        let content = match self {
            Self::Hello | Self::Bye | Self::Response { ssz: None, .. } => 0,
            Self::Gossip { ssz, .. } | Self::Request { ssz, .. } | Self::Response { ssz: Some(ssz), .. } => {
                ssz.len()
            }
        };
        content + HEADERS
    }
}

/// What it says; not the number of a request, which says in which order a node asked its peers.
impl Hash for Frame {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            Self::Hello | Self::Bye => {}
            Self::Gossip { topic, ssz, author } => (topic, ssz, author).hash(hasher),
            Self::Request { protocol, ssz, .. } => (protocol, ssz).hash(hasher),
            Self::Response { ssz, .. } => ssz.hash(hasher),
        }
    }
}

/// A frame that will arrive. The greatest is the next.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) from: PeerId,
    number: u64,
    pub(super) frame: Frame,
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.from, other.number).cmp(&(self.at, self.from, self.number))
    }
}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Arrival {}

/// One direction of a link, with a random number generator of its own, so that what happens on another changes nothing here.
#[derive(Debug)]
struct Direction {
    link: Link,
    rng: fastrand::Rng,
    /// When the last frame that keeps the order arrives.
    last: Instant,
    /// When the line has sent what it was given.
    free: Instant,
    frames: u64,
}

impl Direction {
    /// When a frame of so many bytes arrives: not at all, once, or twice.
    fn fate(&mut self, bytes: usize, counts: &mut SimCounts) -> [Option<Instant>; 2] {
        let Link { delay, jitter, loss, duplicate, reorder, bytes_per_second } = self.link;
        // All numbers are drawn each time, so that changing one share moves nothing else.
        let [lost, twice, late] = [loss, duplicate, reorder].map(|share| self.rng.f64() < share);
        let travel = delay + jitter.mul_f64(self.rng.f64());
        let held_up = (travel * (REORDERED - 1)).mul_f64(self.rng.f64());
        counts.sent += 1;
        // What is lost has been sent all the same.
        let (sent, given_up) =
            (self.free.max(now()) + transmission(bytes, bytes_per_second), now() + GIVEN_UP_AFTER);
        self.free = sent.min(given_up);
        if sent > given_up {
            counts.overflowed += 1;
            return [None, None];
        }
        if lost {
            counts.lost += 1;
            return [None, None];
        }
        let in_order = self.last.max(self.free + travel);
        let at = if late {
            counts.reordered += 1;
            in_order + held_up
        } else {
            self.last = in_order;
            in_order
        };
        counts.duplicated += u64::from(twice);
        [Some(at), twice.then(|| at + travel)]
    }
}

/// How long a line is busy with so many bytes.
fn transmission(bytes: usize, bytes_per_second: Option<NonZeroU32>) -> Duration {
    let Some(rate) = bytes_per_second else { return Duration::ZERO };
    let nanos = (bytes as u64).saturating_mul(1_000_000_000) / u64::from(rate.get());
    Duration::from_nanos(nanos)
}

#[derive(Debug, Default)]
struct State {
    nodes: HashMap<PeerId, mpsc::Sender<Arrival>>,
    /// All that have ever been here.
    known: HashSet<PeerId>,
    links: Link,
    directions: HashMap<(PeerId, PeerId), Direction>,
    connected: BTreeSet<(PeerId, PeerId)>,
    /// One side of the partition, if there is one.
    side: BTreeSet<PeerId>,
    /// The connections that it cut.
    cut: BTreeSet<(PeerId, PeerId)>,
    counts: SimCounts,
    trace: u64,
}

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Hub {
    seed: u64,
    state: Mutex<State>,
}

impl Hub {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Also whether it has been here before.
    pub(super) fn join(&self, peer: PeerId) -> (mpsc::Receiver<Arrival>, bool) {
        let (inbox, arrivals) = mpsc::channel(INBOX);
        let state = &mut *self.state();
        state.nodes.insert(peer, inbox);
        (arrivals, !state.known.insert(peer))
    }

    /// Closes all connections of a node and forgets it.
    pub(super) fn leave(&self, peer: PeerId) {
        let state = &mut *self.state();
        let own: Vec<_> = state.connected.iter().copied().filter(|(a, b)| *a == peer || *b == peer).collect();
        for (one, other) in own {
            self.disconnect_in(state, one, other);
        }
        state.cut.retain(|(a, b)| *a != peer && *b != peer);
        state.nodes.remove(&peer);
    }

    /// Connects two nodes. `false` if one of them is not there, or a partition lies between them.
    pub(super) fn connect(&self, one: PeerId, other: PeerId) -> bool {
        self.connect_in(&mut self.state(), one, other)
    }

    fn connect_in(&self, state: &mut State, one: PeerId, other: PeerId) -> bool {
        let there = |peer| state.nodes.contains_key(peer);
        let apart = state.side.contains(&one) != state.side.contains(&other);
        if one == other || !there(&one) || !there(&other) || apart {
            return false;
        }
        if state.connected.insert(pair(one, other)) {
            self.tell(state, one, other, &Frame::Hello);
            self.tell(state, other, one, &Frame::Hello);
        }
        true
    }

    pub(super) fn disconnect(&self, one: PeerId, other: PeerId) {
        self.disconnect_in(&mut self.state(), one, other);
    }

    fn disconnect_in(&self, state: &mut State, one: PeerId, other: PeerId) {
        if state.connected.remove(&pair(one, other)) {
            self.tell(state, one, other, &Frame::Bye);
            self.tell(state, other, one, &Frame::Bye);
        }
    }

    pub(super) fn partition(&self, side: BTreeSet<PeerId>) {
        let state = &mut *self.state();
        let across: Vec<_> =
            state.connected.iter().copied().filter(|(a, b)| side.contains(a) != side.contains(b)).collect();
        state.side = side;
        for (one, other) in across {
            self.disconnect_in(state, one, other);
            state.cut.insert((one, other));
        }
    }

    pub(super) fn heal(&self) {
        let state = &mut *self.state();
        state.side.clear();
        for (one, other) in std::mem::take(&mut state.cut) {
            self.connect_in(state, one, other);
        }
    }

    pub(super) fn set_links(&self, link: Link) {
        let mut state = self.state();
        state.links = link;
        state.directions.values_mut().for_each(|direction| direction.link = link);
    }

    pub(super) fn set_link(&self, from: PeerId, to: PeerId, link: Link) {
        self.direction(&mut self.state(), from, to).link = link;
    }

    /// The time that a question and its answer are on their way at least.
    pub(super) fn round_trip(&self, one: PeerId, other: PeerId) -> Duration {
        let state = &mut *self.state();
        self.direction(state, one, other).link.delay + self.direction(state, other, one).link.delay
    }

    pub(super) fn counts(&self) -> SimCounts {
        self.state().counts
    }

    pub(super) fn trace(&self) -> u64 {
        self.state().trace
    }

    /// Sends a frame over the link, for better or worse.
    pub(super) fn send(&self, from: PeerId, to: PeerId, frame: &Frame) {
        let state = &mut *self.state();
        if !state.connected.contains(&pair(from, to)) {
            return;
        }
        let mut counts = state.counts;
        let times = self.direction(state, from, to).fate(frame.bytes(), &mut counts);
        state.counts = counts;
        for at in times.into_iter().flatten() {
            self.arrive(state, from, to, at, frame.clone());
        }
    }

    /// Tells of a connection: late as everything, but never lost.
    fn tell(&self, state: &mut State, from: PeerId, to: PeerId, frame: &Frame) {
        let direction = self.direction(state, from, to);
        direction.last = direction.last.max(now() + direction.link.delay);
        let at = direction.last;
        self.arrive(state, from, to, at, frame.clone());
    }

    fn arrive(&self, state: &mut State, from: PeerId, to: PeerId, at: Instant, frame: Frame) {
        let direction = self.direction(state, from, to);
        direction.frames += 1;
        let arrival = Arrival { at, from, number: direction.frames, frame };
        if let Some(inbox) = state.nodes.get(&to)
            && let Err(mpsc::error::TrySendError::Full(_)) = inbox.try_send(arrival)
        {
            state.counts.overflowed += 1;
        }
    }

    /// Notes that a frame has arrived.
    pub(super) fn arrived(&self, to: PeerId, start: Instant, arrival: &Arrival) {
        let mut hasher = DefaultHasher::new();
        (arrival.at.saturating_duration_since(start), arrival.from, to, &arrival.frame).hash(&mut hasher);
        let mut state = self.state();
        // A sum: in any order.
        state.trace = state.trace.wrapping_add(hasher.finish());
    }

    fn direction<'a>(&self, state: &'a mut State, from: PeerId, to: PeerId) -> &'a mut Direction {
        let (link, seed) = (state.links, self.seed);
        state.directions.entry((from, to)).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            (seed, from, to).hash(&mut hasher);
            Direction {
                link,
                rng: fastrand::Rng::with_seed(hasher.finish()),
                last: now(),
                free: now(),
                frames: 0,
            }
        })
    }
}

/// A connection has no direction.
fn pair(one: PeerId, other: PeerId) -> (PeerId, PeerId) {
    (one.min(other), one.max(other))
}
