//! The guard against a real PostgreSQL.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which wait for a database of another process"
)]

mod fitness;
mod leases;
mod moving;
mod outage;
mod rules;
mod server;
mod tls;
