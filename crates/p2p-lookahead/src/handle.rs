//! What others hold: the schedule that they ask, and how it is doing.

use std::{
    collections::BTreeSet,
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError, RwLock},
};

use alloy_primitives::Address;
use p2p_types::{L1Update, L1View, UnixSeconds};
use p2p_validation::{Admission, Lookahead, LookaheadError, Slot};
use serde::Serialize;
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
};

use crate::{EndpointStatus, Generation, L1Config, L1Event, L1Head, metrics, rpc::Pool, schedule::Schedule};

/// Events that a slow subscriber may be behind.
const EVENTS: usize = 256;

/// The schedule, as L1 has told it so far: answers from memory, and has past epochs learned that are requested.
pub struct L1Lookahead {
    known: RwLock<Option<Schedule>>,
    /// Past epochs that were requested.
    wanted: Mutex<BTreeSet<u64>>,
    waiting: NonZeroUsize,
    history: u64,
    pub(crate) asked: Notify,
    pub(crate) events: broadcast::Sender<L1Event>,
    pub(crate) state: Mutex<State>,
    pub(crate) pool: Pool,
}

/// What the status tells beside the schedule.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) head: Option<L1Head>,
    pub(crate) reorgs: u64,
    pub(crate) error: Option<String>,
}

/// How the lookahead is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct L1Status {
    /// Which contracts tell the schedule; none before they were asked.
    pub generation: Option<Generation>,
    /// L1's head, as far as it has been read.
    pub head: Option<L1Head>,
    /// Epochs that are known.
    pub epochs: usize,
    /// Past epochs that wait to be learned.
    pub waiting: usize,
    /// Reorgs since the start.
    pub reorgs: u64,
    /// Questions to endpoints since the start.
    pub calls: u64,
    /// Why the last step failed; none if it did not.
    pub error: Option<String>,
    /// The endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// What happens on L1, as a client follows it. Whoever is 256 events behind loses them, and is told.
#[derive(Debug)]
pub struct L1Updates(broadcast::Receiver<L1Event>);

impl L1View for L1Updates {
    async fn next_update(&mut self) -> Option<L1Update> {
        loop {
            return Some(match self.0.recv().await {
                Ok(L1Event::Head(head)) => L1Update::Head(head.number),
                Ok(L1Event::Reorg { lowest }) => L1Update::Reorg { lowest },
                Ok(L1Event::Changed { from }) => L1Update::ScheduleChanged { since: from },
                Ok(L1Event::Found { .. }) => continue,
                Err(RecvError::Lagged(_)) => L1Update::Lost,
                Err(RecvError::Closed) => return None,
            });
        }
    }
}

impl L1Lookahead {
    /// Knows nothing yet. The seed is for the jitter of pauses.
    pub(crate) fn new(config: &L1Config, seed: u64) -> Self {
        Self {
            known: RwLock::new(None),
            wanted: Mutex::default(),
            waiting: config.waiting_epochs,
            history: config.history.get(),
            asked: Notify::new(),
            events: broadcast::Sender::new(EVENTS),
            state: Mutex::default(),
            pool: Pool::new(&config.pool(), seed),
        }
    }

    /// What happens on L1 from now on. Who is 256 events behind is told how many it has lost.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<L1Event> {
        self.events.subscribe()
    }

    /// What happens on L1 from now on, as a client follows it (`ChainApi::follow_l1`).
    #[must_use]
    pub fn updates(&self) -> L1Updates {
        L1Updates(self.subscribe())
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> L1Status {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let State { head, reorgs, error } = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        L1Status {
            generation: known.as_ref().map(|schedule| schedule.generation),
            head,
            epochs: known.as_ref().map_or(0, |schedule| schedule.epochs.len()),
            waiting: self.wanted.lock().unwrap_or_else(PoisonError::into_inner).len(),
            reorgs,
            calls: self.pool.calls(),
            error,
            endpoints: self.pool.status(),
        }
    }

    /// Replaces what is known. Returns the first second that is answered otherwise now, if any is.
    pub(crate) fn learned(&self, schedule: Schedule) -> Option<UnixSeconds> {
        // Only the service writes. It compares beside the readers and frees the old schedule after them: whoever asks
        // waits for the exchange alone.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let changed = known.as_ref().and_then(|before| before.differs(&schedule));
        drop(known);
        let before = self.known.write().unwrap_or_else(PoisonError::into_inner).replace(schedule);
        drop(before);
        changed
    }

    /// The lowest epoch that was requested.
    pub(crate) fn next_wanted(&self) -> Option<u64> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// Notes that a past epoch is needed, if it is in the history that is learned and there is room.
    fn want(&self, schedule: &Schedule, moment: UnixSeconds) {
        let Some(epoch) = schedule.lacks(moment) else { return };
        let present = schedule.time.epoch_at(UnixSeconds::new(schedule.head)).unwrap_or(0);
        if epoch < present.saturating_sub(self.history) {
            return;
        }
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.contains(&epoch) {
            return;
        }
        if wanted.len() >= self.waiting.get() {
            metrics::unasked();
            return;
        }
        wanted.insert(epoch);
        self.asked.notify_one();
    }
}

impl Lookahead for L1Lookahead {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(schedule) = known.as_ref() else { return Ok(None) };
        let turn = schedule.turn(moment);
        if turn.is_none() {
            self.want(schedule, moment);
        }
        Ok(turn)
    }

    fn admissible(
        &self,
        timestamp: UnixSeconds,
        window_end: UnixSeconds,
    ) -> Result<Admission, LookaheadError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(schedule) = known.as_ref() else { return Ok(Admission::NotKnown) };
        Ok(schedule.admissible(timestamp, window_end))
    }

    /// Learns the epoch of a timestamp, if a window that ends there can have been open then.
    fn request(&self, timestamp: UnixSeconds, window_end: UnixSeconds) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(schedule) = known.as_ref() else { return };
        let epochs = [timestamp, window_end].map(|moment| schedule.time.epoch_at(moment));
        // A window begins in the epoch of its end or in the one before: whoever names others can have any epoch learned.
        if let [Some(first), Some(last)] = epochs
            && last <= first.saturating_add(1)
        {
            self.want(schedule, timestamp);
        }
    }

    fn may_be_elected(&self, signer: Address, timestamp: UnixSeconds) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|schedule| schedule.may_be_elected(signer, timestamp))
    }
}

impl fmt::Debug for L1Lookahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1Lookahead").field("status", &self.status()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use p2p_validation::L1Time;

    use super::*;
    use crate::{Source, schedule::Epoch};

    const GENESIS: u64 = 1_000;

    /// Knows epoch 100 of a whitelist, with room for two questions and three epochs of history.
    fn lookahead() -> L1Lookahead {
        let genesis = UnixSeconds::new(GENESIS);
        let mut config = L1Config::recommended(vec![], 1, genesis, Source::Contract(Address::ZERO));
        config.waiting_epochs = NonZeroUsize::new(2).unwrap();
        config.history = NonZeroU64::new(3).unwrap();
        let lookahead = L1Lookahead::new(&config, 0);
        let mut schedule = Schedule::new(Generation::Whitelist, L1Time::ethereum(genesis));
        schedule.head = GENESIS + 384 * 100;
        let operators = vec![(0, Address::repeat_byte(1))];
        schedule.epochs.insert(100, Epoch { scanned: true, slots: vec![], operators });
        assert_eq!(lookahead.learned(schedule), None);
        lookahead
    }

    fn ask(lookahead: &L1Lookahead, epoch: u64) -> Admission {
        let start = UnixSeconds::new(GENESIS + 384 * epoch);
        let end = start.saturating_add(Duration::from_secs(372));
        lookahead.request(start, end);
        lookahead.admissible(start, end).unwrap()
    }

    #[test]
    fn an_epoch_that_no_window_begins_in_is_not_wanted() {
        let lookahead = lookahead();
        let start = |epoch: u64| UnixSeconds::new(GENESIS + 384 * epoch);
        assert_eq!(lookahead.admissible(start(99), start(99)), Ok(Admission::NotKnown));
        lookahead.request(start(98), start(100));
        assert_eq!(lookahead.next_wanted(), None, "nobody waits for it");
        lookahead.request(start(99), start(100));
        assert_eq!(lookahead.next_wanted(), Some(99));
    }

    #[test]
    fn a_past_epoch_that_is_asked_about_is_wanted_once() {
        let lookahead = lookahead();
        for epoch in [99, 98, 99] {
            assert_eq!(ask(&lookahead, epoch), Admission::NotKnown);
        }
        assert_eq!(lookahead.status().waiting, 2);
        assert_eq!([(); 3].map(|()| lookahead.next_wanted()), [Some(98), Some(99), None]);
    }

    #[test]
    fn what_is_known_too_old_or_to_come_is_not_wanted() {
        let lookahead = lookahead();
        assert!(matches!(ask(&lookahead, 100), Admission::Open { .. }));
        for epoch in [96, 0, 101, 5_000] {
            assert_eq!(ask(&lookahead, epoch), Admission::NotKnown);
        }
        assert_eq!(lookahead.turn(UnixSeconds::new(0)), Ok(None));
        assert_eq!(lookahead.next_wanted(), None);
    }

    #[test]
    fn more_epochs_than_there_is_room_for_are_not_wanted() {
        let lookahead = lookahead();
        for epoch in [97, 98, 99] {
            assert_eq!(ask(&lookahead, epoch), Admission::NotKnown);
        }
        assert_eq!(lookahead.status().waiting, 2);
    }

    #[test]
    fn before_anything_is_learned_nothing_is_known() {
        let config = L1Config::recommended(vec![], 1, UnixSeconds::new(0), Source::Contract(Address::ZERO));
        let lookahead = L1Lookahead::new(&config, 0);
        assert_eq!(ask(&lookahead, 100), Admission::NotKnown);
        assert!(!lookahead.may_be_elected(Address::ZERO, UnixSeconds::new(0)));
        let status = lookahead.status();
        assert_eq!((status.generation, status.head, status.epochs), (None, None, 0));
    }
}
