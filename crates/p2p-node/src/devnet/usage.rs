//! What this process uses, where Linux tells it, and how many copies of gossip it has received.

use std::{
    fs,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// What Linux counts processor time in (`USER_HZ`).
const TICKS_A_SECOND: u64 = 100;

/// What a process has used at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Of all processors.
    pub(crate) cpu: Duration,
    /// In memory.
    pub(crate) resident_kib: u64,
}

impl Usage {
    pub(crate) fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name, in parentheses, may have spaces.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let cpu = Duration::from_millis((ticks()? + ticks()?) * 1_000 / TICKS_A_SECOND);
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(Self { cpu, resident_kib: resident.split_whitespace().next()?.parse().ok()? })
    }
}

static COPIES: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// Copies of gossip messages that all nodes of this process have received so far.
pub(crate) fn copies() -> u64 {
    COPIES.load(Ordering::Relaxed)
}

/// Begins to count copies.
pub(crate) fn count_copies() {
    // Where there is a recorder already, there is nothing to tell.
    drop(metrics::set_global_recorder(Copies));
}

/// A recorder of this one metric.
struct Copies;

impl Recorder for Copies {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "p2p_gossip_copies_total" => Counter::from_arc(Arc::clone(&COPIES)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
