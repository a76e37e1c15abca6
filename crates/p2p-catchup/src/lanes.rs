//! One peer and one protocol: what is on its way, how long answers take, and when the next request may leave.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use crate::{CatchUpConfig, time::after};

/// Over how long requests are spread evenly.
const SPREAD: Duration = Duration::from_secs(10);

/// The protocols, each with a pace of its own (§10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Head,
    Page,
    TxList,
}

impl Kind {
    pub(crate) const COUNT: usize = 3;

    /// Most requests of this kind on their way to one peer.
    pub(crate) const fn slots(self, config: &CatchUpConfig) -> usize {
        match self {
            Self::Head => 1,
            Self::Page => config.pages_in_flight.get(),
            Self::TxList => config.txlists_per_peer.get(),
        }
    }
}

/// How many requests a peer takes, on each protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Most requests in any `window`.
    pub requests: NonZeroU32,
    /// The sliding window.
    pub window: Duration,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    open: usize,
    /// Of answers, each new one for an eighth.
    round_trip: Option<Duration>,
    /// When requests left, oldest first; no more than the pace allows in a window.
    sent: VecDeque<Instant>,
    /// Another pace than the configured one, where the peer has shown it.
    learned: Option<Pace>,
    /// Requests since `spread_from`.
    asked: usize,
    spread_from: Option<Instant>,
}

impl Lane {
    pub(crate) const fn open(&self) -> usize {
        self.open
    }

    /// Notes a request.
    pub(crate) fn asked(&mut self, now: Instant, configured: Option<Pace>) {
        if self.asked_lately(now) == 0 {
            (self.asked, self.spread_from) = (0, Some(now));
        }
        self.asked = self.asked.saturating_add(1);
        self.open = self.open.saturating_add(1);
        match self.learned.or(configured) {
            None => self.sent.clear(),
            Some(pace) => {
                self.sent.push_back(now);
                while self.sent.len() > requests(pace) {
                    self.sent.pop_front();
                }
            }
        }
    }

    /// Notes the end of a request.
    pub(crate) const fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Notes how long an answer took.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.round_trip = Some(self.round_trip.map_or(took, |before| before - before / 8 + took / 8));
    }

    /// The peer takes requests at this pace.
    pub(crate) const fn learn(&mut self, pace: Pace) {
        self.learned = Some(pace);
    }

    /// When the next request may leave; none if nothing holds it back.
    pub(crate) fn turn(&self, config: &CatchUpConfig) -> Option<Instant> {
        let pace = self.learned.or(config.pace)?;
        let oldest = self.sent.len().checked_sub(requests(pace)).and_then(|at| self.sent.get(at));
        oldest.map(|oldest| after(*oldest, pace.window))
    }

    pub(crate) fn round_trip_micros(&self) -> Option<u64> {
        self.round_trip.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn asked_lately(&self, now: Instant) -> usize {
        let lately = self.spread_from.is_some_and(|from| now.saturating_duration_since(from) < SPREAD);
        if lately { self.asked } else { 0 }
    }
}

fn requests(pace: Pace) -> usize {
    usize::try_from(pace.requests.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    const PACE: Pace = Pace { requests: NonZeroU32::MIN.saturating_add(1), window: Duration::from_secs(10) };

    #[test]
    fn no_window_has_more_than_the_pace_and_a_learned_one_goes_before() {
        let config = CatchUpConfig { pace: Some(PACE), ..CatchUpConfig::recommended() };
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut lane = Lane::default();
        lane.asked(start, config.pace);
        assert_eq!(lane.turn(&config), None);
        lane.asked(start + second, config.pace);
        assert_eq!(lane.turn(&config), Some(start + PACE.window));
        lane.asked(start + PACE.window, config.pace);
        assert_eq!(lane.turn(&config), Some(start + second + PACE.window));
        lane.learn(Pace { requests: NonZeroU32::new(3).unwrap(), ..PACE });
        assert_eq!(lane.turn(&config), None);
    }

    #[test]
    fn round_trips_are_smoothed() {
        let mut lane = Lane::default();
        lane.answered(Duration::from_millis(80));
        lane.answered(Duration::from_millis(160));
        assert_eq!(lane.round_trip_micros(), Some(90_000));
    }

    #[test]
    fn turns_are_taken_for_a_while() {
        let (mut lane, start) = (Lane::default(), Instant::now());
        lane.asked(start, None);
        lane.asked(start, None);
        assert_eq!((lane.asked_lately(start + SPREAD / 2), lane.asked_lately(start + SPREAD)), (2, 0));
    }
}
