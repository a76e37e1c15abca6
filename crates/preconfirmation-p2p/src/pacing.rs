//! Requests wait for their turn, so that no peer has a reason to punish the asker (§10). No clock: every
//! call says what time it is.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use libp2p::PeerId;

use crate::config::{PacingConfig, after};

/// A peer and one of its protocols.
pub(crate) type Lane = (PeerId, &'static str);

#[derive(Debug)]
struct Queue<T> {
    /// When requests left within the last window, oldest first; never more than `requests`.
    sent: VecDeque<Instant>,
    waiting: VecDeque<T>,
}

/// The queues of all lanes. In each, at most `requests` leave in any `window`, in the order in which they
/// came.
#[derive(Debug)]
pub(crate) struct Pacer<T> {
    config: PacingConfig,
    lanes: HashMap<Lane, Queue<T>>,
    waiting: usize,
}

impl<T> Pacer<T> {
    pub(crate) fn new(config: PacingConfig) -> Self {
        Self { config, lanes: HashMap::new(), waiting: 0 }
    }

    /// Puts a request at the end of its lane, or gives it back if the lane is full.
    pub(crate) fn push(&mut self, lane: Lane, item: T) -> Result<(), T> {
        let queue = self
            .lanes
            .entry(lane)
            .or_insert_with(|| Queue { sent: VecDeque::new(), waiting: VecDeque::new() });
        if queue.waiting.len() >= self.config.waiting.get() {
            return Err(item);
        }
        queue.waiting.push_back(item);
        self.waiting += 1;
        Ok(())
    }

    /// Takes the next request whose turn has come and that somebody still wants. The caller sends it at
    /// once: it counts from `now` on. What nobody wants any more costs no turn.
    pub(crate) fn pop(&mut self, now: Instant, wanted: impl Fn(&T) -> bool) -> Option<T> {
        if self.waiting == 0 {
            return None;
        }
        let config = self.config;
        for queue in self.lanes.values_mut() {
            while queue.waiting.front().is_some_and(|item| !wanted(item)) {
                queue.waiting.pop_front();
                self.waiting -= 1;
            }
            queue.forget(config, now);
            if queue.turn(config).is_none_or(|turn| turn <= now)
                && let Some(item) = queue.waiting.pop_front()
            {
                self.waiting -= 1;
                queue.sent.push_back(now);
                return Some(item);
            }
        }
        None
    }

    /// When the next turn of a waiting request comes; an instant in the past if one has come.
    pub(crate) fn next_turn(&self, now: Instant) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        self.lanes
            .values()
            .filter(|queue| !queue.waiting.is_empty())
            .map(|queue| queue.turn(self.config).unwrap_or(now))
            .min()
    }

    /// Takes all that waits for a peer that has gone. What was sent to it still counts, should it return.
    pub(crate) fn gone(&mut self, peer: &PeerId) -> Vec<T> {
        let mut items = Vec::new();
        for ((of, _), queue) in &mut self.lanes {
            if of == peer {
                self.waiting -= queue.waiting.len();
                items.extend(queue.waiting.drain(..));
            }
        }
        items
    }

    /// Forgets lanes in which nothing waits and whose window is empty.
    pub(crate) fn prune(&mut self, now: Instant) {
        let window = self.config.window;
        self.lanes.retain(|_, queue| {
            let recent = |sent: &Instant| now.saturating_duration_since(*sent) < window;
            !queue.waiting.is_empty() || queue.sent.back().is_some_and(recent)
        });
    }
}

impl<T> Queue<T> {
    /// Forgets what was sent more than a window ago.
    fn forget(&mut self, config: PacingConfig, now: Instant) {
        while let Some(sent) = self.sent.front()
            && now.saturating_duration_since(*sent) >= config.window
        {
            self.sent.pop_front();
        }
    }

    /// When the next request may leave; `None` if nothing holds it back.
    fn turn(&self, config: PacingConfig) -> Option<Instant> {
        if self.sent.len() < config.requests.get() {
            return None;
        }
        self.sent.front().map(|oldest| after(*oldest, config.window))
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use super::*;

    const WINDOW: Duration = Duration::from_millis(10_500);

    fn lane() -> Lane {
        (PeerId::random(), "get_head")
    }

    fn drain(pacer: &mut Pacer<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| pacer.pop(now, |_| true)).collect()
    }

    #[test]
    fn eight_leave_at_once_and_the_ninth_when_the_first_is_a_window_old() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        for item in 0..20 {
            pacer.push(lane, item).unwrap();
        }
        assert_eq!(drain(&mut pacer, start), (0..8).collect::<Vec<_>>());
        assert_eq!(pacer.next_turn(start), Some(start + WINDOW));
        assert!(drain(&mut pacer, start + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut pacer, start + WINDOW), (8..16).collect::<Vec<_>>());
        assert_eq!(drain(&mut pacer, start + 2 * WINDOW), (16..20).collect::<Vec<_>>());
        assert_eq!(pacer.next_turn(start), None);
    }

    #[test]
    fn no_window_wherever_it_starts_has_more_than_eight() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        let mut left = Vec::new();
        let mut next = 0;
        // A caller that asks every 300 ms, a loop that comes round at odd times.
        for step in 0..1000_u32 {
            let now = start + Duration::from_millis(u64::from(step * 137));
            if step % 2 == 0 && pacer.push(lane, next).is_ok() {
                next += 1;
            }
            left.extend(drain(&mut pacer, now).iter().map(|_| now));
        }
        assert!(left.len() > 90);
        for (index, first) in left.iter().enumerate() {
            let within = left[index..].iter().filter(|at| **at - *first < WINDOW).count();
            assert!(within <= 8, "{within} in one window");
        }
    }

    #[test]
    fn lanes_do_not_hold_each_other_back() {
        let (mut pacer, start) = (Pacer::new(PacingConfig::default()), Instant::now());
        let peer = PeerId::random();
        for item in 0..9 {
            pacer.push((peer, "get_head"), item).unwrap();
        }
        assert_eq!(drain(&mut pacer, start).len(), 8);
        pacer.push((peer, "get_raw_txlist"), 100).unwrap();
        pacer.push((PeerId::random(), "get_head"), 200).unwrap();
        let mut now = drain(&mut pacer, start);
        now.sort_unstable();
        assert_eq!(now, [100, 200]);
    }

    #[test]
    fn a_full_lane_gives_the_request_back() {
        let config = PacingConfig { waiting: NonZeroUsize::new(2).unwrap(), ..PacingConfig::default() };
        let (mut pacer, lane) = (Pacer::new(config), lane());
        assert_eq!(pacer.push(lane, 1), Ok(()));
        assert_eq!(pacer.push(lane, 2), Ok(()));
        assert_eq!(pacer.push(lane, 3), Err(3));
    }

    #[test]
    fn what_nobody_wants_any_more_costs_no_turn() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        for item in 0..16 {
            pacer.push(lane, item).unwrap();
        }
        let odd: Vec<u32> = std::iter::from_fn(|| pacer.pop(start, |item| item % 2 == 1)).collect();
        assert_eq!(odd, [1, 3, 5, 7, 9, 11, 13, 15]);
    }

    #[test]
    fn a_peer_that_returns_finds_its_window_as_it_was() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        for item in 0..10 {
            pacer.push(lane, item).unwrap();
        }
        assert_eq!(drain(&mut pacer, start).len(), 8);
        assert_eq!(pacer.gone(&lane.0), [8, 9]);
        assert_eq!(pacer.next_turn(start), None);
        pacer.push(lane, 10).unwrap();
        assert!(drain(&mut pacer, start + Duration::from_secs(5)).is_empty());
    }

    #[test]
    fn without_a_limit_nothing_piles_up() {
        let config = PacingConfig {
            requests: NonZeroUsize::MAX,
            window: Duration::from_millis(10),
            ..PacingConfig::default()
        };
        let (mut pacer, start, lane) = (Pacer::new(config), Instant::now(), lane());
        for step in 0..1000 {
            pacer.push(lane, step).unwrap();
            assert_eq!(drain(&mut pacer, start + Duration::from_millis(u64::from(step))), [step]);
        }
        assert_eq!(pacer.lanes[&lane].sent.len(), 10);
    }

    #[test]
    fn quiet_lanes_are_forgotten() {
        let (mut pacer, start) = (Pacer::new(PacingConfig::default()), Instant::now());
        for item in 0..100 {
            pacer.push(lane(), item).unwrap();
        }
        drain(&mut pacer, start);
        pacer.prune(start + Duration::from_secs(10));
        assert_eq!(pacer.lanes.len(), 100);
        pacer.prune(start + WINDOW);
        assert_eq!(pacer.lanes.len(), 0);
    }
}
