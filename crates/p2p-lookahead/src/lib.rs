//! Who may sign preconfirmations, learned from Taiko's contracts on L1, and what is settled, from an execution node of L2.
//!
//! [`L1Lookahead`] is a [`Lookahead`](p2p_validation::Lookahead) for [`p2p_validation::Validator`]: it answers from memory
//! who may sign for a timestamp and a window end. [`L1Service`] follows L1 for it: new heads by subscription or by polling,
//! at several endpoints of which one is in use until it fails. Which contracts tell the schedule is found out by asking
//! them ([`Generation`]). What was learned is kept by block, so that a reorg takes back exactly what hung on lost blocks.
//! What is not known is *not known yet*: the commitment waits, and nobody pays for it.
//!
//! ```no_run
//! # async fn run(settings: p2p_client::P2pClientConfig) -> Result<(), Box<dyn std::error::Error>> {
//! use p2p_client::P2pClient;
//! use p2p_lookahead::{L1Config, L1Lookahead, Source};
//!
//! let endpoints = vec!["wss://l1.example.org".parse()?, "https://other.example.org".parse()?];
//! let genesis = L1Config::genesis_of(1).ok_or("no such chain")?;
//! let inbox = "0x6f21C543a4aF5189eBdb0723827577e1EF57ef1f".parse()?;
//! let config = L1Config::recommended(endpoints, 1, genesis, Source::Inbox(inbox));
//!
//! let (lookahead, service) = L1Lookahead::start(config)?;
//! let (updates, following) = (lookahead.updates(), tokio::spawn(service.run()));
//! let client = P2pClient::start(settings, lookahead).await?;
//! // Head and reorgs of L1, and what they change of the schedule.
//! client.chain().follow_l1(updates).await?;
//! following.await??;
//! # Ok(())
//! # }
//! ```
//!
//! [`L2Follower`] follows an execution node of L2: which block the contracts have settled last, and whether it is what was
//! promised ([`compare`]). It is an [`L2View`](p2p_types::L2View), which a client follows:
//!
//! ```no_run
//! # async fn run(client: p2p_client::P2pClient) -> Result<(), Box<dyn std::error::Error>> {
//! use p2p_lookahead::{L2Config, L2Follower};
//!
//! let endpoints = vec!["http://127.0.0.1:8545".parse()?];
//! let (l2, follower) = L2Follower::new(L2Config::recommended(endpoints, 167_000))?;
//! let chain = client.chain();
//! let following = tokio::spawn(async move { chain.follow_l2(follower).await });
//! println!("{:?}, {:?}", l2.status(), client.chain().promises().await?);
//! # following.await??;
//! # Ok(())
//! # }
//! ```
//!
//! | series | label | unit | meaning |
//! |---|---|---|---|
//! | `p2p_lookahead_calls_total` | chain, method | questions | to endpoints |
//! | `p2p_lookahead_failures_total` | chain | failures | of endpoints |
//! | `p2p_lookahead_reorgs_total` | | reorgs | of L1 |
//! | `p2p_lookahead_unasked_total` | | epochs | past ones that found no room to wait |
//! | `p2p_lookahead_l1_head` | | height | of L1's head |
//! | `p2p_lookahead_l2_settled` | | height | of L2's last settled block |
//! | `p2p_lookahead_l2_reorgs_total` | | reorgs | times that L2 took settled blocks back |
//! | `p2p_lookahead_epochs` | | epochs | that are known |
//! | `p2p_lookahead_generation` | generation | | 1 for the contracts that tell the schedule |
//! | `p2p_lookahead_endpoint_in_use` | chain, endpoint | | 1 for the endpoint that is asked, 0 for others |

#![allow(
    clippy::disallowed_methods,
    reason = "the service reads the clock; the schedule takes it as an argument"
)]

mod abi;
mod config;
mod error;
mod event;
#[cfg(feature = "test-utils")]
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod l2;
mod learner;
mod ledger;
mod metrics;
mod rpc;
mod schedule;
mod service;
mod snapshot;
mod source;

pub use config::{L1Config, Source};
pub use error::{ConfigError, L1Error};
pub use event::L1Event;
pub use handle::{L1Lookahead, L1Status, L1Updates};
pub use l2::{AnchorCall, L2Config, L2Follower, L2Handle, L2Seen, L2Status, SettledSource, compare};
pub use ledger::L1Head;
pub use rpc::EndpointStatus;
pub use schedule::Generation;
pub use service::L1Service;
