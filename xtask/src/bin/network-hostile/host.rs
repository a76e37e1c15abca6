//! A TCP transport that dials from a chosen address: on one machine, all of 127.0.0.0/8 are hosts.

use std::{
    future::Pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
    tcp::tokio::TcpStream,
};
use tokio::net::TcpSocket;

/// Dials from this address; the system chooses if it is unspecified. Listens nowhere.
pub(crate) struct Host(pub(crate) Ipv4Addr);

/// Connects from an address.
pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Where an address leads, if it is one of TCP over IPv4.
pub(crate) fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => Some(SocketAddr::from((ip, port))),
        _ => None,
    }
}

impl Transport for Host {
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Pending<io::Result<TcpStream>>;
    type Dial = BoxFuture<'static, io::Result<TcpStream>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(to) = socket_address(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        Ok(connect(self.0, to).map(|stream| stream.map(TcpStream)).boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}
