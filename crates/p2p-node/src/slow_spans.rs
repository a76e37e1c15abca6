//! The spans of messages, pages and publications that took long: the last ones are kept for `debug_slowMessages`.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use p2p_rpc::SlowMessage;
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

use crate::clock;

/// What takes as long as this is slow: a message takes a millisecond, and one that has to wait for the store ten.
const SLOW: Duration = Duration::from_millis(100);

/// So many are kept; older ones give way.
const KEPT: usize = 64;

/// The spans that are looked at: each is a message from its arrival to its event, or what a message came with.
const NAMES: [&str; 4] = ["message", "page", "txlist", "publish"];

static LAST: Mutex<VecDeque<SlowMessage>> = Mutex::new(VecDeque::new());

/// The last slow ones, newest first.
pub(crate) fn last() -> Vec<SlowMessage> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
}

/// The layer that keeps them.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> + use<S> {
    let is_looked_at = |metadata: &Metadata<'_>| {
        metadata.is_span() && metadata.target().starts_with("p2p_client") && NAMES.contains(&metadata.name())
    };
    SlowSpans.with_filter(filter_fn(is_looked_at))
}

struct SlowSpans;

/// What is known of a span that is open.
struct Open {
    since: Instant,
    /// Since when something works on it.
    entered: Option<Instant>,
    busy: Duration,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Open {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SlowSpans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut open =
            Open { since: Instant::now(), entered: None, busy: Duration::ZERO, fields: BTreeMap::new() };
        attributes.record(&mut open);
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        change(context.span(id), |open| values.record(open));
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        change(context.span(id), |open| open.entered = Some(Instant::now()));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        change(context.span(id), |open| {
            open.busy += open.entered.take().map(|since| since.elapsed()).unwrap_or_default();
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let took = open.since.elapsed();
        if took < SLOW {
            return;
        }
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT {
            last.pop_front();
        }
        let fields = open.fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        last.push_back(SlowMessage::new(span.name(), clock::now().get(), took, open.busy, fields));
    }
}

fn change<S: for<'a> LookupSpan<'a>>(span: Option<SpanRef<'_, S>>, change: impl FnOnce(&mut Open)) {
    if let Some(span) = span
        && let Some(open) = span.extensions_mut().get_mut()
    {
        change(open);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use tracing::{debug_span, field::Empty, subscriber::with_default};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// One test: what is kept is of the process.
    #[test]
    fn the_last_slow_spans_are_kept_with_their_fields() {
        with_default(tracing_subscriber::registry().with(layer()), || {
            let quick = debug_span!(target: "p2p_client", "message", peer = 1);
            drop(quick.entered());
            let other = debug_span!(target: "p2p_client", "other");
            let foreign = debug_span!(target: "libp2p", "message");
            let slow = debug_span!(target: "p2p_client", "message", peer = %"12D3", outcome = Empty);
            slow.in_scope(|| sleep(SLOW));
            slow.record("outcome", "stored");
            drop((slow, other, foreign));
            assert_eq!(last().len(), 1);
            let kept = last().remove(0);
            assert_eq!(
                (kept.kind.as_str(), &kept.fields["peer"], &kept.fields["outcome"]),
                ("message", &"12D3".to_owned(), &"stored".to_owned())
            );
            assert!(kept.busy_ms >= 100 && kept.total_ms >= kept.busy_ms, "{kept:?}");
            // All of these are open for as long as the first one.
            let many: Vec<_> =
                (0..=KEPT).map(|index| debug_span!(target: "p2p_client", "page", index)).collect();
            sleep(SLOW);
            drop(many);
        });
        assert_eq!(last().len(), KEPT);
        assert!(last().iter().all(|kept| kept.kind == "page" && kept.busy_ms == 0));
        assert_eq!(last()[0].fields["index"], KEPT.to_string(), "the newest first");
    }
}
