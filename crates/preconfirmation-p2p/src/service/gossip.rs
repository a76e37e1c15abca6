//! Gossip in, gossip out, verdicts.

use std::{sync::Arc, time::Instant};

use libp2p::{
    PeerId,
    gossipsub::{Event, Message, MessageAcceptance, MessageId, PublishError as StackError},
};
use preconfirmation_types::{Bytes, Topic};

use super::{NetworkService, PERMIT_BYTES};
use crate::{
    error::PublishError,
    event::{NetworkEvent, Open, Settlement, Verdict, VerdictToken},
    gossip,
    handle::Published,
    metrics,
};

impl NetworkService {
    pub(super) fn gossip_event(&mut self, event: Event) {
        match event {
            Event::Message { propagation_source, message_id, message } => {
                self.received(propagation_source, message_id, message)
            }
            Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(peer = %peer_id, "peer does not speak gossipsub");
            }
            Event::SlowPeer { peer_id, failed_messages } => {
                metrics::dropped("gossip_send");
                tracing::debug!(peer = %peer_id, ?failed_messages, "peer reads too slowly");
            }
            _ => {}
        }
    }

    fn received(&mut self, from: PeerId, id: MessageId, message: Message) {
        let Some(topic) = self.topics.topic(&message.topic) else {
            self.judge(&id, &from, MessageAcceptance::Ignore);
            return;
        };
        if message.source == Some(self.local) {
            self.judge(&id, &from, MessageAcceptance::Ignore);
            metrics::received(topic, "own");
            return;
        }
        let length = message.data.len();
        let message = match gossip::decode(topic, Bytes::from(message.data), self.config.max_txlist_bytes) {
            Ok(message) => message,
            Err(malformed) => {
                tracing::debug!(peer = %from, %topic, error = %malformed.error, "malformed gossip");
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
        let open = Open { id, from, topic, permits: [one, bytes] };
        let verdict = VerdictToken::new(open, self.settlements.clone());
        place.send(NetworkEvent::Gossip { from, message, verdict });
    }

    /// Gives gossip the application's verdict and keeps the score.
    pub(super) fn settle(&mut self, Settlement { open, verdict }: Settlement) {
        let Open { id, from, topic, permits } = open;
        let in_time = match verdict {
            Verdict::Accept => {
                let score = self.scores.accepted(from, Instant::now());
                self.mirror(&from, score);
                self.judge(&id, &from, MessageAcceptance::Accept)
            }
            Verdict::Ignore => self.judge(&id, &from, MessageAcceptance::Ignore),
            Verdict::Reject(offence) => {
                self.charge(from, offence);
                self.judge(&id, &from, MessageAcceptance::Reject)
            }
        };
        // A late verdict scores, but gossip has forgotten the message: it is not forwarded.
        metrics::received(topic, if in_time { verdict.label() } else { "late" });
        tracing::trace!(peer = %from, %topic, %id, verdict = verdict.label(), in_time, "settled");
        drop(permits);
    }

    fn judge(&mut self, id: &MessageId, from: &PeerId, acceptance: MessageAcceptance) -> bool {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, from, acceptance)
    }

    pub(super) fn publish(&mut self, topic: Topic, ssz: Bytes) -> Result<Published, PublishError> {
        let published = self.try_publish(topic, ssz);
        let outcome = match published {
            Ok(Published::Sent) => "sent",
            Ok(Published::Duplicate) => "duplicate",
            Err(PublishError::NoPeers) => "no_peers",
            Err(PublishError::QueueFull) => "queue_full",
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
        let hash = self.topics.hash(topic);
        match self.swarm.behaviour_mut().gossip.publish(hash, ssz) {
            Ok(_) => Ok(Published::Sent),
            Err(StackError::Duplicate) => Ok(Published::Duplicate),
            Err(StackError::NoPeersSubscribedToTopic) => Err(PublishError::NoPeers),
            Err(StackError::AllQueuesFull(_)) => Err(PublishError::QueueFull),
            Err(StackError::MessageTooLarge) => {
                Err(PublishError::TooLarge { limit: self.config.gossip.max_frame_bytes, actual })
            }
            Err(error) => {
                tracing::error!(%topic, %error, "cannot sign a message");
                Err(PublishError::Unsigned)
            }
        }
    }
}
