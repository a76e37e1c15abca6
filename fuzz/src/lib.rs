//! The bodies of the fuzz targets: each takes bytes and panics where a property fails.
//!
//! libFuzzer runs them through the binaries in `fuzz_targets` (`cargo +nightly fuzz run wire`, `cargo xtask fuzz`), and on
//! stable `tests/replay.rs` runs them on the files of `corpus` and `regressions` and on a few thousand random inputs.
//!
//! | module | what is fuzzed |
//! |---|---|
//! | [`mod@wire`] | SSZ containers, against a grammar and a second implementation |
//! | [`mod@signature`] | recovery and verification, against `k256` |
//! | [`network`] | frames, gossip payloads, and what of them reaches a client's chain |
//! | [`addresses`] | node records, bootnodes, multiaddresses, agent strings, the peer book |
//! | [`mod@storage`] | records of the database |
//! | [`l1`], [`l2`] | logs, calldata, what was saved; blocks and transaction lists |
//! | [`files`] | configuration, network, schedule, keys, exports, promises |
//! | [`mod@rpc`] | JSON-RPC requests |
//! | [`mod@chain`] | the chain processor, in any order of commitments, lists, bases, reorgs and restarts |

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a failed property panics"
)]
#![allow(clippy::disallowed_methods, reason = "an instant to begin with; no target waits")]

pub mod addresses;
pub mod chain;
pub mod files;
mod input;
pub mod l1;
pub mod l2;
pub mod network;
pub mod rpc;
pub mod seeds;
pub mod signature;
pub mod storage;
pub mod wire;

pub use addresses::{address, agent, bootnode, enr, peer_book};
pub use chain::chain;
pub use files::{config, export, key, network_file, option, peers_file, promises, schedule};
pub use l1::{l1_answer, l1_event, l1_saved};
pub use l2::{l2_block, txlist};
pub use network::{frame, gossip, gossip_stream, intake};
pub use rpc::rpc;
pub use signature::signature;
pub use storage::storage;
pub use wire::{wire, wire_fields};

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also that of its binary and of the folders of its files.
    pub name: &'static str,
    /// Its body.
    pub body: fn(&[u8]),
    /// Random inputs that a test of ordinary length has time for.
    pub cases: u32,
    /// Longest input that makes sense.
    pub longest: usize,
}

macro_rules! targets {
    ($($name:ident, $cases:literal, $longest:literal;)*) => {
        /// All targets, those that read what untrusted peers send first.
        pub const TARGETS: &[Target] = &[$(
            Target { name: stringify!($name), body: $name, cases: $cases, longest: $longest },
        )*];
    };
}

targets! {
    wire, 20_000, 800;
    wire_fields, 20_000, 256;
    frame, 20_000, 800;
    gossip_stream, 10_000, 512;
    gossip, 10_000, 800;
    signature, 100, 128;
    intake, 300, 2_048;
    chain, 300, 160;
    enr, 2_000, 512;
    bootnode, 5_000, 512;
    address, 10_000, 256;
    agent, 10_000, 128;
    peer_book, 2_000, 256;
    storage, 10_000, 1_024;
    l1_event, 2_000, 2_048;
    l1_answer, 5_000, 1_024;
    l1_saved, 2_000, 2_048;
    l2_block, 5_000, 1_024;
    txlist, 2_000, 2_048;
    rpc, 300, 1_024;
    schedule, 5_000, 1_024;
    network_file, 1_000, 2_048;
    config, 500, 2_048;
    option, 2_000, 256;
    peers_file, 5_000, 1_024;
    key, 2_000, 128;
    export, 5_000, 2_048;
    promises, 2_000, 1_024;
}

/// The binary of a target: for libFuzzer where cargo-fuzz builds it.
#[macro_export]
macro_rules! binary {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$name(data));

        #[cfg(not(fuzzing))]
        fn main() {
            eprintln!(concat!("cargo +nightly fuzz run ", stringify!($name)));
        }
    };
}
