//! Limits on inbound connections in negotiation. Opening one costs a peer nothing, so each has a deadline, and where all
//! places are taken the source with the most open and failed negotiations loses one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
    },
    multiaddr::Protocol,
};
use schnellru::{ByLength, LruMap};
use tokio::sync::oneshot;

use crate::{
    config::ConnectionConfig,
    ip::{Host, Source},
    metrics,
};

/// From the first packet of an inbound QUIC connection to the end of its handshake: time for one packet to be
/// lost and sent again.
const QUIC_HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a failed negotiation counts against its source.
const FAILURE_AGE: Duration = Duration::from_secs(60);

/// Most sources whose failures are remembered, some 64 bytes each. The one that failed least recently is forgotten.
const SOURCES: u32 = 4096;

/// Most connections that are refused before other tasks have a turn. With 64, a flood of sockets made the slowest in a hundred
/// messages take three times as long.
const REFUSALS: usize = 8;

/// The inbound connections in negotiation: at most `max_pending` of untrusted peers, of these at most `max_pending_per_ip`
/// of one host. Where a host has its share, one more takes the place of its oldest. Where all places are taken, the
/// source with the most open and recently failed negotiations loses one, or gets none: first one on which nothing was
/// sent yet, then the oldest. An honest peer sends at once and rarely fails, so a source that opens connections again
/// and again is refused for its own sake. Hosts of static and trusted peers do not count among the untrusted.
#[derive(Debug, Clone)]
pub(crate) struct HalfOpen {
    limits: ConnectionConfig,
    state: Arc<Mutex<State>>,
}

struct State {
    next: u64,
    /// The oldest first.
    open: BTreeMap<u64, Entry>,
    /// How many of these each host has.
    of_host: HashMap<Option<Host>, u32>,
    reserved: HashSet<Host>,
    /// How many negotiations of a source have failed, and when the last one did.
    failures: LruMap<Source, (u32, Instant), ByLength>,
}

#[derive(Debug)]
struct Entry {
    address: Multiaddr,
    host: Option<Host>,
    /// None where the address may be forged: QUIC, until its handshake is over.
    source: Option<Source>,
    /// Whether the peer has sent anything.
    has_sent: bool,
    /// Dropping it ends the negotiation.
    _place: oneshot::Sender<()>,
}

impl HalfOpen {
    pub(crate) fn new(limits: ConnectionConfig) -> Self {
        let state = State {
            next: 0,
            open: BTreeMap::new(),
            of_host: HashMap::new(),
            reserved: HashSet::new(),
            failures: LruMap::new(ByLength::new(SOURCES)),
        };
        Self { limits, state: Arc::new(Mutex::new(state)) }
    }

    /// Keeps places for the hosts of static and trusted peers, in place of those named before.
    pub(crate) fn reserve(&self, hosts: HashSet<Host>) {
        self.lock().reserved = hosts;
    }

    /// Whether a host has places of its own.
    pub(crate) fn is_reserved(&self, host: Host) -> bool {
        self.lock().reserved.contains(&host)
    }

    /// The peer at this address has sent its first bytes.
    pub(crate) fn has_sent(&self, address: &Multiaddr) {
        let mut state = self.lock();
        if let Some(entry) = state.open.values_mut().find(|entry| entry.address == *address) {
            entry.has_sent = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A place for one more connection, in place of another one where all are taken; none if this one is the least worth it.
    fn enter(&self, address: &Multiaddr, now: Instant) -> Option<Slot> {
        let host = Host::at(address);
        let source = if is_quic(address) { None } else { Source::at(address) };
        let mut state = self.lock();
        if let Some(host) = host.filter(|host| self.limits.tells_apart(*host)) {
            let of_host = state.open.iter().filter(|(_, entry)| entry.host == Some(host));
            let (count, oldest) = (of_host.clone().count(), of_host.map(|(id, _)| *id).next());
            if let Some(oldest) = oldest
                && count >= self.limits.max_pending_per_ip.get()
            {
                state.evict(oldest, now);
            }
        }
        let (place, given_up) = oneshot::channel();
        let id = state.next;
        state.next = state.next.wrapping_add(1);
        let entry = Entry { address: address.clone(), host, source, has_sent: false, _place: place };
        state.open.insert(id, entry);
        *state.of_host.entry(host).or_default() += 1;
        let places = state.places(host, &self.limits);
        let is_full = || state.sharing(places, &self.limits).count() > self.limits.max_pending as usize;
        if places != Places::OfHost
            && is_full()
            && let Some(worst) = state.worst(id, places, &self.limits, now)
        {
            state.evict(worst, now);
        }
        let has_place = state.open.contains_key(&id);
        has_place.then(|| Slot { id, given_up, is_done: false, state: Arc::clone(&self.state) })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::QuicV1))
}

/// Which places a negotiation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    Untrusted,
    /// Those of one host of static and trusted peers.
    OfHost,
    /// Those of the hosts of static and trusted peers where anybody else may be, too: behind a proxy, say.
    OfSharedHosts,
}

impl State {
    fn places(&self, host: Option<Host>, limits: &ConnectionConfig) -> Places {
        match host.filter(|host| self.reserved.contains(host)) {
            None => Places::Untrusted,
            Some(host) if limits.tells_apart(host) => Places::OfHost,
            Some(_) => Places::OfSharedHosts,
        }
    }

    /// The negotiations that take such places.
    fn sharing(&self, places: Places, limits: &ConnectionConfig) -> impl Iterator<Item = (&u64, &Entry)> {
        self.open.iter().filter(move |(_, entry)| self.places(entry.host, limits) == places)
    }

    /// The negotiation that ends because one too many are open. The newest had no time yet to send anything.
    fn worst(&self, newest: u64, places: Places, limits: &ConnectionConfig, now: Instant) -> Option<u64> {
        let rank = |(id, entry): &(&u64, &Entry)| {
            let open = self.of_host.get(&entry.host).copied().unwrap_or_default();
            let is_silent = !entry.has_sent && **id != newest;
            (open.saturating_add(self.failures(entry.source, now)), is_silent, Reverse(**id))
        };
        self.sharing(places, limits).max_by_key(rank).map(|(id, _)| *id)
    }

    /// How many negotiations of a source have failed recently.
    fn failures(&self, source: Option<Source>, now: Instant) -> u32 {
        let failed = source.and_then(|source| self.failures.peek(&source));
        failed
            .filter(|(_, last)| now.saturating_duration_since(*last) < FAILURE_AGE)
            .map_or(0, |(count, _)| *count)
    }

    /// Takes a negotiation out, if it is still there.
    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        if let Some(count) = self.of_host.get_mut(&entry.host) {
            *count -= 1;
            if *count == 0 {
                self.of_host.remove(&entry.host);
            }
        }
        Some(entry)
    }

    /// Ends a negotiation, if it is still there, as a failure of its source.
    fn fail(&mut self, id: u64, now: Instant) {
        if let Some(Entry { source: Some(source), .. }) = self.remove(id) {
            let count = self.failures(Some(source), now).saturating_add(1);
            self.failures.insert(source, (count, now));
        }
    }

    fn evict(&mut self, id: u64, now: Instant) {
        self.fail(id, now);
        metrics::dropped("half_open");
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("open", &self.open)
            .field("reserved", &self.reserved)
            .finish_non_exhaustive()
    }
}

/// The place of one negotiation, given back when it is dropped.
#[derive(Debug)]
struct Slot {
    id: u64,
    given_up: oneshot::Receiver<()>,
    /// Whether the negotiation has succeeded.
    is_done: bool,
    state: Arc<Mutex<State>>,
}

impl Slot {
    /// The connection stands.
    fn succeeded(mut self) {
        self.is_done = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if self.is_done {
            state.remove(self.id);
        } else {
            state.fail(self.id, Instant::now());
        }
    }
}

type Output = (PeerId, StreamMuxerBox);

/// A transport whose inbound connections take a place among the half-open ones, and which dials TCP from a port
/// of its own: from the port that it listens on, it could not reach a peer that listens on the same port of
/// another local address, nor a second one behind the same router.
pub(crate) struct Guarded {
    inner: Boxed<Output>,
    half_open: HalfOpen,
}

impl Guarded {
    pub(crate) const fn new(inner: Boxed<Output>, half_open: HalfOpen) -> Self {
        Self { inner, half_open }
    }
}

impl Transport for Guarded {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Output>>;
    type Dial = <Boxed<Output> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        mut options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        if address.iter().any(|part| matches!(part, Protocol::Tcp(_))) {
            options.port_use = PortUse::New;
        }
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        for _ in 0..REFUSALS {
            let event = ready!(Pin::new(&mut self.inner).poll(cx));
            let TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } = event else {
                return Poll::Ready(event.map_upgrade(|upgrade| upgrade.boxed()));
            };
            // Without a place it is closed here, at the least cost: a flood of connections must not fill the system's queue of
            // those that are to be accepted.
            if let Some(place) = self.half_open.enter(&send_back_addr, Instant::now()) {
                let deadline = is_quic(&send_back_addr).then_some(QUIC_HANDSHAKE);
                let upgrade = negotiate(upgrade, place, deadline).boxed();
                return Poll::Ready(TransportEvent::Incoming {
                    listener_id,
                    upgrade,
                    local_addr,
                    send_back_addr,
                });
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Negotiates for as long as there is a place and time.
async fn negotiate(
    upgrade: impl Future<Output = io::Result<Output>>,
    mut place: Slot,
    deadline: Option<Duration>,
) -> io::Result<Output> {
    let upgraded = tokio::select! {
        upgraded = upgrade => upgraded,
        _ = &mut place.given_up => Err(io::ErrorKind::ConnectionAborted.into()),
        () = pass(deadline) => Err(io::ErrorKind::TimedOut.into()),
    };
    if upgraded.is_ok() {
        place.succeeded();
    }
    upgraded
}

/// Waits for so long; indefinitely if there is no deadline.
async fn pass(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Pending, pending, poll_fn},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::task::yield_now;

    use super::*;

    /// A port of a host.
    fn address(host: u8, port: u16) -> Multiaddr {
        format!("/ip4/1.1.1.{host}/tcp/{port}").parse().unwrap()
    }

    fn host(number: u8) -> Host {
        Host::at(&address(number, 1)).unwrap()
    }

    struct Rig {
        half_open: HalfOpen,
        now: Instant,
        port: u16,
    }

    impl Rig {
        fn new(max_pending: u32, per_ip: usize) -> Self {
            let half_open = HalfOpen::new(ConnectionConfig {
                max_pending,
                max_pending_per_ip: per_ip.try_into().unwrap(),
                ..ConnectionConfig::default()
            });
            Self { half_open, now: Instant::now(), port: 0 }
        }

        fn enter(&mut self, host: u8) -> Slot {
            self.port += 1;
            self.half_open.enter(&address(host, self.port), self.now).unwrap()
        }

        /// As [`enter`](Self::enter), and the peer sends something.
        fn speaks(&mut self, host: u8) -> Slot {
            self.tries(host).unwrap()
        }

        /// As [`speaks`](Self::speaks), where there may be no place.
        fn tries(&mut self, host: u8) -> Option<Slot> {
            self.port += 1;
            let place = self.half_open.enter(&address(host, self.port), self.now);
            self.half_open.has_sent(&address(host, self.port));
            place
        }
    }

    fn is_evicted(place: &mut Slot) -> bool {
        matches!(place.given_up.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn a_host_with_its_share_loses_its_oldest_to_its_next() {
        let mut rig = Rig::new(100, 2);
        let mut other = rig.enter(2);
        let mut places = [1, 1, 1].map(|host| rig.enter(host));
        assert_eq!(places.each_mut().map(is_evicted), [true, false, false]);
        assert!(!is_evicted(&mut other));
    }

    #[test]
    fn when_all_places_are_taken_the_host_with_most_loses_its_oldest() {
        let mut rig = Rig::new(4, 100);
        let mut honest = rig.enter(1);
        let mut greedy = [2, 2, 2].map(|host| rig.enter(host));
        let mut late = rig.enter(3);
        assert_eq!(greedy.each_mut().map(is_evicted), [true, false, false]);
        assert!(!is_evicted(&mut honest) && !is_evicted(&mut late));
        // A negotiation that succeeds gives its place back and is no failure.
        late.succeeded();
        let mut next = rig.enter(3);
        assert_eq!(greedy.each_mut().map(is_evicted), [true, false, false]);
        assert!(!is_evicted(&mut next));
        assert_eq!(rig.half_open.lock().open.len(), 4);
    }

    #[test]
    fn hosts_of_static_peers_have_places_of_their_own() {
        let mut rig = Rig::new(2, 2);
        rig.half_open.reserve(HashSet::from([host(9)]));
        let mut fixed = rig.enter(9);
        let mut untrusted = [1, 2, 3].map(|host| rig.enter(host));
        assert_eq!(untrusted.each_mut().map(is_evicted), [true, false, false]);
        let mut second = rig.enter(9);
        assert!(!is_evicted(&mut fixed) && !is_evicted(&mut second));
        // One host has no more than its share, whoever is there.
        let _third = rig.enter(9);
        assert!(is_evicted(&mut fixed) && !is_evicted(&mut second));
        assert_eq!(untrusted.each_mut().map(is_evicted), [true, false, false]);
    }

    #[test]
    fn private_addresses_share_the_places_of_all() {
        let half_open = Rig::new(3, 1).half_open;
        let mut places = [1, 2, 3, 4].map(|port| {
            half_open.enter(&format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap(), Instant::now()).unwrap()
        });
        assert_eq!(places.each_mut().map(is_evicted), [true, false, false, false]);
    }

    #[test]
    fn a_static_peer_behind_a_proxy_does_not_open_the_door_to_all_behind_it() {
        let (mut rig, proxy) =
            (Rig::new(3, 1), |port: u16| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap());
        rig.half_open.reserve(HashSet::from([Host::at(&proxy(1)).unwrap()]));
        let mut honest = rig.half_open.enter(&proxy(1), rig.now).unwrap();
        rig.half_open.has_sent(&proxy(1));
        let mut silent: Vec<_> =
            (2..10).map(|port| rig.half_open.enter(&proxy(port), rig.now).unwrap()).collect();
        let evicted: Vec<_> = silent.iter_mut().map(is_evicted).collect();
        assert_eq!(evicted, [true, true, true, true, true, true, false, false]);
        // Others have as many places as ever.
        let mut untrusted = [1, 2, 3, 4].map(|host| rig.enter(host));
        assert_eq!(untrusted.each_mut().map(is_evicted), [true, false, false, false]);
        assert!(!is_evicted(&mut honest) && !is_evicted(&mut silent[7]));
    }

    #[test]
    fn a_peer_that_has_sent_something_outlasts_those_that_have_not() {
        let mut rig = Rig::new(3, 100);
        let mut honest = rig.speaks(1);
        // Each from another host, that has never failed before.
        let _silent: Vec<_> = (2..100).map(|host| rig.enter(host)).collect();
        assert!(!is_evicted(&mut honest));
    }

    #[test]
    fn hosts_that_fail_again_and_again_only_take_the_places_of_one_another() {
        let mut rig = Rig::new(3, 100);
        let flood = |rig: &mut Rig| drop((2..20).map(|host| rig.tries(host)).collect::<Vec<_>>());
        flood(&mut rig);
        let mut honest = rig.speaks(1);
        flood(&mut rig);
        let mut second = rig.speaks(30);
        flood(&mut rig);
        assert!(!is_evicted(&mut honest) && !is_evicted(&mut second));
    }

    #[test]
    fn a_connection_is_not_refused_for_its_silence_when_it_comes() {
        let mut rig = Rig::new(2, 100);
        let mut places = [1, 2].map(|host| rig.speaks(host));
        let mut late = rig.enter(3);
        assert_eq!(places.each_mut().map(is_evicted), [true, false]);
        assert!(!is_evicted(&mut late));
    }

    #[test]
    fn a_host_that_has_failed_more_than_those_with_a_place_gets_none_for_a_minute() {
        let mut rig = Rig::new(1, 100);
        drop(rig.enter(2));
        let mut honest = rig.enter(1);
        assert!(rig.tries(2).is_none());
        assert!(!is_evicted(&mut honest));
        rig.now += FAILURE_AGE + Duration::from_secs(1);
        assert!(rig.tries(2).is_some());
        assert!(is_evicted(&mut honest));
    }

    /// Connections of one address without end.
    struct Flood {
        address: Multiaddr,
        accepted: Arc<AtomicUsize>,
    }

    impl Transport for Flood {
        type Output = Output;
        type Error = io::Error;
        type ListenerUpgrade = Pending<io::Result<Output>>;
        type Dial = Pending<io::Result<Output>>;

        fn listen_on(&mut self, _: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
            Err(TransportError::MultiaddrNotSupported(address))
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(TransportEvent::Incoming {
                listener_id: ListenerId::next(),
                upgrade: pending(),
                local_addr: Multiaddr::empty(),
                send_back_addr: self.address.clone(),
            })
        }
    }

    #[tokio::test]
    async fn other_tasks_have_a_turn_after_each_eight_refusals() {
        let mut rig = Rig::new(1, 100);
        drop(rig.enter(2));
        let mut honest = rig.enter(1);
        let accepted = Arc::new(AtomicUsize::new(0));
        let flood = Flood { address: address(2, 9), accepted: Arc::clone(&accepted) };
        let mut guarded = Guarded::new(flood.boxed(), rig.half_open.clone());
        let mut listener = poll_fn(move |cx| Pin::new(&mut guarded).poll(cx).map(drop));
        assert!(futures::poll!(&mut listener).is_pending());
        assert_eq!(accepted.load(Ordering::Relaxed), REFUSALS);
        // It goes on by itself.
        let _listener = tokio::spawn(listener);
        yield_now().await;
        assert!(accepted.load(Ordering::Relaxed) > 2 * REFUSALS);
        assert!(!is_evicted(&mut honest));
    }

    #[test]
    fn failures_of_addresses_that_may_be_forged_do_not_count() {
        let rig = Rig::new(1, 100);
        let quic: Multiaddr = "/ip4/1.1.1.1/udp/1/quic-v1".parse().unwrap();
        let _forged = [(); 9].map(|()| rig.half_open.enter(&quic, rig.now));
        assert_eq!(rig.half_open.lock().failures.len(), 0);
        drop(rig.half_open.enter(&address(1, 1), rig.now));
        assert_eq!(rig.half_open.lock().failures.len(), 1);
    }

    #[test]
    fn failures_of_more_sources_than_fit_forget_the_oldest() {
        let rig = Rig::new(1, 100);
        for number in 0..=SOURCES {
            let [.., high, low] = number.to_be_bytes();
            let address = format!("/ip4/8.8.{high}.{low}/tcp/1").parse().unwrap();
            drop(rig.half_open.enter(&address, rig.now));
        }
        assert_eq!(rig.half_open.lock().failures.len(), SOURCES as usize);
    }
}
