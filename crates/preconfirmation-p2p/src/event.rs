//! What the network asks of the application, and how the application answers.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use libp2p::PeerId;
use preconfirmation_types::{Bytes, Offence, RawTxListGossip, Topic, rate_limit::RateLimit};
use tokio::sync::{mpsc, watch};

use crate::{
    inbox::{self, Priority},
    metrics,
    responder::InboundRequest,
};

/// Something that the application should know or answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// A peer is connected, has identified itself and speaks the request protocols of this chain: requests
    /// to it can succeed.
    PeerConnected {
        /// Who.
        peer: PeerId,
        /// How much it answers on each protocol, as the operator or the peer itself says. Where neither does, it is asked at
        /// the rate limit of the configuration.
        rate_limit: Option<RateLimit>,
    },
    /// The last connection to such a peer has closed.
    PeerDisconnected(PeerId),
    /// A well-formed message that nobody has judged yet. Never one of our own.
    Gossip {
        /// The peer that it came from, which need not be its author. The verdict falls on this peer.
        from: PeerId,
        /// The message.
        message: GossipMessage,
        /// Where the verdict goes.
        verdict: VerdictToken,
    },
    /// A request to be answered.
    Request {
        /// The peer that asks.
        from: PeerId,
        /// What it asks, and where the answer goes.
        request: InboundRequest,
    },
}

/// A message of gossip, well formed but not judged (§2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GossipMessage {
    /// The 382 bytes of an `ssz(SignedCommitment)` that decodes: recover the signer from them with
    /// [`Recovered::from_ssz`](preconfirmation_types::Recovered::from_ssz).
    Commitment(Bytes),
    /// A transaction list within the chain's size limit whose hash is a claim. Shares the message's memory.
    TxList(RawTxListGossip),
}

impl GossipMessage {
    /// The topic that it came on.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        match self {
            Self::Commitment(_) => Topic::Commitments,
            Self::TxList(_) => Topic::RawTxLists,
        }
    }
}

/// What becomes of a message (§7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Authentic: forwarded, and its sender earns a little.
    Accept,
    /// Forwarded, and nobody earns anything: a transaction list that no commitment names yet.
    Forward,
    /// Neither: not forwarded, nobody pays.
    Ignore,
    /// Bad: not forwarded, and its sender pays, as does whoever else has sent it.
    Reject(Offence),
    /// Bad, but only its author can know that: not forwarded, and its sender pays where it is the author. A relay does
    /// not, however much of it comes beyond `gossip.unelected_per_minute` is read after everybody else's.
    RejectAuthor(Offence),
}

impl Verdict {
    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Forward => "forwarded",
            Self::Ignore => "ignored",
            Self::Reject(_) => "rejected",
            Self::RejectAuthor(_) => "author_rejected",
        }
    }
}

/// A message whose verdict is owed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    /// The number of its verdict.
    pub(crate) key: u64,
    pub(crate) from: PeerId,
    /// Whether its sender has signed it for gossip.
    pub(crate) by_author: bool,
    /// Whether it is the high-s twin of a genuine message.
    pub(crate) is_twin: bool,
}

/// A verdict on its way to the service.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) open: Open,
    pub(crate) verdict: Verdict,
}

/// The right, and the duty, to judge one message once. Dropping it settles [`Verdict::Ignore`].
///
/// The message is forwarded only if the verdict comes while gossip remembers it: a heartbeat and a second less than
/// `gossip.history * gossip.heartbeat`, 4.5 s by default. Then it is settled *ignore*; a later verdict still counts for
/// the sender's score.
#[must_use = "a message whose token is dropped is not forwarded"]
pub struct VerdictToken {
    open: Option<Open>,
    settlements: mpsc::Sender<Settlement>,
}

impl VerdictToken {
    pub(crate) const fn new(open: Open, settlements: mpsc::Sender<Settlement>) -> Self {
        Self { open: Some(open), settlements }
    }

    /// Gives the verdict. Never blocks, never fails; after the network has shut down it does nothing.
    pub fn settle(mut self, verdict: Verdict) {
        self.give(verdict);
    }

    fn give(&mut self, verdict: Verdict) {
        // There is room for as many as are open. One more is about a message that is settled already.
        if let Some(open) = self.open.take()
            && let Err(mpsc::error::TrySendError::Full(_)) =
                self.settlements.try_send(Settlement { open, verdict })
        {
            metrics::dropped("settlements");
        }
    }
}

impl Drop for VerdictToken {
    fn drop(&mut self) {
        self.give(Verdict::Ignore);
    }
}

impl fmt::Debug for VerdictToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerdictToken").field("open", &self.open).finish_non_exhaustive()
    }
}

/// The peers that requests can be made to.
pub(crate) type Ready = BTreeMap<PeerId, Session>;

/// A connection to a peer that requests can be made to, from its identification on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    /// Counts all sessions of this run.
    pub(crate) number: u64,
    /// What was known when the session began.
    pub(crate) rate_limit: Option<RateLimit>,
}

/// The one reader of what happens.
///
/// Peers coming and going are never lost: the network keeps the set, and [`NetworkEvents::next`] turns what
/// has changed since it was last called into events. A peer that came and went in between is not told; one
/// that went and came is told as both. Gossip and requests have bounded queues; what does not fit is
/// settled [`Verdict::Ignore`], or closed, and counted. Gossip of a peer that passes on much of what nobody has elected
/// is told when there is nothing else. Gossip and requests can come from a peer before it is
/// told as connected, or without: a peer need not speak our request protocols to gossip.
#[derive(Debug)]
pub struct NetworkEvents {
    ready: watch::Receiver<Ready>,
    ready_open: bool,
    known: Ready,
    /// Differences not told yet: at most two for each peer that was or is ready.
    changes: VecDeque<NetworkEvent>,
    gossip: inbox::Receiver<NetworkEvent>,
    requests: mpsc::Receiver<NetworkEvent>,
    /// Gossip and requests take turns: neither holds up the other, and the order does not depend on a random number.
    requests_first: bool,
}

impl NetworkEvents {
    pub(crate) const fn new(
        ready: watch::Receiver<Ready>,
        gossip: inbox::Receiver<NetworkEvent>,
        requests: mpsc::Receiver<NetworkEvent>,
    ) -> Self {
        Self {
            ready,
            ready_open: true,
            known: Ready::new(),
            changes: VecDeque::new(),
            gossip,
            requests,
            requests_first: false,
        }
    }

    /// The next event; peers first. `None` after the network has shut down and all has been told, the
    /// disconnection of every peer included. Cancel-safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<NetworkEvent> {
        loop {
            if self.changes.is_empty() && self.ready.has_changed().unwrap_or(self.ready_open) {
                self.compare();
            }
            if let Some(change) = self.changes.pop_front() {
                return Some(change);
            }
            let Self { ready, ready_open, gossip, requests, requests_first, .. } = self;
            let fairly = async {
                if *requests_first && let Ok(event) = requests.try_recv() {
                    return Some(event);
                }
                tokio::select! {
                    biased;
                    Some(event) = gossip.next(Priority::Normal) => Some(event),
                    Some(event) = requests.recv() => Some(event),
                    else => None,
                }
            };
            tokio::select! {
                biased;
                changed = ready.changed(), if *ready_open => {
                    *ready_open = changed.is_ok();
                    self.compare();
                }
                Some(event) = fairly => {
                    self.requests_first = !matches!(event, NetworkEvent::Request { .. });
                    return Some(event);
                }
                Some(event) = gossip.next(Priority::Low) => return Some(event),
                else => return None,
            }
        }
    }

    /// The next [`NetworkEvent::Request`] alone: for an application that is too busy to take anything in and
    /// still serves. Peers and gossip stay where they are. `None` after the network has shut down.
    /// Cancel-safe.
    pub async fn next_request(&mut self) -> Option<NetworkEvent> {
        self.requests.recv().await
    }

    fn compare(&mut self) {
        let ready = self.ready.borrow_and_update();
        if *ready == self.known {
            return;
        }
        for (peer, session) in &self.known {
            if ready.get(peer) != Some(session) {
                self.changes.push_back(NetworkEvent::PeerDisconnected(*peer));
            }
        }
        for (peer, session) in ready.iter() {
            if self.known.get(peer) != Some(session) {
                let rate_limit = session.rate_limit;
                self.changes.push_back(NetworkEvent::PeerConnected { peer: *peer, rate_limit });
            }
        }
        self.known.clone_from(&ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(event: Option<NetworkEvent>) -> (bool, PeerId) {
        match event {
            Some(NetworkEvent::PeerConnected { peer, .. }) => (true, peer),
            Some(NetworkEvent::PeerDisconnected(peer)) => (false, peer),
            other => panic!("{other:?}"),
        }
    }

    fn come(ready: &watch::Sender<Ready>, peer: PeerId, number: u64) {
        let session = Session { number, rate_limit: None };
        ready.send_if_modified(|ready| ready.insert(peer, session) != Some(session));
    }

    fn go(ready: &watch::Sender<Ready>, peer: PeerId) {
        ready.send_if_modified(|ready| ready.remove(&peer).is_some());
    }

    #[tokio::test]
    async fn peers_that_come_and_go_are_told_as_differences() {
        let (ready, receiver) = watch::channel(Ready::new());
        let (gossip, gossip_receiver) = inbox::inbox();
        let (requests, requests_receiver) = mpsc::channel(1);
        let mut events = NetworkEvents::new(receiver, gossip_receiver, requests_receiver);
        let (one, two, passing) = (PeerId::random(), PeerId::random(), PeerId::random());

        come(&ready, one, 1);
        come(&ready, passing, 2);
        go(&ready, passing);
        assert_eq!(told(events.next().await), (true, one));

        // Gone and back again between two calls: both are told.
        go(&ready, one);
        come(&ready, one, 3);
        come(&ready, two, 4);
        assert_eq!(told(events.next().await), (false, one));
        let mut came = [told(events.next().await), told(events.next().await)];
        came.sort();
        let mut expected = [(true, one), (true, two)];
        expected.sort();
        assert_eq!(came, expected);

        // The end: everybody leaves, then nothing more.
        ready.send_modify(Ready::clear);
        drop((ready, gossip, requests));
        assert!(!told(events.next().await).0);
        assert!(!told(events.next().await).0);
        assert!(events.next().await.is_none());
        assert!(events.next().await.is_none());
    }
}
