//! Misbehaviour of preconfers that their own signatures prove.

use serde::{Deserialize, Serialize};

/// Misbehaviour that two commitments of one preconfer prove (§7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Misbehaviour {
    /// Two different commitments for one height of one window.
    Equivocation,
    /// A block in a window that its signer had handed over (EOP): at or above a height that it declined, or above its last
    /// block. The order is by height, not by arrival. A block at the height that it declined is an equivocation as well.
    BlockAfterEop,
}

impl Misbehaviour {
    /// All kinds.
    pub const ALL: &'static [Self] = &[Self::Equivocation, Self::BlockAfterEop];

    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Equivocation => "equivocation",
            Self::BlockAfterEop => "block_after_eop",
        }
    }
}
