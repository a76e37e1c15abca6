//! Deadlines and pauses, from the time that the caller brings.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// The present, and the next moment at which something becomes due.
#[derive(Debug)]
pub(crate) struct Agenda {
    now: Instant,
    next: Option<Instant>,
    /// Something waits for its turn, and for nothing else.
    paced: bool,
}

impl Agenda {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { now, next: None, paced: false }
    }

    /// As [`due`](Self::due), for the turn that a pace gives.
    pub(crate) fn due_turn(&mut self, at: Instant) -> bool {
        let due = self.due(at);
        self.paced |= !due;
        due
    }

    /// Whether something waits for its turn.
    pub(crate) const fn is_paced(&self) -> bool {
        self.paced
    }

    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether `at` has come; if not, it is written down.
    pub(crate) fn due(&mut self, at: Instant) -> bool {
        if at <= self.now {
            return true;
        }
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        false
    }
}

/// `now + by`. Configuration bounds `by` to a day or so, so that the fallback is never taken.
pub(crate) fn after(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}

/// Jittered exponential pauses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The pause after the `failures`th failure in a row, from 1: a random one of the upper half of
    /// `min × 2^(failures − 1)`, which stops growing at `max`.
    pub(crate) fn pause(self, failures: u32, rng: &mut Rng) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.min.saturating_mul(factor).min(self.max);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.u64(nanos / 2..=nanos)).max(Duration::from_nanos(1))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_never_overflow() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut rng = Rng::with_seed(1);
        for (failures, full) in
            [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (u32::MAX, 1000)]
        {
            for _ in 0..50 {
                let pause = backoff.pause(failures, &mut rng);
                let full = Duration::from_millis(full);
                assert!(pause >= full / 2 && pause <= full, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn the_agenda_keeps_the_earliest() {
        let now = Instant::now();
        let mut agenda = Agenda::new(now);
        assert!(agenda.due(now));
        assert_eq!(agenda.next(), None);
        assert!(!agenda.due(now + Duration::from_secs(2)));
        assert!(!agenda.due(now + Duration::from_secs(1)));
        assert_eq!(agenda.next(), Some(now + Duration::from_secs(1)));
    }
}
