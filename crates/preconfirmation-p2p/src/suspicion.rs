//! Whether it is we who are wrong. No clock: every call says what time it is.
//!
//! Whether a signer was elected is a question of our schedule and our clock, and which slasher is the chain's one of our
//! configuration. When several authors offend against these within a minute and no commitment passes meanwhile, that is
//! more likely our mistake than theirs. Then nobody is charged for such offences, but for more of them than a preconfer
//! signs, until a commitment is accepted or a minute goes by without one.

use std::time::{Duration, Instant};

use libp2p::PeerId;

/// How many distinct authors make a suspicion.
const AUTHORS: usize = 3;

/// How close together they have to be, and how long the suspicion lasts without another.
const WINDOW: Duration = Duration::from_secs(60);

/// What is known against ourselves.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    /// The last authors that offended, each once, oldest first. At most [`AUTHORS`].
    authors: Vec<(PeerId, Instant)>,
    suspected: bool,
}

impl Suspicion {
    /// An author has offended. Whether it is to be charged.
    #[must_use]
    pub(crate) fn offended(&mut self, author: PeerId, now: Instant) -> bool {
        self.expire(now);
        self.authors.retain(|(of, _)| *of != author);
        if self.authors.len() == AUTHORS {
            self.authors.remove(0);
        }
        self.authors.push((author, now));
        self.suspected |= self.authors.len() == AUTHORS;
        !self.suspected
    }

    /// A commitment was accepted: schedule and clock are right.
    pub(crate) fn accepted(&mut self) {
        self.authors.clear();
        self.suspected = false;
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.authors.retain(|(_, at)| now.saturating_duration_since(*at) < WINDOW);
        self.suspected &= !self.authors.is_empty();
    }

    /// Whether we suspect ourselves.
    pub(crate) const fn is_suspected(&self) -> bool {
        self.suspected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn three_authors_within_a_minute_are_one_too_many() {
        let (mut suspicion, start) = (Suspicion::default(), Instant::now());
        let [one, two, three] = std::array::from_fn(|_| PeerId::random());
        // One alone is charged however often it offends.
        assert!((0..20).all(|second| suspicion.offended(one, at(start, second))));
        assert!(suspicion.offended(two, at(start, 20)));
        assert!(!suspicion.offended(three, at(start, 21)));
        assert!(suspicion.is_suspected());
        assert!(!suspicion.offended(one, at(start, 22)));
    }

    #[test]
    fn who_offends_now_and_then_is_not_counted_together() {
        let (mut suspicion, start) = (Suspicion::default(), Instant::now());
        assert!((0..50).all(|time| suspicion.offended(PeerId::random(), at(start, 31 * time))));
    }

    #[test]
    fn an_accepted_commitment_or_a_quiet_minute_ends_the_suspicion() {
        let (mut suspicion, start) = (Suspicion::default(), Instant::now());
        let suspect = |suspicion: &mut Suspicion, second| {
            while suspicion.offended(PeerId::random(), at(start, second)) {}
        };
        suspect(&mut suspicion, 0);
        suspicion.accepted();
        assert!(!suspicion.is_suspected());
        assert!(suspicion.offended(PeerId::random(), at(start, 1)));
        suspect(&mut suspicion, 1);
        suspicion.expire(at(start, 60));
        assert!(suspicion.is_suspected());
        suspicion.expire(at(start, 61));
        assert!(!suspicion.is_suspected());
    }
}
