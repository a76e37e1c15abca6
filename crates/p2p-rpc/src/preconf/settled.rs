//! What the caller tells of L1 and L2.

use std::sync::Arc;

use p2p_client::Base;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::height;
use crate::{
    failure::Failure,
    method::One,
    node::Node,
    value::{Hash, Quantity},
};

/// The block that the contracts have settled.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettledBlock {
    /// Its height.
    number: Quantity,
    /// Its preconfirmation hash, where that is known. Without it the first block above may name any parent.
    #[serde(default)]
    hash: Option<Hash>,
}

impl SettledBlock {
    fn base(&self) -> Result<Base, Failure> {
        Ok(Base { number: height(self.number.0)?, hash: self.hash.map(|hash| hash.0) })
    }
}

/// Answers true.
pub(super) async fn notify_l2_synced(
    node: Arc<Node>,
    One(settled): One<SettledBlock>,
) -> Result<bool, Failure> {
    node.client.chain().l2_synced(settled.base()?).await?;
    Ok(true)
}

/// Answers true.
pub(super) async fn update_head(node: Arc<Node>, One(settled): One<SettledBlock>) -> Result<bool, Failure> {
    node.client.chain().update_head(settled.base()?).await?;
    Ok(true)
}

/// The blocks that a reorg of L1 has taken out of the chain.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct L1Reorg {
    /// The lowest L1 block that was replaced.
    anchor: Quantity,
    /// The height of the lowest block that is affected; null if none is.
    from: Option<Quantity>,
    /// The preconfirmation hashes of all that are, lowest first.
    affected: Vec<Hash>,
}

pub(super) async fn notify_reorg(node: Arc<Node>, One(anchor): One<Quantity>) -> Result<L1Reorg, Failure> {
    let reorg = node.client.chain().notify_reorg(height(anchor.0)?).await?;
    Ok(L1Reorg {
        anchor: reorg.anchor.into(),
        from: reorg.from.map(Quantity::from),
        affected: reorg.affected.into_iter().map(Hash).collect(),
    })
}
