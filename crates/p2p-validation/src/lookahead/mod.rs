//! Who may sign when: the lookahead, and two schedules that need no chain.

use std::{fmt, num::NonZeroU64};

use p2p_types::{Address, UnixSeconds};

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

/// The schedule that says who may sign for a slot (§4). Implementations answer from memory; whoever asks
/// is on the hot path.
pub trait Lookahead: Send + Sync + 'static {
    /// The slot whose window contains `moment`, or, where the schedule knows that the moment lies in none
    /// (before its beginning, in a gap), the next slot after it. A commitment whose claimed window end is
    /// not the end of this slot is rejected.
    ///
    /// `None` says *not known yet*: the commitment waits.
    ///
    /// # Errors
    /// [`LookaheadError`] for a failure of our own. Neither costs a peer.
    fn slot(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError>;
}

/// A schedule that cannot be: names the slot and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A rotation without operators.
    #[error("a rotating schedule needs at least one operator")]
    NoOperators,
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
}

/// A fixed list of slots; beyond its last window nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticSchedule {
    slots: Vec<Slot>,
}

impl StaticSchedule {
    /// A schedule of these slots, in the order of time, with or without gaps.
    ///
    /// # Errors
    /// [`ScheduleError`] for windows that run backwards or overlap.
    pub fn new(slots: Vec<Slot>) -> Result<Self, ScheduleError> {
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
        Ok(Self { slots })
    }
}

impl Lookahead for StaticSchedule {
    fn slot(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let next = self.slots.partition_point(|slot| slot.window.end < moment);
        Ok(self.slots.get(next).copied())
    }
}

/// Operators that take turns for ever: windows of one length from a beginning on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotatingSchedule {
    operators: Vec<Address>,
    genesis: UnixSeconds,
    window: NonZeroU64,
}

impl RotatingSchedule {
    /// The first operator's first window has `window` seconds and starts at `genesis`.
    ///
    /// # Errors
    /// [`ScheduleError::NoOperators`].
    pub fn new(
        operators: Vec<Address>,
        genesis: UnixSeconds,
        window: NonZeroU64,
    ) -> Result<Self, ScheduleError> {
        if operators.is_empty() {
            Err(ScheduleError::NoOperators)
        } else {
            Ok(Self { operators, genesis, window })
        }
    }

    /// The `index`-th slot from the beginning; none where time ends.
    #[must_use]
    pub fn nth(&self, index: u64) -> Option<Slot> {
        let length = self.window.get();
        let start = self.genesis.get().checked_add(index.checked_mul(length)?)?;
        let end = start.checked_add(length - 1)?;
        let turn =
            index.checked_rem(self.operators.len() as u64).and_then(|turn| usize::try_from(turn).ok())?;
        let signer = *self.operators.get(turn)?;
        Some(Slot { signer, window: Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) } })
    }

    /// The number of the slot that a moment belongs to, 0 before the beginning.
    #[must_use]
    pub const fn index(&self, moment: UnixSeconds) -> u64 {
        moment.get().saturating_sub(self.genesis.get()) / self.window.get()
    }
}

impl Lookahead for RotatingSchedule {
    fn slot(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        Ok(self.nth(self.index(moment)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = Address::repeat_byte(0xa);
    const B: Address = Address::repeat_byte(0xb);

    fn window(start: u64, end: u64) -> Window {
        Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) }
    }

    fn at(schedule: &impl Lookahead, moment: u64) -> Option<(Address, Window)> {
        schedule.slot(UnixSeconds::new(moment)).unwrap().map(|slot| (slot.signer, slot.window))
    }

    #[test]
    fn operators_take_turns_and_the_last_second_belongs_to_the_window() {
        let schedule =
            RotatingSchedule::new(vec![A, B], UnixSeconds::new(100), NonZeroU64::new(4).unwrap()).unwrap();
        assert_eq!(at(&schedule, 100), Some((A, window(100, 103))));
        assert_eq!(at(&schedule, 103), Some((A, window(100, 103))));
        assert_eq!(at(&schedule, 104), Some((B, window(104, 107))));
        assert_eq!(at(&schedule, 108), Some((A, window(108, 111))));
        assert_eq!(at(&schedule, 7), Some((A, window(100, 103))), "before the beginning: the first slot");

        let odd = RotatingSchedule::new(vec![A], UnixSeconds::new(101), NonZeroU64::new(4).unwrap()).unwrap();
        assert_eq!(at(&odd, u64::MAX), None, "no window ends beyond time");
    }

    #[test]
    fn a_rotation_without_operators_is_refused() {
        let none = RotatingSchedule::new(vec![], UnixSeconds::new(0), NonZeroU64::MIN);
        assert_eq!(none, Err(ScheduleError::NoOperators));
    }

    #[test]
    fn a_list_answers_in_windows_in_gaps_and_knows_its_end() {
        let slots =
            vec![Slot { signer: A, window: window(10, 19) }, Slot { signer: B, window: window(30, 39) }];
        let schedule = StaticSchedule::new(slots).unwrap();
        assert_eq!(at(&schedule, 1), Some((A, window(10, 19))));
        assert_eq!(at(&schedule, 19), Some((A, window(10, 19))));
        assert_eq!(at(&schedule, 20), Some((B, window(30, 39))), "a gap: the slot after it");
        assert_eq!(at(&schedule, 39), Some((B, window(30, 39))));
        assert_eq!(at(&schedule, 40), None, "beyond the list: not known yet");
    }

    #[test]
    fn windows_that_run_backwards_or_overlap_are_refused() {
        let slot = |start, end| Slot { signer: A, window: window(start, end) };
        assert!(matches!(
            StaticSchedule::new(vec![slot(5, 4)]),
            Err(ScheduleError::Backwards { index: 0, .. })
        ));
        for second in [slot(19, 25), slot(1, 5)] {
            assert!(matches!(
                StaticSchedule::new(vec![slot(10, 19), second]),
                Err(ScheduleError::Overlap { index: 1, .. })
            ));
        }
    }
}
