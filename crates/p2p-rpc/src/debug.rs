//! `debug_*`: what waits, what was counted, what took long, peers with all that is known of them, and what is logged.

use std::sync::Arc;

use jsonrpsee::core::RegisterMethodError;
use p2p_client::{ClientQueueLengths, PeerInfo};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    LogFilterError, SlowMessage,
    failure::{Code, Failure},
    method::{About, One, Registry},
    node::Node,
};

/// Registers all methods.
pub(crate) fn register(registry: &mut Registry) -> Result<(), RegisterMethodError> {
    let about = |name, summary| About { name, summary, errors: &[] };
    registry.method(about("debug_counts", "What the client has counted since it started."), counts)?;
    registry.method(about("debug_queues", "How much waits in the client and in the network."), queues)?;
    registry.method(about("debug_peers", "The peers, as /status has them."), peers)?;
    registry.method(
        about(
            "debug_slowMessages",
            "The last messages, pages, lists and publications that took 100 ms or more, newest first.",
        ),
        slow_messages,
    )?;
    registry.method(
        about("debug_logFilter", "What is logged, as directives; null where that is not told."),
        log_filter,
    )?;
    registry.method(
        about(
            "debug_setLogFilter",
            "Logs by other directives from now on, such as info,p2p_client=debug, until the next call or restart. Answers with the ones before.",
        ),
        set_log_filter,
    )
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

/// How much waits.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Queues {
    /// As measured after the last batch of the chain, or within the last second.
    client: ClientQueues,
    /// As it is now.
    network: NetworkQueues,
    pending: Pending,
}

/// How much waits in the client.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientQueues {
    /// Commands of callers that the client has not taken.
    commands: usize,
    /// Commands of callers that wait for the chain.
    commanded: usize,
    /// Commitments that wait for the chain.
    commitments: usize,
    /// Transaction lists that are being hashed.
    tx_lists: usize,
    /// All that came in and waits for the chain.
    jobs: usize,
    /// Events that the slowest subscriber has not read.
    event_lag: usize,
}

/// How much waits for something that is missing.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pending {
    /// Commitments whose parent is missing.
    parent: usize,
    /// Commitments whose schedule or time is missing.
    schedule: usize,
    /// Linked blocks whose transaction list is missing.
    tx_list: usize,
    /// Bytes of transaction lists that no commitment names yet.
    orphan_bytes: usize,
}

/// How much waits in the network.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkQueues {
    /// Messages of this node that no peer could take yet.
    publish_queue: usize,
    /// Messages of peers that are being judged.
    open_verdicts: usize,
    /// Requests of this node that wait for what a peer allows.
    pacing: usize,
    /// Requests of peers that wait to be answered.
    inbound_requests: usize,
    /// Answers that wait for the limit on bytes.
    answers: usize,
}

async fn queues(node: Arc<Node>, (): ()) -> Result<Queues, Failure> {
    let (network, lengths) = (node.client.network().queues().await?, node.client.queues());
    let ClientQueueLengths { commands, commanded, commitments, txlists, jobs, event_lag, .. } = lengths;
    Ok(Queues {
        client: ClientQueues { commands, commanded, commitments, tx_lists: txlists, jobs, event_lag },
        network: NetworkQueues {
            publish_queue: network.publish_queue,
            open_verdicts: network.open_verdicts,
            pacing: network.pacing,
            inbound_requests: network.inbound_requests,
            answers: network.answers,
        },
        pending: Pending {
            parent: lengths.pending_parent,
            schedule: lengths.pending_schedule,
            tx_list: lengths.pending_txlist,
            orphan_bytes: lengths.orphan_bytes,
        },
    })
}

/// Peers, with the fields that they have in `/status`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Peers(#[schemars(with = "Vec<serde_json::Value>")] Vec<PeerInfo>);

async fn peers(node: Arc<Node>, (): ()) -> Result<Peers, Failure> {
    Ok(Peers(node.client.network().peers().await?))
}

async fn slow_messages(node: Arc<Node>, (): ()) -> Result<Vec<SlowMessage>, Failure> {
    Ok(node.host.as_ref().map(|host| host.slow_messages()).unwrap_or_default())
}

async fn log_filter(node: Arc<Node>, (): ()) -> Result<Option<String>, Failure> {
    Ok(node.host.as_ref().and_then(|host| host.log_filter()))
}

async fn set_log_filter(node: Arc<Node>, One(directives): One<String>) -> Result<Option<String>, Failure> {
    let before = log_filter(node.clone(), ()).await?;
    let set = node.host.as_ref().map_or(Err(LogFilterError::Fixed), |host| host.set_log_filter(&directives));
    set.map_err(|error| match error {
        LogFilterError::Invalid { .. } => Failure::new(Code::InvalidParams, error),
        LogFilterError::Fixed => Failure::new(Code::Internal, error),
    })?;
    tracing::warn!(%directives, "a caller of JSON-RPC has changed what is logged");
    Ok(before)
}
