//! The preconfirmation network over libp2p: gossip, request/response, scores, limits.
//!
//! This crate moves bytes between preconfirmation sidecars and knows who sent them. It decodes every
//! message, size first, and judges its form; whether a commitment is *valid* is asked of whoever reads
//! [`NetworkEvents`], and nothing is forwarded before the answer. Above it sits a client, below it only
//! [`preconfirmation_types`].
//!
//! ```
//! use preconfirmation_p2p::{InboundRequest, Keypair, Network, NetworkConfig, NetworkEvent};
//! use preconfirmation_types::{GetHead, GetHeadRequest, PreconfHead, U256};
//!
//! # type Failure = Box<dyn std::error::Error + Send + Sync>;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Failure> {
//! // One node serves its head ...
//! let (server, mut served, service) =
//!     Network::new(NetworkConfig::local(167_000, Keypair::generate_ed25519()))?;
//! tokio::spawn(service.run());
//! tokio::spawn(async move {
//!     while let Some(event) = served.next().await {
//!         if let NetworkEvent::Request { request: InboundRequest::Head(responder), .. } = event {
//!             responder.send(PreconfHead { block_number: U256::from(42), ..Default::default() });
//!         }
//!     }
//! });
//!
//! // ... another connects to it over TCP and asks.
//! let mut config = NetworkConfig::local(167_000, Keypair::generate_ed25519());
//! config.static_peers = server.listen_addrs().await?;
//! let (client, mut events, service) = Network::new(config)?;
//! let running = tokio::spawn(service.run());
//! while let Some(event) = events.next().await {
//!     if let NetworkEvent::PeerConnected(peer) = event {
//!         let head = client.request::<GetHead>(peer, GetHeadRequest {}).await?;
//!         assert_eq!(head.block_number, U256::from(42));
//!         break;
//!     }
//! }
//! client.shutdown();
//! running.await??;
//! # Ok(())
//! # }
//! ```
//!
//! | word | meaning |
//! |---|---|
//! | [`Network::new`] | builds the three halves: handle, events, service |
//! | [`NetworkService::run`] | the one task that owns the swarm |
//! | [`NetworkHandle`] | what the application asks of the network; cheap to clone |
//! | [`NetworkEvents`] | what the network asks of the application; one reader |
//! | [`VerdictToken`], [`Responder`] | answers that are owed, given at most once by construction |
//!
//! # Queues
//! Every queue is bounded and every drop is counted in `p2p_queue_dropped_total`.
//!
//! | queue | when it is full |
//! |---|---|
//! | gossip events | the message is settled [`Verdict::Ignore`] |
//! | open verdicts (count and bytes) | the same |
//! | request events, requests in work | the stream is closed without an answer, nobody is penalised |
//! | peers coming and going | cannot be full: a set of at most all peers, turned into events when read |
//! | settlements, answers | cannot be full: the permit of what is open travels with it |
//! | answers that are not paid for (bounded by the requests in work) | the peer waits |
//! | commands | the caller waits |
//! | reports | dropped |
//! | finds of discovery | dropped; a later query finds them again |
//! | the list of known peers | who was never connected makes room, then who was not seen for longest |
//! | messages being sent to a peer (count) | the newest is not sent to it |
//! | the same (bytes) | the peer is disconnected |
//! | gossip that a peer below the graylist threshold sends | the peer waits: it is not read |
//! | inbound TCP handshakes (`max_pending`), which take turns | the connection is refused |
//! | requests waiting for their turn | [`RequestError::QueueFull`] |
//! | messages kept for peers to come (count and bytes) | [`PublishError::QueueFull`]; the stale are dropped |
//!
//! # Metrics
//! They go to the recorder of the [`metrics`](https://docs.rs/metrics) crate that is installed, if any.
//!
//! | metric | labels | counts |
//! |---|---|---|
//! | `p2p_gossip_received_total` | `topic`, `outcome` | messages: `accepted`, `ignored`, `rejected`, `late`, `dropped`, `own`, or their offence |
//! | `p2p_gossip_publish_total` | `topic`, `outcome` | `sent`, `queued`, `sent_late`, `stale`, `duplicate`, `queue_full`, `refused` |
//! | `p2p_reqresp_requests_total` | `protocol`, `direction`, `outcome` | requests of ours (`outbound`) and of peers (`inbound`) |
//! | `p2p_reqresp_latency_seconds` | `protocol` | from a request's turn to its answer |
//! | `p2p_peer_score_gauge` | `bound` | `least`, `mean` and `most` total of the connected peers |
//! | `p2p_offences_total` | `offence` | offences that peers were charged with |
//! | `p2p_bans_total` | `reason` | `application` or `gossip`: whose part was below the threshold |
//! | `p2p_queue_length` | `queue` | what waits: `outbox`, `pacing`, `answers`, `open_verdicts` |
//! | `p2p_queue_dropped_total` | `queue` | what was dropped, and peers cut off because they do not read |
//! | `p2p_peers` | `direction` | connected peers |
//! | `p2p_dials_total` | `source`, `outcome` | dials |
//! | `p2p_peers_pruned_total` | | peers disconnected because there were too many |
//! | `p2p_discovery_records_total` | `outcome` | node records that discovery has seen |

#![allow(
    clippy::disallowed_methods,
    reason = "the network reads the clock; its score and pacing take it as an argument"
)]

mod alarm;
mod bans;
mod behaviour;
mod codec;
mod config;
mod discovery;
mod disk;
mod error;
mod event;
mod gossip;
mod handle;
pub mod identity;
mod menu;
mod metrics;
mod names;
mod outbox;
mod pacing;
mod peer_book;
mod quiet;
mod redial;
mod rpc;
mod score;
mod service;
mod serving;
#[cfg(feature = "test-utils")]
pub mod sim;
mod transport;
mod unread;
mod watermarks;

pub use bytes::Bytes;
pub use libp2p::{Multiaddr, PeerId, identity::Keypair};

pub use config::{
    ConnectionConfig, DiscoveryConfig, GossipConfig, MeshConfig, NetworkConfig, OutboxConfig, PacingConfig,
    PeersConfig, QueueConfig, RedialConfig, ScoreConfig, ServingConfig, TopicScoreConfig,
};
pub use discovery::{Bootnode, BootnodeError, EnodePart};
pub use error::{ConfigError, DiscoveryError, NetworkError, PublishError, RequestError};
pub use event::{
    GossipMessage, InboundRequest, NetworkEvent, NetworkEvents, Responder, Verdict, VerdictToken,
};
pub use gossip::gossip_id;
pub use handle::{NetworkHandle, PeerStatus, Published};
pub use pacing::Pace;
pub use service::{Network, NetworkService};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
