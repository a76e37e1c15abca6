//! JSON-RPC 2.0 over HTTP and WebSocket for a [`P2pClient`](p2p_client::P2pClient): publish, read, subscribe, administer, from
//! any language.
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use p2p_client::{P2pClient, P2pClientConfig, SigningDomain, validation::{StaticSchedule, ValidationConfig}};
//! use p2p_rpc::{RpcConfig, RpcServer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rules = ValidationConfig::new(SigningDomain::PLACEHOLDER, Default::default());
//! let schedule = std::sync::Arc::new(StaticSchedule::new(Vec::new())?);
//! let client = P2pClient::start(P2pClientConfig::test(167_000, rules), schedule).await?;
//!
//! // On a free port of the loopback interface; `RpcConfig::default()` takes port 8550.
//! let config = RpcConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
//! let (handle, server) = RpcServer::bind(config, client.clone()).await?;
//! let serving = tokio::spawn(server.run());
//! println!("curl -H 'content-type: application/json' http://{} -d '{{…}}'", handle.address());
//!
//! // Calls that are running are answered, then the connections are closed.
//! handle.stop().await;
//! serving.await?;
//! client.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | namespace | for |
//! |---|---|
//! | `preconf` | preconfers and sidecars: publish, read the chain, subscribe, tell of L1 and L2 |
//! | `opp2p` | operators: peers, under the names and in the shapes of op-node |
//! | `debug` | whoever looks into a node: what waits, what was counted, what is logged |
//!
//! `rpc.discover` answers with the OpenRPC document, which is made from the code: every method with its parameters, its
//! result and its errors.
//!
//! # Who may call
//! A server on a loopback address answers whoever can connect. On any other address, and wherever a [`JwtSecret`] is
//! configured, a request needs a token (`Authorization: Bearer …`), as the Engine API has it: HS256, with an `iat` within 60 s
//! of this host's clock. A request is refused if its `Host` is neither an IP address nor `localhost` nor in
//! [`RpcConfig::hosts`], so that a web page cannot reach the server by a name that resolves to it (DNS rebinding), and if it
//! has an `Origin`, which only browsers send.
//!
//! # Limits
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | connections of HTTP, and WebSockets | 64 each | HTTP 429 |
//! | a request | 4,325,378 bytes: a list of 2 MiB as hexadecimal digits, and what surrounds it | HTTP 413, or an error on a WebSocket |
//! | an answer, and a batch of them | 8 MiB | error −32008 or −32011 |
//! | entries of a batch | 100 | error −32010 |
//! | an HTTP request and its answer | 30 s | HTTP 408 |
//! | a WebSocket that does not answer pings | 40 s | closed |
//! | subscriptions of a connection, of all | 8, 64 | errors −32006, −32025 |
//! | messages that wait for a WebSocket | 16 | the sender waits |
//! | calls of a WebSocket whose answers are not on their way | 32 | it is not read; nor while its caller does not read |
//! | a subscriber that takes no message | 30 s | its subscription ends |
//!
//! # Metrics
//!
//! | series | labels | unit | means |
//! |---|---|---|---|
//! | `p2p_rpc_requests_total` | method, outcome | calls | answered, by how: `ok` or the name of the error |
//! | `p2p_rpc_latency_seconds` | method | seconds | from the call to its result |
//! | `p2p_rpc_refused_total` | reason | requests | refused before they were read, or not answered in time: `connections`, `host`, `origin`, `token`, `timeout` |
//! | `p2p_rpc_subscriptions` | | subscriptions | open |
//! | `p2p_rpc_slow_subscribers_total` | | subscriptions | ended because nobody took their messages |

#![allow(
    clippy::disallowed_methods,
    reason = "the server reads the clocks; what judges takes the time as an argument"
)]

mod access;
mod backpressure;
mod config;
mod debug;
mod error;
mod failure;
#[cfg(feature = "test-utils")]
#[doc(hidden)]
pub mod fuzz;
mod host;
mod jwt;
mod method;
mod metrics;
mod node;
mod openrpc;
mod opp2p;
mod preconf;
mod server;
mod value;

pub use config::{Namespace, RpcConfig, UnknownNamespace};
pub use error::RpcError;
pub use host::{Host, L1Report, L2Report, LeaseReport, LogFilterError, SlowMessage};
pub use jwt::{JwtSecret, SecretError};
pub use openrpc::document;
pub use server::{RpcHandle, RpcServer};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
