//! Deadlines: which have passed at the time that the caller brings, and which comes next.

use std::time::{Duration, Instant};

/// The present time, and the earliest of the deadlines that were found to lie ahead.
#[derive(Debug)]
pub(crate) struct Deadlines {
    now: Instant,
    next: Option<Instant>,
    /// Something is held back by a rate limit, and by nothing else.
    rate_limited: bool,
}

impl Deadlines {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { now, next: None, rate_limited: false }
    }

    /// As [`due`](Self::due), for the time at which a rate limit allows the next request.
    pub(crate) fn allowed(&mut self, at: Instant) -> bool {
        let allowed = self.due(at);
        self.rate_limited |= !allowed;
        allowed
    }

    /// Whether something is held back by a rate limit.
    pub(crate) const fn is_rate_limited(&self) -> bool {
        self.rate_limited
    }

    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether `at` has passed; if not, it is noted.
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

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_kept() {
        let now = Instant::now();
        let mut deadlines = Deadlines::new(now);
        assert!(deadlines.due(now));
        assert_eq!(deadlines.next(), None);
        assert!(!deadlines.due(now + Duration::from_secs(2)));
        assert!(!deadlines.due(now + Duration::from_secs(1)));
        assert_eq!(deadlines.next(), Some(now + Duration::from_secs(1)));
        assert!(!deadlines.is_rate_limited());
        assert!(deadlines.allowed(now) && !deadlines.is_rate_limited());
        assert!(!deadlines.allowed(now + Duration::from_secs(3)) && deadlines.is_rate_limited());
    }
}
