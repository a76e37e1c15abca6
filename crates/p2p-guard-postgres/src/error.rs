//! What can go wrong apart from a refusal.

use std::{error::Error as _, fmt::Write as _, io, path::PathBuf, time::Duration};

use p2p_types::Conflict;

/// What went wrong when a guard was opened, exported, imported or pruned, or its lease was asked for. None of these is a
/// yes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was configured makes no sense.
    #[error("the guard's database: {0}")]
    Config(String),
    /// The file of trusted certificates.
    #[error("certificates of the guard's database in {}: {source}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The database has a schema of a later version.
    #[error("the guard's schema {schema} has version {found}, this program knows up to {known}: upgrade it")]
    TooNew {
        /// The schema.
        schema: String,
        /// Its version.
        found: i32,
        /// The last version that is known.
        known: i32,
    },
    /// The database must not answer: it forgets, cannot write, or is another chain's.
    #[error("the guard's database cannot be used: {0}")]
    Unfit(String),
    /// The database, or the connection to it, failed.
    #[error("the guard's database failed: {0}")]
    Database(String),
    /// There was no answer in time.
    #[error("the guard's database gave no answer within {0:?}")]
    Deadline(Duration),
    /// A file of promises cannot be read or written.
    #[error("line {line} of the promises: {problem}")]
    Promises {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of promises contradicts what is recorded. Nothing of it was imported.
    #[error("the promises contradict what is recorded, nothing was imported: {0}")]
    Contradiction(Box<Conflict>),
}

impl Error {
    /// Whether it may pass by itself.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Deadline(_))
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(described(&error))
    }
}

/// An error with its causes, which the client of PostgreSQL does not show by itself.
pub(crate) fn described(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) && write!(text, ": {cause_text}").is_err() {
            break;
        }
        next = cause.source();
    }
    text
}
