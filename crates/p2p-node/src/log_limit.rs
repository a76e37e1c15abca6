//! A `tracing` filter that limits the lines that each place in the code writes to the log.
//!
//! Remote peers can make the libraries below write a line for each thing that they do wrong, and so fill the log. Each place
//! in the code writes at most [`LINES`] lines a minute; the others are counted, in the next minute's first line and in
//! `p2p_log_lines_left_out_total`.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::counter;
use tracing::{Event, Metadata, Subscriber, callsite::Identifier, level_filters::LevelFilter};
use tracing_subscriber::layer::{Context, Filter};

/// Most lines of one place in a minute: more than a start writes, about each address that is listened on, say.
const LINES: u32 = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// The target of the filter's own lines.
const TARGET: &str = "log_limit";

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// It is written, after so many were left out in the minute before.
    Written {
        left_out: u32,
    },
    LeftOut,
}

/// What a place has written in the minute that began with its first line.
#[derive(Debug, Clone, Copy)]
struct Minute {
    since: Instant,
    lines: u32,
}

impl Minute {
    fn count(&mut self, now: Instant) -> Line {
        let mut left_out = 0;
        if now.saturating_duration_since(self.since) >= MINUTE {
            left_out = self.lines.saturating_sub(LINES);
            *self = Self { since: now, lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines > LINES { Line::LeftOut } else { Line::Written { left_out } }
    }
}

/// The filter. Goes behind the one that says what is logged, so that it counts lines only that would be written.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    /// As many as there are places in the code.
    places: Mutex<HashMap<Identifier, Minute>>,
}

impl<S: Subscriber> Filter<S> for LogLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    #[allow(clippy::disallowed_methods, reason = "a log is about real time")]
    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() == TARGET {
            return true;
        }
        let now = Instant::now();
        let line = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(metadata.callsite()).or_insert(Minute { since: now, lines: 0 }).count(now)
        };
        match line {
            Line::Written { left_out: 0 } => true,
            Line::Written { left_out } => {
                tracing::warn!(target: TARGET, left_out, of = metadata.target(), "lines like the next one");
                true
            }
            Line::LeftOut => {
                counter!("p2p_log_lines_left_out_total").increment(1);
                false
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests need some instant")]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use tracing_subscriber::{
        Layer as _, Registry, filter::FilterExt as _, fmt, layer::SubscriberExt as _, registry,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicU32>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.0.fetch_add(u32::try_from(lines).unwrap(), Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_place_writes_few_lines_and_others_are_not_held_back() {
        let lines = Lines::default();
        let writer = lines.clone();
        let limit = Arc::new(LogLimit::default());
        let shared: Arc<dyn Filter<Registry> + Send + Sync> = limit.clone();
        let filter = LevelFilter::INFO.and(shared);
        let written = fmt::layer().with_writer(move || writer.clone()).with_filter(filter);
        // Another layer wants to see everything.
        let seen = fmt::layer().with_writer(io::sink).with_filter(LevelFilter::TRACE);
        tracing::subscriber::with_default(registry().with(written).with(seen), || {
            for number in 0..1000 {
                tracing::debug!(number, "what is not logged");
            }
            assert_eq!(lines.0.load(Ordering::Relaxed), 0);
            assert!(limit.places.lock().unwrap().is_empty(), "what is not logged is not counted");
            for number in 0..1000 {
                tracing::warn!(number, "a peer does something");
            }
            assert_eq!(lines.0.load(Ordering::Relaxed), LINES);
            tracing::info!("another place");
            assert_eq!(lines.0.load(Ordering::Relaxed), LINES + 1);
        });
    }

    #[test]
    fn the_first_line_of_the_next_minute_tells_how_many_were_left_out() {
        let start = Instant::now();
        let mut minute = Minute { since: start, lines: 0 };
        for _ in 0..LINES {
            assert_eq!(minute.count(start), Line::Written { left_out: 0 });
        }
        for _ in 0..7 {
            assert_eq!(minute.count(start + MINUTE - Duration::from_nanos(1)), Line::LeftOut);
        }
        assert_eq!(minute.count(start + MINUTE), Line::Written { left_out: 7 });
        assert_eq!(minute.count(start + MINUTE), Line::Written { left_out: 0 });
        assert_eq!(minute.count(start + 3 * MINUTE), Line::Written { left_out: 0 });
    }
}
