//! The log: it goes to stderr, as text or as JSON. What is logged can be changed while the process runs.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(feature = "operator")]
use std::sync::PoisonError;

#[cfg(feature = "otlp")]
use tracing::Subscriber;
#[cfg(not(feature = "otlp"))]
use tracing_subscriber::layer::Identity;
#[cfg(feature = "otlp")]
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter::FilterExt as _, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::log_limit::LogLimit;

/// The variable in which filters are given, to this program and to others.
pub(crate) const RUST_LOG: &str = EnvFilter::DEFAULT_ENV;

/// What is logged of a tool, whose results go to stdout.
const TOOL: &str = "warn";

/// Begins to log for a tool, as RUST_LOG says, or warnings only.
pub(crate) fn start_for_tool() {
    let given = env::var(RUST_LOG).ok().filter(|given| !given.trim().is_empty());
    // Nothing is sent.
    drop(start(given.as_deref().unwrap_or(TOOL), false, &Spans::default()));
}

/// Where the log goes: to stderr, above the progress bar of a node that shows one.
#[cfg(feature = "operator")]
const WRITER: fn() -> crate::run::Log = || crate::run::Log;
#[cfg(not(feature = "operator"))]
const WRITER: fn() -> io::Stderr = io::stderr;

/// Whether the log's lines are JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// The filter of this process, once it logs.
static FILTER: OnceLock<Filter> = OnceLock::new();

/// A filter that can be replaced.
#[cfg_attr(not(feature = "operator"), allow(dead_code, reason = "only a node's is replaced"))]
struct Filter {
    directives: Mutex<String>,
    handle: reload::Handle<EnvFilter, Registry>,
}

/// What is done with spans beside logging them.
#[derive(Debug, Default)]
pub(crate) struct Spans<'a> {
    /// The OpenTelemetry collector that they are sent to.
    pub(crate) collector: Option<&'a str>,
    /// Whether slow ones are kept for whoever asks.
    #[cfg(feature = "operator")]
    pub(crate) slow_are_kept: bool,
}

/// Begins to log what passes a filter, of which directives that make no sense are left out, and to look after spans.
///
/// # Errors
/// Why spans cannot be sent. The log begins all the same.
pub(crate) fn start(filter: &str, as_json: bool, spans: &Spans<'_>) -> Result<(), String> {
    IS_JSON.store(as_json, Ordering::Relaxed);
    let filter = EnvFilter::builder().parse_lossy(filter);
    let directives = Mutex::new(filter.to_string());
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_writer(WRITER)
        .with_ansi(io::stderr().is_terminal() && !as_json)
        .log_internal_errors(false);
    let lines = if as_json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    let (sent, failed) = sent(spans.collector);
    let log =
        tracing_subscriber::registry().with(lines.with_filter(filter.and(LogLimit::default()))).with(sent);
    #[cfg(feature = "operator")]
    let log = log.with(spans.slow_are_kept.then(crate::slow_spans::layer));
    log.init();
    // There is one log in a process.
    drop(FILTER.set(Filter { directives, handle }));
    failed.map_or(Ok(()), Err)
}

/// The layer that sends spans, or why there is none.
#[cfg(feature = "otlp")]
fn sent<S: Subscriber + for<'a> LookupSpan<'a>>(
    collector: Option<&str>,
) -> (Option<impl tracing_subscriber::Layer<S> + use<S>>, Option<String>) {
    match collector.map(crate::otlp::layer).transpose() {
        Ok(layer) => (layer, None),
        Err(error) => (None, Some(error.to_string())),
    }
}

#[cfg(not(feature = "otlp"))]
fn sent(collector: Option<&str>) -> (Option<Identity>, Option<String>) {
    (None, collector.map(|_| "this program was built without the feature `otlp`".to_owned()))
}

/// What is logged, as directives.
#[cfg(feature = "operator")]
pub(crate) fn filter() -> Option<String> {
    let Filter { directives, .. } = FILTER.get()?;
    Some(directives.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Logs by other directives from now on.
///
/// # Errors
/// What is wrong with them.
#[cfg(feature = "operator")]
pub(crate) fn set_filter(given: &str) -> Result<(), String> {
    let Some(Filter { directives, handle }) = FILTER.get() else {
        return Err("this process does not log".into());
    };
    if given.trim().is_empty() {
        return Err("it is empty".into());
    }
    let filter = EnvFilter::builder().parse(given).map_err(|error| error.to_string())?;
    let mut directives = directives.lock().unwrap_or_else(PoisonError::into_inner);
    let text = filter.to_string();
    handle.reload(filter).map_err(|error| error.to_string())?;
    *directives = text;
    Ok(())
}

/// Writes the error that ends the process to stderr, as a line of the log where that is JSON. Where stderr is closed, only the
/// exit code tells.
pub(crate) fn fail(error: impl Display) -> ExitCode {
    if IS_JSON.load(Ordering::Relaxed) {
        tracing::error!("{error}");
    } else {
        writeln!(io::stderr(), "error: {error}").ok();
    }
    ExitCode::FAILURE
}
