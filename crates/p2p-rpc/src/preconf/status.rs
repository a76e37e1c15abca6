//! Everything that an operator asks about, and whether the node may be stopped.

use std::sync::Arc;

use p2p_client::{Base, Head, HeadSyncStatus, Slot, StorageTrouble, UnixSeconds};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    L1Report, L2Report, LeaseReport,
    failure::Failure,
    node::Node,
    value::{Hash, Quantity},
};

/// A block by height and hash.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockRef {
    number: Quantity,
    /// Null where it is not known.
    hash: Option<Hash>,
}

impl From<Head> for BlockRef {
    fn from(Head { number, hash }: Head) -> Self {
        Self { number: number.into(), hash: Some(Hash(hash)) }
    }
}

impl From<Base> for BlockRef {
    fn from(Base { number, hash }: Base) -> Self {
        Self { number: number.into(), hash: hash.map(Hash) }
    }
}

/// Where this node stands.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    version: String,
    /// The chain id of L2; null where the server was not told.
    chain_id: Option<Quantity>,
    /// The chain id in topics and protocol ids.
    p2p_chain_id: Quantity,
    peer_id: String,
    /// The settled block; null while it is not known.
    base: Option<BlockRef>,
    /// The newest linked block; null while there is none above the settled one.
    head: Option<BlockRef>,
    /// The highest height that an elected preconfer has signed, as far as this node knows.
    seen: Option<Quantity>,
    /// The newest height that is linked and stored.
    applied: Option<Quantity>,
    /// Heights between that and what is known to exist; null while the node cannot tell.
    lag: Option<u64>,
    /// Whether all that is known to exist is here.
    is_live: bool,
    /// Where catching up stands, with its `state` and numbers.
    #[schemars(with = "serde_json::Value")]
    sync: HeadSyncStatus,
    /// L1, as the node that follows it sees it; null where none does.
    l1: Option<L1>,
    /// L2, likewise.
    l2: Option<L2>,
    /// Which of several nodes with one key signs; null where no lease decides.
    lease: Option<LeaseReport>,
    /// Peers that can be asked.
    peers: usize,
    /// Seconds by which what preconfers sign arrives after its timestamp; null while too little has come.
    clock_offset: Option<i64>,
    /// What is wrong with the store; null while it takes everything.
    #[schemars(with = "serde_json::Value")]
    storage_trouble: Option<StorageTrouble>,
    /// The rules that are loosened.
    leniencies: Vec<String>,
    can_shutdown: CanShutdown,
}

/// How the node sees L1.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct L1 {
    /// Its head; null while it has not answered.
    head: Option<Quantity>,
    /// The timestamp of that block.
    timestamp: Option<Quantity>,
    /// Why the last question failed; null if it did not.
    error: Option<String>,
}

impl From<L1Report> for L1 {
    fn from(L1Report { head, timestamp, error }: L1Report) -> Self {
        Self { head: head.map(Quantity::from), timestamp: timestamp.map(Quantity::from), error }
    }
}

/// How the node sees L2.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct L2 {
    /// The last settled block; null while it has not answered.
    settled: Option<Quantity>,
    /// When it said so, in unix seconds.
    at: Option<u64>,
    /// Whether the execution node is synchronized and has that block.
    is_synced: bool,
    /// Why the last question failed; null if it did not.
    error: Option<String>,
}

impl From<L2Report> for L2 {
    fn from(L2Report { settled, at, synced, error }: L2Report) -> Self {
        Self { settled: settled.map(Quantity::from), at, is_synced: synced, error }
    }
}

/// Whether the node may be stopped without a preconfer missing its turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CanShutdown {
    /// By what this node knows: of the signers that have published here since it started, none has this turn or the next.
    allowed: bool,
    /// Why.
    reason: String,
}

pub(super) async fn status(node: Arc<Node>, (): ()) -> Result<Status, Failure> {
    let (client, sync) = (&node.client, node.client.status());
    let (base, head) = (client.chain().base().await?, client.chain().head());
    let applied = head.map(|head| head.number).or(base.map(|base| base.number));
    let seen = match sync {
        // What was just applied may be newer than this status.
        HeadSyncStatus::Syncing { seen, .. } | HeadSyncStatus::Stalled { seen, .. } => {
            applied.max(Some(seen))
        }
        HeadSyncStatus::Live { .. } => applied,
        _ => None,
    };
    let lag = match sync {
        HeadSyncStatus::Live { .. } => Some(0),
        HeadSyncStatus::Syncing { applied, target, .. } | HeadSyncStatus::Stalled { applied, target, .. } => {
            Some(target.saturating_sub(applied))
        }
        _ => None,
    };
    Ok(Status {
        version: node.version.clone(),
        chain_id: node.chain_id.map(Quantity::from),
        p2p_chain_id: client.chain_id().into(),
        peer_id: client.network().local_peer_id().to_string(),
        base: base.map(BlockRef::from),
        head: head.map(BlockRef::from),
        seen: seen.map(Quantity::from),
        applied: applied.map(Quantity::from),
        lag,
        is_live: sync.is_live(),
        sync,
        l1: node.host.as_ref().and_then(|host| host.l1()).map(L1::from),
        l2: node.host.as_ref().and_then(|host| host.l2()).map(L2::from),
        lease: node.host.as_ref().and_then(|host| host.lease()),
        peers: client.network().ready_peers().len(),
        clock_offset: client.clock().offset,
        storage_trouble: client.storage_trouble(),
        leniencies: client.leniencies().iter().map(ToString::to_string).collect(),
        can_shutdown: can_shutdown(&node).await?,
    })
}

/// A preconfer that has this turn or the next must not lose its node.
async fn can_shutdown(node: &Node) -> Result<CanShutdown, Failure> {
    let lookahead = node.client.validator().lookahead();
    if lookahead.elects_anyone() {
        return Ok(CanShutdown { allowed: true, reason: "any signer is accepted: nobody has a turn".into() });
    }
    // After a handover this is the next one already.
    let turn = node.client.chain().expected_preconfer().await?;
    let following = turn.and_then(|turn| {
        let after = turn.window.end.get().checked_add(1).map(UnixSeconds::new);
        lookahead.turn(after?).ok().flatten()
    });
    Ok(judge(turn, following, |slot| node.publishes_for(slot.signer)))
}

fn judge(turn: Option<Slot>, following: Option<Slot>, is_ours: impl Fn(&Slot) -> bool) -> CanShutdown {
    let (allowed, reason) = match (turn, following) {
        (None, _) => (true, "the schedule is not known".into()),
        (Some(turn), _) if is_ours(&turn) => {
            (false, format!("{} publishes here and has its turn until {}", turn.signer, turn.window.end))
        }
        (_, Some(next)) if is_ours(&next) => (
            false,
            format!("{} publishes here and has the next turn, from {}", next.signer, next.window.start),
        ),
        _ => (true, "no signer that publishes here has this turn or the next".into()),
    };
    CanShutdown { allowed, reason }
}

#[cfg(test)]
mod tests {
    use p2p_client::{Address, Window};

    use super::*;

    #[test]
    fn a_node_whose_signer_has_this_turn_or_the_next_stays() {
        let slot = |byte, start| Slot {
            signer: Address::repeat_byte(byte),
            window: Window { start: UnixSeconds::new(start), end: UnixSeconds::new(start + 9) },
        };
        let ours = |slot: &Slot| slot.signer == Address::repeat_byte(1);
        let judged = |turn: Option<u8>, next: Option<u8>| {
            judge(turn.map(|byte| slot(byte, 10)), next.map(|byte| slot(byte, 20)), ours)
        };
        assert!(judged(Some(1), Some(2)).reason.contains("until 19"));
        assert!(judged(Some(2), Some(1)).reason.contains("from 20"));
        assert!(!judged(Some(1), None).allowed && !judged(Some(2), Some(1)).allowed);
        assert!(
            judged(Some(2), Some(3)).allowed && judged(Some(2), None).allowed && judged(None, None).allowed
        );
    }
}
