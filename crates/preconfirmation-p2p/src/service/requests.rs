//! Requests out, requests in.

use std::{io, sync::Arc, time::Instant};

use libp2p::{
    PeerId,
    request_response::{Event, InboundFailure, InboundRequestId, Message, OutboundFailure, ResponseChannel},
};
use preconfirmation_types::{
    FrameError, GetCommitmentsByNumber, GetHead, GetRawTxList, Offence, PreconfHead, Rpc,
};
use tokio::sync::Semaphore;

use super::NetworkService;
use crate::{
    codec::{self, Response},
    config::{NetworkConfig, after},
    error::{NetworkError, RequestError},
    event::NetworkEvent,
    inbound::{Asker, InboundRequests, Kind},
    ip::Host,
    metrics,
    peer_manager::Outcome,
    request_queue::RequestQueue,
    responder::{Answer, Responder},
    rpc::{Inbound, InboundKey, OutboundRequest, Outgoing, Pending, Protocols, Served, Writing},
    serving::{Payment, Throttle, WritePermit},
};

/// What the service knows about requests.
pub(super) struct Requests {
    pub(super) queue: RequestQueue<Outgoing>,
    pub(super) protocols: Protocols,
    pub(super) inbound: InboundRequests<InboundKey>,
    pub(super) throttle: Throttle<InboundKey>,
    /// Most requests that the application has in hand.
    in_hand: Arc<Semaphore>,
    /// Requests over their rate limit. Answered at the next tick: so whoever floods waits, for as many streams as a
    /// connection has.
    pub(super) excess: Vec<InboundKey>,
    /// The last head that the application has answered.
    head: PreconfHead,
    /// The service ends: nothing more is asked of the application.
    pub(super) closing: bool,
}

impl Requests {
    pub(super) fn new(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let in_flight = config.serving.in_flight;
        Ok(Self {
            queue: RequestQueue::new(config.pacing.waiting),
            protocols: Protocols::new(in_flight),
            inbound: InboundRequests::new(&config.serving),
            throttle: Throttle::new(&config.serving)?,
            in_hand: Arc::new(Semaphore::new(in_flight.get())),
            excess: Vec::new(),
            head: PreconfHead::default(),
            closing: false,
        })
    }
}

/// Does the same for the protocol of a key.
macro_rules! by_protocol {
    ($key:expr, |$id:ident| $self:ident.$method:ident($($argument:expr),*)) => {{
        let (protocol, $id) = $key;
        match protocol {
            GetHead::NAME => $self.$method::<GetHead>($($argument),*),
            GetCommitmentsByNumber::NAME => $self.$method::<GetCommitmentsByNumber>($($argument),*),
            _ => $self.$method::<GetRawTxList>($($argument),*),
        }
    }};
}
pub(super) use by_protocol;

impl NetworkService {
    /// Puts a request of the application into its queue.
    pub(super) fn request(&mut self, outgoing: Outgoing) {
        let (peer, protocol) = (outgoing.peer(), outgoing.protocol());
        if !self.swarm.is_connected(&peer) {
            let error = RequestError::NotConnected { peer };
            metrics::asked(protocol, error.label());
            outgoing.fail(error);
            return;
        }
        if let Err(outgoing) = self.requests.queue.push((peer, protocol), outgoing) {
            let limit = self.config.pacing.waiting.get();
            let error = RequestError::QueueFull { limit };
            metrics::asked(protocol, error.label());
            metrics::dropped("pacing");
            outgoing.fail(error);
            return;
        }
        self.send_requests();
    }

    /// Sends all requests that may be sent.
    pub(super) fn send_requests(&mut self) {
        let now = Instant::now();
        while let Some(outgoing) = self.requests.queue.pop(&mut self.peers, now, Outgoing::is_wanted) {
            match outgoing {
                Outgoing::Head(request) => self.send_request(request, now),
                Outgoing::Commitments(request) => self.send_request(request, now),
                Outgoing::TxList(request) => self.send_request(request, now),
            }
        }
        metrics::waiting("pacing", self.requests.queue.waiting());
    }

    fn send_request<R: Served>(&mut self, request: OutboundRequest<R>, at: Instant) {
        let OutboundRequest { peer, request, reply } = request;
        let until = after(at, self.peers.request_timeout(&(peer, R::NAME)));
        let id = R::behaviour(self.swarm.behaviour_mut()).send_request(&peer, Ok(request.clone()));
        let pending = Pending { peer, request, reply: Some(reply), at, until };
        R::protocol_mut(&mut self.requests.protocols).pending.insert(id, pending);
        self.on_request_began(&peer, at);
    }

    /// Tells whoever asked that its answer takes too long for what this peer's answers have taken. The request itself
    /// goes on.
    fn give_up<R: Served>(&mut self, now: Instant) {
        let (protocols, peers) = (&mut self.requests.protocols, &mut self.peers);
        for pending in R::protocol_mut(protocols).pending.values_mut().filter(|pending| pending.until <= now)
        {
            if let Some(reply) = pending.reply.take() {
                peers.on_request_late(&(pending.peer, R::NAME));
                metrics::asked(R::NAME, RequestError::TimedOut.label());
                // Whoever has stopped waiting does not get it.
                drop(reply.send(Err(RequestError::TimedOut)));
            }
        }
    }

    pub(super) fn rpc_event<R: Served>(
        &mut self,
        event: Event<Result<R::Request, FrameError>, Response<R::Response>>,
    ) {
        match event {
            Event::Message { peer, message, .. } => match message {
                Message::Request { request_id, request, channel } => {
                    self.asked_by::<R>(peer, request_id, request, channel)
                }
                Message::Response { request_id, response } => {
                    let pending = R::protocol_mut(&mut self.requests.protocols).pending.remove(&request_id);
                    let Some(pending) = pending else { return };
                    metrics::latency(R::NAME, pending.at.elapsed());
                    let response = response.container;
                    let matched = R::matches(&pending.request, &response).map_err(RequestError::Mismatch);
                    self.answered(pending, matched.map(|()| R::normalised(response)));
                }
            },
            Event::OutboundFailure { request_id, error, .. } => {
                let pending = R::protocol_mut(&mut self.requests.protocols).pending.remove(&request_id);
                if let Some(pending) = pending {
                    self.answered(pending, Err(failure::<R>(error)));
                }
            }
            Event::InboundFailure { peer, request_id, error, .. } => {
                let outcome = match error {
                    InboundFailure::ResponseOmission => "unanswered",
                    InboundFailure::Timeout => "timed_out",
                    InboundFailure::ConnectionClosed => "disconnected",
                    InboundFailure::UnsupportedProtocols => "unsupported",
                    InboundFailure::Io(_) => "io",
                };
                self.served::<R>(&peer, request_id, Some(outcome));
            }
            Event::ResponseSent { peer, request_id, .. } => self.served::<R>(&peer, request_id, None),
        }
    }

    /// A request of ours has ended, at the peer's expense if it was at fault.
    fn answered<R: Served>(&mut self, pending: Pending<R>, answer: Result<R::Response, RequestError>) {
        let Pending { peer, reply, at, .. } = pending;
        let now = Instant::now();
        let ended = match &answer {
            Ok(_) => Outcome::Answered(now.saturating_duration_since(at)),
            Err(RequestError::NoAnswer) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.peers.on_request_done(&(peer, R::NAME), ended, now);
        self.on_request_ended(&peer, now);
        if let Err(error) = &answer {
            tracing::debug!(%peer, protocol = R::NAME, %error, "request failed");
            match error {
                RequestError::Malformed(error) => self.charge(peer, offence(error)),
                RequestError::Mismatch(_) => self.charge(peer, Offence::WrongAnswer),
                _ => {}
            }
        }
        // A late answer has been counted as such, and goes nowhere.
        if let Some(reply) = reply {
            metrics::asked(R::NAME, answer.as_ref().err().map_or("answered", RequestError::label));
            // Whoever has stopped waiting does not get it.
            drop(reply.send(answer));
        }
        self.send_requests();
    }

    /// Takes in a request of a peer. Whatever becomes of it, it is answered.
    fn asked_by<R: Served>(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: Result<R::Request, FrameError>,
        channel: ResponseChannel<Response<R::Response>>,
    ) {
        let now = Instant::now();
        if let Some(connected) = self.peers.connection_mut(&peer) {
            connected.in_flight.begin_inbound(now);
        }
        self.on_connection_used(&peer);
        let address = self.peers.connection(&peer).and_then(|connected| connected.addresses().next());
        let asker = Asker { peer, host: Host::or_unknown(address) };
        let malformed = request.as_ref().err().copied();
        let inbound =
            Inbound::<R> { asker, request: request.ok(), channel, unpaid: None, open: Arc::new(()) };
        R::protocol_mut(&mut self.requests.protocols).inbound.insert(id, inbound);
        if let Some(error) = malformed {
            tracing::debug!(%peer, protocol = R::NAME, %error, "malformed request");
            self.charge(peer, offence(&error));
        }
        if self.requests.closing {
            return self.fall_back::<R>(id, "closing");
        }
        if !self.requests.throttle.may_ask(&asker, R::NAME) {
            return self.requests.excess.push((R::NAME, id));
        }
        if malformed.is_some() {
            return self.fall_back::<R>(id, "malformed");
        }
        if let Some(too_many) = self.requests.inbound.push((R::NAME, id), asker, R::KIND, now) {
            metrics::dropped("inbound_requests");
            by_protocol!(too_many, |id| self.fall_back(id, "busy"));
        }
        self.serve_next(now);
    }

    /// Asks the application for as many answers as have a place.
    fn serve_next(&mut self, now: Instant) {
        while let Ok(in_hand) = Arc::clone(&self.requests.in_hand).try_acquire_owned()
            && self.request_events.capacity() > 0
            && let Some(next) = self.requests.inbound.next(now)
        {
            if let Some(yields) = next.instead_of {
                metrics::dropped("inbound_requests");
                by_protocol!(yields, |id| self.interrupt(id));
            }
            by_protocol!(next.serve, |id| self.serve(id, in_hand));
        }
        metrics::waiting("inbound_requests", self.requests.inbound.waiting());
    }

    fn serve<R: Served>(&mut self, id: InboundRequestId, in_hand: tokio::sync::OwnedSemaphorePermit) {
        let protocol = R::protocol_mut(&mut self.requests.protocols);
        let waits = protocol.inbound.get(&id).and_then(|inbound| Some((inbound, inbound.request.clone()?)));
        let Some((inbound, request)) = waits else {
            return self.requests.inbound.remove((R::NAME, id));
        };
        let responder = Responder::new(id, Arc::downgrade(&inbound.open), in_hand, protocol.answers.clone());
        let event =
            NetworkEvent::Request { from: inbound.asker.peer, request: R::inbound(request, responder) };
        // Where there is no room after all, or no reader any more, the responder is dropped with the event, and that
        // is an answer.
        drop(self.request_events.try_send(event));
    }

    /// Takes an answer of the application, which waits if the peer has had too much recently.
    pub(super) fn answer<R: Served>(&mut self, answer: Answer<R>) {
        let Answer { id, response, _in_hand } = answer;
        drop(_in_hand);
        let key = (R::NAME, id);
        let Some(response) = response else {
            self.requests.inbound.remove(key);
            self.fall_back::<R>(id, "no_response");
            return self.serve_next(Instant::now());
        };
        if let Some(head) = R::head(&response) {
            self.requests.head = head;
        }
        let (bytes, items) = R::size(&response);
        // Where it has been answered in the meantime, or the peer has gone, the answer goes nowhere.
        if let Some(inbound) = R::protocol_mut(&mut self.requests.protocols).inbound.get_mut(&id) {
            match self.requests.throttle.pay(inbound.asker, R::KIND == Kind::List, bytes, items, key) {
                Payment::Paid(permit) => self.write::<R>(id, response, "answered", permit),
                Payment::Waits(wait) => {
                    inbound.unpaid = Some((response, wait));
                    self.requests.inbound.unpaid(key);
                    metrics::waiting("answers", self.requests.throttle.waiting());
                }
            }
        }
        self.serve_next(Instant::now());
    }

    /// An answer that has waited is paid for and may be written.
    pub(super) fn paid(&mut self, key: InboundKey, permit: WritePermit) {
        metrics::waiting("answers", self.requests.throttle.waiting());
        by_protocol!(key, |id| self.write_unpaid(id, permit));
    }

    fn write_unpaid<R: Served>(&mut self, id: InboundRequestId, permit: WritePermit) {
        let inbound = R::protocol_mut(&mut self.requests.protocols).inbound.get_mut(&id);
        if let Some((response, _)) = inbound.and_then(|inbound| inbound.unpaid.take()) {
            self.write::<R>(id, response, "answered", permit);
        }
    }

    /// Hands an answer to its stream. `outcome` is what is counted when it is written.
    fn write<R: Served>(
        &mut self,
        id: InboundRequestId,
        response: R::Response,
        outcome: &'static str,
        permit: WritePermit,
    ) {
        let protocol = R::protocol_mut(&mut self.requests.protocols);
        let Some(inbound) = protocol.inbound.remove(&id) else { return };
        if let Some((_, wait)) = inbound.unpaid {
            wait.abort();
        }
        let (response, interrupt) = Response::new(response);
        self.requests.inbound.writing((R::NAME, id), Instant::now());
        protocol.writing.insert(id, Writing { interrupt, outcome, _permit: permit });
        // Where the peer has gone, the failure of its request says so.
        let _sent = R::behaviour(self.swarm.behaviour_mut()).send_response(inbound.channel, response).is_ok();
    }

    /// Answers without the application. The request must not hold a place any more.
    pub(super) fn fall_back<R: Served>(&mut self, id: InboundRequestId, why: &'static str) {
        let inbound = R::protocol_mut(&mut self.requests.protocols).inbound.get(&id);
        let Some(inbound) = inbound else { return };
        tracing::debug!(peer = %inbound.asker.peer, protocol = R::NAME, why, "answered without the application");
        let response = R::fallback(inbound.request.as_ref(), self.requests.head);
        self.write::<R>(id, response, why, None);
    }

    /// Ends the answer of a request that gives its place to another: by a short one, or, where one is being written
    /// that nobody reads, by resetting the stream.
    fn interrupt<R: Served>(&mut self, id: InboundRequestId) {
        if let Some(writing) = R::protocol_mut(&mut self.requests.protocols).writing.get_mut(&id) {
            writing.outcome = "not_read";
            writing.interrupt.abort();
        } else {
            self.fall_back::<R>(id, "busy");
        }
    }

    /// A request of a peer has ended, as its answer says, or by a failure.
    fn served<R: Served>(&mut self, peer: &PeerId, id: InboundRequestId, failure: Option<&'static str>) {
        let now = Instant::now();
        let protocol = R::protocol_mut(&mut self.requests.protocols);
        let written = protocol.writing.remove(&id).map(|writing| writing.outcome);
        let outcome = written.filter(|of| failure.is_none() || *of == "not_read").or(failure);
        if let Some((_, wait)) = protocol.inbound.remove(&id).and_then(|inbound| inbound.unpaid) {
            wait.abort();
        }
        self.on_request_ended(peer, now);
        self.requests.inbound.remove((R::NAME, id));
        metrics::served(R::NAME, outcome.unwrap_or("answered"));
        self.serve_next(now);
    }

    /// Once a second: whoever waits for too long, of either side, is told so.
    pub(super) fn tick_requests(&mut self, now: Instant) {
        self.give_up::<GetHead>(now);
        self.give_up::<GetCommitmentsByNumber>(now);
        self.give_up::<GetRawTxList>(now);
        for key in std::mem::take(&mut self.requests.excess) {
            by_protocol!(key, |id| self.fall_back(id, "rate_limited"));
        }
        for key in self.requests.inbound.overdue(now) {
            by_protocol!(key, |id| self.fall_back(id, "overdue"));
        }
        self.serve_next(now);
        self.requests.throttle.prune();
    }

    /// A request of either side is in flight.
    pub(super) fn on_request_began(&mut self, peer: &PeerId, now: Instant) {
        if let Some(connected) = self.peers.connection_mut(peer) {
            connected.in_flight.begin(now);
        }
    }

    pub(super) fn on_request_ended(&mut self, peer: &PeerId, now: Instant) {
        if let Some(connected) = self.peers.connection_mut(peer) {
            connected.in_flight.end(now);
        }
    }

    /// A peer has disconnected: what waits for it does not any more.
    pub(super) fn forget_requests(&mut self, peer: &PeerId) {
        for outgoing in self.requests.queue.remove(peer) {
            metrics::asked(outgoing.protocol(), RequestError::Disconnected.label());
            outgoing.fail(RequestError::Disconnected);
        }
    }
}

/// What a bad frame is charged as.
const fn offence(error: &FrameError) -> Offence {
    match error {
        FrameError::TooLarge { .. } => Offence::Oversize,
        _ => Offence::Malformed,
    }
}

fn failure<R: Rpc>(error: OutboundFailure) -> RequestError {
    let protocol = R::NAME;
    match error {
        // Requests are only sent to connected peers, so what is left of dialling is that one has gone.
        OutboundFailure::DialFailure | OutboundFailure::ConnectionClosed => RequestError::Disconnected,
        OutboundFailure::Timeout => RequestError::TimedOut,
        OutboundFailure::UnsupportedProtocols => RequestError::Unsupported { protocol },
        OutboundFailure::Io(error) => match codec::malformed(&error) {
            Some(malformed) => RequestError::Malformed(malformed),
            None if codec::no_answer(&error) => RequestError::NoAnswer,
            None if error.kind() == io::ErrorKind::UnexpectedEof => RequestError::CutOff,
            None => RequestError::Io(error),
        },
    }
}
