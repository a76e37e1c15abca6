//! Windows of equal length, and L1's slots and epochs.

use std::num::NonZeroU64;

use p2p_types::UnixSeconds;

use crate::Window;

/// Windows of one length, without gaps, from a beginning on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) genesis: UnixSeconds,
    pub(super) seconds: NonZeroU64,
}

impl Windows {
    /// The `index`-th window; none where time ends.
    pub(super) fn nth(&self, index: u64) -> Option<Window> {
        let start = self.genesis.get().checked_add(index.checked_mul(self.seconds.get())?)?;
        let end = start.checked_add(self.seconds.get() - 1)?;
        Some(Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) })
    }

    /// The number of the window that a moment falls in; none before the beginning.
    pub(super) fn index(&self, moment: UnixSeconds) -> Option<u64> {
        Some(moment.get().checked_sub(self.genesis.get())? / self.seconds.get())
    }
}

/// The time of L1: slots of one length from genesis on, epochs of so many slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Time {
    /// First second of slot 0.
    pub genesis: UnixSeconds,
    /// Seconds in a slot.
    pub slot_seconds: NonZeroU64,
    /// Slots in an epoch.
    pub slots_per_epoch: NonZeroU64,
}

impl L1Time {
    /// A chain with Ethereum's slots of 12 s and epochs of 32 slots.
    ///
    /// ```
    /// use p2p_types::UnixSeconds;
    /// use p2p_validation::L1Time;
    ///
    /// let mainnet = L1Time::ethereum(UnixSeconds::new(1_606_824_023));
    /// let moment = UnixSeconds::new(1_606_824_023 + 32 * 12);
    /// assert_eq!((mainnet.slot_at(moment), mainnet.epoch_at(moment)), (Some(32), Some(1)));
    /// ```
    #[must_use]
    pub fn ethereum(genesis: UnixSeconds) -> Self {
        let nz = |n| NonZeroU64::new(n).unwrap_or(NonZeroU64::MIN);
        Self { genesis, slot_seconds: nz(12), slots_per_epoch: nz(32) }
    }

    /// The slot that a moment falls in; none before genesis.
    #[must_use]
    pub fn slot_at(&self, moment: UnixSeconds) -> Option<u64> {
        self.slots().index(moment)
    }

    /// The epoch that a moment falls in; none before genesis.
    #[must_use]
    pub fn epoch_at(&self, moment: UnixSeconds) -> Option<u64> {
        Some(self.slot_at(moment)? / self.slots_per_epoch)
    }

    /// The seconds of a slot; none where time ends.
    #[must_use]
    pub fn slot_window(&self, slot: u64) -> Option<Window> {
        self.slots().nth(slot)
    }

    /// The seconds of an epoch; none where time ends.
    #[must_use]
    pub fn epoch_window(&self, epoch: u64) -> Option<Window> {
        let first = epoch.checked_mul(self.slots_per_epoch.get())?;
        let last = first.checked_add(self.slots_per_epoch.get() - 1)?;
        Some(Window { start: self.slot_window(first)?.start, end: self.slot_window(last)?.end })
    }

    const fn slots(&self) -> Windows {
        Windows { genesis: self.genesis, seconds: self.slot_seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures::window, *};

    #[test]
    fn slots_and_epochs_have_their_first_and_last_second() {
        let l1 = L1Time::ethereum(UnixSeconds::new(1_000));
        let slot = |moment| l1.slot_at(UnixSeconds::new(moment));
        assert_eq!([999, 1_000, 1_011, 1_012].map(slot), [None, Some(0), Some(0), Some(1)]);
        let epoch = |moment| l1.epoch_at(UnixSeconds::new(moment));
        let first = 1_000 + 12 * 32;
        assert_eq!([999, 1_000, first - 1, first].map(epoch), [None, Some(0), Some(0), Some(1)]);
        assert_eq!(l1.slot_window(1), Some(window(1_012, 1_023)));
        assert_eq!(l1.epoch_window(0), Some(window(1_000, first - 1)));
        assert_eq!(l1.epoch_window(1), Some(window(first, first + 12 * 32 - 1)));
    }

    #[test]
    fn no_slot_and_no_epoch_ends_beyond_time() {
        let l1 = L1Time::ethereum(UnixSeconds::new(0));
        let last = u64::MAX / 12 - 1;
        assert!(l1.slot_window(last).is_some());
        for beyond in [u64::MAX / 12 + 1, u64::MAX] {
            assert_eq!((l1.slot_window(beyond), l1.epoch_window(beyond)), (None, None));
        }
        assert!(l1.epoch_window(last / 32 - 1).is_some());
        assert_eq!(l1.epoch_window(u64::MAX / 32), None);
    }
}
