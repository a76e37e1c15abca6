//! Inbound connections in negotiation: strangers open them for nothing, so each has a deadline, and the oldest
//! makes room.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
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
use tokio::sync::oneshot;

use crate::{config::ConnectionConfig, ip::Host, metrics};

/// From the first packet of an inbound QUIC connection to the end of its handshake: time for one packet to be
/// lost and sent again.
const QUIC_HANDSHAKE: Duration = Duration::from_secs(5);

/// The inbound connections in negotiation. At most `max_pending` of strangers: one more takes the place of the
/// oldest of the host that has most. At most `max_pending_per_ip` of one host: one more takes the place of its
/// oldest. Hosts of static and trusted peers are not counted among the strangers.
#[derive(Debug, Clone)]
pub(crate) struct HalfOpen {
    limits: ConnectionConfig,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// The oldest first.
    open: BTreeMap<u64, Entry>,
    reserved: HashSet<Host>,
}

#[derive(Debug)]
struct Entry {
    host: Option<Host>,
    /// Dropping it ends the negotiation.
    _place: oneshot::Sender<()>,
}

impl HalfOpen {
    pub(crate) fn new(limits: ConnectionConfig) -> Self {
        Self { limits, state: Arc::default() }
    }

    /// Keeps places for the hosts of static and trusted peers, in place of those named before.
    pub(crate) fn reserve(&self, hosts: HashSet<Host>) {
        self.lock().reserved = hosts;
    }

    /// Whether a host has places of its own.
    pub(crate) fn is_reserved(&self, host: Host) -> bool {
        self.lock().reserved.contains(&host)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, whoever has to go for it.
    fn enter(&self, host: Option<Host>) -> Place {
        let mut state = self.lock();
        if let Some(host) = host.filter(|host| self.limits.tells_apart(*host)) {
            let of_host = state.open.iter().filter(|(_, entry)| entry.host == Some(host));
            let (count, oldest) = (of_host.clone().count(), of_host.map(|(id, _)| *id).next());
            if let Some(oldest) = oldest
                && count >= self.limits.max_pending_per_ip.get()
            {
                state.evict(oldest);
            }
        }
        let is_stranger = host.is_none_or(|host| !state.reserved.contains(&host));
        if is_stranger
            && state.strangers().count() >= self.limits.max_pending as usize
            && let Some(oldest) = state.oldest_of_the_largest()
        {
            state.evict(oldest);
        }
        let (place, given_up) = oneshot::channel();
        let id = state.next;
        state.next = state.next.wrapping_add(1);
        state.open.insert(id, Entry { host, _place: place });
        Place { id, given_up, state: Arc::clone(&self.state) }
    }
}

impl State {
    fn strangers(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.open.iter().filter(|(_, entry)| entry.host.is_none_or(|host| !self.reserved.contains(&host)))
    }

    fn oldest_of_the_largest(&self) -> Option<u64> {
        let mut counts = HashMap::<_, usize>::new();
        for (_, entry) in self.strangers() {
            *counts.entry(entry.host).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        self.strangers().find(|(_, entry)| counts.get(&entry.host) == Some(&most)).map(|(id, _)| *id)
    }

    fn evict(&mut self, id: u64) {
        self.open.remove(&id);
        metrics::dropped("half_open");
    }
}

/// The place of one negotiation, given back when it is dropped.
#[derive(Debug)]
struct Place {
    id: u64,
    given_up: oneshot::Receiver<()>,
    state: Arc<Mutex<State>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.id);
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
        let half_open = self.half_open.clone();
        Pin::new(&mut self.inner).poll(cx).map(|event| match event {
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => {
                let mut place = half_open.enter(Host::at(&send_back_addr));
                let is_quic = send_back_addr.iter().any(|part| matches!(part, Protocol::QuicV1));
                let deadline = is_quic.then_some(QUIC_HANDSHAKE);
                let upgrade = async move {
                    tokio::select! {
                        upgraded = upgrade => upgraded,
                        _ = &mut place.given_up => Err(io::ErrorKind::ConnectionAborted.into()),
                        () = pass(deadline) => Err(io::ErrorKind::TimedOut.into()),
                    }
                };
                let upgrade = upgrade.boxed();
                TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr }
            }
            other => other.map_upgrade(|upgrade| upgrade.boxed()),
        })
    }
}

/// Waits for so long; for ever if there is no deadline.
async fn pass(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> Option<Host> {
        Some(Host::of([1, 1, 1, number].into()))
    }

    fn half_open(max_pending: u32, per_ip: usize) -> HalfOpen {
        HalfOpen::new(ConnectionConfig {
            max_pending,
            max_pending_per_ip: per_ip.try_into().unwrap(),
            ..ConnectionConfig::default()
        })
    }

    fn is_evicted(place: &mut Place) -> bool {
        matches!(place.given_up.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn the_oldest_of_a_host_makes_room_for_its_next() {
        let half_open = half_open(100, 2);
        let mut other = half_open.enter(host(2));
        let mut places = [1, 1, 1].map(|number| half_open.enter(host(number)));
        assert_eq!(places.each_mut().map(is_evicted), [true, false, false]);
        assert!(!is_evicted(&mut other));
    }

    #[test]
    fn when_all_places_are_taken_the_host_with_most_loses_its_oldest() {
        let half_open = half_open(4, 100);
        let mut honest = half_open.enter(host(1));
        let mut greedy = [2, 2, 2].map(|number| half_open.enter(host(number)));
        let mut late = half_open.enter(host(3));
        assert_eq!(greedy.each_mut().map(is_evicted), [true, false, false]);
        assert!(!is_evicted(&mut honest) && !is_evicted(&mut late));
        // What has ended gives its place back.
        drop(late);
        let mut next = half_open.enter(host(4));
        assert_eq!(greedy.each_mut().map(is_evicted), [true, false, false]);
        assert!(!is_evicted(&mut next));
        assert_eq!(half_open.lock().open.len(), 4);
    }

    #[test]
    fn hosts_of_static_peers_have_places_of_their_own() {
        let half_open = half_open(2, 2);
        half_open.reserve(HashSet::from([host(9).unwrap()]));
        let mut fixed = half_open.enter(host(9));
        let mut strangers = [1, 2, 3].map(|number| half_open.enter(host(number)));
        assert_eq!(strangers.each_mut().map(is_evicted), [true, false, false]);
        let mut second = half_open.enter(host(9));
        assert!(!is_evicted(&mut fixed) && !is_evicted(&mut second));
        // One host has no more than its share, whoever is there.
        let _third = half_open.enter(host(9));
        assert!(is_evicted(&mut fixed) && !is_evicted(&mut second));
        assert_eq!(strangers.each_mut().map(is_evicted), [true, false, false]);
    }

    #[test]
    fn private_addresses_share_the_places_of_all() {
        let half_open = half_open(3, 1);
        let private = Some(Host::of([10, 0, 0, 1].into()));
        let mut places = [private; 4].map(|host| half_open.enter(host));
        assert_eq!(places.each_mut().map(is_evicted), [true, false, false, false]);
    }
}
