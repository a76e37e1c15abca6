//! Throughput: how many blocks a second the head moves.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use p2p_types::BlockNumber;

use crate::deadlines::{Deadlines, after};

/// The time over which it is measured.
const SPAN: Duration = Duration::from_secs(10);

/// Most samples within that time.
const SAMPLES: u32 = 20;

/// Heights and when they were reached.
#[derive(Debug, Default)]
pub(crate) struct Throughput {
    /// Oldest first, at least `SPAN / SAMPLES` apart.
    samples: VecDeque<(Instant, BlockNumber)>,
    last: Option<(Instant, BlockNumber)>,
}

impl Throughput {
    /// Begins anew: at the start, or when the head has fallen.
    pub(crate) fn restart(&mut self, now: Instant, applied: BlockNumber) {
        self.samples.clear();
        self.reached(now, applied);
    }

    /// Adds a sample.
    pub(crate) fn reached(&mut self, now: Instant, applied: BlockNumber) {
        self.last = Some((now, applied));
        if self.samples.back().is_none_or(|(at, _)| after(*at, SPAN / SAMPLES) <= now) {
            self.samples.push_back((now, applied));
        }
        while self.samples.len() > 1 && self.samples.front().is_some_and(|(at, _)| after(*at, SPAN) < now) {
            self.samples.pop_front();
        }
    }

    /// Blocks a second, over the ten seconds before the head moved last; 0 once that is ten seconds ago.
    pub(crate) fn per_second(&self, deadlines: &mut Deadlines) -> u32 {
        let (Some((from, low)), Some((to, high))) = (self.samples.front(), self.last) else {
            return 0;
        };
        if deadlines.due(after(to, SPAN)) {
            return 0;
        }
        let blocks = u128::from(high.saturating_sub(*low));
        let millis = to.saturating_duration_since(*from).as_millis().max(1);
        u32::try_from(blocks.saturating_mul(1000) / millis).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_for_ten_seconds() {
        let (start, mut rate) = (Instant::now(), Throughput::default());
        let after_seconds = |seconds| start + Duration::from_secs(seconds);
        rate.restart(start, 100);
        rate.reached(after_seconds(10), 200);
        assert_eq!(rate.per_second(&mut Deadlines::new(after_seconds(10))), 10);
        rate.reached(after_seconds(11), 300);
        assert_eq!(rate.per_second(&mut Deadlines::new(after_seconds(11))), 100, "the first is too old");
    }

    #[test]
    fn throughput_is_that_of_the_last_ten_seconds() {
        let (start, mut rate) = (Instant::now(), Throughput::default());
        let at = |millis| start + Duration::from_millis(millis);
        let per_second = |rate: &Throughput, millis| rate.per_second(&mut Deadlines::new(at(millis)));
        rate.restart(start, 100);
        assert_eq!(per_second(&rate, 0), 0);
        for second in 1..=20 {
            rate.reached(at(second * 1000), 100 + second * 50);
            assert_eq!(per_second(&rate, second * 1000), 50);
        }
        for tenth in 1..=200 {
            rate.reached(at(20_000 + tenth * 100), 1_100 + tenth);
        }
        assert_eq!(per_second(&rate, 40_000), 10);
        assert!(rate.samples.len() <= 22, "{}", rate.samples.len());
        assert_eq!(per_second(&rate, 49_999), 10);
        assert_eq!(per_second(&rate, 50_000), 0);
        rate.restart(at(50_000), 5);
        assert_eq!(per_second(&rate, 50_000), 0);
    }
}
