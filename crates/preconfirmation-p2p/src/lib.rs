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
//!     if let NetworkEvent::PeerConnected { peer, .. } = event {
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
//! | gossip whose verdict is owed, read or not (count and bytes) | whoever has most loses its newest, which is settled [`Verdict::Ignore`] |
//! | the same, when gossipsub is about to forget it | settled [`Verdict::Ignore`] |
//! | gossip of a peer beyond `gossip.unelected_per_minute` | read after everybody else's, within the same bounds |
//! | requests of peers that wait for a place (of one peer, in all) | the oldest of whoever has most is answered without the application |
//! | requests of peers over their rate | the same, at the next second |
//! | request events | bounded by the requests in flight |
//! | peers coming and going | cannot be full: a set of at most all peers, turned into events when read |
//! | settlements, answers | cannot be full: the permit of what is open travels with it |
//! | answers that are not paid for (bounded by the requests in flight) | the peer waits, 5 s at most, or gives way to another |
//! | commands | the caller waits |
//! | reports | dropped |
//! | finds of discovery | dropped; a later query finds them again |
//! | the list of known peers | who was never connected makes room, then who was not seen for longest |
//! | messages that gossip refuses before it knows them | not kept; told of as counts |
//! | half a gossip frame of a peer (`max_frame_bytes`, `frame_time`) | the peer is disconnected |
//! | messages being sent to a peer (count) | the newest is not sent to it |
//! | the same (bytes) | the peer is disconnected |
//! | gossip that a peer below the graylist threshold sends | the peer waits: it is not read |
//! | inbound connections in negotiation (`max_pending`, `max_pending_per_ip`) | the host with the most open and recently failed ones loses one |
//! | lists being written to one peer (`write_bytes_per_peer`) | they wait, 5 s at most |
//! | requests waiting for a peer's rate limit | [`RequestError::QueueFull`] |
//! | what was sent to peers that have gone (8,192 peers) | who went first is forgotten |
//! | messages kept for peers to come, or to take what was published before (count and bytes) | [`PublishError::QueueFull`]; the stale are dropped |
//!
//! # Memory
//! What peers can make gossip hold, at most, with the default settings:
//!
//! | what | bound | MiB |
//! |---|---|---|
//! | messages whose verdict is owed | `open_verdict_bytes` | 128 |
//! | the same in gossipsub's message cache, until the verdict | `open_verdict_bytes` | 128 |
//! | what was accepted in `history` heartbeats | what elected signers sign, and the application lets pass of lists | – |
//! | begun frames | 160 connections of `max_frame_bytes`, 3 MiB | 480 |
//! | what waits to be sent | 32 MiB for each peer that does not read, 8 s long | – |
//! | messages of ours that wait | `publish_queue.bytes` | 64 |
//!
//! Ids take some 300 bytes each for the time of the duplicate cache, and each has cost the check of a signature.
//!
//! # Metrics
//! They go to the recorder of the [`metrics`](https://docs.rs/metrics) crate that is installed, if any.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `p2p_gossip_received_total` | `topic`, `outcome` | gossip messages received, by outcome: `accepted`, `forwarded`, `ignored`, `rejected`, `author_rejected`, `twin`, `late`, `dropped`, `own`, `unknown_topic` (of topic `unknown`), or their offence |
//! | `p2p_gossip_copies_total` | `topic` | copies of gossip messages that peers have sent, the first one included: compared with `p2p_gossip_received_total` it shows what the mesh costs |
//! | `p2p_gossip_publish_total` | `topic`, `outcome` | gossip messages published, by outcome: `sent`, `queued`, `sent_late`, `stale`, `duplicate`, `queue_full`, `refused`; and copies of lists that their peers had before their turn came, `unwanted` |
//! | `p2p_reqresp_requests_total` | `protocol`, `direction`, `outcome` | requests that have ended, by outcome; ours (`outbound`) and those of peers (`inbound`): `answered`, without the application `busy`, `overdue`, `rate_limited`, `no_response`, `malformed`, `closing`, or `not_read`, `timed_out`, `disconnected`, `io` |
//! | `p2p_reqresp_latency_seconds` | `protocol` | time from sending a request to its answer |
//! | `p2p_peer_score_gauge` | `bound` | total score of the connected peers: `least`, `mean` and `most` |
//! | `p2p_offences_total` | `offence` | offences that peers were charged with |
//! | `p2p_bans_total` | `reason` | peers banned: `application`, as gossipsub's own counters ban nobody |
//! | `p2p_own_schedule_suspected` | | 1 while this node suspects its own lookahead or clock |
//! | `p2p_queue_length` | `queue` | entries in a queue: `publish_queue`, `pacing`, `inbound_requests`, `answers`, `open_verdicts` |
//! | `p2p_queue_dropped_total` | `queue` | entries dropped from a full queue, and peers disconnected because they do not read |
//! | `p2p_peers` | `direction` | connected peers, by who opened the oldest connection |
//! | `p2p_dials_total` | `source`, `outcome` | dials, by where the address came from and by outcome |
//! | `p2p_connections_refused_total` | `limit` | connections refused, by the limit that was reached: `inbound`, `outbound`, `dials`, `peer`, `address`, `subnet`, `banned`, `blocked` |
//! | `p2p_service_tick_seconds` | | time of the service's housekeeping, once a second: scores, bans, whom to dial, whom to disconnect |
//! | `p2p_identity_used_twice_total` | `sign` | signs that two nodes use one identity key: ours (`dialled`, `answered`, `published`) or a peer's (`two_addresses`) |
//! | `p2p_peers_pruned_total` | | peers disconnected because there were too many |
//! | `p2p_discovery_records_total` | `outcome` | node records (ENR) seen by discovery, by outcome |

#![allow(
    clippy::disallowed_methods,
    reason = "the network reads the clock; its score, pacing and serving take it as an argument"
)]

mod admission;
mod behaviour;
mod bootnode;
mod codec;
mod config;
#[cfg(any(test, feature = "test-utils"))]
pub mod deployed;
mod discovery;
mod disk;
mod duplicate_identity;
mod error;
mod event;
mod fair;
mod filter;
mod frames;
#[cfg(feature = "test-utils")]
#[doc(hidden)]
pub mod fuzz;
mod gossip;
mod gossip_behaviour;
mod half_open;
mod handle;
pub mod identity;
mod inbound;
mod inbox;
mod ip;
mod iwant;
mod metrics;
mod monitored;
mod names;
mod operator;
mod peer_manager;
mod publish_queue;
mod request_queue;
mod responder;
mod rpc;
mod send_turns;
mod service;
mod serving;
#[cfg(feature = "test-utils")]
pub mod sim;
mod slow_reader;
mod suspicion;
mod transport;
mod validation;
mod verdicts;

pub use bytes::Bytes;
pub use libp2p::{Multiaddr, PeerId, identity::Keypair};
pub use preconfirmation_types::rate_limit::RateLimit;

pub use bootnode::{Bootnode, BootnodeError, EnodePart};
pub use config::{
    ConnectionConfig, DiscoveryConfig, GossipConfig, MeshConfig, NetworkConfig, PacingConfig, PeersConfig,
    PublishQueueConfig, QueueConfig, RedialConfig, ScoreConfig, ServingConfig, TopicScoreConfig,
};
pub use duplicate_identity::{DuplicateIdentity, DuplicateSign};
pub use error::{ConfigError, DiscoveryError, NetworkError, PublishError, RequestError};
pub use event::{GossipMessage, NetworkEvent, NetworkEvents, Verdict, VerdictToken};
pub use gossip::gossip_id;
pub use handle::{NetworkHandle, NetworkQueues, PeerInfo, Published, StaticPeerInfo, StaticPeerState};
pub use operator::{Blocked, IpRange, IpRangeError};
pub use responder::{InboundRequest, Responder};
pub use rpc::Protocol;
pub use service::{Network, NetworkService, first_enr};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
