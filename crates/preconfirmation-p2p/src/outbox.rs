//! Messages of ours that no peer could be sent yet. No clock: every call says what time it is.

use std::{collections::VecDeque, time::Instant};

use libp2p::{PeerId, gossipsub::MessageId};
use preconfirmation_types::{Bytes, Topic};

use crate::{config::OutboxConfig, error::PublishError};

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) topic: Topic,
    pub(crate) ssz: Bytes,
    pub(crate) state: State,
    since: Instant,
}

/// Why it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// No peer was there. gossipsub does not know the message.
    Unheard,
    /// Peers have not taken what was published before it. gossipsub does not know it either.
    Behind,
    /// The send queues of all chosen peers were full. gossipsub knows the message as published, so it can be
    /// forwarded while the message cache lasts, but not published again.
    Remembered {
        id: MessageId,
        /// When it was last put to the send queues.
        tried: Instant,
        /// Of these peers; of none if all were full.
        to: Vec<PeerId>,
    },
    /// As `Remembered`, but the message cache has forgotten it, and the duplicate cache has not: until then it can be
    /// neither forwarded nor published.
    Forgotten { until: Instant },
}

/// What became of another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Some peer is being sent it.
    Sent,
    /// It waits on, and so does all behind it on its topic.
    Waits,
    /// It waits on by itself.
    WaitsAlone,
}

/// The kept messages, oldest first. Bounded by count and by bytes; a message that does not fit is refused,
/// so that what was promised is kept. One that has become stale is dropped.
#[derive(Debug)]
pub(crate) struct Outbox {
    config: OutboxConfig,
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Outbox {
    pub(crate) const fn new(config: OutboxConfig) -> Self {
        Self { config, kept: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether a message of this topic would come too early if it were sent now: behind one that waits for room, on any
    /// topic, because a transaction list goes before its commitment; or behind one of its own topic.
    pub(crate) fn is_ahead(&self, topic: Topic) -> bool {
        self.kept.iter().any(|kept| match kept.state {
            State::Behind => true,
            State::Unheard | State::Remembered { .. } => kept.topic == topic,
            State::Forgotten { .. } => false,
        })
    }

    /// Whether a message waits until peers have taken others.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.kept.iter().any(|kept| kept.state == State::Behind)
    }

    /// Whether these bytes wait already.
    pub(crate) fn contains(&self, topic: Topic, ssz: &Bytes) -> bool {
        self.kept.iter().any(|kept| kept.topic == topic && kept.ssz == *ssz)
    }

    /// Keeps a message.
    ///
    /// # Errors
    /// [`PublishError::QueueFull`] if it does not fit beside the others.
    pub(crate) fn keep(
        &mut self,
        topic: Topic,
        ssz: Bytes,
        state: State,
        now: Instant,
    ) -> Result<(), PublishError> {
        let (messages, bytes) = (self.config.messages.get(), self.config.bytes.get());
        if self.kept.len() >= messages || self.bytes.saturating_add(ssz.len()) > bytes {
            return Err(PublishError::QueueFull { messages, bytes });
        }
        self.bytes += ssz.len();
        self.kept.push_back(Kept { topic, ssz, state, since: now });
        Ok(())
    }

    /// Drops and returns what has waited for too long.
    pub(crate) fn stale(&mut self, now: Instant) -> Vec<Topic> {
        let stale_after = self.config.stale_after;
        let stale = |kept: &Kept| now.saturating_duration_since(kept.since) >= stale_after;
        let mut topics = Vec::new();
        // In the order of their coming, so the stale ones are in front.
        while self.kept.front().is_some_and(stale)
            && let Some(kept) = self.kept.pop_front()
        {
            self.bytes -= kept.ssz.len();
            topics.push(kept.topic);
        }
        topics
    }

    /// Attempts each message of the topics that are wanted, oldest first, until one of its topic waits on.
    pub(crate) fn retry(&mut self, wanted: &[Topic], mut attempt: impl FnMut(&mut Kept) -> Attempt) {
        let mut waiting: Vec<Topic> = Vec::new();
        let mut bytes = self.bytes;
        self.kept.retain_mut(|kept| {
            if !wanted.contains(&kept.topic) || waiting.contains(&kept.topic) {
                return true;
            }
            match attempt(kept) {
                Attempt::Sent => {
                    bytes -= kept.ssz.len();
                    return false;
                }
                Attempt::Waits => waiting.push(kept.topic),
                Attempt::WaitsAlone => {}
            }
            true
        });
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outbox(messages: usize, bytes: usize) -> Outbox {
        Outbox::new(OutboxConfig {
            messages: messages.try_into().unwrap(),
            bytes: bytes.try_into().unwrap(),
            stale_after: Duration::from_secs(384),
        })
    }

    fn bytes(byte: u8, length: usize) -> Bytes {
        vec![byte; length].into()
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_was_kept_stays() {
        let (mut outbox, now) = (outbox(2, 100), Instant::now());
        outbox.keep(Topic::Commitments, bytes(1, 60), State::Unheard, now).unwrap();
        let full = Err(PublishError::QueueFull { messages: 2, bytes: 100 });
        assert_eq!(outbox.keep(Topic::RawTxLists, bytes(2, 41), State::Unheard, now), full);
        outbox.keep(Topic::RawTxLists, bytes(2, 40), State::Unheard, now).unwrap();
        assert_eq!(outbox.keep(Topic::RawTxLists, bytes(3, 0), State::Unheard, now), full);
        assert!(outbox.contains(Topic::Commitments, &bytes(1, 60)));
        // The same bytes on another topic are another message.
        assert!(!outbox.contains(Topic::RawTxLists, &bytes(1, 60)));
        // What is sent makes room.
        outbox.retry(&[Topic::Commitments], |_| Attempt::Sent);
        assert_eq!((outbox.len(), outbox.bytes), (1, 40));
        outbox.keep(Topic::RawTxLists, bytes(3, 60), State::Unheard, now).unwrap();
    }

    #[test]
    fn messages_are_dropped_when_they_are_stale() {
        let (mut outbox, now) = (outbox(8, 100), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        outbox.keep(Topic::Commitments, bytes(1, 10), State::Unheard, at(0)).unwrap();
        outbox.keep(Topic::RawTxLists, bytes(2, 10), State::Unheard, at(1)).unwrap();
        assert!(outbox.stale(at(383)).is_empty());
        assert_eq!(outbox.stale(at(384)), [Topic::Commitments]);
        assert_eq!((outbox.len(), outbox.bytes), (1, 10));
        assert_eq!(outbox.stale(at(385)), [Topic::RawTxLists]);
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn what_waits_for_room_goes_before_what_comes_later_on_either_topic() {
        let (mut outbox, now) = (outbox(8, 100), Instant::now());
        assert!(!outbox.is_ahead(Topic::Commitments) && !outbox.waits_for_room());
        outbox.keep(Topic::RawTxLists, bytes(1, 1), State::Unheard, now).unwrap();
        assert!(outbox.is_ahead(Topic::RawTxLists) && !outbox.is_ahead(Topic::Commitments));
        outbox.keep(Topic::RawTxLists, bytes(2, 1), State::Behind, now).unwrap();
        assert!(outbox.is_ahead(Topic::Commitments) && outbox.waits_for_room());
        outbox.retry(&Topic::ALL, |_| Attempt::Sent);
        outbox.keep(Topic::Commitments, bytes(3, 1), State::Forgotten { until: now }, now).unwrap();
        assert!(!outbox.is_ahead(Topic::Commitments));
        outbox.keep(Topic::Commitments, bytes(4, 1), State::Unheard, now).unwrap();
        let mut tried = 0;
        outbox.retry(&Topic::ALL, |kept| {
            tried += 1;
            if kept.state == State::Unheard { Attempt::Sent } else { Attempt::WaitsAlone }
        });
        assert_eq!((tried, outbox.len(), outbox.bytes), (2, 1, 1));
    }

    #[test]
    fn one_that_waits_on_holds_back_its_topic_only() {
        let (mut outbox, now) = (outbox(8, 100), Instant::now());
        for (topic, byte) in
            [(Topic::Commitments, 1), (Topic::RawTxLists, 2), (Topic::Commitments, 3), (Topic::RawTxLists, 4)]
        {
            outbox.keep(topic, bytes(byte, 1), State::Unheard, now).unwrap();
        }
        let mut tried = Vec::new();
        outbox.retry(&Topic::ALL, |kept| {
            tried.push(kept.ssz[0]);
            if kept.topic == Topic::Commitments { Attempt::Waits } else { Attempt::Sent }
        });
        assert_eq!(tried, [1, 2, 4]);
        assert_eq!(outbox.len(), 2);
        // A topic that nobody has asked for is left alone.
        outbox.retry(&[Topic::RawTxLists], |_| panic!("nothing waits there"));
    }
}
