//! Events that the client emits and commands that it takes.

use std::sync::Arc;

use libp2p_identity::PeerId;
use preconfirmation_types::{Address, B256, Bytes, Recovered, SignedCommitment};
use serde::Serialize;

use crate::{
    Base, BlockNumber, Head, HeadSyncStatus, Misbehaviour, Missing, Origin, PromiseOutcome, SettledBlock,
    UnixSeconds,
};

/// An event of the client. Cloning shares the payload.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SdkEvent {
    /// A commitment is valid, linked to the base and stored: it is the block at its height now.
    Commitment {
        /// The height.
        block: BlockNumber,
        /// The commitment, its signer and its hashes.
        commitment: Arc<Recovered>,
        /// Where it came from; of a block that another one brought back into the chain, where that one did.
        origin: Origin,
    },
    /// A transaction list that a block names is verified and stored. The bytes are in the store, so that an
    /// event that nobody reads pins no memory.
    TxList {
        /// Its hash.
        hash: B256,
        /// Its length.
        bytes: usize,
        /// Where it came from.
        origin: Origin,
    },
    /// A block has both its commitment and its transaction list.
    BlockReady {
        /// The height.
        block: BlockNumber,
        /// Its preconfirmation hash.
        hash: B256,
        /// Hash of its transaction list.
        raw_tx_list_hash: B256,
    },
    /// A preconfer hands over to the next one without a block (EOP-only, §4).
    Handover {
        /// The height that it declines.
        block: BlockNumber,
        /// The commitment that says so.
        commitment: Arc<Recovered>,
        /// Where it came from.
        origin: Origin,
    },
    /// A reorg: the signer of a block equivocated, a later commitment was built on another branch (§7), or the base
    /// contradicts the chain. The blocks that replace them follow as `Commitment` events.
    ///
    /// Where reorgs follow one another closely, a second for each block that the last one dropped passes before the next one
    /// is emitted, with the net effect of what has happened meanwhile. A block of another preconfer or of the application, and
    /// an `L1Reorg` or a `ScheduleReorg`, end that wait. What a handle reads is not held back.
    Reorg {
        /// Preconfirmation hashes of the blocks that are no longer in the chain, lowest first.
        dropped: Vec<B256>,
        /// Height of the lowest of them.
        from: BlockNumber,
    },
    /// L1 has replaced blocks that blocks of the chain are anchored to. These and their descendants have left the chain, until
    /// a block signed since is built on them, or their anchors are canonical again. Catch-up asks peers for the blocks that
    /// replace them.
    L1Reorg {
        /// The lowest L1 block that was replaced.
        anchor: BlockNumber,
        /// Height of the lowest block that is affected.
        from: BlockNumber,
        /// Preconfirmation hashes of the blocks that have left the chain, lowest first.
        affected: Vec<B256>,
    },
    /// The schedule has changed, and whoever signed blocks of the chain may not have signed them by the new one. These and
    /// their descendants have left the chain and the store. They come back if the schedule changes back; catch-up asks peers for
    /// the blocks that replace them.
    ScheduleReorg {
        /// What was signed at or after this second was judged again.
        since: UnixSeconds,
        /// Height of the lowest block that is affected.
        from: BlockNumber,
        /// Preconfirmation hashes of the blocks that have left the chain, lowest first.
        affected: Vec<B256>,
    },
    /// The contracts have settled a block, as the view of L2 says that the client follows: without one there are no such events.
    /// Comes after the `Reorg` of what it contradicts. Of settled blocks that nobody promised, a long run is left out.
    Settled {
        /// The height.
        block: BlockNumber,
        /// What became of the promise for it.
        promise: PromiseOutcome,
        /// What was promised: the canonical block at that height, until then.
        commitment: Option<Arc<Recovered>>,
        /// What was settled; none where there was nothing to compare it with.
        settled: Option<Arc<SettledBlock>>,
        /// The preconfirmation hash of what was settled. After a broken promise this is another commitment for that height,
        /// if one is known.
        hash: Option<B256>,
        /// Whether the block was not settled yet when its window had been over for some time.
        late: bool,
    },
    /// L2 has taken settled blocks back. They are judged again when the contracts settle their heights again.
    Unsettled {
        /// The lowest height that is settled no more.
        from: BlockNumber,
        /// The highest one.
        to: BlockNumber,
    },
    /// A preconfer has signed two commitments that contradict each other (§7). Emitted once for each signer, window and kind.
    Evidence {
        /// What it did.
        kind: Misbehaviour,
        /// Who.
        signer: Address,
        /// The height of the second commitment, which should not be.
        block: BlockNumber,
        /// The commitment that came first, or the EOP.
        first: Arc<Recovered>,
        /// The commitment that should not be.
        second: Arc<Recovered>,
    },
    /// A pending commitment has expired before it could be validated. Catch-up may still deliver it.
    DeferredTooLong {
        /// Its height.
        block: BlockNumber,
        /// Its preconfirmation hash.
        hash: B256,
        /// What did not come.
        waited_for: Missing,
    },
    /// Ingestion of gossip and of catch-up has paused because a lossless subscriber is slow, or has resumed. Messages of peers
    /// wait in the network's bounded queue meanwhile; beyond that they are ignored, without a penalty.
    Backpressure {
        /// Whether ingestion is paused.
        paused: bool,
        /// Events that wait for the slowest handler beyond its queue.
        waiting: usize,
    },
    /// The store fails or fills up, or has recovered. Nothing that was reported as stored is lost; what it refused is fetched
    /// again.
    Storage {
        /// What is wrong; none when it is over.
        trouble: Option<StorageTrouble>,
    },
    /// The head moved; after a `Reorg`, an `L1Reorg` or a `ScheduleReorg` it may have fallen.
    Head {
        /// The head; none while the chain above the base is empty.
        head: Option<Head>,
    },
    /// The sync status has changed.
    Status {
        /// Where it stands.
        status: HeadSyncStatus,
    },
    /// A peer that can be asked has connected.
    PeerConnected {
        /// Who.
        peer: PeerId,
    },
    /// A peer has gone.
    PeerDisconnected {
        /// Who.
        peer: PeerId,
    },
}

impl SdkEvent {
    /// Its kind, as in its JSON.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Commitment { .. } => "commitment",
            Self::TxList { .. } => "tx_list",
            Self::BlockReady { .. } => "block_ready",
            Self::Handover { .. } => "handover",
            Self::Reorg { .. } => "reorg",
            Self::L1Reorg { .. } => "l1_reorg",
            Self::ScheduleReorg { .. } => "schedule_reorg",
            Self::Settled { .. } => "settled",
            Self::Unsettled { .. } => "unsettled",
            Self::Evidence { .. } => "evidence",
            Self::DeferredTooLong { .. } => "deferred_too_long",
            Self::Backpressure { .. } => "backpressure",
            Self::Storage { .. } => "storage",
            Self::Head { .. } => "head",
            Self::Status { .. } => "status",
            Self::PeerConnected { .. } => "peer_connected",
            Self::PeerDisconnected { .. } => "peer_disconnected",
        }
    }
}

/// What is wrong with the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StorageTrouble {
    /// A read or write failed and can succeed later: the disk is full, the system is out of file descriptors, or similar.
    Failing {
        /// What the system says.
        reason: String,
    },
    /// Most of its capacity is used by unsettled blocks, which are never evicted. Declare a newer base or raise the limit.
    NearlyFull {
        /// Commitments that it holds.
        used: usize,
        /// Commitments that it may hold.
        limit: usize,
    },
}

/// A command to the client, for applications that drive it through a channel. The client's handles have a typed
/// method for each.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SdkCommand {
    /// Publish a commitment.
    PublishCommitment(Box<SignedCommitment>),
    /// Publish the bytes of a transaction list.
    PublishRawTxList(Bytes),
    /// Publish a block: the transaction list first, the commitment right after (§6).
    PublishBlock {
        /// The commitment.
        commitment: Box<SignedCommitment>,
        /// The bytes of its transaction list.
        txlist: Bytes,
    },
    /// The L2 execution has reached the on-chain tip: catch-up may start above it.
    L2Synced(Base),
    /// The settled tip has moved.
    UpdateHead(Base),
    /// The head of L1 has moved to this block.
    UpdateL1Head(BlockNumber),
    /// L1 has replaced its blocks from this one on.
    NotifyReorg {
        /// The lowest L1 block that was replaced.
        anchor: BlockNumber,
    },
    /// The L1 blocks from this one on, which had been replaced, are canonical again.
    NotifyAnchorRestored {
        /// The lowest L1 block that is back.
        anchor: BlockNumber,
    },
    /// The lookahead answers otherwise than before about what was signed at or after this second.
    NotifyScheduleChanged {
        /// The first second that it answers otherwise.
        since: UnixSeconds,
    },
    /// Shut the client down.
    Shutdown,
}

impl SdkCommand {
    /// Its kind in a word.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::PublishCommitment(_) => "publish_commitment",
            Self::PublishRawTxList(_) => "publish_raw_txlist",
            Self::PublishBlock { .. } => "publish_block",
            Self::L2Synced(_) => "l2_synced",
            Self::UpdateHead(_) => "update_head",
            Self::UpdateL1Head(_) => "update_l1_head",
            Self::NotifyReorg { .. } => "notify_reorg",
            Self::NotifyAnchorRestored { .. } => "notify_anchor_restored",
            Self::NotifyScheduleChanged { .. } => "notify_schedule_changed",
            Self::Shutdown => "shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use preconfirmation_types::{PreconfCommitment, SigningDomain, SigningKey};

    use super::*;
    use crate::Stall;

    fn recovered() -> Arc<Recovered> {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        let signed = PreconfCommitment::default().sign(&key, &SigningDomain::PLACEHOLDER);
        Arc::new(signed.recover(&SigningDomain::PLACEHOLDER).unwrap())
    }

    /// One of each kind.
    fn events() -> [SdkEvent; 17] {
        let (block, hash, peer) = (7, B256::ZERO, PeerId::from_bytes(&[0, 1, 7]).unwrap());
        let (commitment, origin) = (recovered(), Origin::Sync(peer));
        [
            SdkEvent::Commitment { block, commitment: commitment.clone(), origin },
            SdkEvent::TxList { hash, bytes: 3, origin },
            SdkEvent::BlockReady { block, hash, raw_tx_list_hash: hash },
            SdkEvent::Handover { block, commitment: commitment.clone(), origin },
            SdkEvent::Reorg { dropped: vec![hash], from: block },
            SdkEvent::L1Reorg { anchor: 3, from: block, affected: vec![hash] },
            SdkEvent::ScheduleReorg { since: UnixSeconds::new(3), from: block, affected: vec![hash] },
            SdkEvent::Settled {
                block,
                promise: PromiseOutcome::Kept,
                commitment: None,
                settled: None,
                hash: None,
                late: false,
            },
            SdkEvent::Unsettled { from: block, to: block },
            SdkEvent::Evidence {
                kind: Misbehaviour::Equivocation,
                signer: Address::ZERO,
                block,
                first: commitment.clone(),
                second: commitment,
            },
            SdkEvent::DeferredTooLong { block, hash, waited_for: Missing::Parent(hash) },
            SdkEvent::Backpressure { paused: true, waiting: 1 },
            SdkEvent::Storage { trouble: Some(StorageTrouble::NearlyFull { used: 1, limit: 2 }) },
            SdkEvent::Head { head: None },
            SdkEvent::Status {
                status: HeadSyncStatus::Stalled {
                    why: Stall::NoPeers,
                    since: UnixSeconds::new(3),
                    applied: 1,
                    seen: 2,
                    target: 3,
                },
            },
            SdkEvent::PeerConnected { peer },
            SdkEvent::PeerDisconnected { peer },
        ]
    }

    #[test]
    fn the_label_of_an_event_is_its_kind_in_json() {
        for event in events() {
            assert_eq!(serde_json::to_value(&event).unwrap()["event"], event.label());
        }
    }

    #[test]
    fn each_command_has_a_label_of_its_own() {
        let signed = || Box::new(recovered().as_ref().clone().into_signed());
        let commands = [
            SdkCommand::PublishCommitment(signed()),
            SdkCommand::PublishRawTxList(Bytes::new()),
            SdkCommand::PublishBlock { commitment: signed(), txlist: Bytes::new() },
            SdkCommand::L2Synced(Base::at(1)),
            SdkCommand::UpdateHead(Base::at(1)),
            SdkCommand::UpdateL1Head(1),
            SdkCommand::NotifyReorg { anchor: 1 },
            SdkCommand::NotifyAnchorRestored { anchor: 1 },
            SdkCommand::NotifyScheduleChanged { since: UnixSeconds::new(1) },
            SdkCommand::Shutdown,
        ];
        let labels = commands.each_ref().map(SdkCommand::label);
        assert_eq!(
            labels,
            [
                "publish_commitment",
                "publish_raw_txlist",
                "publish_block",
                "l2_synced",
                "update_head",
                "update_l1_head",
                "notify_reorg",
                "notify_anchor_restored",
                "notify_schedule_changed",
                "shutdown",
            ]
        );
    }
}
