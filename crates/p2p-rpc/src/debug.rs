//! `debug_*`: what was counted, and peers with all that is known of them.

use std::sync::Arc;

use jsonrpsee::core::RegisterMethodError;
use p2p_client::PeerInfo;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    failure::Failure,
    method::{About, Registry},
    node::Node,
};

/// Registers all methods.
pub(crate) fn register(registry: &mut Registry) -> Result<(), RegisterMethodError> {
    let about = |name, summary| About { name, summary, errors: &[] };
    registry.method(about("debug_counts", "What the client has counted since it started."), counts)?;
    registry.method(about("debug_peers", "The peers, as /status has them."), peers)
}

/// What the client has counted since it started.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Commitments and transaction lists that broke a rule.
    rejected: u64,
    /// Commitments that were of no use.
    ignored: u64,
    /// Entries that a full queue or their age cost.
    dropped: u64,
    /// Whether a slow handler keeps the client from taking anything in.
    is_paused: bool,
    /// Whether several peers sign what this node does not expect, and nothing passes.
    suspects_itself: bool,
}

async fn counts(node: Arc<Node>, (): ()) -> Result<Counts, Failure> {
    let (client, counts) = (&node.client, node.client.counts());
    Ok(Counts {
        rejected: counts.rejected,
        ignored: counts.ignored,
        dropped: counts.dropped,
        is_paused: client.is_paused(),
        suspects_itself: client.network().suspects_itself(),
    })
}

/// Peers, with the fields that they have in `/status`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Peers(#[schemars(with = "Vec<serde_json::Value>")] Vec<PeerInfo>);

async fn peers(node: Arc<Node>, (): ()) -> Result<Peers, Failure> {
    Ok(Peers(node.client.network().peers().await?))
}
