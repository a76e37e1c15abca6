//! What the service tells the handles: they read it without asking.

use p2p_types::{Head, HeadSyncStatus, PeerId, Stall, StorageTrouble};

use crate::{ClockCheck, P2pClientError};

/// Where the client stands, as the service last said it.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) head: Option<Head>,
    pub(crate) status: HeadSyncStatus,
    pub(crate) clock: ClockCheck,
    pub(crate) peers: Vec<PeerId>,
    /// Ingestion is paused because a handler is slow.
    pub(crate) paused: bool,
    /// What is wrong with the store.
    pub(crate) storage: Option<StorageTrouble>,
    /// How the client ended, once it has.
    pub(crate) ended: Option<Result<(), P2pClientError>>,
}

impl State {
    /// Whether a new block can be built, as far as is known here.
    pub(crate) fn is_ready(&self) -> bool {
        // A status without peers is out of date as soon as a peer has connected.
        let is_alone = matches!(self.status, HeadSyncStatus::Stalled { .. });
        knows_its_parent(&self.status) && (self.peers.is_empty() || !is_alone)
    }
}

/// Whether the block that a new one would build on is the head, as far as can be known: the client is live, or has no
/// peers and has seen nothing above its head.
pub(crate) fn knows_its_parent(status: &HeadSyncStatus) -> bool {
    match status {
        HeadSyncStatus::Live { .. } => true,
        HeadSyncStatus::Stalled { why: Stall::NoPeers, applied, target, .. } => target <= applied,
        _ => false,
    }
}
