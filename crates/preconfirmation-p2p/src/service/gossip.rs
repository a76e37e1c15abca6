//! Gossip in, gossip out, verdicts.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    gossipsub::{Event, Message, MessageAcceptance, MessageId, PublishError as StackError},
};
use preconfirmation_types::{Bytes, Topic};

use super::{NetworkService, PERMIT_BYTES, Slow};
use crate::{
    error::PublishError,
    event::{NetworkEvent, Open, Settlement, Verdict, VerdictToken},
    gossip,
    handle::Published,
    metrics,
    outbox::{Attempt, Kept, Outbox, State},
};

impl NetworkService {
    pub(super) fn gossip_event(&mut self, event: Event) {
        match event {
            Event::Message { propagation_source, message_id, message } => {
                self.received(propagation_source, message_id, message)
            }
            Event::Subscribed { topic, .. } => {
                if let Some(topic) = self.topics.topic(&topic) {
                    self.retry(&[topic], Instant::now());
                }
            }
            Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(peer = %peer_id, "peer does not speak gossipsub");
                // One that subscribes all the same would be queued for and never read.
                let gossip = &self.swarm.behaviour().gossip;
                if gossip.all_peers().any(|(peer, topics)| *peer == peer_id && !topics.is_empty()) {
                    self.cut_off(peer_id, "gossip_refused");
                }
            }
            Event::SlowPeer { peer_id, failed_messages } => {
                metrics::dropped("gossip_send");
                tracing::debug!(peer = %peer_id, ?failed_messages, "peer reads too slowly");
                self.slow_peer(peer_id, Instant::now());
            }
            _ => {}
        }
    }

    fn received(&mut self, from: PeerId, id: MessageId, message: Message) {
        let Some(topic) = self.topics.topic(&message.topic) else {
            self.judge(&id, &from, MessageAcceptance::Ignore);
            return;
        };
        let _span = tracing::debug_span!("gossip", peer = %from, %topic, %id).entered();
        if message.source == Some(self.local) {
            self.judge(&id, &from, MessageAcceptance::Ignore);
            metrics::received(topic, "own");
            self.own_message(message.sequence_number);
            return;
        }
        let length = message.data.len();
        let message = match gossip::decode(topic, Bytes::from(message.data), self.config.max_txlist_bytes) {
            Ok(message) => message,
            Err(malformed) => {
                tracing::debug!(error = %malformed.error, "malformed");
                self.judge(&id, &from, MessageAcceptance::Reject);
                self.charge(from, malformed.offence());
                metrics::received(topic, malformed.offence().label());
                return;
            }
        };
        let bytes = length.div_ceil(PERMIT_BYTES).min(self.open_bytes_total);
        let permits = (
            Arc::clone(&self.open).try_acquire_owned(),
            Arc::clone(&self.open_bytes).try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)),
        );
        let (Ok(one), Ok(bytes)) = permits else {
            self.judge(&id, &from, MessageAcceptance::Ignore);
            metrics::received(topic, "dropped");
            metrics::dropped("open_verdicts");
            return;
        };
        let Ok(place) = self.gossip.try_reserve() else {
            self.judge(&id, &from, MessageAcceptance::Ignore);
            metrics::received(topic, "dropped");
            metrics::dropped("gossip_events");
            return;
        };
        let open = Open { id, from, topic, bytes: length, permits: [one, bytes] };
        let verdict = VerdictToken::new(open, self.settlements.clone());
        place.send(NetworkEvent::Gossip { from, message, verdict });
    }

    /// Gives gossip the application's verdict and keeps the score.
    pub(super) fn settle(&mut self, Settlement { open, verdict }: Settlement) {
        let Open { id, from, topic, bytes, permits } = open;
        let _span = tracing::debug_span!("gossip", peer = %from, %topic, %id).entered();
        let in_time = match verdict {
            Verdict::Accept => {
                self.given(bytes);
                let score = self.scores.accepted(from, Instant::now());
                self.mirror(&from, score);
                self.judge(&id, &from, MessageAcceptance::Accept)
            }
            Verdict::Ignore => self.judge(&id, &from, MessageAcceptance::Ignore),
            Verdict::Reject(offence) => {
                let in_time = self.judge(&id, &from, MessageAcceptance::Reject);
                self.charge(from, offence);
                in_time
            }
        };
        // A late verdict scores, but gossip has forgotten the message: it is not forwarded.
        metrics::received(topic, if in_time { verdict.label() } else { "late" });
        tracing::trace!(verdict = verdict.label(), in_time, "settled");
        drop(permits);
    }

    fn judge(&mut self, id: &MessageId, from: &PeerId, acceptance: MessageAcceptance) -> bool {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, from, acceptance)
    }

    pub(super) fn publish(&mut self, topic: Topic, ssz: Bytes) -> Result<Published, PublishError> {
        let published = self.try_publish(topic, ssz);
        let outcome = match published {
            Ok(Published::Sent { .. }) => "sent",
            Ok(Published::Queued) => "queued",
            Ok(Published::Duplicate) => "duplicate",
            Err(PublishError::QueueFull { .. }) => "queue_full",
            Err(_) => "refused",
        };
        metrics::published(topic, outcome);
        published
    }

    fn try_publish(&mut self, topic: Topic, ssz: Bytes) -> Result<Published, PublishError> {
        let (limit, actual) = (gossip::limit(topic, self.config.max_txlist_bytes), ssz.len());
        if actual > limit {
            return Err(PublishError::TooLarge { limit, actual });
        }
        gossip::decode(topic, ssz.clone(), self.config.max_txlist_bytes)
            .map_err(|malformed| malformed.error)?;
        if self.outbox.contains(topic, &ssz) {
            return Ok(Published::Duplicate);
        }
        let now = Instant::now();
        let state = match self.give_to_gossip(topic, ssz.clone()) {
            Ok(()) => return Ok(Published::Sent { peers: self.addressed(topic) }),
            Err(StackError::Duplicate) => return Ok(Published::Duplicate),
            Err(StackError::NoPeersSubscribedToTopic) => State::Unheard,
            Err(StackError::AllQueuesFull(_)) => remembered(&ssz, now),
            Err(StackError::MessageTooLarge) => {
                return Err(PublishError::TooLarge { limit: self.config.gossip.max_frame_bytes, actual });
            }
            Err(error) => {
                tracing::error!(%topic, %error, "cannot sign a message");
                return Err(PublishError::Unsigned);
            }
        };
        self.outbox.keep(topic, ssz, state, now)?;
        metrics::waiting("outbox", self.outbox.len());
        Ok(Published::Queued)
    }

    fn give_to_gossip(&mut self, topic: Topic, ssz: Bytes) -> Result<(), StackError> {
        let (hash, bytes) = (self.topics.hash(topic), ssz.len());
        self.swarm.behaviour_mut().gossip.publish(hash, ssz)?;
        self.given(bytes);
        Ok(())
    }

    /// How many peers gossipsub addresses a message of ours to: the mesh, filled up with other subscribers to
    /// its size.
    fn addressed(&self, topic: Topic) -> usize {
        let (hash, gossip) = (self.topics.hash(topic), &self.swarm.behaviour().gossip);
        let mesh: HashSet<_> = gossip.mesh_peers(&hash).collect();
        let (mut in_mesh, mut others) = (0, 0);
        for (peer, topics) in gossip.all_peers() {
            let score = gossip.peer_score(peer).unwrap_or(0.0);
            if !topics.contains(&&hash) || score < self.config.score.publish_threshold {
                continue;
            }
            if mesh.contains(peer) {
                in_mesh += 1;
            } else {
                others += 1;
            }
        }
        in_mesh + self.config.gossip.mesh_of(topic).size.saturating_sub(in_mesh).min(others)
    }

    /// Takes note of what gossip was given to send, and cuts off who holds too much of it.
    fn given(&mut self, bytes: usize) {
        let now = Instant::now();
        self.unread.given(bytes, now);
        self.cut_unread(now);
    }

    /// Cuts the connections whose other ends do not read.
    pub(super) fn cut_unread(&mut self, now: Instant) {
        for (peer, why) in self.connections.cut(&self.unread, now) {
            metrics::dropped(why.label());
            tracing::info!(%peer, why = why.label(), "peer does not read what it is sent, disconnected");
        }
        let lately = self.told_of_full_queues().saturating_mul(2);
        self.slow.retain(|_, slow| now.saturating_duration_since(slow.last) <= lately);
    }

    /// Takes note of a send queue that was full or where messages grew old. A peer of which that is told for
    /// three times `send_stall` without a break is of no use to gossip.
    fn slow_peer(&mut self, peer: PeerId, now: Instant) {
        let slow = self.slow.entry(peer).or_insert(Slow { since: now, last: now });
        slow.last = now;
        if now.saturating_duration_since(slow.since) >= self.config.gossip.send_stall.saturating_mul(3) {
            self.slow.remove(&peer);
            self.cut_off(peer, "gossip_slow");
        }
    }

    fn cut_off(&mut self, peer: PeerId, why: &'static str) {
        metrics::dropped(why);
        tracing::info!(%peer, why, "peer takes no gossip, disconnected");
        // Where it has gone already, all is well.
        let _connected = self.swarm.disconnect_peer_id(peer).is_ok();
    }

    /// Within this time gossipsub tells of a send queue that was full, at a heartbeat.
    fn told_of_full_queues(&self) -> Duration {
        self.config.gossip.heartbeat.saturating_mul(2)
    }

    /// Attempts to send what is kept for these topics, but for what is stale.
    pub(super) fn retry(&mut self, topics: &[Topic], now: Instant) {
        for topic in self.outbox.stale(now) {
            metrics::published(topic, "stale");
            metrics::dropped("outbox");
            tracing::warn!(%topic, "a message found no peer in time");
        }
        if self.outbox.len() == 0 {
            return;
        }
        // Out of `self` for as long as each message is tried; that reads nothing of it.
        let mut outbox = std::mem::replace(&mut self.outbox, Outbox::new(self.config.gossip.outbox));
        outbox.retry(topics, |kept| {
            let attempt = self.attempt(kept, now);
            if attempt == Attempt::Sent {
                metrics::published(kept.topic, "sent_late");
            }
            attempt
        });
        self.outbox = outbox;
        metrics::waiting("outbox", self.outbox.len());
    }

    fn attempt(&mut self, kept: &mut Kept, now: Instant) -> Attempt {
        if let State::Remembered { id, tried, to } = &mut kept.state {
            if now.saturating_duration_since(*tried) < self.told_of_full_queues() {
                return Attempt::Waits;
            }
            // A peer that was in the mesh then, and whose queue has not been found full since, has taken it.
            let (hash, gossip) = (self.topics.hash(kept.topic), &mut self.swarm.behaviour_mut().gossip);
            let slow = |peer: &PeerId| self.slow.get(peer).is_some_and(|slow| slow.last >= *tried);
            if gossip.mesh_peers(&hash).any(|peer| to.contains(peer) && !slow(peer)) {
                return Attempt::Sent;
            }
            // As if it had come from ourselves: to the whole mesh, and nobody is credited.
            *to = gossip.mesh_peers(&hash).copied().collect();
            if gossip.report_message_validation_result(id, &self.local, MessageAcceptance::Accept) {
                *tried = now;
                return Attempt::Waits;
            }
            // The message cache has forgotten it. As soon as the duplicate cache has, too, it is published.
        }
        match self.give_to_gossip(kept.topic, kept.ssz.clone()) {
            Ok(()) => Attempt::Sent,
            Err(StackError::AllQueuesFull(_)) => {
                kept.state = remembered(&kept.ssz, now);
                Attempt::Waits
            }
            // Somebody else has brought these very bytes, so peers have them.
            Err(StackError::Duplicate) if kept.state == State::Unheard => Attempt::Sent,
            Err(_) => Attempt::Waits,
        }
    }
}

fn remembered(ssz: &[u8], now: Instant) -> State {
    State::Remembered { id: MessageId::new(&gossip::gossip_id(ssz)), tried: now, to: Vec::new() }
}
