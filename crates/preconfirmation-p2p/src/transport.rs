//! How bytes reach a peer: TCP with noise and yamux, QUIC, and names resolved by DNS in front of both. Between nodes of one process
//! that listen on `/memory/…` it is channels in the place of TCP.

use std::{io, sync::Arc, time::Duration};

use libp2p::{
    Multiaddr, Transport as _,
    core::{transport::MemoryTransport, upgrade::Version},
    multiaddr::Protocol,
    noise, tcp, yamux,
};
use socket2::SockRef;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    config::{ConnectionConfig, HANDSHAKE, NetworkConfig},
    duplicate_identity::OwnKey,
    error::NetworkError,
    fair::Fair,
    half_open::{Guarded, HalfOpen},
    names::{Names, Sockets},
    slow_reader::SlowReaderMonitor,
};

/// Bytes that the system takes of a TCP connection beyond those that are under way.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// How long a QUIC connection with our own key stays open for its listener to learn that, who closes it.
#[cfg(feature = "quic")]
const OWN_KEY_TOLD: Duration = Duration::from_secs(2);

/// Every transport that a node speaks, with its connections watched.
pub(crate) fn build(
    config: &NetworkConfig,
    slow_readers: &SlowReaderMonitor,
    half_open: &HalfOpen,
    own_key: &OwnKey,
) -> Result<Sockets, NetworkError> {
    let guarded = Guarded::new(sockets(config, slow_readers, half_open, own_key)?, half_open.clone());
    Ok(Names::new(guarded.boxed()).boxed())
}

fn sockets(
    config: &NetworkConfig,
    slow_readers: &SlowReaderMonitor,
    half_open: &HalfOpen,
    own_key: &OwnKey,
) -> Result<Sockets, NetworkError> {
    let identity = &config.identity;
    let noise = noise::Config::new(identity).map_err(|error| NetworkError::Stack(error.into()))?;
    let (over_tcp, over_memory) = (slow_readers.clone(), slow_readers.clone());
    let memory_noise = noise.clone();
    let turns = Turns::new(config.connections.handshake_interval);
    let inbound = Inbound::new(&config.connections, half_open.clone(), turns.clone());
    let own_over_tcp = own_key.clone();
    let large_sends = config.gossip.large_sends;
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .and_then(move |socket, endpoint| {
            let inbound = endpoint.is_listener().then(|| inbound.clone());
            let take_turns = large_sends > 0;
            async move {
                if take_turns {
                    // What the system holds back itself takes no turn. Where it has no such option, turns are less exact.
                    drop(SockRef::from(&socket.0).set_tcp_notsent_lowat(NOTSENT_LOWAT));
                }
                if let Some(inbound) = inbound {
                    inbound.begin(socket.0.readable(), endpoint.get_remote_address()).await?;
                }
                Ok::<_, io::Error>(Fair(socket))
            }
        })
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex_ext(move |peer, endpoint| {
            own_over_tcp.authenticated(*peer, endpoint);
            yamux::Config::default()
        })
        .timeout(HANDSHAKE)
        .map(move |(peer, muxer), _| (peer, over_tcp.watch(peer, muxer)));
    #[cfg(feature = "quic")]
    let tcp =
        quic(identity, slow_readers, own_key, turns).or_transport(tcp).map(|either, _| either.into_inner());
    // Others are dialled by such an address only by a node that has one.
    if !config.listen.iter().any(|address| matches!(address.iter().next(), Some(Protocol::Memory(_)))) {
        return Ok(tcp.boxed());
    }
    let memory = MemoryTransport::new()
        .upgrade(Version::V1Lazy)
        .authenticate(memory_noise)
        .multiplex(yamux::Config::default())
        .map(move |(peer, muxer), _| (peer, over_memory.watch(peer, muxer)));
    Ok(memory.or_transport(tcp).map(|either, _| either.into_inner()).boxed())
}

#[cfg(feature = "quic")]
fn quic(
    identity: &libp2p::identity::Keypair,
    slow_readers: &SlowReaderMonitor,
    own_key: &OwnKey,
    turns: Turns,
) -> Sockets {
    use libp2p::{
        core::muxing::StreamMuxerExt as _,
        quic::{Config, tokio::Transport},
    };

    let (slow_readers, own_key) = (slow_readers.clone(), own_key.clone());
    let mut config = Config::new(identity);
    config.handshake_timeout = HANDSHAKE;
    Transport::new(config)
        .and_then(move |(peer, mut muxer), endpoint| {
            let waits = own_key.authenticated(peer, &endpoint) && endpoint.is_dialer();
            // libp2p begins a handshake when its first packet is read. So its turn comes when it is over: as many peers become
            // known in a second as over TCP.
            let turns = endpoint.is_listener().then(|| turns.clone());
            async move {
                if let Some(turns) = turns {
                    turns.take().await;
                }
                if waits {
                    // The swarm closes it, and then what its listener has to learn our key from is not sent again if it was lost.
                    drop(
                        timeout(OWN_KEY_TOLD, std::future::poll_fn(|cx| muxer.poll_inbound_unpin(cx))).await,
                    );
                }
                Ok::<_, io::Error>((peer, slow_readers.watch(peer, muxer)))
            }
        })
        .boxed()
}

/// When the handshake of an inbound TCP connection begins.
#[derive(Clone)]
struct Inbound {
    first_bytes: Duration,
    turns: Turns,
    half_open: HalfOpen,
}

impl Inbound {
    const fn new(config: &ConnectionConfig, half_open: HalfOpen, turns: Turns) -> Self {
        Self { first_bytes: config.first_bytes, turns, half_open }
    }

    /// Waits for the peer's first bytes, then for its turn. Who dials speaks first; who says nothing takes no turn.
    async fn begin(
        &self,
        readable: impl Future<Output = io::Result<()>>,
        from: &Multiaddr,
    ) -> io::Result<()> {
        timeout(self.first_bytes, readable).await??;
        self.half_open.has_sent(from);
        self.turns.take().await;
        Ok(())
    }
}

/// Spreads inbound handshakes over time: each costs more than any message, and untrusted peers decide how many come
/// at once. Whoever waits waits in order, and gives up its turn by being dropped; as connections in negotiation are
/// bounded, so is the time that one waits.
#[derive(Clone)]
struct Turns {
    interval: Duration,
    /// When the next one may begin.
    free: Arc<Mutex<Instant>>,
}

impl Turns {
    fn new(interval: Duration) -> Self {
        Self { interval, free: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Waits until a handshake may begin. Cancel-safe.
    async fn take(&self) {
        let mut free = self.free.lock().await;
        sleep_until(*free).await;
        let now = Instant::now();
        *free = now.checked_add(self.interval).unwrap_or(now);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join_all, pending, ready};

    use super::*;

    async fn taken(turns: &Turns, start: Instant) -> u128 {
        turns.take().await;
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_take_turns_and_none_is_saved_up() {
        let (turns, start) = (Turns::new(Duration::from_millis(10)), Instant::now());
        let at_once = join_all([(); 3].map(|()| taken(&turns, start))).await;
        assert_eq!(at_once, [0, 10, 20]);
        tokio::time::sleep(Duration::from_millis(80)).await;
        let later = join_all([(); 2].map(|()| taken(&turns, start))).await;
        assert_eq!(later, [100, 110]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_in_time_and_takes_no_turn() {
        let config = ConnectionConfig {
            first_bytes: Duration::from_secs(7),
            handshake_interval: Duration::from_millis(20),
            ..ConnectionConfig::default()
        };
        let turns = Turns::new(config.handshake_interval);
        let (inbound, start) = (Inbound::new(&config, HalfOpen::new(config), turns), Instant::now());
        let from = "/ip4/1.1.1.1/tcp/1".parse().unwrap();
        let silent = inbound.begin(pending(), &from).await.unwrap_err();
        assert_eq!((silent.kind(), start.elapsed()), (io::ErrorKind::TimedOut, config.first_bytes));
        let begun = || async {
            inbound.begin(ready(Ok(())), &from).await.unwrap();
            (start.elapsed() - config.first_bytes).as_millis()
        };
        assert_eq!(join_all([begun(), begun(), begun()]).await, [0, 20, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_leaves_its_turn_to_the_next() {
        let (turns, start) = (Turns::new(Duration::from_millis(10)), Instant::now());
        turns.take().await;
        let waiting: Vec<_> = (0..100).map(|_| turns.clone()).collect();
        let flood = join_all(waiting.iter().map(Turns::take));
        assert!(timeout(Duration::from_millis(5), flood).await.is_err());
        assert_eq!(taken(&turns, start).await, 10);
    }
}
