//! The schedule, and the settled base, against a real Ethereum node.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which wait for a node of another process"
)]

mod endpoints;
mod generations;
mod guide;
mod history;
mod l2;
mod node;
mod outage;
mod promises;
mod reorgs;
#[path = "../../src/l2/fixtures.rs"]
mod transactions;
