//! Deadlines, from the time that the caller brings.

use std::time::{Duration, Instant};

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

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

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
