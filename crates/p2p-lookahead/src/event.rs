//! What the service tells as L1 goes on.

use p2p_types::UnixSeconds;

use crate::{Generation, L1Head};

/// Something that happened on L1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum L1Event {
    /// The contracts have told which generation they are. Once a run.
    Found {
        /// The generation.
        generation: Generation,
    },
    /// L1 has a new head, and what it tells is known.
    Head(L1Head),
    /// Blocks were replaced. What they told is forgotten and learned again; the head comes after this.
    Reorg {
        /// The lowest block that was replaced.
        lowest: u64,
    },
    /// The schedule of what is signed from a second on is not what it was.
    Changed {
        /// The first second of the first epoch that differs.
        from: UnixSeconds,
    },
}
