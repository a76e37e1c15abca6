//! The lookahead (the election schedule: who may sign when), and schedules that implement it.

mod admission;
mod cached;
mod fixed;
mod handover;
mod open;
mod rotating;
mod time;

pub use admission::{Admission, Signers};
pub use cached::CachedSchedule;
pub use fixed::{ScheduleFileError, StaticSchedule};
pub use handover::Handovers;
pub use open::OpenSchedule;
pub use rotating::RotatingSchedule;
pub use time::L1Time;

use std::fmt;

use p2p_types::{Address, BlockNumber, UnixSeconds};

/// A submission window. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its first second.
    pub start: UnixSeconds,
    /// Its last second: the `submissionWindowEnd` of its commitments.
    pub end: UnixSeconds,
}

impl Window {
    /// Whether a moment falls in it.
    #[must_use]
    pub fn contains(&self, moment: UnixSeconds) -> bool {
        self.start <= moment && moment <= self.end
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.start, self.end)
    }
}

/// A window and whom the lookahead elected for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The elected preconfer.
    pub signer: Address,
    /// When it may sign.
    pub window: Window,
}

/// The source of the lookahead failed. Our own failure: it costs no peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookaheadError {
    /// The source did not answer.
    #[error("the lookahead source is not available")]
    Unavailable,
}

/// The schedule that says who may sign when (§4). Implementations answer from memory; whoever asks is on the hot
/// path.
///
/// A schedule whose windows do not overlap implements [`turn`](Self::turn) alone.
pub trait Lookahead: Send + Sync + 'static {
    /// Whose turn it is: the first slot whose window contains `moment`, or, where the schedule knows that the moment lies
    /// in none (in a gap), the next slot after it.
    ///
    /// `None` says *not known yet*, as before the beginning of a schedule.
    ///
    /// # Errors
    /// [`LookaheadError`] for a failure of our own. Neither costs a peer.
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError>;

    /// Who may sign a commitment with this `timestamp` and this `submissionWindowEnd`: nobody, one or several, or *not
    /// known yet*. Windows of neighbours may overlap, so the window end says which one a commitment means. By default the
    /// answer follows from the turn at the window end: the windows of such a schedule must not overlap.
    ///
    /// # Errors
    /// [`LookaheadError`] for a failure of our own. Neither costs a peer.
    fn admissible(
        &self,
        timestamp: UnixSeconds,
        window_end: UnixSeconds,
    ) -> Result<Admission, LookaheadError> {
        Ok(Admission::of_turn(self.turn(window_end)?, timestamp, window_end))
    }

    /// Asks for what [`admissible`](Self::admissible) does not know yet, as a commitment waits for it that may count. Of all
    /// that anybody can sign, most does not: it is too late, too early or beyond the horizon, and is not worth what learning costs.
    fn request(&self, timestamp: UnixSeconds, window_end: UnixSeconds) {
        let _ = (timestamp, window_end);
    }

    /// Whether a signer that may not sign at `timestamp`, as far as this schedule has learned, may sign by what it could
    /// not have learned yet. Such a commitment waits instead of being rejected. Called only about signers that
    /// [`admissible`](Self::admissible) does not name.
    fn may_be_elected(&self, signer: Address, timestamp: UnixSeconds) -> bool {
        let _ = (signer, timestamp);
        false
    }

    /// Whether whoever signs counts as elected. Only [`OpenSchedule`] says yes, and
    /// [`Validator::leniencies`](crate::Validator::leniencies) tells of it.
    fn elects_anyone(&self) -> bool {
        false
    }
}

/// A schedule that cannot be: names the slot and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A rotation without operators.
    #[error("a rotating schedule needs at least one operator")]
    NoOperators,
    /// A window of more seconds than 64 bits count.
    #[error("a window of {slots} slots of {slot_seconds} s does not end")]
    TooLong {
        /// L1 slots in the window.
        slots: u64,
        /// Seconds in a slot.
        slot_seconds: u64,
    },
    /// A window that ends before it starts.
    #[error("slot {index}: its window {window} ends before it starts")]
    Backwards {
        /// Position in the schedule.
        index: usize,
        /// The window.
        window: Window,
    },
    /// A window that starts before the one before it has ended.
    #[error("slot {index}: its window {window} overlaps or precedes the one before it")]
    Overlap {
        /// Position in the schedule.
        index: usize,
        /// The window.
        window: Window,
    },
    /// A window that reaches beyond the time that the update speaks of.
    #[error("slot {index}: its window {window} is not within {span}")]
    Outside {
        /// Position in the update.
        index: usize,
        /// The window.
        window: Window,
        /// The time that the update speaks of.
        span: Window,
    },
    /// An update that does not begin where the one before ended.
    #[error("an update of {span} does not begin at {expected}, right after what is known")]
    Gap {
        /// The time that the update speaks of.
        span: Window,
        /// Where it has to begin.
        expected: UnixSeconds,
    },
    /// An update learned from an older L1 block than the one before it. A reorg is rolled back first.
    #[error("learned at L1 block {l1_block}, before the last update at {last}: roll back first")]
    L1Backwards {
        /// L1 block of the update.
        l1_block: BlockNumber,
        /// L1 block of the update before.
        last: BlockNumber,
    },
}

/// Checks that windows run forwards, in the order of time and without overlap.
fn in_order(slots: &[Slot]) -> Result<(), ScheduleError> {
    let mut before: Option<UnixSeconds> = None;
    for (index, Slot { window, .. }) in slots.iter().enumerate() {
        if window.end < window.start {
            return Err(ScheduleError::Backwards { index, window: *window });
        }
        if before.is_some_and(|end| window.start <= end) {
            return Err(ScheduleError::Overlap { index, window: *window });
        }
        before = Some(window.end);
    }
    Ok(())
}

/// The first slot whose window does not end before `moment`, among slots in order.
fn not_before(slots: &[Slot], moment: UnixSeconds) -> Option<Slot> {
    slots.get(slots.partition_point(|slot| slot.window.end < moment)).copied()
}

#[cfg(test)]
mod fixtures {
    use super::*;

    pub(super) const A: Address = Address::repeat_byte(0xa);
    pub(super) const B: Address = Address::repeat_byte(0xb);

    pub(super) fn window(start: u64, end: u64) -> Window {
        Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) }
    }

    pub(super) fn slot(signer: Address, start: u64, end: u64) -> Slot {
        Slot { signer, window: window(start, end) }
    }

    pub(super) fn at(schedule: &impl Lookahead, moment: u64) -> Option<Slot> {
        schedule.turn(UnixSeconds::new(moment)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::{fixtures::window, *};

    #[test]
    fn both_ends_of_a_window_belong_to_it() {
        let window = window(10, 12);
        let within = |moment| window.contains(UnixSeconds::new(moment));
        assert_eq!([9, 10, 11, 12, 13].map(within), [false, true, true, true, false]);
        assert_eq!(window.to_string(), "10..=12");
    }
}
