//! The methods that existing preconfer software calls, as it knows them: names, encodings and codes are not ours to change.

use std::sync::Arc;

use p2p_client::HeadSyncStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    publish::{self, Publication},
    schedule,
};
use crate::{
    failure::Failure,
    method::One,
    node::Node,
    value::{Account, Data, Hash, Quantity},
};

/// A signed block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublishBlock {
    /// The SSZ of a SignedCommitment, 382 bytes.
    commitment: Data,
    /// keccak256 of the transaction list.
    tx_list_hash: Hash,
    /// The transaction list: a zlib stream of an RLP list. Empty in a handover without a block.
    tx_list: Data,
}

/// What was published.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublishedBlock {
    /// keccak256 of the commitment as it was sent, its signature included.
    commitment_hash: Hash,
    /// As it was given.
    tx_list_hash: Hash,
}

pub(super) async fn publish_block(
    node: Arc<Node>,
    One(PublishBlock { commitment, tx_list_hash, tx_list }): One<PublishBlock>,
) -> Result<PublishedBlock, Failure> {
    let publication = Publication { commitment, tx_list: Some((tx_list_hash.0, tx_list)) };
    let published = publish::publish(&node, publication).await?;
    Ok(PublishedBlock { commitment_hash: published.commitment_hash, tx_list_hash })
}

/// Where the node stands.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InboxStatus {
    /// Whether the settled block is known.
    is_synced_with_inbox: bool,
    /// The settled block; null while it is not known.
    event_sync_tip: Option<Quantity>,
    /// The head.
    preconf_tip: Quantity,
    /// Peers that can be asked.
    peer_count: usize,
    /// The node's identity on the network.
    peer_id: String,
}

pub(super) async fn get_status(node: Arc<Node>, (): ()) -> Result<InboxStatus, Failure> {
    let base = node.client.chain().base().await?;
    let waits = matches!(node.client.status(), HeadSyncStatus::Idle | HeadSyncStatus::WaitingForL2);
    Ok(InboxStatus {
        is_synced_with_inbox: base.is_some() && !waits,
        event_sync_tip: base.map(|base| base.number.into()),
        preconf_tip: tip(node.clone(), ()).await?,
        peer_count: node.client.network().ready_peers().len(),
        peer_id: node.client.network().local_peer_id().to_string(),
    })
}

/// The head; where there is no block above the settled one, that.
pub(super) async fn tip(node: Arc<Node>, (): ()) -> Result<Quantity, Failure> {
    if let Some(head) = node.client.chain().head() {
        return Ok(head.number.into());
    }
    let base = node.client.chain().base().await?;
    Ok(base.map_or(0, |base| base.number).into())
}

/// Whose turn it is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SlotInfo {
    /// Who signs.
    signer: Account,
    /// When its window ends, in unix seconds.
    submission_window_end: Quantity,
}

pub(super) async fn get_preconf_slot_info(
    node: Arc<Node>,
    One(timestamp): One<Quantity>,
) -> Result<SlotInfo, Failure> {
    let (client, moment) = (&node.client, schedule::moment(timestamp.0)?);
    let slot = schedule::turn(client.validator().lookahead(), moment, client.now())?;
    Ok(SlotInfo { signer: Account(slot.signer), submission_window_end: slot.window.end.get().into() })
}
