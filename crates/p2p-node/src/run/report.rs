//! A line of the log every 30 seconds: peers, head and lag.

use std::{convert::Infallible, time::Duration};

use p2p_client::P2pClient;
use p2p_lookahead::{L1Lookahead, L2Handle};
use p2p_types::{BlockNumber, HeadSyncStatus};
use tokio::time::interval;

/// Between two lines.
const PERIOD: Duration = Duration::from_secs(30);

/// Writes how many peers there are, the head, how far behind it is, L1's head, and what is settled: at once and then every 30
/// seconds.
pub(super) async fn report(
    client: &P2pClient,
    l1: Option<&L1Lookahead>,
    l2: Option<&L2Handle>,
) -> Infallible {
    let mut period = interval(PERIOD);
    let mut started = false;
    loop {
        period.tick().await;
        let (sync, peers) = (client.status(), client.network().ready_peers().len());
        let head = client.chain().head().map(|head| head.number);
        let l1_head = l1.and_then(|l1| l1.status().head).map(|head| head.number);
        let l2_settled = l2.and_then(|l2| l2.status().seen).map(|seen| seen.number);
        tracing::info!(peers, head, lag = lag(&sync), l1_head, l2_settled, %sync, "running");
        if peers == 0 && started {
            tracing::warn!(
                "no peer can be asked: check --p2p.static, --p2p.bootnodes, --p2p.chain-id and what lies between the hosts"
            );
        }
        if client.network().suspects_itself() {
            tracing::warn!(
                "several peers sign what this node does not expect, and no commitment passes: check --lookahead, --slasher, \
                 --domain and the clock of this host"
            );
        }
        started = true;
    }
}

/// Heights between the newest block and the one to reach; none while that is not known.
const fn lag(sync: &HeadSyncStatus) -> Option<BlockNumber> {
    match sync {
        HeadSyncStatus::Syncing { applied, target, .. } | HeadSyncStatus::Stalled { applied, target, .. } => {
            Some(target.saturating_sub(*applied))
        }
        HeadSyncStatus::Live { .. } => Some(0),
        _ => None,
    }
}
