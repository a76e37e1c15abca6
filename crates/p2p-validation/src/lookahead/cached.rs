//! A schedule that a source fills from L1, and that follows reorgs of L1.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{PoisonError, RwLock},
};

use p2p_types::{BlockNumber, UnixSeconds};

use super::{Lookahead, LookaheadError, ScheduleError, Slot, Window, in_order, not_before};

/// What a source has learned from L1 so far. The source feeds it as L1 grows and rolls it back when L1
/// reorganises; the validator asks it. What lies beyond what has been learned is *not known yet*, and so is
/// what has been dropped: the oldest update goes when there are more than `limit`.
///
/// ```
/// use std::num::NonZeroUsize;
/// use p2p_types::{Address, UnixSeconds};
/// use p2p_validation::{CachedSchedule, Lookahead, Slot, Window};
///
/// let seconds = |start, end| Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) };
/// let slot = Slot { signer: Address::repeat_byte(1), window: seconds(100, 111) };
/// let schedule = CachedSchedule::new(NonZeroUsize::new(64).ok_or("no room")?);
///
/// // L1 block 7 tells everything about the seconds 100 to 199.
/// schedule.update(7, seconds(100, 199), vec![slot])?;
/// assert_eq!(schedule.turn(UnixSeconds::new(105))?, Some(slot));
///
/// // Block 7 is no longer part of L1.
/// schedule.roll_back_to(6);
/// assert_eq!(schedule.turn(UnixSeconds::new(105))?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CachedSchedule {
    limit: NonZeroUsize,
    /// In the order of time and of L1, each right after the one before.
    updates: RwLock<VecDeque<Update>>,
}

/// All slots in a span of time, as an L1 block told them.
#[derive(Debug)]
struct Update {
    l1_block: BlockNumber,
    span: Window,
    slots: Vec<Slot>,
}

impl CachedSchedule {
    /// Knows nothing yet, and keeps at most so many updates.
    #[must_use]
    pub fn new(limit: NonZeroUsize) -> Self {
        Self { limit, updates: RwLock::default() }
    }

    /// Learns all slots of a span of time from an L1 block. Seconds of the span that no slot has are known to
    /// be a gap. The span begins right after the last one that is known; the first may begin anywhere.
    ///
    /// # Errors
    /// [`ScheduleError`]; nothing was learned then.
    pub fn update(&self, l1_block: BlockNumber, span: Window, slots: Vec<Slot>) -> Result<(), ScheduleError> {
        in_order(&[Slot { signer: Default::default(), window: span }])?;
        in_order(&slots)?;
        let outside = |window: &Window| window.start < span.start || window.end > span.end;
        if let Some((index, slot)) = slots.iter().enumerate().find(|(_, slot)| outside(&slot.window)) {
            return Err(ScheduleError::Outside { index, window: slot.window, span });
        }
        let mut updates = self.updates.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = updates.back() {
            if l1_block < last.l1_block {
                return Err(ScheduleError::L1Backwards { l1_block, last: last.l1_block });
            }
            let known = last.span.end.get();
            if known.checked_add(1) != Some(span.start.get()) {
                let expected = UnixSeconds::new(known.saturating_add(1));
                return Err(ScheduleError::Gap { span, expected });
            }
        }
        updates.push_back(Update { l1_block, span, slots });
        if updates.len() > self.limit.get() {
            updates.pop_front();
        }
        Ok(())
    }

    /// Forgets what was learned from L1 blocks above this one. Returns the slots that are no longer known,
    /// in the order of time.
    pub fn roll_back_to(&self, l1_block: BlockNumber) -> Vec<Slot> {
        let mut updates = self.updates.write().unwrap_or_else(PoisonError::into_inner);
        let keep = updates.partition_point(|update| update.l1_block <= l1_block);
        updates.drain(keep..).flat_map(|update| update.slots).collect()
    }

    /// The time that the schedule is known for.
    #[must_use]
    pub fn known(&self) -> Option<Window> {
        let updates = self.updates.read().unwrap_or_else(PoisonError::into_inner);
        Some(Window { start: updates.front()?.span.start, end: updates.back()?.span.end })
    }
}

impl Lookahead for CachedSchedule {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        // Every change of the updates is a single step, so a writer that panicked has left no half of one.
        let updates = self.updates.read().unwrap_or_else(PoisonError::into_inner);
        if updates.front().is_none_or(|oldest| moment < oldest.span.start) {
            return Ok(None);
        }
        let from = updates.partition_point(|update| update.span.end < moment);
        Ok(updates.range(from..).find_map(|update| not_before(&update.slots, moment)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{A, B, at, slot, window},
        *,
    };

    /// Knows 100..=199 from L1 block 5, and 200..=299 from block 6, with gaps.
    fn schedule() -> CachedSchedule {
        let schedule = CachedSchedule::new(NonZeroUsize::new(3).unwrap());
        schedule.update(5, window(100, 199), vec![slot(A, 110, 149), slot(B, 150, 159)]).unwrap();
        schedule.update(6, window(200, 299), vec![slot(A, 210, 299)]).unwrap();
        schedule
    }

    #[test]
    fn what_is_learned_is_known_to_the_second_and_the_rest_is_not() {
        assert_eq!(at(&CachedSchedule::new(NonZeroUsize::MIN), 100), None);
        let schedule = schedule();
        let answers = [
            (99, None),
            (100, Some(slot(A, 110, 149))),
            (149, Some(slot(A, 110, 149))),
            (150, Some(slot(B, 150, 159))),
            (159, Some(slot(B, 150, 159))),
            (160, Some(slot(A, 210, 299))),
            (199, Some(slot(A, 210, 299))),
            (200, Some(slot(A, 210, 299))),
            (299, Some(slot(A, 210, 299))),
            (300, None),
            (u64::MAX, None),
        ];
        for (moment, answer) in answers {
            assert_eq!(at(&schedule, moment), answer, "{moment}");
        }
        assert_eq!(schedule.known(), Some(window(100, 299)));
    }

    #[test]
    fn the_end_of_what_is_known_may_be_a_gap() {
        let schedule = CachedSchedule::new(NonZeroUsize::MIN);
        schedule.update(1, window(10, 29), vec![slot(A, 10, 19)]).unwrap();
        assert_eq!((at(&schedule, 19), at(&schedule, 20)), (Some(slot(A, 10, 19)), None));
    }

    #[test]
    fn a_reorg_takes_back_what_its_blocks_told() {
        let schedule = schedule();
        assert_eq!(schedule.roll_back_to(6), []);
        assert_eq!(schedule.roll_back_to(5), [slot(A, 210, 299)]);
        assert_eq!((at(&schedule, 159), at(&schedule, 160)), (Some(slot(B, 150, 159)), None));
        schedule.update(6, window(200, 299), vec![slot(B, 200, 299)]).unwrap();
        assert_eq!(at(&schedule, 250), Some(slot(B, 200, 299)), "the new branch elects another");
        assert_eq!(schedule.roll_back_to(4).len(), 3);
        assert_eq!((schedule.known(), at(&schedule, 110)), (None, None));
        assert!(schedule.update(2, window(50, 59), vec![]).is_ok(), "after all is gone it begins anywhere");
    }

    #[test]
    fn the_oldest_update_goes_when_there_are_too_many() {
        let schedule = schedule();
        schedule.update(7, window(300, 309), vec![]).unwrap();
        assert_eq!(schedule.known(), Some(window(100, 309)));
        schedule.update(7, window(310, 319), vec![]).unwrap();
        assert_eq!(schedule.known(), Some(window(200, 319)));
        assert_eq!(at(&schedule, 150), None, "dropped is not known, not a gap");
    }

    #[test]
    fn an_update_that_does_not_fit_is_refused_and_changes_nothing() {
        let schedule = schedule();
        let update = |l1_block, span, slots| schedule.update(l1_block, span, slots).unwrap_err();
        let next = window(300, 399);
        assert_eq!(update(5, next, vec![]), ScheduleError::L1Backwards { l1_block: 5, last: 6 });
        for start in [299, 301] {
            let span = window(start, 399);
            let expected = UnixSeconds::new(300);
            assert_eq!(update(6, span, vec![]), ScheduleError::Gap { span, expected });
        }
        assert!(matches!(update(6, window(300, 299), vec![]), ScheduleError::Backwards { .. }));
        for beyond in [slot(A, 299, 310), slot(A, 390, 400)] {
            let error = update(6, next, vec![beyond]);
            assert_eq!(error, ScheduleError::Outside { index: 0, window: beyond.window, span: next });
        }
        let overlap = vec![slot(A, 300, 310), slot(B, 310, 320)];
        assert!(matches!(update(6, next, overlap), ScheduleError::Overlap { index: 1, .. }));
        assert_eq!(schedule.known(), Some(window(100, 299)));
        assert!(schedule.update(6, next, vec![slot(A, 300, 399)]).is_ok(), "the whole span, exactly");
    }

    #[test]
    fn nothing_comes_after_the_end_of_time() {
        let schedule = CachedSchedule::new(NonZeroUsize::new(2).unwrap());
        schedule.update(1, window(0, u64::MAX), vec![]).unwrap();
        assert!(matches!(schedule.update(1, window(0, 1), vec![]), Err(ScheduleError::Gap { .. })));
    }
}
