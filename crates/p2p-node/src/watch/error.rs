//! Errors of `watch`, and why a node did not answer.

use std::io;

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error("stdout is not a terminal: `curl {status}` tells the same as JSON")]
    NoTerminal { status: String },
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[source] io::Error),
    #[error("no HTTP client: {0}")]
    Client(#[source] reqwest::Error),
}

/// What is no address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("`{given}` is no URL: {source}")]
    Url { given: String, source: url::ParseError },
    #[error("`{given}` is neither http nor https")]
    Scheme { given: String },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no answer in time")]
    Late,
    #[error("{}", innermost(.0))]
    Http(#[source] reqwest::Error),
    #[error("HTTP {0}")]
    Code(u16),
    #[error("more than {0} bytes")]
    TooLong(usize),
    #[error("no status that this version knows: {0}")]
    Json(#[source] serde_json::Error),
}

/// What went wrong below all that only says that it did.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
