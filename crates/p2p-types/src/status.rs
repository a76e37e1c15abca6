//! Sync status: how far behind the client is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BlockNumber, Head, UnixSeconds};

/// The sync status. *Applied* blocks are linked, stored and emitted; *seen* is the highest height that an elected preconfer has
/// signed, as far as this client knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeadSyncStatus {
    /// Not started.
    #[default]
    Idle,
    /// The application has not yet said that its L2 execution reached the on-chain tip.
    WaitingForL2,
    /// Behind, or not yet known to be in sync.
    Syncing {
        /// Newest applied height.
        applied: BlockNumber,
        /// Highest height seen from an elected preconfer.
        seen: BlockNumber,
        /// Height to reach, by the heads that peers claim and what has been seen.
        target: BlockNumber,
        /// Commitments applied per second, over the last ten seconds or since it began.
        commitments_per_second: u32,
        /// Transaction lists of applied blocks that are still missing.
        txlists_missing: usize,
        /// Peers that can be asked.
        peers: usize,
    },
    /// Applied equals the best head known and no data is missing.
    Live {
        /// The newest block; none while the chain above the base is empty.
        head: Option<Head>,
    },
    /// Behind, without progress.
    Stalled {
        /// The cause.
        why: Stall,
        /// Since when.
        since: UnixSeconds,
        /// Newest applied height.
        applied: BlockNumber,
        /// Highest height seen from an elected preconfer.
        seen: BlockNumber,
        /// Height to reach.
        target: BlockNumber,
    },
}

impl HeadSyncStatus {
    /// Whether all data that is known to exist is stored.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

impl fmt::Display for HeadSyncStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::WaitingForL2 => f.write_str("waiting for L2 sync"),
            Self::Syncing { applied, seen, target, commitments_per_second, txlists_missing, peers } => {
                write!(
                    f,
                    "syncing: applied {applied}, seen {seen}, target {target}, {commitments_per_second} commitments/s, \
                 {txlists_missing} txlists missing, {peers} peers"
                )
            }
            Self::Live { head: Some(head) } => write!(f, "live at {head}"),
            Self::Live { head: None } => f.write_str("live at the base"),
            Self::Stalled { why, since, applied, seen: _, target } => {
                write!(f, "stalled at {applied} of {target} since {since}: {why}")
            }
        }
    }
}

/// Why catch-up cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stall {
    /// No peer is connected that could be asked.
    NoPeers,
    /// The connected peers have been asked and do not have the missing data.
    NothingDelivered,
    /// All commitments are applied, and no peer has the transaction lists of some. Requests for them are repeated.
    WaitingForData {
        /// The lowest of these blocks.
        lowest: BlockNumber,
        /// How many lists.
        txlists: usize,
    },
    /// All commitments of elected preconfers arrive too early or too late: the clock of this host is wrong, or theirs.
    Clock {
        /// Median of arrival minus timestamp, in seconds: above zero our clock is ahead.
        offset: i64,
    },
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPeers => f.write_str("no peers"),
            Self::NothingDelivered => f.write_str("no peer delivers what is missing"),
            Self::WaitingForData { lowest, txlists } => {
                write!(f, "waiting for data of block {lowest} and on, {txlists} txlists")
            }
            Self::Clock { offset } => {
                write!(
                    f,
                    "what preconfers sign arrives {offset} s after its timestamp, too early or too late"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use preconfirmation_types::B256;

    use super::*;

    #[test]
    fn each_status_is_a_line_for_the_operator() {
        let head = Head { number: 7, hash: B256::repeat_byte(0xab) };
        let syncing = HeadSyncStatus::Syncing {
            applied: 1,
            seen: 2,
            target: 3,
            commitments_per_second: 4,
            txlists_missing: 5,
            peers: 6,
        };
        let stalled = |why| HeadSyncStatus::Stalled {
            why,
            since: UnixSeconds::new(1000),
            applied: 1,
            seen: 2,
            target: 3,
        };
        for (status, line) in [
            (HeadSyncStatus::default(), "idle".to_owned()),
            (HeadSyncStatus::WaitingForL2, "waiting for L2 sync".to_owned()),
            (
                syncing,
                "syncing: applied 1, seen 2, target 3, 4 commitments/s, 5 txlists missing, 6 peers".to_owned(),
            ),
            (HeadSyncStatus::Live { head: Some(head) }, format!("live at {head}")),
            (HeadSyncStatus::Live { head: None }, "live at the base".to_owned()),
            (stalled(Stall::NoPeers), "stalled at 1 of 3 since 1000: no peers".to_owned()),
            (
                stalled(Stall::NothingDelivered),
                "stalled at 1 of 3 since 1000: no peer delivers what is missing".to_owned(),
            ),
            (
                stalled(Stall::WaitingForData { lowest: 8, txlists: 9 }),
                "stalled at 1 of 3 since 1000: waiting for data of block 8 and on, 9 txlists".to_owned(),
            ),
            (
                stalled(Stall::Clock { offset: -20 }),
                "stalled at 1 of 3 since 1000: what preconfers sign arrives -20 s after its timestamp, too early or too late"
                    .to_owned(),
            ),
        ] {
            assert_eq!(status.to_string(), line);
            assert_eq!(status.is_live(), line.starts_with("live"));
        }
    }
}
