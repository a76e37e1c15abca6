//! The log: it goes to stderr, as text or as JSON.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::log_limit::LogLimit;

/// The variable in which filters are given, to this program and to others.
pub(crate) const RUST_LOG: &str = EnvFilter::DEFAULT_ENV;

/// What is logged of a tool, whose results go to stdout.
const TOOL: &str = "warn";

/// Begins to log for a tool, as RUST_LOG says, or warnings only.
pub(crate) fn start_for_tool() {
    let given = env::var(RUST_LOG).ok().filter(|given| !given.trim().is_empty());
    start(given.as_deref().unwrap_or(TOOL), false);
}

/// Where the log goes: to stderr, above the progress bar of a node that shows one.
#[cfg(feature = "operator")]
const WRITER: fn() -> crate::run::Log = || crate::run::Log;
#[cfg(not(feature = "operator"))]
const WRITER: fn() -> io::Stderr = io::stderr;

/// Whether the log's lines are JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Begins to log what passes a filter, of which directives that make no sense are left out.
pub(crate) fn start(filter: &str, as_json: bool) {
    IS_JSON.store(as_json, Ordering::Relaxed);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .with_writer(WRITER)
        .with_ansi(io::stderr().is_terminal() && !as_json)
        .log_internal_errors(false);
    if as_json {
        builder.json().flatten_event(true).finish().with(LogLimit::default()).init();
    } else {
        builder.finish().with(LogLimit::default()).init();
    }
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
