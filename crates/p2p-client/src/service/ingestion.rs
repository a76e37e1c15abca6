//! Ingestion: what the network brings becomes commands for the chain worker. Transaction lists are hashed on the blocking
//! pool first, in bounded numbers.

use hashbrown::HashSet;
use p2p_catchup::Input;
use p2p_types::{B256, Bytes, MessageId, Origin, PeerId, SdkEvent, Topic};
use p2p_validation::Arrival;
use preconfirmation_p2p::{GossipMessage, InboundRequest, NetworkEvent, Verdict, VerdictToken};
use preconfirmation_types::{Offence, RawTxListGossip, TxListError};
use tracing::{Span, field::Empty};

use super::{Service, now};
use crate::{
    blocking::{spawn_blocking, spawn_tracked},
    chain::{Command, GossipCommitment, VerifiedTxList, soft},
    requests::{MAX_SERVING, serve},
};

impl Service {
    pub(super) fn network_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::PeerConnected { peer, rate_limit } => {
                self.state.send_modify(|state| state.peers.push(peer));
                self.emit(SdkEvent::PeerConnected { peer });
                self.catch_up(Input::PeerUp(peer));
                // Where the network does not use it (the peer has refused a request), requests wait there, and catch-up sees
                // that in the time that responses take.
                if let Some(limit) = rate_limit {
                    self.catch_up(Input::RateLimit { peer, limit });
                }
            }
            NetworkEvent::PeerDisconnected(peer) => {
                self.state.send_modify(|state| state.peers.retain(|other| *other != peer));
                self.emit(SdkEvent::PeerDisconnected { peer });
                self.catch_up(Input::PeerDown(peer));
            }
            NetworkEvent::Gossip { from, message, verdict } => match message {
                GossipMessage::Commitment(ssz) => self.gossip_commitment(from, ssz, verdict),
                GossipMessage::TxList(gossip) => self.gossip_txlist(from, gossip, verdict),
            },
            NetworkEvent::Request { from, request } => self.request(from, request),
            _ => tracing::debug!("an event of a kind that this version does not know"),
        }
    }

    /// What a store has at hand is looked up at once, but for pages, which are copied.
    fn request(&mut self, from: PeerId, request: InboundRequest) {
        if self.store.is_immediate() && !matches!(request, InboundRequest::Commitments(..)) {
            let damaged = serve(self.store.as_ref(), vec![(from, request)]);
            self.served(damaged);
        } else {
            self.inbound_requests.push((from, request));
        }
    }

    /// Serves the requests of peers that wait, on a blocking thread, unless enough threads serve already.
    pub(super) fn start_serving(&mut self) {
        if !self.inbound_requests.is_empty() && self.serving.len() < MAX_SERVING {
            let (store, requests) = (self.store.clone(), std::mem::take(&mut self.inbound_requests));
            self.serving.push(spawn_tracked(&self.tasks, move || serve(store.as_ref(), requests)));
        }
    }

    /// Requests were served, and these lists met that are damaged: they are fetched again. Beside what the application asks, as
    /// no event comes of it: it need not wait while ingestion is paused. At most one for each request that was served.
    pub(super) fn served(&mut self, damaged: HashSet<B256>) {
        for hash in damaged {
            self.worker.inbox.push_from_application(Command::Unreadable { hash });
        }
    }

    /// Whether a message is news. One that is not costs nothing further, and nobody.
    fn is_new(&mut self, id: MessageId, span: &Span) -> bool {
        let new = self.seen.insert(now(), id);
        span.record("dedupe", if new { "new" } else { "known" });
        if !new {
            span.record("outcome", "known");
            self.requester.metrics.known(match id.topic {
                Topic::Commitments => "commitment",
                Topic::RawTxLists => "txlist",
            });
        }
        new
    }

    fn gossip_commitment(&mut self, from: PeerId, ssz: Bytes, verdict: VerdictToken) {
        let id = MessageId::of_commitment(&ssz);
        let span = message(from, id);
        if !self.is_new(id, &span) {
            return verdict.settle(Verdict::Ignore);
        }
        let (arrival, verdict) = (Arrival::Live(self.config.clock.now()), Some(verdict));
        self.worker.inbox.push_commitment(GossipCommitment { ssz, arrival, from, verdict, span });
    }

    fn gossip_txlist(&mut self, from: PeerId, gossip: RawTxListGossip, verdict: VerdictToken) {
        // The hash is a claim until it is verified; only verified ones are remembered.
        let id = MessageId { topic: Topic::RawTxLists, payload: gossip.raw_tx_list_hash };
        let span = message(from, id);
        if self.seen.contains(now(), &id) {
            span.record("dedupe", "known");
            span.record("outcome", "known");
            self.requester.metrics.known("txlist");
            return verdict.settle(Verdict::Ignore);
        }
        span.record("dedupe", "new");
        let (limit, metrics) = (self.requester.max_txlist_bytes, self.requester.metrics.clone());
        let soft_fail = self.config.gossipsub_validation_soft_fail;
        self.txlists.push_back(spawn_blocking(move || {
            let entered = span.enter();
            match gossip.verify(limit) {
                Ok(txlist) => {
                    drop(entered);
                    Some(VerifiedTxList {
                        txlist,
                        origin: Origin::Gossip(from),
                        verdict: Some(verdict),
                        span,
                    })
                }
                Err(error) => {
                    let offence = match error {
                        TxListError::TooLarge { .. } => Offence::Oversize,
                        _ => Offence::HashMismatch,
                    };
                    metrics.rejected(offence.label());
                    span.record("outcome", offence.label());
                    tracing::debug!(%error, "rejected");
                    verdict.settle(soft(soft_fail, offence));
                    None
                }
            }
        }));
    }
}

/// The span of one message, from its arrival to its event.
fn message(from: PeerId, id: MessageId) -> Span {
    let topic = id.topic.label();
    tracing::debug_span!("message", peer = %from, topic, hash = %id.payload, dedupe = Empty, outcome = Empty)
}
