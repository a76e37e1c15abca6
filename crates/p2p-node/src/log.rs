//! The log: it goes to stderr, as text or as JSON. What is logged can be changed while the process runs.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

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

/// The filter of this process, once it logs.
static FILTER: OnceLock<Filter> = OnceLock::new();

/// A filter that can be replaced.
struct Filter {
    directives: Mutex<String>,
    replace: Replace,
}

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Begins to log what passes a filter, of which directives that make no sense are left out.
pub(crate) fn start(filter: &str, as_json: bool) {
    IS_JSON.store(as_json, Ordering::Relaxed);
    let filter = EnvFilter::builder().parse_lossy(filter);
    let directives = Mutex::new(filter.to_string());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(WRITER)
        .with_ansi(io::stderr().is_terminal() && !as_json)
        .log_internal_errors(false);
    let replace: Replace = if as_json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        builder.finish().with(LogLimit::default()).init();
        Box::new(move |filter| handle.reload(filter))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.finish().with(LogLimit::default()).init();
        Box::new(move |filter| handle.reload(filter))
    };
    // There is one log in a process.
    drop(FILTER.set(Filter { directives, replace }));
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
    let Some(Filter { directives, replace }) = FILTER.get() else {
        return Err("this process does not log".into());
    };
    if given.trim().is_empty() {
        return Err("it is empty".into());
    }
    let filter = EnvFilter::builder().parse(given).map_err(|error| error.to_string())?;
    let mut directives = directives.lock().unwrap_or_else(PoisonError::into_inner);
    let text = filter.to_string();
    replace(filter).map_err(|error| error.to_string())?;
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
