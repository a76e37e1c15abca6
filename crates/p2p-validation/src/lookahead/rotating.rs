//! A schedule of operators that rotate by windows or L1 slots.

use std::num::NonZeroU64;

use p2p_types::{Address, UnixSeconds};

use super::{L1Time, Lookahead, LookaheadError, ScheduleError, Slot, time::Windows};

/// Operators that rotate indefinitely, in windows of equal length from a start time on. Before that nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotatingSchedule {
    operators: Vec<Address>,
    windows: Windows,
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
            return Err(ScheduleError::NoOperators);
        }
        Ok(Self { operators, windows: Windows { genesis, seconds: window } })
    }

    /// Each turn has so many slots of L1, the first one from L1's genesis on. A turn of
    /// [`L1Time::slots_per_epoch`] slots is an epoch.
    ///
    /// # Errors
    /// [`ScheduleError::NoOperators`]; [`ScheduleError::TooLong`] if a turn has more seconds than 64 bits count.
    pub fn on_l1(
        operators: Vec<Address>,
        l1: &L1Time,
        slots_per_turn: NonZeroU64,
    ) -> Result<Self, ScheduleError> {
        let window = l1.slot_seconds.checked_mul(slots_per_turn).ok_or(ScheduleError::TooLong {
            slots: slots_per_turn.get(),
            slot_seconds: l1.slot_seconds.get(),
        })?;
        Self::new(operators, l1.genesis, window)
    }

    /// The `index`-th slot from the beginning; none where time ends.
    #[must_use]
    pub fn nth(&self, index: u64) -> Option<Slot> {
        let turn =
            index.checked_rem(self.operators.len() as u64).and_then(|turn| usize::try_from(turn).ok())?;
        Some(Slot { signer: *self.operators.get(turn)?, window: self.windows.nth(index)? })
    }

    /// The number of the slot that a moment belongs to, 0 before the beginning.
    #[must_use]
    pub fn index(&self, moment: UnixSeconds) -> u64 {
        self.windows.index(moment).unwrap_or(0)
    }

    /// Whose turn it is; nobody's before the beginning.
    #[must_use]
    pub fn turn(&self, moment: UnixSeconds) -> Option<Slot> {
        self.nth(self.windows.index(moment)?)
    }
}

impl Lookahead for RotatingSchedule {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        Ok(Self::turn(self, moment))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{A, B, at, slot},
        *,
    };

    fn nz(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    #[test]
    fn operators_take_turns_and_the_last_second_belongs_to_the_window() {
        let schedule = RotatingSchedule::new(vec![A, B], UnixSeconds::new(100), nz(4)).unwrap();
        assert_eq!(at(&schedule, 100), Some(slot(A, 100, 103)));
        assert_eq!(at(&schedule, 103), Some(slot(A, 100, 103)));
        assert_eq!(at(&schedule, 104), Some(slot(B, 104, 107)));
        assert_eq!(at(&schedule, 108), Some(slot(A, 108, 111)));
        assert_eq!(at(&schedule, 100 + 4 * 1_000_001), Some(slot(B, 4_000_104, 4_000_107)), "far ahead");
        assert!(!schedule.elects_anyone());
    }

    #[test]
    fn before_the_beginning_nothing_is_known() {
        let schedule = RotatingSchedule::new(vec![A, B], UnixSeconds::new(100), nz(4)).unwrap();
        for before in [0, 7, 99] {
            assert_eq!(schedule.turn(UnixSeconds::new(before)), None);
            assert_eq!(at(&schedule, before), None);
        }
        assert_eq!(schedule.turn(UnixSeconds::new(100)), Some(slot(A, 100, 103)));
        assert_eq!(schedule.turn(UnixSeconds::new(104)), Some(slot(B, 104, 107)));
    }

    #[test]
    fn no_window_ends_beyond_time() {
        let odd = RotatingSchedule::new(vec![A], UnixSeconds::new(101), nz(4)).unwrap();
        assert_eq!(at(&odd, u64::MAX), None);
        let even = RotatingSchedule::new(vec![A], UnixSeconds::new(0), nz(4)).unwrap();
        assert_eq!(at(&even, u64::MAX), Some(slot(A, u64::MAX - 3, u64::MAX)));
    }

    #[test]
    fn a_turn_on_l1_has_whole_slots_from_genesis_on() {
        let l1 = L1Time::ethereum(UnixSeconds::new(1_000));
        let two = RotatingSchedule::on_l1(vec![A, B], &l1, nz(2)).unwrap();
        assert_eq!(at(&two, 1_023), Some(slot(A, 1_000, 1_023)));
        assert_eq!(at(&two, 1_024), Some(slot(B, 1_024, 1_047)));
        let epochs = RotatingSchedule::on_l1(vec![A, B], &l1, l1.slots_per_epoch).unwrap();
        assert_eq!(epochs.nth(1).map(|slot| slot.window), l1.epoch_window(1));
        let endless = RotatingSchedule::on_l1(vec![A], &l1, NonZeroU64::MAX);
        assert_eq!(endless, Err(ScheduleError::TooLong { slots: u64::MAX, slot_seconds: 12 }));
    }

    #[test]
    fn a_rotation_without_operators_is_refused() {
        let none = RotatingSchedule::new(vec![], UnixSeconds::new(0), NonZeroU64::MIN);
        assert_eq!(none, Err(ScheduleError::NoOperators));
    }
}
