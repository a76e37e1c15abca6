//! Names in addresses, resolved with the settings that the system has when they are dialled.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt as _};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
    },
    dns,
    multiaddr::Protocol,
};

/// A transport for numeric addresses.
pub(crate) type Sockets = Boxed<(PeerId, StreamMuxerBox)>;

/// A transport that its users share.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Sockets>>);

/// Resolves names in front of a transport. `/etc/resolv.conf` and `/etc/hosts` are read for each dial of a name, as both may
/// change while a node runs: a host moves to another network, an orchestrator writes the names of containers later. A
/// system whose settings cannot be read still reaches numeric addresses.
pub(crate) struct Names(Shared);

impl Names {
    pub(crate) fn new(sockets: Sockets) -> Self {
        Self(Shared(Arc::new(Mutex::new(sockets))))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an address has to be resolved.
fn is_named(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    parts.any(|part| {
        matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    })
}

/// Dials an address with names in it, with the settings of now.
async fn dial_named(
    sockets: Shared,
    address: Multiaddr,
    options: DialOpts,
) -> io::Result<(PeerId, StreamMuxerBox)> {
    let mut named = dns::tokio::Transport::system(sockets)?;
    match named.dial(address, options) {
        Ok(dial) => dial.await.map_err(io::Error::other),
        Err(error) => Err(io::Error::other(error)),
    }
}

impl Transport for Names {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Sockets as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        if is_named(&address) {
            return Ok(dial_named(self.0.clone(), address, options).boxed());
        }
        self.0.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl Transport for Shared {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Sockets as Transport>::ListenerUpgrade;
    type Dial = <Sockets as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.lock().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.lock().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.lock().dial(address, options)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.lock()).poll(cx)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}
