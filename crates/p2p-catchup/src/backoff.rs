//! Exponential backoff after failures of a peer, and a budget of failures for each peer.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::deadlines::after;

/// How long a peer is sent no request after it has failed. Each peer has pauses and a budget of its own; meanwhile the others are
/// used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after a first failure. Each further one in a row doubles it.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
    /// The random part of a pause, in percent. At most 100; with 0, pauses are exact.
    pub jitter: u32,
    /// Failures of a peer within one `window` after which it pauses until the window is over. Requests that fail during a pause
    /// are not counted again.
    pub budget: NonZeroU32,
    /// Begins with a failure.
    pub window: Duration,
}

impl Backoff {
    /// From half a second to half a minute, half of it random; 32 failures a minute.
    #[must_use]
    pub const fn recommended() -> Self {
        Self {
            min: Duration::from_millis(500),
            max: Duration::from_secs(30),
            jitter: 50,
            budget: match NonZeroU32::new(32) {
                Some(budget) => budget,
                None => NonZeroU32::MIN,
            },
            window: Duration::from_secs(60),
        }
    }

    /// The pause after the `failures`th consecutive failure, from 1: `min × 2^(failures − 1)`, at most `max`, less a random part
    /// of up to `jitter` percent.
    pub(crate) fn pause(&self, failures: u32, rng: &mut Rng) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.min.saturating_mul(factor).min(self.max);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        let random = nanos / 100 * u64::from(self.jitter.min(100));
        Duration::from_nanos(rng.u64(nanos - random..=nanos)).max(Duration::from_nanos(1))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::recommended()
    }
}

/// What a peer has used of its failure budget.
#[derive(Debug, Default)]
pub(crate) struct FailureBudget {
    failures: u32,
    /// When the window began.
    since: Option<Instant>,
}

impl FailureBudget {
    /// Counts a failure. If that used up the budget, the end of the window.
    pub(crate) fn record(&mut self, now: Instant, backoff: &Backoff) -> Option<Instant> {
        let until = |since: Instant| after(since, backoff.window);
        let running = self.since.filter(|since| until(*since) > now);
        if running.is_none() {
            self.failures = 0;
        }
        let since = *self.since.insert(running.unwrap_or(now));
        self.failures = self.failures.saturating_add(1);
        (self.failures >= backoff.budget.get()).then(|| until(since))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        min: Duration::from_millis(100),
        max: Duration::from_secs(1),
        budget: NonZeroU32::MIN.saturating_add(2),
        window: Duration::from_secs(10),
        ..Backoff::recommended()
    };

    const FULL: [(u32, u64); 7] =
        [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (u32::MAX, 1000)];

    #[test]
    fn pauses_double_up_to_the_longest_without_overflow() {
        let mut rng = Rng::with_seed(1);
        for (failures, full) in FULL {
            for _ in 0..50 {
                let pause = BACKOFF.pause(failures, &mut rng);
                let full = Duration::from_millis(full);
                assert!(pause >= full / 2 && pause <= full, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn the_random_part_of_a_pause_is_as_configured() {
        let of = |jitter: u32, seed: u64| {
            let (backoff, mut rng) = (Backoff { jitter, ..BACKOFF }, Rng::with_seed(seed));
            FULL.map(|(failures, _)| backoff.pause(failures, &mut rng))
        };
        assert_eq!(of(0, 1), FULL.map(|(_, full)| Duration::from_millis(full)));
        assert_eq!(of(100, 1), of(100, 1), "the same seed, the same pauses");
        assert_ne!(of(100, 1), of(100, 2));
        let mut rng = Rng::with_seed(3);
        let whole = Backoff { jitter: 100, ..BACKOFF };
        let shortest = (0..200).map(|_| whole.pause(5, &mut rng)).min().unwrap();
        assert!(shortest < BACKOFF.max / 10, "{shortest:?}");
    }

    #[test]
    fn a_failure_budget_lasts_for_its_window() {
        let (start, mut budget) = (Instant::now(), FailureBudget::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([0, 9].map(|second| budget.record(at(second), &BACKOFF)), [None, None]);
        // The window is over, and with it what was used.
        assert_eq!([10, 11].map(|second| budget.record(at(second), &BACKOFF)), [None, None]);
        assert_eq!(budget.record(at(12), &BACKOFF), Some(at(20)));
        assert_eq!(budget.record(at(20), &BACKOFF), None);
    }
}
