//! Pauses after failures, and how many failures a peer may cost.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{ConfigError, config::LONGEST, time::after};

/// How long nothing is asked after a failure. Each peer has its own pauses and its own budget: while one rests, the
/// others are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after a first failure. Each further one in a row doubles it.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
    /// How much of a pause is left to chance, in percent: the real pause is a random one between what remains and the
    /// whole. At most 100; with 0, pauses are exact.
    pub jitter: u32,
    /// How often a peer may fail in one `window`. Then it rests until that is over. Requests that fail while the peer
    /// pauses already are not counted again.
    pub budget: NonZeroU32,
    /// Counted from the first failure on.
    pub window: Duration,
}

impl Backoff {
    /// From half a second to half a minute, half of it by chance; 32 failures a minute.
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

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (field, value) in
            [("backoff.min", self.min), ("backoff.max", self.max), ("backoff.window", self.window)]
        {
            if value > LONGEST || value.is_zero() {
                return Err(ConfigError::Duration { field, value });
            }
        }
        if self.min > self.max {
            return Err(ConfigError::Backoff { min: self.min, max: self.max });
        }
        if self.jitter > 100 {
            return Err(ConfigError::Jitter { actual: self.jitter });
        }
        Ok(())
    }

    /// The pause after the `failures`th failure in a row, from 1: `min × 2^(failures − 1)`, which stops growing at
    /// `max`, less a random part of its `jitter`.
    pub(crate) fn pause(&self, failures: u32, rng: &mut Rng) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.min.saturating_mul(factor).min(self.max);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        let chance = nanos / 100 * u64::from(self.jitter.min(100));
        Duration::from_nanos(rng.u64(nanos - chance..=nanos)).max(Duration::from_nanos(1))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::recommended()
    }
}

/// What a peer has spent of its budget.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    failures: u32,
    /// When the window began.
    since: Option<Instant>,
}

impl Spent {
    /// Counts a failure. When the peer may be asked again, if that was the last one that it had.
    pub(crate) fn spend(&mut self, now: Instant, backoff: &Backoff) -> Option<Instant> {
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
    fn pauses_double_up_to_the_longest_and_never_overflow() {
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
    fn as_much_of_a_pause_is_by_chance_as_is_set() {
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
    fn a_budget_lasts_for_its_window() {
        let (start, mut spent) = (Instant::now(), Spent::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([0, 9].map(|second| spent.spend(at(second), &BACKOFF)), [None, None]);
        // The window is over, and with it what was spent.
        assert_eq!([10, 11].map(|second| spent.spend(at(second), &BACKOFF)), [None, None]);
        assert_eq!(spent.spend(at(12), &BACKOFF), Some(at(20)));
        assert_eq!(spent.spend(at(20), &BACKOFF), None);
    }
}
