//! What an application's view of L1 tells.

use crate::{BlockNumber, UnixSeconds};

/// Something that happened on L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum L1Update {
    /// L1 has a new head, and what its blocks say of the schedule is known.
    Head(BlockNumber),
    /// Blocks were replaced. The head comes after this.
    Reorg {
        /// The lowest of them.
        lowest: BlockNumber,
    },
    /// The lookahead answers otherwise than before about what is signed from a second on. The head comes after this.
    ScheduleChanged {
        /// That second.
        since: UnixSeconds,
    },
    /// Updates were lost: which blocks were replaced and what has changed is not known. The head comes after this.
    Lost,
}

/// The view of L1 that an application has.
///
/// The client follows one (`ChainApi::follow_l1`). That of `L1Lookahead` in `p2p-lookahead` is one; an application that has its own
/// implements this, or calls `ChainApi::{update_l1_head, notify_reorg, notify_schedule_changed}`.
pub trait L1View: Send {
    /// Waits for what happens next. None: the view has ended. May be cancelled.
    fn next_update(&mut self) -> impl Future<Output = Option<L1Update>> + Send;
}
