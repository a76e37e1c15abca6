//! How bytes reach a peer: TCP with noise and yamux, QUIC, and names resolved by DNS in front of both.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Transport as _, core::upgrade::Version, noise, quic, tcp, yamux};

use crate::{
    config::{NetworkConfig, after},
    error::NetworkError,
    names::{Names, Sockets},
    unread::Connections,
};

/// From the first packet to an authenticated connection.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Every transport that a node speaks, with its connections watched.
pub(crate) fn build(config: &NetworkConfig, connections: &Connections) -> Result<Sockets, NetworkError> {
    Ok(Names::new(sockets(config, connections)?).boxed())
}

fn sockets(config: &NetworkConfig, connections: &Connections) -> Result<Sockets, NetworkError> {
    let identity = &config.identity;
    let noise = noise::Config::new(identity).map_err(|error| NetworkError::Stack(error.into()))?;
    let (over_tcp, over_quic) = (connections.clone(), connections.clone());
    let turns = Turns::new(config.connections.handshake_interval);
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .and_then(move |socket, endpoint| {
            let turn = endpoint.is_listener().then(|| turns.take(Instant::now()));
            async move {
                if let Some(turn) = turn {
                    tokio::time::sleep_until(turn.into()).await;
                }
                Ok::<_, io::Error>(socket)
            }
        })
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(HANDSHAKE)
        .map(move |(peer, muxer), _| (peer, over_tcp.watch(peer, muxer)));
    let mut quic = quic::Config::new(identity);
    quic.handshake_timeout = HANDSHAKE;
    let quic =
        quic::tokio::Transport::new(quic).map(move |(peer, muxer), _| (peer, over_quic.watch(peer, muxer)));
    Ok(quic.or_transport(tcp).map(|either, _| either.into_inner()).boxed())
}

/// Spreads inbound handshakes over time: each costs more than any message, and strangers decide how many come
/// at once. As connections in negotiation are bounded, so is the time that one waits.
#[derive(Clone)]
struct Turns {
    interval: Duration,
    /// The first instant that nobody has taken.
    free: Arc<Mutex<Option<Instant>>>,
}

impl Turns {
    fn new(interval: Duration) -> Self {
        Self { interval, free: Arc::default() }
    }

    /// When the next handshake may begin.
    fn take(&self, now: Instant) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = free.map_or(now, |free| free.max(now));
        *free = Some(after(turn, self.interval));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_take_turns_and_none_is_saved_up() {
        let (turns, start) = (Turns::new(Duration::from_millis(10)), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let taken = [0, 0, 3, 30, 100, 101].map(|now| turns.clone().take(at(now)));
        assert_eq!(taken, [0, 10, 20, 30, 100, 110].map(at));
    }
}
