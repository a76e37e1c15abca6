//! Whether the ports of peers are free, tried before anything is written: a node that cannot listen leaves nothing behind.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    args::RunArgs,
    error::RunError,
    network::{Listener, discovery, listen_ips},
};

/// Binds each port and lets go of it.
pub(super) fn probe(args: &RunArgs) -> Result<(), RunError> {
    let mut sockets = Vec::new();
    for ip in listen_ips(args) {
        sockets.push((Listener::Tcp, SocketAddr::new(ip, args.listen_tcp)));
        sockets.extend(args.listen_quic.map(|port| (Listener::Quic, SocketAddr::new(ip, port))));
    }
    sockets.extend(discovery(args).map(|socket| (Listener::Discovery, socket)));
    for (listener, address) in sockets {
        bind(address, listener == Listener::Tcp)
            .map_err(|source| listener.refused(address.port(), &address.ip(), source))?;
    }
    Ok(())
}

fn bind(address: SocketAddr, is_tcp: bool) -> io::Result<()> {
    let (kind, protocol) = if is_tcp { (Type::STREAM, Protocol::TCP) } else { (Type::DGRAM, Protocol::UDP) };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // As the node does: IPv4 has addresses of its own.
        socket.set_only_v6(true)?;
    }
    // A TCP port whose connections have just been closed is free.
    #[cfg(unix)]
    socket.set_reuse_address(is_tcp)?;
    socket.bind(&address.into())?;
    if is_tcp { socket.listen(1) } else { Ok(()) }
}
