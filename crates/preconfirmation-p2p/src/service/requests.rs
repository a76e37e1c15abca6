//! Requests out, requests in.

use std::{io, sync::Arc, time::Instant};

use libp2p::{
    PeerId,
    request_response::{Event, InboundFailure, InboundRequestId, Message, OutboundFailure, ResponseChannel},
};
use preconfirmation_types::{FrameError, Offence, Rpc};

use super::NetworkService;
use crate::{
    codec,
    config::after,
    error::RequestError,
    event::{Answer, InWork, NetworkEvent, Responder},
    metrics,
    pacing::Outcome,
    rpc::{Ask, Asked, Outgoing, Paid, Served},
};

impl NetworkService {
    /// Puts a request of the application into its lane.
    pub(super) fn request(&mut self, outgoing: Outgoing) {
        let (peer, protocol) = (outgoing.peer(), outgoing.protocol());
        if !self.swarm.is_connected(&peer) {
            let error = RequestError::NotConnected { peer };
            metrics::asked(protocol, error.label());
            outgoing.fail(error);
            return;
        }
        if let Err(outgoing) = self.pacer.push((peer, protocol), outgoing) {
            let limit = self.config.pacing.waiting.get();
            let error = RequestError::QueueFull { limit };
            metrics::asked(protocol, error.label());
            metrics::dropped("pacing");
            outgoing.fail(error);
            return;
        }
        self.send_requests();
    }

    /// Sends all requests whose turn has come.
    pub(super) fn send_requests(&mut self) {
        let now = Instant::now();
        while let Some(outgoing) = self.pacer.pop(now, Outgoing::is_wanted) {
            match outgoing {
                Outgoing::Head(ask) => self.send_request(ask, now),
                Outgoing::Commitments(ask) => self.send_request(ask, now),
                Outgoing::TxList(ask) => self.send_request(ask, now),
            }
        }
        metrics::waiting("pacing", self.pacer.waiting());
    }

    fn send_request<R: Served>(&mut self, ask: Ask<R>, at: Instant) {
        let until = after(at, self.pacer.patience((ask.peer, R::NAME)));
        let behaviour = R::behaviour(self.swarm.behaviour_mut());
        let id = behaviour.send_request(&ask.peer, Ok(ask.request.clone()));
        R::desk(&mut self.desks).asked.insert(id, Asked { ask, at, until });
    }

    /// Gives up requests whose answers take too long for what this peer's answers have taken.
    pub(super) fn give_up<R: Served>(&mut self, now: Instant) {
        let late: Vec<_> = R::desk(&mut self.desks).asked.extract_if(|_, asked| asked.until <= now).collect();
        for (_, Asked { ask, at, .. }) in late {
            self.answered(ask, at, Err(RequestError::TimedOut));
        }
    }

    pub(super) fn rpc_event<R: Served>(&mut self, event: Event<Result<R::Request, FrameError>, R::Response>) {
        match event {
            Event::Message { peer, message, .. } => match message {
                Message::Request { request_id, request, channel } => {
                    self.asked_by::<R>(peer, request_id, request, channel)
                }
                Message::Response { request_id, response } => {
                    let Some(Asked { ask, at, .. }) = R::desk(&mut self.desks).asked.remove(&request_id)
                    else {
                        return;
                    };
                    metrics::latency(R::NAME, at.elapsed());
                    let matched = R::matches(&ask.request, &response);
                    self.answered(ask, at, matched.map(|()| response).map_err(RequestError::Mismatch));
                }
            },
            Event::OutboundFailure { request_id, error, .. } => {
                if let Some(Asked { ask, at, .. }) = R::desk(&mut self.desks).asked.remove(&request_id) {
                    self.answered(ask, at, Err(failure::<R>(error)));
                }
            }
            Event::InboundFailure { request_id, error, .. } => self.not_served::<R>(request_id, &error),
            Event::ResponseSent { request_id, .. } => {
                R::desk(&mut self.desks).writing.remove(&request_id);
                metrics::served(R::NAME, "answered");
            }
        }
    }

    /// Ends a request of ours, at the peer's expense if it was at fault.
    fn answered<R: Served>(&mut self, ask: Ask<R>, at: Instant, answer: Result<R::Response, RequestError>) {
        let ended = match &answer {
            Ok(_) => Outcome::Answered(at.elapsed()),
            Err(RequestError::TimedOut) => Outcome::TimedOut,
            Err(RequestError::NoAnswer) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.pacer.done((ask.peer, R::NAME), ended, Instant::now());
        let outcome = answer.as_ref().err().map_or("answered", RequestError::label);
        metrics::asked(R::NAME, outcome);
        if let Err(error) = &answer {
            tracing::debug!(peer = %ask.peer, protocol = R::NAME, %error, "request failed");
            match error {
                RequestError::Malformed(error) => self.charge(ask.peer, offence(error)),
                RequestError::Mismatch(_) => self.charge(ask.peer, Offence::WrongAnswer),
                _ => {}
            }
        }
        // Whoever has stopped waiting does not get it.
        drop(ask.reply.send(answer));
        self.send_requests();
    }

    /// Takes in a request of a peer, if it is within its limits.
    fn asked_by<R: Served>(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: Result<R::Request, FrameError>,
        channel: ResponseChannel<R::Response>,
    ) {
        let refusal = 'refused: {
            let request = match request {
                Ok(request) => request,
                Err(error) => {
                    tracing::debug!(%peer, protocol = R::NAME, %error, "malformed request");
                    self.charge(peer, offence(&error));
                    break 'refused "malformed";
                }
            };
            if !self.till.may_ask((peer, R::NAME)) {
                break 'refused "rate_limited";
            }
            let of_peer = self.peers.get(&peer).map(|peer| Arc::clone(&peer.in_work));
            let Some(Ok(of_peer)) = of_peer.map(|in_work| in_work.try_acquire_owned()) else {
                break 'refused "busy";
            };
            let Ok(of_all) = Arc::clone(&self.in_work).try_acquire_owned() else {
                break 'refused "busy";
            };
            let Ok(place) = self.requests.try_reserve() else {
                metrics::dropped("request_events");
                break 'refused "queue_full";
            };
            let in_work = InWork { _permits: [of_peer, of_all] };
            let answers = R::desk(&mut self.desks).answers.clone();
            let responder = Responder::new(peer, id, channel, in_work, answers);
            let request = R::inbound(request, responder);
            place.send(NetworkEvent::Request { from: peer, request });
            return;
        };
        // The channel is dropped: the stream closes without an answer. Asking too fast costs no more than that.
        tracing::debug!(%peer, protocol = R::NAME, refusal, "request refused");
        metrics::served(R::NAME, refusal);
        R::desk(&mut self.desks).refused.insert(id);
    }

    /// Takes an answer of the application, which waits if the peer has had too much of late.
    pub(super) fn answer<R: Served>(&mut self, answer: Answer<R>) {
        let (bytes, items) = R::size(&answer.response);
        let peer = answer.peer;
        match self.till.pay(peer, bytes, items, R::paid(answer)) {
            Some(paid) => self.write_answer(paid),
            None => metrics::waiting("answers", self.till.waiting()),
        }
    }

    pub(super) fn paid(&mut self, paid: Paid) {
        metrics::waiting("answers", self.till.waiting());
        self.write_answer(paid);
    }

    fn write_answer(&mut self, paid: Paid) {
        match paid {
            Paid::Head(answer) => self.write(answer),
            Paid::Commitments(answer) => self.write(answer),
            Paid::TxList(answer) => self.write(answer),
        }
    }

    /// Hands an answer to its stream.
    fn write<R: Served>(&mut self, answer: Answer<R>) {
        let Answer { id, channel, response, in_work, .. } = answer;
        let behaviour = R::behaviour(self.swarm.behaviour_mut());
        // Where the peer has gone, that has been counted when it went.
        if behaviour.send_response(channel, response).is_ok() {
            R::desk(&mut self.desks).writing.insert(id, in_work);
        }
    }

    fn not_served<R: Served>(&mut self, id: InboundRequestId, error: &InboundFailure) {
        let desk = R::desk(&mut self.desks);
        desk.writing.remove(&id);
        if desk.refused.remove(&id) {
            return;
        }
        let outcome = match error {
            InboundFailure::ResponseOmission => "unanswered",
            InboundFailure::Timeout => "timed_out",
            InboundFailure::ConnectionClosed => "disconnected",
            InboundFailure::UnsupportedProtocols => "unsupported",
            InboundFailure::Io(_) => "io",
        };
        metrics::served(R::NAME, outcome);
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
