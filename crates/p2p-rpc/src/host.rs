//! What the program around a server tells and does beyond its client.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;

/// What a program tells and does beyond the client that it serves. All of it may be left out.
pub trait Host: std::fmt::Debug + Send + Sync + 'static {
    /// How it sees L1; none where it does not follow it.
    fn l1(&self) -> Option<L1Report> {
        None
    }

    /// How it sees L2; none where it does not follow it.
    fn l2(&self) -> Option<L2Report> {
        None
    }

    /// Who signs, where several nodes have one key and a lease decides; none where there is no lease.
    fn lease(&self) -> Option<LeaseReport> {
        None
    }

    /// What took long recently, newest first: none where that is not measured.
    fn slow_messages(&self) -> Vec<SlowMessage> {
        Vec::new()
    }

    /// What is logged, as directives; none where that cannot be told.
    fn log_filter(&self) -> Option<String> {
        None
    }

    /// Logs by other directives from now on.
    ///
    /// # Errors
    /// [`LogFilterError`] where they cannot be read, or the log cannot be changed.
    fn set_log_filter(&self, directives: &str) -> Result<(), LogFilterError> {
        let _unused = directives;
        Err(LogFilterError::Fixed)
    }
}

/// How a program sees L1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct L1Report {
    /// The height of its head, as far as it has been read.
    pub head: Option<u64>,
    /// The timestamp of that block.
    pub timestamp: Option<u64>,
    /// Why the last question failed; none if it did not.
    pub error: Option<String>,
}

impl L1Report {
    /// A report.
    #[must_use]
    pub const fn new(head: Option<u64>, timestamp: Option<u64>, error: Option<String>) -> Self {
        Self { head, timestamp, error }
    }
}

/// How a program sees L2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct L2Report {
    /// The last settled block, as it was read last.
    pub settled: Option<u64>,
    /// When that was, in unix seconds by the program's clock.
    pub at: Option<u64>,
    /// Whether the execution node is synchronized and has that block.
    pub synced: bool,
    /// Why the last question failed; none if it did not.
    pub error: Option<String>,
}

impl L2Report {
    /// A report.
    #[must_use]
    pub const fn new(settled: Option<u64>, at: Option<u64>, synced: bool, error: Option<String>) -> Self {
        Self { settled, at, synced, error }
    }
}

/// Which of several nodes with one key signs, as this one knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LeaseReport {
    /// What this node is: `leader`, `standby`, or `unknown` while the lease may have ended and nobody says so.
    pub role: String,
    /// Who leads; null if nobody is known to.
    pub leader: Option<String>,
    /// The token of the last leader. It grows with each.
    pub token: u64,
    /// Why, as a label.
    pub why: String,
}

impl LeaseReport {
    /// A report.
    #[must_use]
    pub fn new(role: &str, leader: Option<String>, token: u64, why: &str) -> Self {
        Self { role: role.to_owned(), leader, token, why: why.to_owned() }
    }
}

/// A message, a page, a list or a publication that took long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SlowMessage {
    /// The name of its span: `message`, `page`, `txlist` or `publish`.
    pub kind: String,
    /// When it was done, in unix seconds by the program's clock.
    pub at: u64,
    /// Milliseconds from its arrival to its end.
    pub total_ms: u64,
    /// Those in which something worked on it; in the others it waited.
    pub busy_ms: u64,
    /// What is known of it: peer, hash, outcome.
    pub fields: BTreeMap<String, String>,
}

impl SlowMessage {
    /// One that is done.
    #[must_use]
    pub fn new(
        kind: &str,
        at: u64,
        total: Duration,
        busy: Duration,
        fields: BTreeMap<String, String>,
    ) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { kind: kind.to_owned(), at, total_ms: ms(total), busy_ms: ms(busy), fields }
    }
}

/// Why the log goes on as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFilterError {
    /// The program lets nobody change it.
    #[error("this program's log cannot be changed while it runs")]
    Fixed,
    /// The directives have another form.
    #[error("`{directives}` is no log filter, such as info,p2p_client=debug: {problem}")]
    Invalid {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        problem: String,
    },
}
