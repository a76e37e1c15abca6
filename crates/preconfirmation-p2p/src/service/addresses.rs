//! Where the node listens.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use libp2p::{Multiaddr, TransportError, core::transport::ListenerId, multiaddr::Protocol};
use socket2::{Domain, Socket, Type};

use super::NetworkService;
use crate::error::NetworkError;

/// A listener of the configuration and the addresses that it has.
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) address: Multiaddr,
    bound: Vec<Multiaddr>,
}

impl NetworkService {
    pub(super) fn listen(&mut self) -> Result<(), NetworkError> {
        for address in self.config.listen.clone() {
            let listening = free(&address).and_then(|()| {
                self.swarm.listen_on(address.clone()).map_err(|error| match error {
                    TransportError::MultiaddrNotSupported(_) => io::ErrorKind::Unsupported.into(),
                    TransportError::Other(error) => error,
                })
            });
            let id = match listening {
                Ok(id) => id,
                Err(source) => return Err(NetworkError::Listen { address, source }),
            };
            let bound = Vec::new();
            self.listeners.push(Listener { id, address, bound });
        }
        self.publish_listeners();
        Ok(())
    }

    pub(super) fn listener(&mut self, id: ListenerId, change: impl FnOnce(&mut Vec<Multiaddr>)) {
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) {
            change(&mut listener.bound);
            self.publish_listeners();
        }
    }

    /// Tells the handles where the node listens, from the moment on when all listeners are bound.
    pub(super) fn publish_listeners(&mut self) {
        let all_bound = self.listeners.iter().all(|listener| !listener.bound.is_empty());
        if all_bound || self.listening.borrow().is_some() {
            let with_id = |address: &Multiaddr| address.clone().with(Protocol::P2p(self.local));
            let bound: Vec<_> = self.listeners.iter().flat_map(|listener| &listener.bound).cloned().collect();
            self.listening.send_replace(Some(bound.iter().map(with_id).collect()));
            self.start_discovery(&bound);
        }
    }
}

/// Whether the address is one of this host, and its port free. libp2p shares its ports (`SO_REUSEPORT`): without this a second node would bind
/// the same one without a word, and each would get some of the other's connections. As there, a socket of IPv6
/// leaves IPv4 to others, so that a node can listen on `0.0.0.0` and `::`.
fn free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let Some(Protocol::Tcp(port)) = parts.next() else { return Ok(()) };
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // What is left of closed connections does not hold a port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}
