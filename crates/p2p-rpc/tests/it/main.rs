//! The server, over real sockets, as callers of any language meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which watch a server in real time"
)]

mod access;
mod builder;
mod checks;
mod debugging;
mod golden;
mod hostile;
mod openrpc;
mod peers;
mod reading;
mod rig;
mod subscribing;
