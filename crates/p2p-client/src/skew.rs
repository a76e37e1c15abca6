//! Our clock against those of preconfers: what an elected one signs arrives moments after the timestamp in it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use p2p_types::{HeadSyncStatus, Stall, UnixSeconds};

/// Arrivals kept: some minutes of blocks, so that the median does not follow a few of them.
const ARRIVALS: usize = 64;

/// Fewest arrivals from which anything is told.
const FEWEST: usize = 8;

/// How long an arrival counts: an epoch of L1, 32 slots of 12 s, in which every preconfer of a lookahead may have had a turn.
const MAX_AGE: Duration = Duration::from_secs(32 * 12);

/// Most seconds that a timestamp is ahead where all clocks are right: the drift that the rules allow (§7).
const AHEAD: i64 = 2;

/// Most seconds between a timestamp and its arrival where all clocks are right: a block is signed within its L1 slot of 12 s,
/// and gossip takes a moment.
const BEHIND: i64 = 12 + AHEAD;

/// When a live commitment of an elected preconfer came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// By our clock.
    pub(crate) arrived: UnixSeconds,
    /// By its signer's.
    pub(crate) timestamp: UnixSeconds,
    /// Whether it came neither early nor late by the rules.
    pub(crate) in_time: bool,
}

/// What elected preconfers' timestamps say about our clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockCheck {
    /// Median of arrival minus timestamp over the last commitments of gossip, in seconds: above zero our clock is ahead,
    /// or messages take long. None while too few have come.
    pub offset: Option<i64>,
    /// It is more than clocks that are right explain.
    pub is_off: bool,
    /// Everything that came was too early or too late by the rules: this client follows nobody.
    pub is_unusable: bool,
}

/// Compares the clocks. The newest [`ARRIVALS`] count, for at most [`MAX_AGE`].
#[derive(Debug, Default)]
pub(crate) struct Skew {
    /// With the moment of each, oldest first.
    arrivals: VecDeque<(Instant, i64, bool)>,
    /// What was told last; none at the start, so that something is told then.
    check: Option<ClockCheck>,
}

impl Skew {
    /// Takes a new arrival into account.
    pub(crate) fn note(&mut self, now: Instant, timing: Timing) {
        let seconds = |moment: UnixSeconds| i64::try_from(moment.get()).unwrap_or(i64::MAX);
        let offset = seconds(timing.arrived).saturating_sub(seconds(timing.timestamp));
        if self.arrivals.len() >= ARRIVALS {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((now, offset, timing.in_time));
    }

    /// Judges anew. What has changed since the last time, if anything has.
    pub(crate) fn update(&mut self, now: Instant) -> Option<ClockCheck> {
        while self.arrivals.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) > MAX_AGE) {
            self.arrivals.pop_front();
        }
        let mut check = ClockCheck::default();
        if self.arrivals.len() >= FEWEST {
            let mut offsets: Vec<i64> = self.arrivals.iter().map(|(_, offset, _)| *offset).collect();
            offsets.sort_unstable();
            check.offset = offsets.get(offsets.len() / 2).copied();
            check.is_off = check.offset.is_some_and(|offset| !(-AHEAD..=BEHIND).contains(&offset));
            check.is_unusable = self.arrivals.iter().all(|(.., in_time)| !in_time);
        }
        let before = self.check.replace(check);
        (before != Some(check)).then_some(check)
    }

    /// What may be said of a status: nobody is live who takes nothing in.
    pub(crate) fn honest(&self, status: HeadSyncStatus, since: UnixSeconds) -> HeadSyncStatus {
        match (status, self.check) {
            (
                HeadSyncStatus::Live { head },
                Some(ClockCheck { offset: Some(offset), is_unusable: true, .. }),
            ) => {
                let height = head.map_or(0, |head| head.number);
                let why = Stall::Clock { offset };
                HeadSyncStatus::Stalled { why, since, applied: height, seen: height, target: height }
            }
            (status, _) => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes commitments of these offsets, a second apart, and says what is told then.
    fn check(skew: &mut Skew, start: Instant, offsets: &[i64], in_time: bool) -> ClockCheck {
        let mut now = start;
        for offset in offsets {
            now += Duration::from_secs(1);
            let arrived = UnixSeconds::new(1_000_000);
            let timestamp = UnixSeconds::new(1_000_000_u64.saturating_add_signed(-offset));
            skew.note(now, Timing { arrived, timestamp, in_time });
        }
        skew.update(now);
        skew.check.unwrap()
    }

    #[test]
    fn the_median_of_many_is_told_and_a_few_are_not_heard() {
        let start = Instant::now();
        let mut skew = Skew::default();
        assert_eq!(check(&mut skew, start, &[90; FEWEST - 1], true), ClockCheck::default());
        let ahead = check(&mut skew, start, &[90], true);
        assert_eq!(ahead, ClockCheck { offset: Some(90), is_off: true, is_unusable: false });
        // One preconfer with another clock among many is none of our business.
        let mut skew = Skew::default();
        let some = [&[1; 20][..], &[3_600; 15], &[-3_600; 4]].concat();
        assert_eq!(check(&mut skew, start, &some, true).offset, Some(1));
    }

    #[test]
    fn what_right_clocks_explain_is_not_off() {
        let off = |offset| check(&mut Skew::default(), Instant::now(), &[offset; FEWEST], true).is_off;
        assert_eq!([-3, -2, 0, 14, 15].map(off), [true, false, false, false, true]);
    }

    #[test]
    fn a_client_that_takes_nothing_in_is_not_live() {
        let start = Instant::now();
        let mut skew = Skew::default();
        let live = HeadSyncStatus::Live { head: None };
        let now = UnixSeconds::new(7);
        assert_eq!(skew.honest(live, now), live);
        let early = check(&mut skew, start, &[-40; FEWEST], false);
        assert_eq!(early, ClockCheck { offset: Some(-40), is_off: true, is_unusable: true });
        let why = Stall::Clock { offset: -40 };
        let stalled = HeadSyncStatus::Stalled { why, since: now, applied: 0, seen: 0, target: 0 };
        assert_eq!(skew.honest(live, now), stalled);
        assert_eq!(skew.honest(HeadSyncStatus::Idle, now), HeadSyncStatus::Idle);
        // One that comes in time is enough: something can be followed.
        check(&mut skew, start, &[-1], true);
        assert_eq!(skew.honest(live, now), live);
    }

    #[test]
    fn old_arrivals_are_forgotten_and_a_change_is_told_once() {
        let start = Instant::now();
        let mut skew = Skew::default();
        check(&mut skew, start, &[-40; ARRIVALS], false);
        assert_eq!(skew.update(start + MAX_AGE), None);
        let later = start + MAX_AGE + Duration::from_secs(ARRIVALS as u64 + 1);
        assert_eq!(skew.update(later), Some(ClockCheck::default()));
        assert_eq!(skew.update(later), None);
        // The newest count.
        let newest = check(&mut skew, start, &[&[500; 100][..], &[1; ARRIVALS]].concat(), true);
        assert_eq!(newest.offset, Some(1));
    }
}
