//! What a preconfer can do wrong so that its own signatures prove it.

use serde::{Deserialize, Serialize};

/// What a preconfer did that two of its commitments prove (§7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Misbehaviour {
    /// It signed two contents for one height of one window.
    Equivocation,
    /// It signed a block of a window that it had handed over (EOP): at or above a height that it declined,
    /// or above its last block. Heights tell the order, not arrival. A block at the very height that it
    /// declined is an equivocation too.
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
