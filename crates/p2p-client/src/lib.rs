//! The client of the preconfirmation network: follow the chain, publish, catch up, shut down.
//!
//! This is the crate that sidecars depend on. One service task drives the layers below: the network
//! ([`network`]), the validity rules ([`validation`]), the store ([`storage`]) and catch-up ([`catchup`]). A commitment
//! of an elected signer is forwarded; only one that is linked to the settled block is stored, reported and served.
//!
//! # Follow
//!
//! ```no_run
//! use std::{num::NonZeroU64, sync::Arc};
//!
//! use p2p_client::{
//!     Address, Base, BlockUpdate, Keypair, P2pClient, P2pClientConfig, RotatingSchedule, SigningDomain, UnixSeconds,
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Who may sign, under which domain, and where a peer is.
//! let operators = vec![Address::repeat_byte(0xaa), Address::repeat_byte(0xbb)];
//! let window = NonZeroU64::new(384).ok_or("no window")?;
//! let schedule = RotatingSchedule::new(operators, UnixSeconds::new(1_760_000_000), window)?;
//! let (domain, slasher) = (SigningDomain::PLACEHOLDER, Address::repeat_byte(0x51));
//! let config = P2pClientConfig::mainnet(Keypair::generate_ed25519(), domain, slasher)
//!     .with_static_peers(["/ip4/127.0.0.1/tcp/4001".parse()?]);
//!
//! let client = P2pClient::start(config, Arc::new(schedule)).await?;
//! // The execution layer has reached block 1,374,486, which the contracts have settled: catch up above it.
//! client.chain().l2_synced(Base::at(1_374_486)).await?;
//!
//! let mut feed = client.events_from(1_374_487);
//! while let Some(update) = feed.next().await? {
//!     match update {
//!         BlockUpdate::Block(block) => println!("block {}: {} bytes", block.block, block.txlist.bytes().len()),
//!         BlockUpdate::Reorg { from, dropped } => println!("{} blocks from {from} on are gone", dropped.len()),
//!         _ => println!("{}", client.status()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! There are three ways to follow:
//!
//! | with | yields | a slow reader |
//! |---|---|---|
//! | [`P2pClient::events_from`] | the chain from any height on, each block once, with its list; resumes after a restart | reads later, from the store |
//! | [`P2pClient::subscribe`] | every [`SdkEvent`] from now on | loses the oldest and is told how many |
//! | [`P2pClient::run_with_handler`] | every [`SdkEvent`] from now on, passed to a function | pauses ingestion and loses nothing |
//!
//! # Publish
//!
//! A client publishes if [`P2pClientConfig::publishing`] says so, with a store that keeps promises through a crash
//! ([`Publishing::Guarded`]), and while it knows what it builds on: it is live, or alone with nothing above its head.
//!
//! ```no_run
//! use p2p_client::{Bytes, P2pClient, P2pClientError, PublishOutcome, SignedCommitment};
//!
//! async fn publish(client: &P2pClient, signed: SignedCommitment, txlist: Bytes) -> Result<(), P2pClientError> {
//!     match client.publisher().publish_block(signed, txlist).await {
//!         Ok(PublishOutcome::Published { peers }) => println!("sent to {peers} peers"),
//!         Ok(PublishOutcome::Queued) => println!("no peers; it is sent when one connects"),
//!         Ok(PublishOutcome::NonCanonical { .. }) => println!("sent, but another branch is canonical"),
//!         Ok(PublishOutcome::AlreadyPublished) => println!("published before"),
//!         // The signer has promised something else for this height: nothing was stored or sent.
//!         Err(P2pClientError::Conflict(conflict)) => println!("{conflict}"),
//!         Err(error) if error.is_retryable() => println!("later: {error}"),
//!         // The rule that peers would refuse it for.
//!         Err(error) => return Err(error),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Handle every event, and shut down
//!
//! ```no_run
//! use p2p_client::{P2pClient, P2pClientError, SdkEvent};
//!
//! async fn run(client: P2pClient) -> Result<(), P2pClientError> {
//!     let handle = client.clone();
//!     client
//!         .run_with_handler(|event| {
//!             let handle = handle.clone();
//!             async move {
//!                 match event {
//!                     SdkEvent::Evidence { kind, signer, .. } => println!("{signer}: {}", kind.label()),
//!                     SdkEvent::Status { status } if status.is_live() => drop(handle.shutdown().await),
//!                     _ => {}
//!                 }
//!             }
//!         })
//!         .await
//! }
//! ```
//!
//! A shutdown, or the drop of the last handle, takes no more commands, lets the running batch reach the store,
//! settles open verdicts, closes the connections, and leaves no task behind; all that within
//! [`P2pClientConfig::shutdown_timeout`]. If a task panics, the client ends with that error.
//!
//! | to | use |
//! |---|---|
//! | catch up | [`ChainApi::l2_synced`], then [`ChainApi::update_head`] whenever the settled block moves; [`P2pClient::status`] says how far behind the client is |
//! | leave what L1 does to a view of it | [`ChainApi::follow_l1`] with an [`L1View`] |
//! | leave that to an L2 node | [`ChainApi::follow_l2`] with an [`L2View`]; [`ChainApi::promises`] says which promises were kept |
//! | report L1 | [`ChainApi::update_l1_head`], [`ChainApi::notify_reorg`], [`ChainApi::notify_anchor_restored`], [`ChainApi::notify_schedule_changed`]; [`ChainApi::expected_preconfer`] says whose turn it is |
//! | hand over without a block | [`Publisher::publish_commitment`] |
//! | be a preconfer | `P2pClient::preconfer`, feature `preconfer`: builds, records, signs and publishes the next block |
//! | share one key between nodes | [`P2pClientConfig::with_guard`] |
//! | ask a peer | [`NetworkApi::request_head`], [`NetworkApi::request_commitments`], [`NetworkApi::request_raw_txlist`] |
//! | store on disk | [`P2pClientConfig::with_storage`] with `StorageChoice::Disk`, feature `disk` |
//! | store elsewhere | implement [`SdkStorage`] and pass it to [`P2pClientConfig::with_storage`] |
//! | use another network, or a simulated one | [`P2pClientBuilder::network`] |
//! | measure | install a recorder for the [`metrics`](https://docs.rs/metrics) crate; [`P2pClient::counts`] counts for one client |
//! | trace | the span `message` has the peer, topic, hash, dedupe result and outcome of a gossip message on its way from the network through workers and store to the event; `publish` the same of our own messages (level debug) |
//!
//! # Metrics
//!
//! | series | labels | unit | means |
//! |---|---|---|---|
//! | `p2p_gossip_received_total` | topic, outcome | messages | gossip received, by what became of it (network) |
//! | `p2p_gossip_copies_total` | topic | copies | gossip that peers have sent, duplicates included (network) |
//! | `p2p_gossip_publish_total` | topic, outcome | messages | gossip published, by what became of it (network) |
//! | `p2p_reqresp_requests_total` | protocol, direction, outcome | requests | asked and served, by how they ended (network) |
//! | `p2p_reqresp_latency_seconds` | protocol | seconds | from a request's turn to its answer (network) |
//! | `p2p_peers` | direction | peers | connected (network) |
//! | `p2p_peer_score_gauge` | bound | points | least, mean and most score of the connected peers (network) |
//! | `p2p_peers_pruned_total` | | peers | disconnected because there were too many (network) |
//! | `p2p_dials_total` | source, outcome | dials | by where the address came from (network) |
//! | `p2p_discovery_records_total` | outcome | records | seen by discovery, by what they are good for (network) |
//! | `p2p_offences_total` | offence | offences | that peers were charged with (network) |
//! | `p2p_own_schedule_suspected` | | 0 or 1 | several authors offend alike: this node's own schedule or clock is the suspect (network) |
//! | `p2p_connections_refused_total` | limit | connections | refused, by the limit that they would exceed (network) |
//! | `p2p_identity_used_twice_total` | sign | signs | that two nodes use one key (network) |
//! | `p2p_service_tick_seconds` | | seconds | what the network does once a second (network) |
//! | `p2p_bans_total` | reason | peers | banned (network) |
//! | `p2p_queue_length` | queue | entries | what waits in the network (network) |
//! | `p2p_queue_dropped_total` | queue | entries | what a full queue of the network cost (network) |
//! | `p2p_cache_hits_total` | kind | messages | known already |
//! | `p2p_signatures_total` | outcome | signatures | checked: proved by the signer's table (`hit`), not that signer's (`miss`), left open by the table (`fallback`), and recovered, those two included (`recovery`) |
//! | `p2p_signer_tables_built_total` | | tables | of elected signers' keys, built |
//! | `p2p_validation_failures_total` | reason | messages | broke a rule |
//! | `p2p_validation_ignored_total` | reason | commitments | of no use, nobody's fault |
//! | `p2p_client_dropped_total` | queue | entries | what a full queue or its age cost |
//! | `p2p_client_queue_length` | queue | entries | what waits in the client |
//! | `p2p_reorgs_total` | cause | reorgs | blocks were replaced, by a fork, by L1, or as the schedule elects their signers no more |
//! | `p2p_evidence_total` | kind | proofs | misbehaviour of preconfers |
//! | `p2p_promises_total` | signer, outcome | promises | of which the view of L2 has shown the end; a height that it settles anew counts again; of the first 64 signers by name |
//! | `p2p_promises_late_total` | signer | blocks | that were settled late |
//! | `p2p_intake_paused` | | 0 or 1 | a slow handler stops intake |
//! | `p2p_intake_pauses_total` | | pauses | times that it did |
//! | `p2p_event_lag` | | events | not yet read by the slowest reader |
//! | `p2p_head_applied` | | height | the newest linked block |
//! | `p2p_head_seen` | | height | the highest that an elected preconfer has signed |
//! | `p2p_head_target` | | height | to reach |
//! | `p2p_head_lag` | | heights | between the newest linked block and the target |
//! | `p2p_sync_state` | state | 0 or 1 | where catch-up stands |
//! | `p2p_sync_live` | | 0 or 1 | whether it is live |
//! | `p2p_clock_offset_seconds` | | seconds | median of arrival minus timestamp of elected preconfers' commitments |
//! | `p2p_clock_unusable` | | 0 or 1 | whether all of them come too early or too late |
//! | `p2p_sync_commitments_per_second` | | 1/s | how fast |
//! | `p2p_sync_peers` | | peers | that catch-up can ask |
//! | `p2p_pending` | kind | entries | waiting for a parent, a schedule, a transaction list |
//! | `p2p_txlists_held_bytes` | | bytes | lists that no commitment names yet |
//! | `p2p_storage_bytes` | kind | bytes | what the store holds |
//! | `p2p_storage_failing` | | 0 or 1 | the store does not take everything |
//! | `p2p_storage_failures_total` | | writes | that the store did not take |
//! | `p2p_storage_unreadable_total` | | lists | damaged in the store and fetched again |
//!
//! Several clients in one process share the series; [`P2pClientConfig::metrics`] turns one client's off.

#![allow(
    clippy::disallowed_methods,
    reason = "the client reads the clocks; what it drives takes them as arguments"
)]

mod blocking;
mod builder;
mod chain;
mod client;
mod command;
mod config;
mod error;
mod feed;
mod hashing;
#[cfg(feature = "test-utils")]
mod memory_guard;
mod metrics;
#[cfg(feature = "preconfer")]
pub mod preconfer;
mod promises;
mod requests;
mod service;
mod skew;
mod state;

// The crates that this one is built on, for what is not re-exported here by name.
pub use p2p_catchup as catchup;
pub use p2p_storage as storage;
pub use p2p_validation as validation;
pub use preconfirmation_p2p as network;
pub use preconfirmation_types as wire;

pub use p2p_catchup::{Backoff, CatchUpConfig};
#[cfg(feature = "disk")]
pub use p2p_storage::{DiskConfig, DiskStorage, Durability};
pub use p2p_storage::{
    MemoryStorage, PendingLimits, SdkStorage, StorageError, StorageLimits, StorageStats, StoredCommitment,
    StoredEvidence,
};
pub use p2p_types::{
    Address, B256, Base, BlockNumber, Breach, Bytes, Clock, Conflict, Difference, GuardError, GuardFuture,
    Head, HeadSyncStatus, L1Update, L1View, L2Tip, L2View, Misbehaviour, Missing, Origin, PeerId,
    PreconfCommitment, Preconfirmation, Promise, PromiseOutcome, Promised, Recovered, SdkCommand, SdkEvent,
    SettledBlock, SignedCommitment, SigningDomain, SigningGuard, SigningKey, Stall, StorageTrouble, Topic,
    TransactionsBreach, TxList, U256, UnixSeconds,
};
pub use p2p_validation::{
    BlockRules, CachedSchedule, IgnoreReason, Leniency, Lookahead, LookaheadError, Rejection,
    RotatingSchedule, Slot, StaticSchedule, TaikoRules, ValidationConfig, Window, ZeroParent,
};
pub use preconfirmation_p2p::{
    Bootnode, DiscoveryConfig, DuplicateIdentity, DuplicateSign, Keypair, Multiaddr, NetworkConfig,
    NetworkError, NetworkQueues, PeerInfo, PublishError, RequestError,
};
pub use preconfirmation_types::{PreconfHead, keccak256};

#[cfg(feature = "preconfer")]
pub use alloy_signer;
#[cfg(feature = "test-utils")]
pub use blocking::in_place::InPlace;
pub use builder::P2pClientBuilder;
#[cfg(feature = "test-utils")]
#[doc(hidden)]
pub use chain::fuzz;
pub use chain::{L1Reorg, ScheduleReorg};
pub use client::{
    ChainApi, Lagged, NetworkApi, P2pClient, PeerResponse, PublishOutcome, Publisher, Subscription,
};
pub use config::{
    ClientQueues, ConfigError, MAINNET_CHAIN_ID, MemoryConfig, P2pClientConfig, Publishing, StorageChoice,
};
pub use error::{Component, ErrorKind, P2pClientError};
pub use feed::{Block, BlockFeed, BlockUpdate};
#[cfg(feature = "test-utils")]
pub use memory_guard::MemoryGuard;
pub use metrics::{ClientCounts, ClientQueueLengths};
#[cfg(feature = "preconfer")]
pub use preconfer::Preconfer;
pub use promises::{BrokenPromise, PromiseCounts, PromiseStats};
pub use skew::ClockCheck;

/// Compiles the examples of the README and of the guide for sidecar authors, which is not in the package.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/guide.md")]
    struct Guide;
}
