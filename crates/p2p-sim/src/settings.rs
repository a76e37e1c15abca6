//! What honest nodes are set to, with bounds far below the defaults, so that floods meet them.

use std::{num::NonZeroUsize, sync::Arc};

use p2p_client::{P2pClientConfig, Publishing};
use p2p_storage::{PendingLimits, StorageLimits};
use p2p_types::Clock;
use p2p_validation::ValidationConfig;

use crate::stage::{CHAIN, DOMAIN, SLASHER, identity};

/// Commitments that wait for a parent.
pub const PENDING: usize = 256;

/// Commitments that wait for a schedule or for their time.
pub const UNTIMED: usize = 128;

/// Memory of all that waits, in a simulation: far less than these have, so that both bounds are met.
pub const PENDING_BYTES: usize = 64 * 1024;

/// Bytes of lists that nothing names.
pub const HELD_BYTES: usize = 1024 * 1024;

/// Commitments in a store.
pub const COMMITMENTS: usize = 400;

/// Lists in a store.
pub const TXLISTS: usize = 400;

/// Pieces of evidence in a store.
pub const EVIDENCE: usize = 64;

/// A number that is not zero.
pub fn nz(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// Of the node with this identity.
pub fn settings(byte: u8, clock: Arc<dyn Clock>) -> P2pClientConfig {
    let rules = ValidationConfig::new(DOMAIN, SLASHER);
    let mut config = P2pClientConfig::local(CHAIN, identity(byte), rules);
    config.clock = clock;
    config.publishing = Publishing::GuardedUntilRestart;
    config.memory.pending = PendingLimits {
        entries: nz(PENDING),
        per_peer: nz(PENDING / 4),
        untimed: nz(UNTIMED),
        untimed_per_peer: nz(UNTIMED / 4),
        ..PendingLimits::default()
    };
    config.network.max_txlist_bytes = HELD_BYTES / 2;
    config.memory.held_txlist_bytes = HELD_BYTES;
    config.memory.held_txlist_bytes_per_peer = HELD_BYTES / 4;
    config
}

/// Of its store.
pub fn storage_limits() -> StorageLimits {
    StorageLimits {
        commitments: COMMITMENTS,
        non_canonical: COMMITMENTS / 4,
        txlists: TXLISTS,
        evidence: EVIDENCE,
        ..StorageLimits::default()
    }
}
