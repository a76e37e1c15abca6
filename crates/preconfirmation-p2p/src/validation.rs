//! Gossip from its arrival to its verdict: the application is asked, and the sender's score follows from the answer. No
//! clock: every call is given the time.
//!
//! The service and the simulated network share this; they differ in how a message is forwarded.

use std::time::Instant;

use libp2p::PeerId;
use preconfirmation_types::Offence;
use tokio::sync::{mpsc, watch};

use crate::{
    config::NetworkConfig,
    event::{GossipMessage, NetworkEvent, Open, Settlement, Verdict, VerdictToken},
    inbox::{self, Priority},
    metrics,
    peer_manager::PeerManager,
    suspicion::Suspicion,
    verdicts::{GivenUp, Opened, Received, Verdicts},
};

/// The messages whose verdict is owed, on their way to the application and back.
pub(crate) struct Validation {
    inbox: inbox::Sender<NetworkEvent>,
    verdicts: Verdicts,
    settlements: mpsc::Sender<Settlement>,
    settled: mpsc::Receiver<Settlement>,
    suspicion: Suspicion,
    suspected: watch::Sender<bool>,
}

/// What the handles and the application read from.
pub(crate) struct Outputs {
    pub(crate) inbox: inbox::Receiver<NetworkEvent>,
    pub(crate) suspected: watch::Receiver<bool>,
}

/// What is to be done with a message.
#[derive(Debug)]
pub(crate) enum Action {
    /// This is its verdict.
    Apply(Received, Verdict),
    /// There is no room for it.
    Drop(Received),
}

/// What a verdict has done to the score of a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub(crate) enum ScoreChange {
    None,
    Credited,
    /// With its score.
    Charged(Offence, f64),
}

impl Validation {
    pub(crate) fn new(config: &NetworkConfig, tick: std::time::Duration) -> (Self, Outputs) {
        let (inbox, messages) = inbox::inbox();
        let (settlements, settled) = mpsc::channel(config.queues.open_verdicts.get());
        let (suspected, suspected_receiver) = watch::channel(false);
        let validation = Self {
            inbox,
            verdicts: Verdicts::new(config, tick),
            settlements,
            settled,
            suspicion: Suspicion::default(),
            suspected,
        };
        (validation, Outputs { inbox: messages, suspected: suspected_receiver })
    }

    /// How many verdicts are owed.
    pub(crate) fn len(&self) -> usize {
        self.verdicts.len()
    }

    /// Asks the application about a message that has come, as soon as it reads; later if its sender is over its relay
    /// budget. Returns what is to be done at once, with this message or with others that have lost their room to it.
    pub(crate) fn ask(
        &mut self,
        received: Received,
        message: GossipMessage,
        peers: &PeerManager,
        now: Instant,
    ) -> Vec<Action> {
        let (from, by_author) = (received.from, received.author == Some(received.from));
        let is_twin = received.twin_of.is_some();
        let (opened, given_up) = self.verdicts.open(received.clone(), now);
        let mut actions = Vec::new();
        for GivenUp { key, received } in given_up {
            drop(self.inbox.take(key));
            actions.extend(received.map(Action::Drop));
        }
        match opened {
            Opened::Ask(key) => {
                let open = Open { key, from, by_author, is_twin };
                let verdict = VerdictToken::new(open, self.settlements.clone());
                let over_budget = peers.is_over_relay_budget(&from, now);
                let priority = if over_budget { Priority::Low } else { Priority::Normal };
                self.inbox.push(key, priority, NetworkEvent::Gossip { from, message, verdict });
            }
            Opened::Settled(verdict) => actions.push(Action::Apply(received, verdict)),
            Opened::WaitsForTwin => {}
            Opened::Refused => actions.push(Action::Drop(received)),
        }
        actions
    }

    /// The next verdict of the application. Never ends, as this holds a sender. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Settlement {
        match self.settled.recv().await {
            Some(settlement) => settlement,
            None => std::future::pending().await,
        }
    }

    /// Takes a verdict. Returns the messages that it settles, the high-s form and the genuine one that waited for it; none
    /// if it is too late.
    pub(crate) fn settle(&mut self, settlement: &Settlement, now: Instant) -> Vec<Received> {
        self.verdicts.settle(settlement.open.key, settlement.verdict, now)
    }

    /// Takes out what gossipsub is about to forget.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Received> {
        self.suspicion.expire(now);
        self.publish_suspicion();
        self.verdicts.expired(now, |key| self.inbox.contains(key))
    }

    /// What a verdict means for the score of whoever has sent the message.
    pub(crate) fn score(
        &mut self,
        peers: &mut PeerManager,
        from: PeerId,
        by_author: bool,
        verdict: Verdict,
        now: Instant,
    ) -> ScoreChange {
        match verdict {
            Verdict::Accept => {
                peers.credit(from, now);
                ScoreChange::Credited
            }
            Verdict::Forward | Verdict::Ignore => ScoreChange::None,
            Verdict::Reject(offence) => {
                metrics::offence(offence);
                ScoreChange::Charged(offence, peers.charge(from, offence, now))
            }
            Verdict::RejectAuthor(offence)
                if by_author && (self.may_charge(from, now) || peers.is_forgiven_enough(&from, now)) =>
            {
                metrics::offence(offence);
                ScoreChange::Charged(offence, peers.charge_author(from, offence, now))
            }
            // A relay, or an author who may be right.
            Verdict::RejectAuthor(_) => {
                peers.on_relayed_unelected(from, now);
                if by_author {
                    peers.on_forgiven(from, now);
                }
                ScoreChange::None
            }
        }
    }

    /// A commitment was accepted: our schedule and clock are right.
    pub(crate) fn on_accepted_commitment(&mut self) {
        self.suspicion.accepted();
        self.publish_suspicion();
    }

    /// Whether a peer is to be charged with what the application reports. What only our schedule says may be our own
    /// mistake.
    pub(crate) fn may_report(&mut self, peer: PeerId, offence: Offence, now: Instant) -> bool {
        offence != Offence::WrongSigner || self.may_charge(peer, now)
    }

    /// Whether a peer is to be charged with what only our schedule, clock or configuration says.
    fn may_charge(&mut self, peer: PeerId, now: Instant) -> bool {
        let may = self.suspicion.offended(peer, now);
        self.publish_suspicion();
        may
    }

    /// Publishes when this node begins and ceases to suspect itself.
    fn publish_suspicion(&self) {
        let suspected = self.suspicion.is_suspected();
        let changed =
            self.suspected.send_if_modified(|before| std::mem::replace(before, suspected) != suspected);
        if !changed {
            return;
        }
        metrics::suspected(suspected);
        if suspected {
            tracing::error!(
                "several peers sign what this node's lookahead does not expect, and no commitment is accepted: is the \
                 lookahead, the clock or the slasher of this node wrong? Nobody is charged for such commitments meanwhile"
            );
        } else {
            tracing::info!("lookahead and clock are no longer suspected");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::peer_manager::Start;

    #[test]
    fn a_node_that_suspects_itself_forgives_no_flood() {
        let mut config = NetworkConfig::local(1, Keypair::generate_ed25519());
        config.gossip.unelected_per_minute = 3;
        let start = Instant::now();
        let (mut validation, _outputs) = Validation::new(&config, Duration::from_secs(1));
        let mut peers = PeerManager::new(&config, Start::First, start);
        let [one, two, three, relay] = std::array::from_fn(|_| PeerId::random());
        let mut charged = |from: PeerId, by_author: bool, second| {
            let (verdict, now) =
                (Verdict::RejectAuthor(Offence::WrongSigner), start + Duration::from_secs(second));
            validation.score(&mut peers, from, by_author, verdict, now) != ScoreChange::None
        };
        assert!(charged(one, true, 0) && charged(two, true, 0));
        // It suspects itself now: four times may be its own mistake, more is not.
        assert_eq!(
            [1; 6].map(|second| charged(three, true, second)),
            [false, false, false, false, true, true]
        );
        assert!((0..20).all(|_| !charged(relay, false, 2)), "who relays is never charged");
        assert!(!charged(relay, true, 2), "what it has relayed does not count as its own");
        assert!(!charged(one, true, 59), "each has a budget of its own");
        assert!(charged(three, true, 60));
        assert!(!charged(three, true, 61), "a minute later it is forgiven again");
    }
}
