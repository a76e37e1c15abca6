//! The client's series. The network's own are described by `preconfirmation-p2p`.

use std::sync::{
    Once,
    atomic::{AtomicU64, Ordering},
};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use p2p_types::{Head, HeadSyncStatus};

pub(crate) fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        describe_counter!("p2p_validation_failures_total", Unit::Count, "Commitments rejected, by reason");
        describe_counter!("p2p_validation_ignored_total", Unit::Count, "Commitments of no use, by reason");
        describe_counter!(
            "p2p_client_dropped_total",
            Unit::Count,
            "What a full queue or its age cost, by queue"
        );
        describe_counter!("p2p_cache_hits_total", Unit::Count, "Messages known already, by kind");
        describe_counter!("p2p_reorgs_total", Unit::Count, "Times that blocks were replaced");
        describe_gauge!("p2p_head_applied", Unit::Count, "Height of the newest linked block");
        describe_gauge!("p2p_head_seen", Unit::Count, "Highest height seen from an elected preconfer");
        describe_gauge!("p2p_head_target", Unit::Count, "Height to reach");
        describe_gauge!("p2p_sync_commitments_per_second", Unit::CountPerSecond, "Commitments applied");
        describe_gauge!("p2p_sync_peers", Unit::Count, "Peers that catch-up can ask");
        describe_gauge!("p2p_sync_stalled", Unit::Count, "1 while stalled, 0 while not");
        describe_gauge!("p2p_sync_live", Unit::Count, "1 while live, 0 while not");
        describe_gauge!("p2p_pending", Unit::Count, "Commitments that wait");
        describe_gauge!("p2p_txlists_missing", Unit::Count, "Blocks without their transaction list");
        describe_gauge!(
            "p2p_txlists_held_bytes",
            Unit::Bytes,
            "Transaction lists that no commitment names yet"
        );
    });
}

/// One client's series. The recorder is the process's; what the client itself tells is counted here as well,
/// so that several clients in one process can be told apart.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    rejected: AtomicU64,
    ignored: AtomicU64,
    dropped: AtomicU64,
}

/// What a client has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCounts {
    /// Commitments and transaction lists that broke a rule.
    pub rejected: u64,
    /// Commitments that were of no use.
    pub ignored: u64,
    /// What a full queue or its age cost.
    pub dropped: u64,
}

impl Metrics {
    pub(crate) fn counts(&self) -> ClientCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClientCounts {
            rejected: read(&self.rejected),
            ignored: read(&self.ignored),
            dropped: read(&self.dropped),
        }
    }

    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        counter!("p2p_validation_failures_total", "reason" => reason).increment(1);
    }

    pub(crate) fn ignored(&self, reason: &'static str) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
        counter!("p2p_validation_ignored_total", "reason" => reason).increment(1);
    }

    pub(crate) fn dropped(&self, queue: &'static str, count: usize) {
        if count > 0 {
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
            counter!("p2p_client_dropped_total", "queue" => queue).increment(count as u64);
        }
    }

    pub(crate) fn known(&self, kind: &'static str) {
        counter!("p2p_cache_hits_total", "kind" => kind).increment(1);
    }

    pub(crate) fn reorg(&self) {
        counter!("p2p_reorgs_total").increment(1);
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are f64; heights stay far below 2^53")]
    pub(crate) fn head(&self, head: Option<Head>) {
        gauge!("p2p_head_applied").set(head.map_or(0.0, |head| head.number as f64));
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are f64; counts stay far below 2^53")]
    pub(crate) fn pending(&self, pending: usize, txlists_missing: usize, held_bytes: usize) {
        gauge!("p2p_pending").set(pending as f64);
        gauge!("p2p_txlists_missing").set(txlists_missing as f64);
        gauge!("p2p_txlists_held_bytes").set(held_bytes as f64);
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are f64; heights stay far below 2^53")]
    pub(crate) fn status(&self, status: &HeadSyncStatus) {
        let yes = |is: bool| if is { 1.0 } else { 0.0 };
        gauge!("p2p_sync_live").set(yes(status.is_live()));
        gauge!("p2p_sync_stalled").set(yes(matches!(status, HeadSyncStatus::Stalled { .. })));
        let mut speed = 0;
        match status {
            HeadSyncStatus::Syncing { seen, target, commitments_per_second, peers, .. } => {
                gauge!("p2p_head_seen").set(*seen as f64);
                gauge!("p2p_head_target").set(*target as f64);
                gauge!("p2p_sync_peers").set(*peers as f64);
                speed = *commitments_per_second;
            }
            HeadSyncStatus::Stalled { target, .. } => gauge!("p2p_head_target").set(*target as f64),
            HeadSyncStatus::Live { head: Some(head) } => {
                gauge!("p2p_head_seen").set(head.number as f64);
                gauge!("p2p_head_target").set(head.number as f64);
            }
            _ => {}
        }
        gauge!("p2p_sync_commitments_per_second").set(f64::from(speed));
    }
}
