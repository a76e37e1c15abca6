//! How bytes reach a peer: TCP with noise and yamux, QUIC, and names resolved by DNS in front of both.

use std::time::Duration;

use libp2p::{
    PeerId, Transport as _,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    dns,
    identity::Keypair,
    noise, quic, tcp, yamux,
};

use crate::error::NetworkError;

/// From the first packet to an authenticated connection.
const HANDSHAKE: Duration = Duration::from_secs(10);

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// Every transport that a node speaks. A system whose DNS settings cannot be read still reaches numeric
/// addresses.
pub(crate) fn build(identity: &Keypair) -> Result<Connections, NetworkError> {
    let transport = match dns::tokio::Transport::system(sockets(identity)?) {
        Ok(named) => named.boxed(),
        Err(error) => {
            tracing::warn!(%error, "the system's DNS settings cannot be read: names in addresses are not resolved");
            sockets(identity)?
        }
    };
    Ok(transport)
}

fn sockets(identity: &Keypair) -> Result<Connections, NetworkError> {
    let noise = noise::Config::new(identity).map_err(|error| NetworkError::Stack(error.into()))?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(HANDSHAKE)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let mut quic = quic::Config::new(identity);
    quic.handshake_timeout = HANDSHAKE;
    let quic = quic::tokio::Transport::new(quic)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    Ok(quic.or_transport(tcp).map(|either, _| either.into_inner()).boxed())
}
