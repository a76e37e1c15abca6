//! Gossip of a simulated node: to every connected peer, forwarded once it is accepted.

use std::collections::BTreeSet;

use libp2p::{PeerId, gossipsub::MessageId};
use preconfirmation_types::{Bytes, Offence, Topic};

use super::{
    node::{Remembered, SimService},
    now,
    wire::Frame,
};
use crate::{
    config::after,
    error::PublishError,
    event::{Settlement, Verdict},
    gossip::{self, gossip_id, id_on},
    handle::Published,
    metrics,
    publish_queue::{Attempt, PublishQueue, PublishState},
    validation::{Action, ScoreChange},
    verdicts::Received,
};

impl SimService {
    pub(super) fn publish(&mut self, topic: Topic, ssz: Bytes) -> Result<Published, PublishError> {
        gossip::check(topic, &ssz, self.config.max_txlist_bytes)?;
        let id = MessageId::new(&gossip_id(&ssz));
        if self.publish_queue.contains(topic, &ssz) || self.seen.contains_key(&id) {
            return Ok(Published::Duplicate);
        }
        let peers = self.send_gossip(&[], topic, &ssz, self.local);
        if peers > 0 {
            self.seen.insert(id, now());
            return Ok(Published::Sent { peers });
        }
        self.publish_queue.keep(topic, ssz, PublishState::NoSubscribers, now())?;
        Ok(Published::Queued)
    }

    /// Sends what is kept, now that somebody may be there.
    pub(super) fn send_waiting(&mut self) {
        // Out of `self` for as long as each message is tried; that reads nothing of it.
        let mut publish_queue =
            std::mem::replace(&mut self.publish_queue, PublishQueue::new(self.config.gossip.publish_queue));
        publish_queue.retry(&Topic::ALL, |kept| {
            if self.send_gossip(&[], kept.topic, &kept.ssz, self.local) == 0 {
                return Attempt::Waits;
            }
            self.seen.insert(MessageId::new(&gossip_id(&kept.ssz)), now());
            Attempt::Sent
        });
        self.publish_queue = publish_queue;
    }

    /// Sends a message to all peers that may be sent one, and says how many they are.
    fn send_gossip(&self, but: &[PeerId], topic: Topic, ssz: &Bytes, author: PeerId) -> usize {
        let (now, least) = (now(), self.config.score.publish_threshold);
        let may = |peer: &&PeerId| !but.contains(peer) && self.peers.score_for_gossipsub(peer, now) >= least;
        let frame = Frame::Gossip { topic, ssz: ssz.clone(), author };
        let peers = self.peers.connected().map(|(peer, _)| peer).filter(may);
        peers.inspect(|peer| self.hub.send(self.local, **peer, &frame)).count()
    }

    pub(super) fn received(&mut self, from: PeerId, topic: Topic, ssz: Bytes, author: PeerId) {
        let now = now();
        let id = MessageId::new(&id_on(topic, &ssz));
        let is_graylisted = self.peers.score_for_gossipsub(&from, now) < self.config.score.graylist_threshold;
        if is_graylisted || author == self.local {
            return;
        }
        if self.seen.contains_key(&id) {
            if let Some(message) = self.remembered.get_mut(&id) {
                message.carriers.insert(from);
            }
            return;
        }
        let bytes = ssz.len();
        let (message, twin_of) = match gossip::read(topic, ssz.clone(), self.config.max_txlist_bytes) {
            Ok(read) => read,
            Err(malformed) => {
                metrics::received(topic, malformed.offence().label());
                self.peers.invalid_delivery(from, now);
                return self.charge(from, malformed.offence());
            }
        };
        self.seen.insert(id.clone(), now);
        let gossip = self.config.gossip;
        let history = u32::try_from(gossip.history.get()).unwrap_or(u32::MAX);
        let until = after(now, gossip.heartbeat.saturating_mul(history));
        self.remembered.insert(id.clone(), Remembered { until, ssz, author, carriers: BTreeSet::new() });
        let received = Received { id, from, author: Some(author), topic, bytes, twin_of };
        for action in self.validation.ask(received, message, &self.peers, now) {
            match action {
                Action::Apply(received, verdict) => self.apply(&received, verdict),
                Action::Drop(received) => self.drop_message(&received),
            }
        }
    }

    fn drop_message(&mut self, received: &Received) {
        self.remembered.remove(&received.id);
        metrics::received(received.topic, "dropped");
    }

    pub(super) fn settle(&mut self, settlement: Settlement) {
        let Settlement { open, verdict } = settlement;
        let settled = self.validation.settle(&settlement, now());
        if settled.is_empty() && !open.is_twin {
            self.score(open.from, open.by_author, verdict);
        }
        for received in settled {
            self.apply(&received, verdict);
        }
    }

    fn apply(&mut self, received: &Received, verdict: Verdict) {
        let Received { id, from, topic, twin_of, .. } = received;
        let message = self.remembered.remove(id).filter(|message| now() < message.until);
        metrics::received(*topic, if message.is_some() { verdict.label() } else { "late" });
        if twin_of.is_none() {
            match (verdict, message) {
                (Verdict::Accept | Verdict::Forward, Some(Remembered { ssz, author, .. })) => {
                    self.send_gossip(&[*from, author], *topic, &ssz, author);
                }
                (Verdict::Reject(_), Some(Remembered { mut carriers, .. })) => {
                    carriers.insert(*from);
                    for peer in carriers {
                        self.peers.invalid_delivery(peer, now());
                    }
                }
                _ => {}
            }
            self.score(*from, received.author == Some(*from), verdict);
        }
        if (*topic, verdict) == (Topic::Commitments, Verdict::Accept) {
            self.validation.on_accepted_commitment();
        }
    }

    fn score(&mut self, from: PeerId, by_author: bool, verdict: Verdict) {
        let _change: ScoreChange = self.validation.score(&mut self.peers, from, by_author, verdict, now());
    }

    pub(super) fn report(&mut self, peer: PeerId, offence: Offence) {
        if self.validation.may_report(peer, offence, now()) {
            self.charge(peer, offence);
        }
    }
}
