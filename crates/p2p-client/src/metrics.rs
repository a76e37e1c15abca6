//! The metrics of one client. The table in the crate's documentation names them all; `preconfirmation-p2p` describes the
//! network's own.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{NoopRecorder, Unit, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use p2p_storage::StorageStats;
use p2p_types::{Address, Head, HeadSyncStatus, Misbehaviour};
use p2p_validation::SignerCounts;

use crate::ClockCheck;

/// Describes the metrics to the recorder.
pub(crate) fn describe() {
    let count = Unit::Count;
    describe_counter!("p2p_validation_failures_total", count, "Messages that broke a rule, by reason");
    describe_counter!("p2p_validation_ignored_total", count, "Commitments of no use, by reason");
    describe_counter!(
        "p2p_client_dropped_total",
        count,
        "Entries dropped by a full queue or for their age, by queue"
    );
    describe_counter!("p2p_cache_hits_total", count, "Messages known already, by kind");
    describe_counter!("p2p_signatures_total", count, "Signatures checked, by how");
    describe_counter!("p2p_signer_tables_built_total", count, "Tables of elected signers' keys built");
    describe_counter!("p2p_reorgs_total", count, "Reorgs, by cause");
    describe_counter!("p2p_evidence_total", count, "Proofs of misbehaviour found, by kind");
    describe_counter!(
        "p2p_promises_total",
        count,
        "Promises of which L2 has shown the end, by signer and outcome"
    );
    describe_counter!("p2p_promises_late_total", count, "Promised blocks that were settled late, by signer");
    describe_counter!("p2p_intake_pauses_total", count, "Times that a lossless subscriber paused ingestion");
    describe_gauge!(
        "p2p_intake_paused",
        count,
        "1 while a lossless subscriber pauses ingestion, 0 otherwise"
    );
    describe_gauge!("p2p_event_lag", count, "Events that the slowest subscriber has not read");
    describe_gauge!("p2p_client_queue_length", count, "Entries that wait in the client, by queue");
    describe_gauge!("p2p_head_applied", count, "Height of the newest linked block");
    describe_gauge!("p2p_head_seen", count, "Highest height seen from an elected preconfer");
    describe_gauge!("p2p_head_target", count, "Height that catch-up has to reach");
    describe_gauge!("p2p_head_lag", count, "Heights between the newest linked block and the target");
    describe_gauge!("p2p_sync_commitments_per_second", Unit::CountPerSecond, "Commitments applied");
    describe_gauge!("p2p_sync_peers", count, "Peers that catch-up can ask");
    describe_gauge!(
        "p2p_clock_offset_seconds",
        Unit::Seconds,
        "Median of arrival minus timestamp of commitments"
    );
    describe_gauge!(
        "p2p_clock_unusable",
        count,
        "1 while all commitments come too early or too late, 0 otherwise"
    );
    describe_gauge!("p2p_sync_live", count, "1 while live, 0 otherwise");
    describe_gauge!("p2p_sync_state", count, "1 for the state of catch-up, 0 for the others, by state");
    describe_gauge!(
        "p2p_pending",
        count,
        "Commitments and blocks that wait for a parent, a schedule or a transaction list, by kind"
    );
    describe_gauge!("p2p_txlists_held_bytes", Unit::Bytes, "Bytes of the orphan transaction list cache");
    describe_gauge!("p2p_storage_bytes", Unit::Bytes, "Bytes in the store, by kind");
    describe_gauge!("p2p_storage_failing", count, "1 while the store refuses writes, 0 otherwise");
    describe_counter!("p2p_storage_failures_total", count, "Writes that the store refused");
    describe_counter!(
        "p2p_storage_unreadable_total",
        count,
        "Transaction lists damaged in the store and fetched again"
    );
}

/// One client's metrics. The recorder is shared by the process; the counts that the client reports itself are kept here as
/// well, so that several clients in one process can be told apart.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Whether the recorder is used.
    recorded: bool,
    rejected: AtomicU64,
    ignored: AtomicU64,
    dropped: AtomicU64,
    /// As last measured.
    queues: Mutex<ClientQueueLengths>,
    /// What was recorded of the validator's counts.
    signers: Mutex<SignerCounts>,
}

/// Counts of a client since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCounts {
    /// Commitments and transaction lists that broke a rule.
    pub rejected: u64,
    /// Commitments that were ignored as of no use.
    pub ignored: u64,
    /// Entries dropped by a full queue or for their age.
    pub dropped: u64,
}

/// How much waits in a client, as last measured: after each batch of the chain, and once a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientQueueLengths {
    /// Commands of the application that the service has not taken.
    pub commands: usize,
    /// Commands of the application that wait for the chain.
    pub commanded: usize,
    /// Commitments that wait for the chain.
    pub commitments: usize,
    /// Transaction lists that are being hashed.
    pub txlists: usize,
    /// All that came in and waits for the chain.
    pub jobs: usize,
    /// Events that the slowest subscriber has not read.
    pub event_lag: usize,
    /// Commitments whose parent is missing.
    pub pending_parent: usize,
    /// Commitments whose schedule or time is missing.
    pub pending_schedule: usize,
    /// Linked blocks whose transaction list is missing.
    pub pending_txlist: usize,
    /// Bytes of transaction lists that no commitment names yet.
    pub orphan_bytes: usize,
}

/// The states of catch-up, as labels.
const STATES: [&str; 5] = ["idle", "waiting_for_l2", "syncing", "live", "stalled"];

impl Metrics {
    pub(crate) fn new(recorded: bool) -> Self {
        Self { recorded, ..Self::default() }
    }

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
        self.record(|| counter!("p2p_validation_failures_total", "reason" => reason).increment(1));
    }

    pub(crate) fn ignored(&self, reason: &'static str) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
        self.record(|| counter!("p2p_validation_ignored_total", "reason" => reason).increment(1));
    }

    pub(crate) fn dropped(&self, queue: &'static str, count: usize) {
        if count > 0 {
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
            self.record(|| counter!("p2p_client_dropped_total", "queue" => queue).increment(count as u64));
        }
    }

    pub(crate) fn known(&self, kind: &'static str) {
        self.record(|| counter!("p2p_cache_hits_total", "kind" => kind).increment(1));
    }

    /// What the validator has counted since it was built; what is new of it is recorded.
    pub(crate) fn signers(&self, counts: SignerCounts) {
        let mut recorded = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *recorded, counts);
        self.record(|| {
            for (outcome, before, now) in [
                ("hit", before.hits, counts.hits),
                ("miss", before.misses, counts.misses),
                ("fallback", before.fallbacks, counts.fallbacks),
                ("recovery", before.recoveries, counts.recoveries),
            ] {
                if now > before {
                    counter!("p2p_signatures_total", "outcome" => outcome).increment(now - before);
                }
            }
            if counts.tables_built > before.tables_built {
                let built = counts.tables_built - before.tables_built;
                counter!("p2p_signer_tables_built_total").increment(built);
            }
        });
    }

    pub(crate) fn reorg(&self, cause: &'static str) {
        self.record(|| counter!("p2p_reorgs_total", "cause" => cause).increment(1));
    }

    pub(crate) fn evidence(&self, kind: Misbehaviour) {
        self.record(|| counter!("p2p_evidence_total", "kind" => kind.label()).increment(1));
    }

    /// The end of a promise; of signers that are not counted one by one without their name.
    pub(crate) fn promise(&self, signer: Option<Address>, outcome: &'static str, late: bool) {
        self.record(|| {
            let signer = signer.map_or_else(|| "other".to_owned(), |signer| signer.to_string());
            counter!("p2p_promises_total", "signer" => signer.clone(), "outcome" => outcome).increment(1);
            if late {
                counter!("p2p_promises_late_total", "signer" => signer).increment(1);
            }
        });
    }

    pub(crate) fn paused(&self, paused: bool) {
        self.record(|| {
            gauge!("p2p_intake_paused").set(if paused { 1.0 } else { 0.0 });
            if paused {
                counter!("p2p_intake_pauses_total").increment(1);
            }
        });
    }

    /// How much waits, as last measured.
    pub(crate) fn queue_lengths(&self) -> ClientQueueLengths {
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measured(&self, change: impl FnOnce(&mut ClientQueueLengths)) {
        change(&mut self.queues.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All but what is pending.
    pub(crate) fn queues(&self, now: ClientQueueLengths) {
        self.measured(|lengths| {
            let ClientQueueLengths { pending_parent, pending_schedule, pending_txlist, orphan_bytes, .. } =
                *lengths;
            *lengths =
                ClientQueueLengths { pending_parent, pending_schedule, pending_txlist, orphan_bytes, ..now };
        });
        let ClientQueueLengths { commands, commanded, commitments, txlists, jobs, event_lag, .. } = now;
        self.record(|| {
            for (queue, length) in [
                ("commanded", commanded),
                ("commands", commands),
                ("commitments", commitments),
                ("txlists", txlists),
                ("jobs", jobs),
            ] {
                gauge!("p2p_client_queue_length", "queue" => queue).set(number(length));
            }
            gauge!("p2p_event_lag").set(number(event_lag));
        });
    }

    pub(crate) fn head(&self, head: Option<Head>) {
        self.record(|| gauge!("p2p_head_applied").set(head.map_or(0.0, |head| height(head.number))));
    }

    pub(crate) fn pending(
        &self,
        (parents, schedules): (usize, usize),
        txlists_missing: usize,
        held_bytes: usize,
    ) {
        self.measured(|lengths| {
            (lengths.pending_parent, lengths.pending_schedule) = (parents, schedules);
            (lengths.pending_txlist, lengths.orphan_bytes) = (txlists_missing, held_bytes);
        });
        self.record(|| {
            gauge!("p2p_pending", "kind" => "parent").set(number(parents));
            gauge!("p2p_pending", "kind" => "schedule").set(number(schedules));
            gauge!("p2p_pending", "kind" => "txlist").set(number(txlists_missing));
            gauge!("p2p_txlists_held_bytes").set(number(held_bytes));
        });
    }

    pub(crate) fn storage(&self, stats: StorageStats) {
        self.record(|| {
            gauge!("p2p_storage_bytes", "kind" => "commitments").set(number(stats.commitment_bytes()));
            gauge!("p2p_storage_bytes", "kind" => "txlists").set(number(stats.txlist_bytes));
        });
    }

    pub(crate) fn storage_failed(&self) {
        self.record(|| {
            gauge!("p2p_storage_failing").set(1.0);
            counter!("p2p_storage_failures_total").increment(1);
        });
    }

    pub(crate) fn storage_recovered(&self) {
        self.record(|| gauge!("p2p_storage_failing").set(0.0));
    }

    pub(crate) fn unreadable(&self) {
        self.record(|| counter!("p2p_storage_unreadable_total").increment(1));
    }

    pub(crate) fn status(&self, status: &HeadSyncStatus) {
        let state = match status {
            HeadSyncStatus::WaitingForL2 => "waiting_for_l2",
            HeadSyncStatus::Syncing { .. } => "syncing",
            HeadSyncStatus::Live { .. } => "live",
            HeadSyncStatus::Stalled { .. } => "stalled",
            _ => "idle",
        };
        let (applied, seen, target) = match *status {
            HeadSyncStatus::Syncing { applied, seen, target, .. }
            | HeadSyncStatus::Stalled { applied, seen, target, .. } => (applied, Some(seen), target),
            HeadSyncStatus::Live { head: Some(head) } => (head.number, Some(head.number), head.number),
            _ => (0, None, 0),
        };
        let (speed, peers) = match *status {
            HeadSyncStatus::Syncing { commitments_per_second, peers, .. } => {
                (commitments_per_second, Some(peers))
            }
            _ => (0, None),
        };
        self.record(|| {
            gauge!("p2p_sync_commitments_per_second").set(f64::from(speed));
            if let Some(peers) = peers {
                gauge!("p2p_sync_peers").set(number(peers));
            }
            for other in STATES {
                gauge!("p2p_sync_state", "state" => other).set(if other == state { 1.0 } else { 0.0 });
            }
            gauge!("p2p_sync_live").set(if status.is_live() { 1.0 } else { 0.0 });
            gauge!("p2p_head_target").set(height(target));
            gauge!("p2p_head_lag").set(height(target.saturating_sub(applied)));
            if let Some(seen) = seen {
                gauge!("p2p_head_seen").set(height(seen));
            }
        });
    }

    pub(crate) fn clock(&self, check: &ClockCheck) {
        self.record(|| {
            gauge!("p2p_clock_offset_seconds").set(seconds(check.offset.unwrap_or(0)));
            gauge!("p2p_clock_unusable").set(if check.is_unusable { 1.0 } else { 0.0 });
        });
    }

    fn record(&self, record: impl FnOnce()) {
        if self.recorded {
            record();
        }
    }
}

/// Runs a part of the client without its metrics.
pub(crate) async fn unrecorded<T>(part: impl Future<Output = T>) -> T {
    let mut part = pin!(part);
    poll_fn(|context| with_local_recorder(&NoopRecorder, || part.as_mut().poll(context))).await
}

#[allow(clippy::cast_precision_loss, reason = "gauges are f64; counts stay far below 2^53")]
const fn number(count: usize) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "gauges are f64; heights stay far below 2^53")]
const fn height(height: u64) -> f64 {
    height as f64
}

#[allow(clippy::cast_precision_loss, reason = "gauges are f64; differences of clocks stay far below 2^53")]
const fn seconds(seconds: i64) -> f64 {
    seconds as f64
}
