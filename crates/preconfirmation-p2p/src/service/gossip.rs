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

use super::{NetworkService, Slow};
use crate::{
    config::after,
    error::PublishError,
    event::{NetworkEvent, Open, Settlement, Verdict, VerdictToken},
    filter::{self, Refusal},
    gossip,
    handle::Published,
    inbox::Lane,
    metrics,
    outbox::{Attempt, Kept, Outbox, State},
    verdicts::{GivenUp, Opened, Received},
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
                if self.peers.get(&peer).is_some_and(|peer| peer.has(connection)) {
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
                    self.uses(&peer_id);
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
                self.scores.invalid_delivery(peer, Instant::now());
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
        let (now, is_twin) = (Instant::now(), twin_of.is_some());
        let received = Received { id, from, author, topic, bytes, twin_of };
        let (opened, given_up) = self.verdicts.open(received.clone(), now);
        for GivenUp { key, received } in given_up {
            drop(self.inbox.take(key));
            if let Some(received) = received {
                self.drop_message(&received);
            }
        }
        match opened {
            Opened::Ask(key) => {
                let open = Open { key, from, by_author: author == Some(from), is_twin };
                let verdict = VerdictToken::new(open, self.settlements.clone());
                let lane = if self.relays.is_over(&from, now) { Lane::Last } else { Lane::First };
                self.inbox.push(key, lane, NetworkEvent::Gossip { from, message, verdict });
            }
            Opened::Judged(verdict) => self.apply(&received, verdict),
            Opened::WaitsForTwin => {}
            Opened::Refused => self.drop_message(&received),
        }
    }

    /// There is no room for a message.
    fn drop_message(&mut self, received: &Received) {
        self.judge(&received.id, &received.from, MessageAcceptance::Ignore);
        metrics::received(received.topic, "dropped");
        metrics::dropped("open_verdicts");
    }

    /// Gives gossip the application's verdict and keeps the score.
    pub(super) fn settle(&mut self, Settlement { open, verdict }: Settlement) {
        let settled = self.verdicts.settle(open.key, verdict, Instant::now());
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
            self.given(*bytes);
        }
        let in_time = self.judge(id, from, acceptance);
        if twin_of.is_none() {
            self.score(*from, *author == Some(*from), verdict);
        }
        if (*topic, verdict) == (Topic::Commitments, Verdict::Accept) {
            self.suspicion.accepted();
            self.tell_suspicion();
        }
        metrics::received(*topic, if in_time { label } else { "late" });
        tracing::trace!(verdict = verdict.label(), in_time, "settled");
    }

    /// What a verdict means for the score of whoever has sent the message.
    fn score(&mut self, from: PeerId, by_author: bool, verdict: Verdict) {
        let now = Instant::now();
        match verdict {
            Verdict::Accept => {
                self.scores.accepted(from, now);
                self.mirror(&from, now);
            }
            Verdict::Forward | Verdict::Ignore => {}
            Verdict::Reject(offence) => self.charge(from, offence),
            Verdict::RejectAuthor(offence) if by_author && self.may_charge(from, now) => {
                metrics::offence(offence);
                let score = self.scores.author_offence(from, offence, now);
                self.charged(from, offence, score, now);
            }
            // A relay, or an author who may be right.
            Verdict::RejectAuthor(_) => self.relays.passed_on(from, now),
        }
    }

    /// Whether a peer is to be charged with what only our schedule, clock or configuration says.
    pub(super) fn may_charge(&mut self, peer: PeerId, now: Instant) -> bool {
        let may = self.suspicion.offended(peer, now);
        self.tell_suspicion();
        may
    }

    /// Tells when we begin and cease to suspect ourselves.
    pub(super) fn tell_suspicion(&self) {
        let suspected = self.suspicion.is_suspected();
        let changed = self.suspected.send_if_modified(|told| std::mem::replace(told, suspected) != suspected);
        if !changed {
            return;
        }
        metrics::suspected(suspected);
        if suspected {
            tracing::error!(
                "several peers sign what our lookahead does not expect, and no commitment passes: is the \
                 lookahead, the clock or the slasher of this node wrong? Nobody is charged for such commitments meanwhile"
            );
        } else {
            tracing::info!("lookahead and clock are no longer in doubt");
        }
    }

    /// Settles what gossipsub is about to forget.
    pub(super) fn expire_verdicts(&mut self, now: Instant) {
        for received in self.verdicts.expired(now, |key| self.inbox.contains(key)) {
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
        if self.outbox.is_ahead(topic) || !self.has_room(topic, actual, now) {
            if !self.outbox.waits_for_room() {
                tracing::info!(
                    "published faster than peers take it; the rest follows in order as fast as they do"
                );
                self.drain = Some(after(now, DRAIN));
            }
            self.outbox.keep(topic, ssz, State::Behind, now)?;
            metrics::waiting("outbox", self.outbox.len());
            return Ok(Published::Queued);
        }
        let state = match self.give_to_gossip(topic, ssz.clone()) {
            Ok(()) => return Ok(Published::Sent { peers: self.addressed(topic) }),
            Err(StackError::Duplicate) => return Ok(Published::Duplicate),
            Err(StackError::NoPeersSubscribedToTopic) => State::Unheard,
            Err(StackError::AllQueuesFull(_)) => remembered(topic, &ssz, now),
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

    /// Whether a message can be published now so that half of the mesh has it, or anybody, if the half has not read for a
    /// while. Who does not read at all is cut off before long. Where nobody is there, gossipsub says so.
    fn has_room(&mut self, topic: Topic, bytes: usize, now: Instant) -> bool {
        let (hash, gossip) = (self.topics.hash(topic), &self.swarm.behaviour().gossip);
        let mut peers: Vec<_> = gossip.mesh_peers(&hash).copied().collect();
        if peers.is_empty() {
            let subscribed = gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash));
            peers.extend(subscribed.map(|(peer, _)| *peer));
        }
        let with_room = self.connections.with_room(&peers, bytes, &self.unread);
        if with_room.saturating_mul(2) >= peers.len() {
            self.without_room = None;
            return true;
        }
        let since = *self.without_room.get_or_insert(now);
        with_room > 0 && now.saturating_duration_since(since) >= self.told_of_full_queues()
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
            tracing::debug!(%peer, why = why.label(), "peer does not read what it is sent, disconnected");
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
        tracing::debug!(%peer, why, "peer takes no gossip, disconnected");
        // Where it has gone already, all is well.
        let _connected = self.swarm.disconnect_peer_id(peer).is_ok();
    }

    /// Within this time gossipsub tells of a send queue that was full, at a heartbeat.
    fn told_of_full_queues(&self) -> Duration {
        self.config.gossip.heartbeat.saturating_mul(2)
    }

    /// Attempts to send what is kept for these topics, but for what is stale.
    pub(super) fn retry(&mut self, topics: &[Topic], now: Instant) {
        let mut stale = 0;
        for topic in self.outbox.stale(now) {
            metrics::published(topic, "stale");
            metrics::dropped("outbox");
            tracing::debug!(%topic, "a message found no peer in time");
            stale += 1;
        }
        if stale > 0 {
            tracing::warn!(messages = stale, "messages of ours found no peer in time");
        }
        if self.outbox.len() == 0 {
            self.drain = None;
            return;
        }
        // Out of `self` for as long as each message is tried; that reads nothing of it.
        let mut outbox = std::mem::replace(&mut self.outbox, Outbox::new(self.config.gossip.outbox));
        let mut full = false;
        outbox.retry(topics, |kept| {
            if full {
                return Attempt::Waits;
            }
            let attempt = self.attempt(kept, now);
            full = attempt == Attempt::Waits && kept.state == State::Behind;
            if attempt == Attempt::Sent {
                metrics::published(kept.topic, "sent_late");
            }
            attempt
        });
        self.outbox = outbox;
        self.drain = self.outbox.waits_for_room().then(|| after(now, DRAIN));
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
            kept.state = State::Forgotten { until: after(now, self.config.gossip.duplicate_cache) };
        }
        match kept.state {
            State::Forgotten { until } if now < until => return Attempt::WaitsAlone,
            _ => {}
        }
        if !self.has_room(kept.topic, kept.ssz.len(), now) {
            kept.state = State::Behind;
            return Attempt::Waits;
        }
        match self.give_to_gossip(kept.topic, kept.ssz.clone()) {
            Ok(()) => Attempt::Sent,
            Err(StackError::AllQueuesFull(_)) => {
                kept.state = remembered(kept.topic, &kept.ssz, now);
                Attempt::Waits
            }
            // Somebody else has brought these very bytes, so peers have them.
            Err(StackError::Duplicate) => Attempt::Sent,
            Err(_) => {
                kept.state = State::Unheard;
                Attempt::Waits
            }
        }
    }
}

fn remembered(topic: Topic, ssz: &[u8], now: Instant) -> State {
    State::Remembered { id: MessageId::new(&gossip::id_on(topic, ssz)), tried: now, to: Vec::new() }
}
