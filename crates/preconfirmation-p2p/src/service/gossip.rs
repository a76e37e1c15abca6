//! Gossip in, gossip out, verdicts.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    gossipsub::{Event, Message, MessageAcceptance, MessageId, PublishError as StackError},
};
use preconfirmation_types::{Bytes, Topic};

use super::NetworkService;
use crate::{
    config::after,
    error::PublishError,
    event::{Settlement, Verdict},
    filter::{self, Refusal},
    gossip,
    handle::Published,
    metrics,
    publish_queue::{Attempt, PublishQueue, PublishState, Waiting},
    slow_reader::CutReason,
    validation::{Action, ScoreChange},
    verdicts::Received,
};

/// Between two looks whether peers have room for what waits for it.
const DRAIN: Duration = Duration::from_millis(5);

/// Most messages of one frame that are charged. More change nothing: there is a cap for ten seconds, and a graylist.
const MOST_CHARGES: u32 = 8;

impl NetworkService {
    pub(super) fn gossip_event(&mut self, event: filter::Event) {
        match event {
            filter::Event::Stack(event) => self.stack_event(event),
            filter::Event::Refused(refusal) => self.refused(refusal),
            filter::Event::GivenUp { peer, connection } => {
                // It may have been closed meanwhile.
                if self.peers.connection(&peer).is_some_and(|peer| peer.connection(connection).is_some()) {
                    self.given_up.insert(connection, peer);
                    self.close_given_up();
                }
            }
        }
    }

    fn stack_event(&mut self, event: Event) {
        match event {
            Event::Message { propagation_source, message_id, message } => {
                self.received(propagation_source, message_id, message)
            }
            Event::Subscribed { topic, peer_id } => {
                self.close_given_up();
                if let Some(topic) = self.topics.topic(&topic) {
                    self.on_connection_used(&peer_id);
                    self.retry(&[topic], Instant::now());
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

    /// Closes the connections that gossipsub has given up, of peers that subscribe all the same: what is queued for them
    /// would never be read.
    fn close_given_up(&mut self) {
        if self.given_up.is_empty() {
            return;
        }
        let peers = self.swarm.behaviour().gossip.all_peers();
        let subscribed: HashSet<_> =
            peers.filter(|(_, topics)| !topics.is_empty()).map(|(peer, _)| *peer).collect();
        for (connection, peer) in self.given_up.extract_if(|_, peer| subscribed.contains(peer)) {
            metrics::dropped("gossip_given_up");
            tracing::debug!(%peer, "takes no gossip stream, closing the connection");
            self.swarm.close_connection(connection);
        }
    }

    /// Messages that gossipsub was not shown. It has counted them where it knows their topic.
    fn refused(&mut self, Refusal { peer, topic, offence, messages }: Refusal) {
        tracing::debug!(%peer, ?topic, offence = offence.label(), messages, "refused");
        let outcome = if topic.is_some() { offence.label() } else { "unknown_topic" };
        metrics::refused(topic, outcome, messages);
        for _ in 0..messages.min(MOST_CHARGES) {
            if topic.is_none() {
                self.peers.invalid_delivery(peer, Instant::now());
            }
            self.charge(peer, offence);
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
        let (author, bytes) = (message.source, message.data.len());
        let Ok((message, twin_of)) = gossip::read(topic, message.data.into(), self.config.max_txlist_bytes)
        else {
            // The filter lets no such message through.
            self.judge(&id, &from, MessageAcceptance::Ignore);
            return;
        };
        let received = Received { id, from, author, topic, bytes, twin_of };
        for action in self.validation.ask(received, message, &self.peers, Instant::now()) {
            match action {
                Action::Apply(received, verdict) => self.apply(&received, verdict),
                Action::Drop(received) => self.drop_message(&received),
            }
        }
    }

    /// There is no room for a message.
    fn drop_message(&mut self, received: &Received) {
        self.judge(&received.id, &received.from, MessageAcceptance::Ignore);
        metrics::received(received.topic, "dropped");
        metrics::dropped("open_verdicts");
    }

    /// Gives gossip the application's verdict and keeps the score.
    pub(super) fn settle(&mut self, settlement: Settlement) {
        let Settlement { open, verdict } = settlement;
        let settled = self.validation.settle(&settlement, Instant::now());
        if settled.is_empty() && !open.is_twin {
            // Too late to be forwarded; what it says about the sender holds.
            self.score(open.from, open.by_author, verdict);
        }
        for received in settled {
            self.apply(&received, verdict);
        }
    }

    fn apply(&mut self, received: &Received, verdict: Verdict) {
        let Received { id, from, author, topic, bytes, twin_of } = received;
        let _span = tracing::debug_span!("gossip", peer = %from, %topic, %id).entered();
        let (acceptance, label) = match verdict {
            // It is not the promise that is wrong but this form of it, and nobody is charged for carrying that.
            _ if twin_of.is_some() => (MessageAcceptance::Ignore, "twin"),
            Verdict::Accept | Verdict::Forward => (MessageAcceptance::Accept, verdict.label()),
            // Not a rejection, which gossipsub would charge to everybody who has brought the message.
            Verdict::Ignore | Verdict::RejectAuthor(_) => (MessageAcceptance::Ignore, verdict.label()),
            Verdict::Reject(_) => (MessageAcceptance::Reject, verdict.label()),
        };
        if let MessageAcceptance::Accept = acceptance {
            self.on_enqueued(*bytes);
        }
        let in_time = self.judge(id, from, acceptance);
        if twin_of.is_none() {
            self.score(*from, *author == Some(*from), verdict);
        }
        if (*topic, verdict) == (Topic::Commitments, Verdict::Accept) {
            self.validation.on_accepted_commitment();
        }
        metrics::received(*topic, if in_time { label } else { "late" });
        tracing::trace!(verdict = verdict.label(), in_time, "settled");
    }

    fn score(&mut self, from: PeerId, by_author: bool, verdict: Verdict) {
        let now = Instant::now();
        match self.validation.score(&mut self.peers, from, by_author, verdict, now) {
            ScoreChange::None => {}
            ScoreChange::Credited => self.update_gossip_score(&from, now),
            ScoreChange::Charged(offence, score) => self.charged(from, offence, score, now),
        }
    }

    /// Settles what gossipsub is about to forget.
    pub(super) fn expire_verdicts(&mut self, now: Instant) {
        for received in self.validation.expire(now) {
            self.judge(&received.id, &received.from, MessageAcceptance::Ignore);
            metrics::received(received.topic, "late");
        }
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
        gossip::check(topic, &ssz, self.config.max_txlist_bytes)?;
        let actual = ssz.len();
        if self.publish_queue.contains(topic, &ssz) {
            return Ok(Published::Duplicate);
        }
        let now = Instant::now();
        if self.publish_queue.is_ahead(topic) || !self.has_room(topic, actual, now) {
            if !self.publish_queue.waits_for_room() {
                tracing::info!(
                    "published faster than peers take it; the rest follows in order as fast as they do"
                );
                self.drain = Some(after(now, DRAIN));
            }
            self.publish_queue.keep(topic, ssz, PublishState::Behind, now)?;
            metrics::waiting("publish_queue", self.publish_queue.len());
            return Ok(Published::Queued);
        }
        let state = match self.give_to_gossip(topic, ssz.clone()) {
            Ok(()) => return Ok(Published::Sent { peers: self.addressed(topic) }),
            Err(StackError::Duplicate) => return Ok(Published::Duplicate),
            Err(StackError::NoPeersSubscribedToTopic) => PublishState::NoSubscribers,
            Err(StackError::AllQueuesFull(_)) => queues_full(topic, &ssz, now),
            Err(StackError::MessageTooLarge) => {
                return Err(PublishError::TooLarge { limit: self.config.gossip.max_frame_bytes, actual });
            }
            Err(error) => {
                tracing::error!(%topic, %error, "cannot sign a message");
                return Err(PublishError::Unsigned);
            }
        };
        self.publish_queue.keep(topic, ssz, state, now)?;
        metrics::waiting("publish_queue", self.publish_queue.len());
        Ok(Published::Queued)
    }

    fn give_to_gossip(&mut self, topic: Topic, ssz: Bytes) -> Result<(), StackError> {
        let (hash, bytes) = (self.topics.hash(topic), ssz.len());
        self.swarm.behaviour_mut().gossip.publish(hash, ssz)?;
        self.on_enqueued(bytes);
        Ok(())
    }

    /// Whether a message can be published now so that half of the mesh has it, or anybody, if the half has not read for a
    /// while. Who does not read at all is cut off before long. Where nobody is there, gossipsub says so.
    fn has_room(&mut self, topic: Topic, bytes: usize, now: Instant) -> bool {
        let (hash, gossip) = (self.topics.hash(topic), &self.swarm.behaviour().gossip);
        let mut peers: Vec<_> = gossip.mesh_peers(&hash).copied().collect();
        if peers.is_empty() {
            let subscribed = gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash));
            peers.extend(subscribed.map(|(peer, _)| *peer));
        }
        let with_room = self.slow_readers.with_room(&peers, bytes, &self.outbound_queue);
        if with_room.saturating_mul(2) >= peers.len() {
            self.without_room = None;
            return true;
        }
        let since = *self.without_room.get_or_insert(now);
        with_room > 0 && now.saturating_duration_since(since) >= self.queue_report_delay()
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

    /// Gossip has enqueued a message: cuts off who holds too much.
    fn on_enqueued(&mut self, bytes: usize) {
        let now = Instant::now();
        self.outbound_queue.enqueued(bytes, now);
        self.cut_slow_readers(now);
    }

    /// Cuts the connections whose other ends do not read.
    pub(super) fn cut_slow_readers(&self, now: Instant) {
        report_cut(self.slow_readers.cut(&self.outbound_queue, now));
    }

    /// Cuts the connections whose other ends do not end what they began.
    pub(super) fn cut_half_frames(&self, now: Instant) {
        report_cut(self.slow_readers.cut_half_frames(&self.outbound_queue, now));
    }

    /// Takes note of a send queue that was full or where messages grew old. A peer of which that is told for
    /// three times `send_stall` without a break is of no use to gossip.
    fn slow_peer(&mut self, peer: PeerId, now: Instant) {
        let memory = self.queue_report_delay().saturating_mul(2);
        if self.peers.on_slow(&peer, memory, now) >= self.config.gossip.send_stall.saturating_mul(3) {
            self.cut_off(peer, "gossip_slow");
        }
    }

    fn cut_off(&mut self, peer: PeerId, why: &'static str) {
        metrics::dropped(why);
        tracing::debug!(%peer, why, "peer takes no gossip, disconnected");
        // Where it has gone already, all is well.
        let _connected = self.swarm.disconnect_peer_id(peer).is_ok();
    }

    /// Within this time gossipsub reports a send queue that was full, at a heartbeat.
    fn queue_report_delay(&self) -> Duration {
        self.config.gossip.heartbeat.saturating_mul(2)
    }

    /// Attempts to send what is kept for these topics, but for what is stale.
    pub(super) fn retry(&mut self, topics: &[Topic], now: Instant) {
        let mut stale = 0;
        for topic in self.publish_queue.stale(now) {
            metrics::published(topic, "stale");
            metrics::dropped("publish_queue");
            tracing::debug!(%topic, "a message could not be sent to any peer in time");
            stale += 1;
        }
        if stale > 0 {
            tracing::warn!(messages = stale, "own messages could not be sent to any peer in time");
        }
        if self.publish_queue.len() == 0 {
            self.drain = None;
            return;
        }
        // Out of `self` for as long as each message is tried; that reads nothing of it.
        let mut publish_queue =
            std::mem::replace(&mut self.publish_queue, PublishQueue::new(self.config.gossip.publish_queue));
        let mut full = false;
        publish_queue.retry(topics, |kept| {
            if full {
                return Attempt::Waits;
            }
            let attempt = self.attempt(kept, now);
            full = attempt == Attempt::Waits && kept.state == PublishState::Behind;
            if attempt == Attempt::Sent {
                metrics::published(kept.topic, "sent_late");
            }
            attempt
        });
        self.publish_queue = publish_queue;
        self.drain = self.publish_queue.waits_for_room().then(|| after(now, DRAIN));
        metrics::waiting("publish_queue", self.publish_queue.len());
    }

    fn attempt(&mut self, kept: &mut Waiting, now: Instant) -> Attempt {
        if let PublishState::QueuesFull { id, tried, to } = &mut kept.state {
            if now.saturating_duration_since(*tried) < self.queue_report_delay() {
                return Attempt::Waits;
            }
            // A peer that was in the mesh then, and whose queue has not been found full since, has taken it.
            let (hash, gossip) = (self.topics.hash(kept.topic), &mut self.swarm.behaviour_mut().gossip);
            let slow = |peer: &PeerId| self.peers.was_slow_since(peer, *tried);
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
            kept.state = PublishState::Forgotten { until: after(now, self.config.gossip.duplicate_cache) };
        }
        match kept.state {
            PublishState::Forgotten { until } if now < until => return Attempt::WaitsAlone,
            _ => {}
        }
        if !self.has_room(kept.topic, kept.ssz.len(), now) {
            kept.state = PublishState::Behind;
            return Attempt::Waits;
        }
        match self.give_to_gossip(kept.topic, kept.ssz.clone()) {
            Ok(()) => Attempt::Sent,
            Err(StackError::AllQueuesFull(_)) => {
                kept.state = queues_full(kept.topic, &kept.ssz, now);
                Attempt::Waits
            }
            // Somebody else has brought these very bytes, so peers have them.
            Err(StackError::Duplicate) => Attempt::Sent,
            Err(_) => {
                kept.state = PublishState::NoSubscribers;
                Attempt::Waits
            }
        }
    }
}

fn report_cut(cut: Vec<(PeerId, CutReason)>) {
    for (peer, reason) in cut {
        metrics::dropped(reason.label());
        tracing::debug!(%peer, reason = reason.label(), "peer does not read what it is sent, or does not end what it sends: disconnected");
    }
}

fn queues_full(topic: Topic, ssz: &[u8], now: Instant) -> PublishState {
    PublishState::QueuesFull { id: MessageId::new(&gossip::id_on(topic, ssz)), tried: now, to: Vec::new() }
}
