//! What honest nodes write to a log, counted: with the filter and the limit of `p2p-node run`.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::FilterExt as _,
    layer::{Context, Layer, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

#[path = "../../../../crates/p2p-node/src/log_limit.rs"]
#[allow(clippy::disallowed_methods, reason = "a log is about real time")]
mod log_limit;

use crate::rig::Failure;

/// What `p2p-node run` logs of the network by default.
const FILTER: &str = "warn,preconfirmation_p2p=info";

static LINES: AtomicU64 = AtomicU64::new(0);

struct Count;

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        LINES.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts from now on.
pub(crate) fn count() -> Result<(), Failure> {
    let filter = EnvFilter::builder().parse(FILTER)?;
    let filter = filter.and(log_limit::LogLimit::default());
    Ok(tracing_subscriber::registry().with(Count.with_filter(filter)).try_init()?)
}

/// How many lines have been written.
pub(crate) fn lines() -> u64 {
    LINES.load(Ordering::Relaxed)
}
