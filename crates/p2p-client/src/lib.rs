//! The client.
#![allow(
    clippy::disallowed_methods,
    reason = "the client reads the clocks; what it drives takes them as arguments"
)]
mod chain;
mod client;
mod config;
mod error;
mod metrics;
mod requests;
mod service;
pub use client::{Lagged, P2pClient, Sent, Subscription};
pub use config::{ClientQueues, MemoryConfig, P2pClientConfig};
pub use error::P2pClientError;
pub use metrics::ClientCounts;
