//! The gossip topics (§2).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A gossip topic of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// `ssz(SignedCommitment)`.
    Commitments,
    /// `ssz(RawTxListGossip)`.
    RawTxLists,
}

impl Topic {
    /// Both topics.
    pub const ALL: [Self; 2] = [Self::Commitments, Self::RawTxLists];

    /// The topic on a chain, as it is written on the wire: `/taiko/<chainId>/0/<name>`.
    #[must_use]
    pub fn on_chain(self, chain_id: u64) -> String {
        let name = match self {
            Self::Commitments => "preconfirmationCommitments",
            Self::RawTxLists => "rawTxLists",
        };
        format!("/taiko/{chain_id}/0/{name}")
    }

    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Commitments => "commitments",
            Self::RawTxLists => "raw_txlists",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Topics of the protocol before this one. Nothing is ever published to them.
pub const LEGACY_TOPICS: [&str; 4] =
    ["preconfBlocks", "responsePreconfBlocks", "requestPreconfBlocks", "requestEndOfSequencingPreconfBlocks"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_logs_have_a_label_for_each_topic() {
        assert_eq!(Topic::ALL.map(Topic::label), ["commitments", "raw_txlists"]);
        assert_eq!(Topic::ALL.map(|topic| topic.to_string()), Topic::ALL.map(Topic::label));
    }
}
