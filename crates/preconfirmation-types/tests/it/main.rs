//! The wire format from outside: golden vectors, bytes of an untrusted peer, and what decoding allocates.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fixture that does not build, or a vector that does not parse, is a failed test"
)]

mod allocations;
mod damage;
mod hostile_bytes;
mod vectors;
