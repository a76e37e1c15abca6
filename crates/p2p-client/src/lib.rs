//! The client: join the preconfirmation network, publish, follow, catch up, shut down.
//!
//! This is the crate that sidecars depend on. It wires the layers below into one owner task: the network
//! ([`preconfirmation_p2p`]), the rules ([`p2p_validation`]), the store ([`p2p_storage`]) and the sync machine
//! ([`p2p_catchup`]). What is authentic is forwarded; only what is linked down to the settled base is stored,
//! shown and served.
//!
//! ```no_run
//! use std::{num::NonZeroU64, sync::Arc};
//!
//! use p2p_client::{Keypair, P2pClient, P2pClientConfig};
//! use p2p_storage::MemoryStorage;
//! use p2p_types::{Address, Base, SdkEvent, SigningDomain, UnixSeconds};
//! use p2p_validation::{RotatingSchedule, ValidationConfig};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Follow: who may sign, under which domain, and where a peer is.
//! let operators = vec![Address::repeat_byte(0xaa), Address::repeat_byte(0xbb)];
//! let window = NonZeroU64::new(384).ok_or("no window")?;
//! let schedule = RotatingSchedule::new(operators, UnixSeconds::new(1_760_000_000), window)?;
//! let rules = ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::repeat_byte(0x51));
//! let mut config = P2pClientConfig::new(167_000, Keypair::generate_ed25519(), rules);
//! config.network.static_peers = vec!["/ip4/127.0.0.1/tcp/4001".parse()?];
//!
//! let client = P2pClient::start(config, Arc::new(MemoryStorage::default()), Arc::new(schedule)).await?;
//! let mut events = client.subscribe();
//!
//! // Catch up: the execution layer has reached block 1,374,486, which the contracts have settled.
//! client.l2_synced(Base::at(1_374_486)).await?;
//!
//! while let Some(event) = events.next_event().await? {
//!     match event {
//!         SdkEvent::BlockReady { block, raw_tx_list_hash, .. } => {
//!             let txlist = client.txlist(raw_tx_list_hash).await?;
//!             println!("block {block}: {} bytes", txlist.map_or(0, |list| list.bytes().len()));
//!         }
//!         SdkEvent::Reorg { from, dropped } => println!("{} blocks from {from} on are gone", dropped.len()),
//!         SdkEvent::Status { status } => println!("{status}"),
//!         _ => {}
//!     }
//! }
//! client.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | how do I | with |
//! |---|---|
//! | follow | [`P2pClient::subscribe`], then [`P2pClient::block`] and [`P2pClient::txlist`] for the data |
//! | publish | [`P2pClient::publish_block`]; [`P2pClient::publish_commitment`] to hand over without a block |
//! | catch up | [`P2pClient::l2_synced`]; [`P2pClient::status`] says how far behind, honestly |
//! | ask a peer | [`P2pClient::request_head`], [`request_commitments`](P2pClient::request_commitments), [`request_raw_txlist`](P2pClient::request_raw_txlist) |
//! | store elsewhere | implement [`p2p_storage::SdkStorage`] |
//! | measure | install a recorder for the [`metrics`](https://docs.rs/metrics) crate; [`P2pClient::counts`] for one client's own |
//! | shut down | [`P2pClient::shutdown`], or drop the last handle |

#![allow(
    clippy::disallowed_methods,
    reason = "the client reads the clocks; what it drives takes them as arguments"
)]

mod builder;
mod chain;
mod client;
mod config;
mod error;
mod metrics;
mod requests;
mod service;

pub use preconfirmation_p2p::{Keypair, Multiaddr, NetworkConfig};

pub use builder::P2pClientBuilder;
pub use client::{Lagged, P2pClient, Sent, Subscription};
pub use config::{ClientQueues, MemoryConfig, P2pClientConfig};
pub use error::P2pClientError;
pub use metrics::ClientCounts;
