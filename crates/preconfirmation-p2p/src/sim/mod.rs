//! A network in one process that goes wrong on purpose (feature `test-utils`).
//!
//! A [`SimNetwork`] hands out the same [`NetworkHandle`] and [`NetworkEvents`] as
//! [`Network::new`](crate::Network::new), with a [`SimService`] in the place of the service, so that whatever
//! runs over the real network runs over this one unchanged. Each link has a delay and a bandwidth, and may lose, double
//! and reorder what travels over it; a partition cuts connections, and healing brings them back. All rng are cast
//! from one seed, and all time is Tokio's: where that is paused, an hour of trouble takes a moment and every
//! deadline is exact.
//!
//! ```
//! use preconfirmation_p2p::{Bytes, Keypair, NetworkConfig, NetworkEvent, sim::{Link, SimNetwork}};
//! use preconfirmation_types::{Container, PreconfCommitment, SigningDomain, SigningKey, Topic};
//!
//! # type Failure = Box<dyn std::error::Error + Send + Sync>;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Failure> {
//! let network = SimNetwork::new(7);
//! network.set_links(Link { duplicate: 0.5, ..Link::default() });
//! let (one, mut events, service) = network.join(NetworkConfig::new(167_000, Keypair::generate_ed25519()))?;
//! tokio::spawn(service.run());
//! let (two, _events, service) = network.join(NetworkConfig::new(167_000, Keypair::generate_ed25519()))?;
//! tokio::spawn(service.run());
//! two.dial(one.listen_addrs().await?.remove(0)).await?;
//! let key = SigningKey::from_bytes([1; 32])?;
//! let commitment = PreconfCommitment::default().sign(&key, &SigningDomain::PLACEHOLDER);
//! two.publish(Topic::Commitments, Bytes::from(commitment.to_ssz())).await?;
//! while let Some(event) = events.next().await {
//!     if let NetworkEvent::Gossip { from, .. } = event {
//!         assert_eq!(from, two.local_peer_id());
//!         break;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is simulated, and what is not
//! - Gossip goes to every connected peer, is forwarded on *accept* only, is known by its
//!   [`gossip_id`](crate::gossip_id) for the time of the duplicate cache, and never comes back to its author.
//! - Requests wait for their pace as they do in the real network, fail when the connection closes and time
//!   out when a frame is lost. The server's rate limits, which follow a clock of their own, are left out.
//! - Scores are the application's and gossipsub's count of invalid deliveries, which a rejection adds to indefinitelyybody
//!   who has brought the message; what gossipsub grants is left out. Thresholds, bans and their end are those of the
//!   configuration. Topics are the two that there are: what is on others is tried over sockets only, and so are the limits of
//!   connections.
//! - A frame is lost where a real connection would be slow or gossip would fail; no connection closes for it.

mod gossip;
mod node;
mod requests;
mod wire;

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{
    config::NetworkConfig,
    error::NetworkError,
    event::{NetworkEvents, Open, Settlement, Verdict, VerdictToken},
    handle::NetworkHandle,
};
pub use node::SimService;
use wire::Hub;
pub use wire::{Link, SimCounts};

/// A message's verdict as an application without a network owes it, and where to read what it gives.
pub fn verdict(from: PeerId) -> (VerdictToken, GivenVerdict) {
    let (settlements, given) = tokio::sync::mpsc::channel(1);
    let open = Open { key: 0, from, by_author: false, is_twin: false };
    (VerdictToken::new(open, settlements), GivenVerdict(given))
}

/// What became of a verdict of [`verdict`].
#[derive(Debug)]
pub struct GivenVerdict(tokio::sync::mpsc::Receiver<Settlement>);

impl GivenVerdict {
    /// The verdict, once it has been given.
    pub fn get(&mut self) -> Option<Verdict> {
        self.0.try_recv().ok().map(|settlement| settlement.verdict)
    }
}

/// Links and partitions of nodes in one process. Cloning gives another handle of the same network.
#[derive(Debug, Clone)]
pub struct SimNetwork {
    hub: Arc<Hub>,
}

impl SimNetwork {
    /// An empty network with [default](Link::default) links.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { hub: Arc::new(Hub::new(seed)) }
    }

    /// Adds a node, which is dialled by the address that its handle tells. `config.listen` is not used.
    ///
    /// # Errors
    /// [`NetworkError::Config`] for settings that cannot work.
    pub fn join(
        &self,
        config: NetworkConfig,
    ) -> Result<(NetworkHandle, NetworkEvents, SimService), NetworkError> {
        config.check()?;
        Ok(SimService::new(config, Arc::clone(&self.hub)))
    }

    /// Sets every link, those of nodes to come included.
    pub fn set_links(&self, link: Link) {
        self.hub.set_links(link);
    }

    /// Sets the link from one node to another; the way back is another link.
    pub fn set_link(&self, from: PeerId, to: PeerId, link: Link) {
        self.hub.set_link(from, to, link);
    }

    /// Cuts every connection between these nodes and all others, and refuses new ones.
    pub fn partition(&self, side: impl IntoIterator<Item = PeerId>) {
        self.hub.partition(side.into_iter().collect());
    }

    /// Ends the partition: the connections that it cut stand again.
    pub fn heal(&self) {
        self.hub.heal();
    }

    /// Connects two nodes, as one that dials a peer of its again does. `false` if one of them is not there, or a partition lies
    /// between them.
    #[allow(
        clippy::must_use_candidate,
        reason = "most want the connection, and learn from events whether it stands"
    )]
    pub fn connect(&self, one: PeerId, other: PeerId) -> bool {
        self.hub.connect(one, other)
    }

    /// A node has crashed: from this moment on nothing that it sends is heard. Its peers see their connections close. Its service
    /// runs on with nobody to talk to until it is shut down, and only then may its identity [join](Self::join) again.
    pub fn crash(&self, peer: PeerId) {
        self.hub.leave(peer);
    }

    /// What the links have done so far.
    #[must_use]
    pub fn counts(&self) -> SimCounts {
        self.hub.counts()
    }

    /// A fingerprint of all that has arrived, when and where: the same seed and the same calls at the same
    /// times give the same one. What arrives at the same moment counts in any order.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.hub.trace()
    }
}

/// The address of a node, which is its name.
fn address(peer: PeerId) -> Multiaddr {
    Multiaddr::empty().with(Protocol::Memory(0)).with(Protocol::P2p(peer))
}

/// The node of an address.
fn addressee(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// Tokio's clock, so that a paused one moves everything.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
