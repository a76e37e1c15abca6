//! What keeps a commitment from being judged.

use std::fmt;

use preconfirmation_types::B256;
use serde::Serialize;

use crate::UnixSeconds;

/// What a commitment waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The commitment with this preconfirmation hash.
    Parent(B256),
    /// The schedule of the window that ends then.
    Schedule(UnixSeconds),
    /// This moment: its block time is less than a slot ahead of our clock.
    Time(UnixSeconds),
}

impl Missing {
    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Parent(_) => "pending_parent",
            Self::Schedule(_) => "pending_schedule",
            Self::Time(_) => "pending_time",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent(hash) => write!(f, "its parent {hash}"),
            Self::Schedule(window_end) => write!(f, "the schedule of the window that ends at {window_end}"),
            Self::Time(due) => write!(f, "its block time {due}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_it_is() {
        let hash = B256::repeat_byte(0xab);
        for (missing, label, text) in [
            (Missing::Parent(hash), "pending_parent", format!("its parent {hash}")),
            (
                Missing::Schedule(UnixSeconds::new(8)),
                "pending_schedule",
                "the schedule of the window that ends at 8".to_owned(),
            ),
            (Missing::Time(UnixSeconds::new(9)), "pending_time", "its block time 9".to_owned()),
        ] {
            assert_eq!((missing.label(), missing.to_string()), (label, text));
        }
    }
}
