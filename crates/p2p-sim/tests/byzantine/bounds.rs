//! What nodes hold in memory, as their metrics tell: the most that any of them ever held.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The most by series: its name and the values of its labels.
static PEAKS: LazyLock<Peaks> = LazyLock::new(|| {
    let peaks = Peaks::default();
    metrics::set_global_recorder(peaks.clone()).unwrap();
    peaks
});

#[derive(Clone, Default)]
struct Peaks(Arc<Mutex<HashMap<String, Arc<Peak>>>>);

#[derive(Default)]
struct Peak(AtomicU64);

impl GaugeFn for Peak {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        // Of what is not negative, the bits have the order of the numbers.
        self.0.fetch_max(value.max(0.0).to_bits(), Ordering::Relaxed);
    }
}

impl Recorder for Peaks {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let labels = key.labels().map(|label| format!(" {}", label.value()));
        let series = labels.fold(key.name().to_owned(), |series, label| series + &label);
        Gauge::from_arc(Arc::clone(self.0.lock().unwrap().entry(series).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Begins to record, once in a process.
pub(crate) fn record() {
    LazyLock::force(&PEAKS);
}

/// The most that a series has been, over all nodes of the process.
pub(crate) fn peak(series: &str) -> f64 {
    let peaks = PEAKS.0.lock().unwrap();
    let peak = peaks.get(series).unwrap_or_else(|| panic!("nothing told {series}"));
    f64::from_bits(peak.0.load(Ordering::Relaxed))
}
