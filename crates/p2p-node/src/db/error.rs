//! Errors of `db`: of a store, of one line of an export, of the whole run.

use std::{io, path::PathBuf};

use p2p_storage::StorageError;
use p2p_types::Head;
use p2p_validation::{EvidenceError, IgnoreReason, Missing, Rejection};
use preconfirmation_types::TxListError;

/// Why the run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    /// A folder without a store; none is created by looking.
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    /// An import into what is not empty.
    #[error("there is something in {} already: import into a new store", .0.display())]
    NotEmpty(PathBuf),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The same, with the folder that it is in.
    #[error("{}: {source}{}", folder.display(), advice(source))]
    Store {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        source: StorageError,
    },
    /// What the store holds is not what it was given.
    #[error(
        "{}: the store is damaged: {first}{}; {}",
        folder.display(),
        if *more > 0 { format!(", and {more} more") } else { String::new() },
        if *only_lists { "a node that runs on it fetches the list again" } else { RESTORE },
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// The first problem.
        first: String,
        /// How many there are beyond that.
        more: usize,
        /// Whether all of them are transaction lists.
        only_lists: bool,
    },
    /// What was read is no export of ours.
    #[error("line 1 is not the head of an export: {0}")]
    Header(#[source] serde_json::Error),
    /// An export of a newer version.
    #[error("the export has version {found}, this program knows version {known}")]
    Version {
        /// What it has.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// A line that no export has.
    #[error("line {line} has more than {limit} bytes")]
    TooLong {
        /// Its number, from 1.
        line: u64,
        /// Most bytes of a line.
        limit: u64,
    },
    /// stdin failed.
    #[error("reading stdin: {0}")]
    Input(#[source] io::Error),
    /// stdout failed.
    #[error("writing stdout: {0}")]
    Output(#[source] io::Error),
    /// The imported chain ends elsewhere.
    #[error("the chain ends at {}, in the export it ended at {}", head(*.found), head(*.expected))]
    Head {
        /// Where it ends.
        found: Option<Head>,
        /// Where it ended.
        expected: Option<Head>,
    },
}

const RESTORE: &str = "restore a copy, or move the folder away and let a node fetch the chain from its peers";

/// What to do, where that is clear.
fn advice(error: &StorageError) -> String {
    let advice = match error {
        StorageError::Corrupt { .. } => RESTORE,
        StorageError::Locked { .. } => "stop that first",
        StorageError::UnknownSchema { .. } => "use the version of this program that wrote it",
        StorageError::OtherDomain { .. } => "name it with --domain",
        StorageError::NoSpace => "make room and try again",
        error if error.is_retryable() => "try again",
        _ => return String::new(),
    };
    format!("; {advice}")
}

fn head(head: Option<Head>) -> String {
    head.map_or_else(|| "its base".to_owned(), |head| head.to_string())
}

/// Why one line was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// Not a line of an export.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A commitment that breaks a rule.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A commitment whose parent was not among the lines before.
    #[error("it waits for {0:?}")]
    Deferred(Missing),
    /// A commitment that the rules do not take.
    #[error("ignored: {}", .0.label())]
    Ignored(IgnoreReason),
    /// A list that is not its hash.
    #[error(transparent)]
    TxList(#[from] TxListError),
    /// Evidence that proves nothing.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}
