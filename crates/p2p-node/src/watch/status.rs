//! The answer of `/status`, as far as it is shown. Whatever is missing has its default, whatever else there is is ignored.

use std::time::Duration;

use p2p_types::HeadSyncStatus;
use serde::Deserialize;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) started: u64,
    pub(super) time_ms: u64,
    pub(super) readiness: Readiness,
    pub(super) peer: String,
    pub(super) chain_id: u64,
    pub(super) applied: Option<u64>,
    pub(super) sync: HeadSyncStatus,
    pub(super) clock: Clock,
    pub(super) suspects_itself: bool,
    pub(super) duplicate_identity: Option<Duplicate>,
    pub(super) peers: Vec<Peer>,
    pub(super) schedule: Schedule,
    pub(super) policies: Policies,
    pub(super) blocks: Vec<Block>,
    pub(super) evidence: Evidence,
    pub(super) history: Vec<(u64, Option<u64>, Option<u64>)>,
    pub(super) drops: Drops,
}

impl Status {
    /// The height to reach.
    pub(super) const fn target(&self) -> Option<u64> {
        match self.sync {
            HeadSyncStatus::Syncing { target, .. } | HeadSyncStatus::Stalled { target, .. } => Some(target),
            _ => self.applied,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) reasons: Vec<Reason>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reason {
    pub(super) reason: String,
    pub(super) sync: HeadSyncStatus,
    pub(super) error: Option<String>,
    pub(super) seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Clock {
    pub(super) offset: Option<i64>,
    pub(super) off: bool,
    pub(super) unusable: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Duplicate {
    pub(super) sign: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Peer {
    pub(super) peer: String,
    pub(super) agent: Option<String>,
    pub(super) score: f64,
    pub(super) ready: bool,
    pub(super) round_trip: Option<Duration>,
    pub(super) banned_for: Option<Duration>,
    pub(super) delivered: Delivered,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delivered {
    pub(super) commitments: u64,
    pub(super) txlists: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Schedule {
    pub(super) now: Option<Turn>,
    pub(super) next: Option<Turn>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Turn {
    pub(super) signer: String,
    pub(super) start: u64,
    pub(super) end: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Policies {
    pub(super) lookahead: String,
    pub(super) leniencies: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block {
    pub(super) block: u64,
    pub(super) signer: String,
    pub(super) handover: bool,
    pub(super) replaced: bool,
    pub(super) origin: String,
    pub(super) peer: Option<String>,
    pub(super) delay_ms: Option<i64>,
    pub(super) list_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    pub(super) found: u64,
    pub(super) latest: Vec<Proof>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Proof {
    pub(super) kind: String,
    pub(super) signer: String,
    pub(super) block: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Drops {
    pub(super) rejected: u64,
    pub(super) ignored: u64,
    pub(super) dropped: u64,
    pub(super) events_missed: u64,
    pub(super) http_displaced: u64,
    pub(super) http_slow: u64,
}
