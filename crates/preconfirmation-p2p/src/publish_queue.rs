//! The publish_queue: own messages that could not be sent to any peer yet. No clock: every call is given the time.

use std::{collections::VecDeque, time::Instant};

use libp2p::{PeerId, gossipsub::MessageId};
use preconfirmation_types::{Bytes, Topic};

use crate::{config::PublishQueueConfig, error::PublishError};

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) topic: Topic,
    pub(crate) ssz: Bytes,
    pub(crate) state: PublishState,
    since: Instant,
}

/// Why it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishState {
    /// No peer subscribes to the topic. gossipsub does not know the message.
    NoSubscribers,
    /// Peers have not taken what was published before it. gossipsub does not know it either.
    Behind,
    /// The send queues of all chosen peers were full. gossipsub knows the message as published, so it can be
    /// forwarded while the message cache lasts, but not published again.
    QueuesFull {
        id: MessageId,
        /// When it was last put to the send queues.
        tried: Instant,
        /// Of these peers; of none if all were full.
        to: Vec<PeerId>,
    },
    /// As `QueuesFull`, but the message cache has forgotten it, and the duplicate cache has not: until then it can be
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
pub(crate) struct PublishQueue {
    config: PublishQueueConfig,
    kept: VecDeque<Waiting>,
    bytes: usize,
}

impl PublishQueue {
    pub(crate) const fn new(config: PublishQueueConfig) -> Self {
        Self { config, kept: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether a message of this topic would come too early if it were sent now: behind one that waits for room, on any
    /// topic, because a transaction list goes before its commitment; or behind one of its own topic.
    pub(crate) fn is_ahead(&self, topic: Topic) -> bool {
        self.kept.iter().any(|kept| match kept.state {
            PublishState::Behind => true,
            PublishState::NoSubscribers | PublishState::QueuesFull { .. } => kept.topic == topic,
            PublishState::Forgotten { .. } => false,
        })
    }

    /// Whether a message waits until peers have taken others.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.kept.iter().any(|kept| kept.state == PublishState::Behind)
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
        state: PublishState,
        now: Instant,
    ) -> Result<(), PublishError> {
        let (messages, bytes) = (self.config.messages.get(), self.config.bytes.get());
        if self.kept.len() >= messages || self.bytes.saturating_add(ssz.len()) > bytes {
            return Err(PublishError::QueueFull { messages, bytes });
        }
        self.bytes += ssz.len();
        self.kept.push_back(Waiting { topic, ssz, state, since: now });
        Ok(())
    }

    /// Drops and returns what has waited for too long.
    pub(crate) fn stale(&mut self, now: Instant) -> Vec<Topic> {
        let stale_after = self.config.stale_after;
        let stale = |kept: &Waiting| now.saturating_duration_since(kept.since) >= stale_after;
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
    pub(crate) fn retry(&mut self, wanted: &[Topic], mut attempt: impl FnMut(&mut Waiting) -> Attempt) {
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

    fn publish_queue(messages: usize, bytes: usize) -> PublishQueue {
        PublishQueue::new(PublishQueueConfig {
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
        let (mut publish_queue, now) = (publish_queue(2, 100), Instant::now());
        publish_queue.keep(Topic::Commitments, bytes(1, 60), PublishState::NoSubscribers, now).unwrap();
        let full = Err(PublishError::QueueFull { messages: 2, bytes: 100 });
        assert_eq!(
            publish_queue.keep(Topic::RawTxLists, bytes(2, 41), PublishState::NoSubscribers, now),
            full
        );
        publish_queue.keep(Topic::RawTxLists, bytes(2, 40), PublishState::NoSubscribers, now).unwrap();
        assert_eq!(
            publish_queue.keep(Topic::RawTxLists, bytes(3, 0), PublishState::NoSubscribers, now),
            full
        );
        assert!(publish_queue.contains(Topic::Commitments, &bytes(1, 60)));
        // The same bytes on another topic are another message.
        assert!(!publish_queue.contains(Topic::RawTxLists, &bytes(1, 60)));
        // What is sent makes room.
        publish_queue.retry(&[Topic::Commitments], |_| Attempt::Sent);
        assert_eq!((publish_queue.len(), publish_queue.bytes), (1, 40));
        publish_queue.keep(Topic::RawTxLists, bytes(3, 60), PublishState::NoSubscribers, now).unwrap();
    }

    #[test]
    fn messages_are_dropped_when_they_are_stale() {
        let (mut publish_queue, now) = (publish_queue(8, 100), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        publish_queue.keep(Topic::Commitments, bytes(1, 10), PublishState::NoSubscribers, at(0)).unwrap();
        publish_queue.keep(Topic::RawTxLists, bytes(2, 10), PublishState::NoSubscribers, at(1)).unwrap();
        assert!(publish_queue.stale(at(383)).is_empty());
        assert_eq!(publish_queue.stale(at(384)), [Topic::Commitments]);
        assert_eq!((publish_queue.len(), publish_queue.bytes), (1, 10));
        assert_eq!(publish_queue.stale(at(385)), [Topic::RawTxLists]);
        assert_eq!(publish_queue.bytes, 0);
    }

    #[test]
    fn what_waits_for_room_goes_before_what_comes_later_on_either_topic() {
        let (mut publish_queue, now) = (publish_queue(8, 100), Instant::now());
        assert!(!publish_queue.is_ahead(Topic::Commitments) && !publish_queue.waits_for_room());
        publish_queue.keep(Topic::RawTxLists, bytes(1, 1), PublishState::NoSubscribers, now).unwrap();
        assert!(publish_queue.is_ahead(Topic::RawTxLists) && !publish_queue.is_ahead(Topic::Commitments));
        publish_queue.keep(Topic::RawTxLists, bytes(2, 1), PublishState::Behind, now).unwrap();
        assert!(publish_queue.is_ahead(Topic::Commitments) && publish_queue.waits_for_room());
        publish_queue.retry(&Topic::ALL, |_| Attempt::Sent);
        publish_queue
            .keep(Topic::Commitments, bytes(3, 1), PublishState::Forgotten { until: now }, now)
            .unwrap();
        assert!(!publish_queue.is_ahead(Topic::Commitments));
        publish_queue.keep(Topic::Commitments, bytes(4, 1), PublishState::NoSubscribers, now).unwrap();
        let mut tried = 0;
        publish_queue.retry(&Topic::ALL, |kept| {
            tried += 1;
            if kept.state == PublishState::NoSubscribers { Attempt::Sent } else { Attempt::WaitsAlone }
        });
        assert_eq!((tried, publish_queue.len(), publish_queue.bytes), (2, 1, 1));
    }

    #[test]
    fn one_that_waits_on_holds_back_its_topic_only() {
        let (mut publish_queue, now) = (publish_queue(8, 100), Instant::now());
        for (topic, byte) in
            [(Topic::Commitments, 1), (Topic::RawTxLists, 2), (Topic::Commitments, 3), (Topic::RawTxLists, 4)]
        {
            publish_queue.keep(topic, bytes(byte, 1), PublishState::NoSubscribers, now).unwrap();
        }
        let mut tried = Vec::new();
        publish_queue.retry(&Topic::ALL, |kept| {
            tried.push(kept.ssz[0]);
            if kept.topic == Topic::Commitments { Attempt::Waits } else { Attempt::Sent }
        });
        assert_eq!(tried, [1, 2, 4]);
        assert_eq!(publish_queue.len(), 2);
        // A topic that nobody has asked for is left alone.
        publish_queue.retry(&[Topic::RawTxLists], |_| panic!("nothing waits there"));
    }
}
