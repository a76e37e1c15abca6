//! The three protocols as the swarm has them, told apart by type, and what the service remembers of each.

use std::{
    any::Any,
    collections::HashMap,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::AbortHandle;
use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId, OutboundRequestId, ResponseChannel},
};
use preconfirmation_types::{
    B256, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, PreconfHead, Rpc,
    SIGNED_COMMITMENT_BYTES,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    behaviour::Behaviour,
    codec::{Response, SszCodec},
    config::after,
    error::RequestError,
    inbound::Kind,
    responder::{Answer, InboundRequest, Responder},
    serving::{Asker, WritePermit},
};

/// A request on its way to the service.
pub(crate) struct Ask<R: Rpc> {
    pub(crate) peer: PeerId,
    pub(crate) request: R::Request,
    pub(crate) reply: oneshot::Sender<Result<R::Response, RequestError>>,
}

/// A request of any protocol.
pub(crate) enum Outgoing {
    Head(Ask<GetHead>),
    Commitments(Ask<GetCommitmentsByNumber>),
    TxList(Ask<GetRawTxList>),
}

impl Outgoing {
    /// Finds out which protocol this is. `None` if it is one that this crate does not know.
    pub(crate) fn new<R: Rpc>(ask: Ask<R>) -> Option<Self> {
        let mut ask = Some(ask);
        let any: &mut dyn Any = &mut ask;
        if let Some(ask) = any.downcast_mut::<Option<Ask<GetHead>>>() {
            return ask.take().map(Self::Head);
        }
        if let Some(ask) = any.downcast_mut::<Option<Ask<GetCommitmentsByNumber>>>() {
            return ask.take().map(Self::Commitments);
        }
        any.downcast_mut::<Option<Ask<GetRawTxList>>>().and_then(Option::take).map(Self::TxList)
    }

    pub(crate) const fn peer(&self) -> PeerId {
        match self {
            Self::Head(ask) => ask.peer,
            Self::Commitments(ask) => ask.peer,
            Self::TxList(ask) => ask.peer,
        }
    }

    pub(crate) const fn protocol(&self) -> &'static str {
        match self {
            Self::Head(_) => GetHead::NAME,
            Self::Commitments(_) => GetCommitmentsByNumber::NAME,
            Self::TxList(_) => GetRawTxList::NAME,
        }
    }

    /// Whether somebody still waits for the answer.
    pub(crate) fn is_wanted(&self) -> bool {
        match self {
            Self::Head(ask) => !ask.reply.is_closed(),
            Self::Commitments(ask) => !ask.reply.is_closed(),
            Self::TxList(ask) => !ask.reply.is_closed(),
        }
    }

    /// Answers with an error. Nobody may be waiting any more.
    pub(crate) fn fail(self, error: RequestError) {
        let _gone = match self {
            Self::Head(ask) => ask.reply.send(Err(error)).is_err(),
            Self::Commitments(ask) => ask.reply.send(Err(error)).is_err(),
            Self::TxList(ask) => ask.reply.send(Err(error)).is_err(),
        };
    }
}

/// A request of ours that has been sent and has not ended.
pub(crate) struct Pending<R: Rpc> {
    pub(crate) peer: PeerId,
    pub(crate) request: R::Request,
    /// Who waits for the answer; nobody any more where it is late. It is let run all the same: a peer whose stream is
    /// reset bans us.
    pub(crate) reply: Option<oneshot::Sender<Result<R::Response, RequestError>>>,
    pub(crate) at: Instant,
    /// From then on it is late.
    pub(crate) until: Instant,
}

/// A request of a peer whose answer is not written to its end.
pub(crate) struct Inbound<R: Rpc> {
    pub(crate) asker: Asker,
    /// None if it is malformed.
    pub(crate) request: Option<R::Request>,
    pub(crate) channel: ResponseChannel<Response<R::Response>>,
    /// The application's answer, while it waits until it is paid for; and what ends that wait.
    pub(crate) unpaid: Option<(R::Response, AbortHandle)>,
    /// Tells the responder that the peer still waits.
    pub(crate) open: Arc<()>,
}

/// An answer that is being written.
pub(crate) struct Writing {
    /// Resets its stream.
    pub(crate) interrupt: AbortHandle,
    /// What is counted when it ends.
    pub(crate) outcome: &'static str,
    /// What it takes of the bytes that may be written to its peer at a time; an answer without the application takes none.
    pub(crate) _permit: WritePermit,
}

/// What the service remembers of one protocol.
pub(crate) struct Protocol<R: Rpc> {
    /// Requests of ours without an answer yet. Bounded by `pacing.in_flight` for each peer.
    pub(crate) pending: HashMap<OutboundRequestId, Pending<R>>,
    /// Requests of peers without an answer yet. Bounded by the streams of each connection.
    pub(crate) inbound: HashMap<InboundRequestId, Inbound<R>>,
    /// Answers that are being written.
    pub(crate) writing: HashMap<InboundRequestId, Writing>,
    pub(crate) answers: mpsc::Sender<Answer<R>>,
    pub(crate) answered: mpsc::Receiver<Answer<R>>,
}

impl<R: Rpc> Protocol<R> {
    fn new(in_hand: NonZeroUsize) -> Self {
        let (answers, answered) = mpsc::channel(in_hand.get());
        Self { pending: HashMap::new(), inbound: HashMap::new(), writing: HashMap::new(), answers, answered }
    }
}

/// The state of all protocols.
pub(crate) struct Protocols {
    pub(crate) head: Protocol<GetHead>,
    pub(crate) commitments: Protocol<GetCommitmentsByNumber>,
    pub(crate) txlist: Protocol<GetRawTxList>,
}

impl Protocols {
    pub(crate) fn new(in_hand: NonZeroUsize) -> Self {
        Self {
            head: Protocol::new(in_hand),
            commitments: Protocol::new(in_hand),
            txlist: Protocol::new(in_hand),
        }
    }
}

/// A request of a peer by protocol and id: each protocol counts for itself.
pub(crate) type InboundKey = (&'static str, InboundRequestId);

/// How long a connection must have been without a request before it may be closed: an answer may be followed at once by
/// the next question, which must not meet the end of its connection.
pub(crate) const QUIET: Duration = Duration::from_millis(500);

/// How many requests are in flight with each peer, of either side, and when a peer that asks at regular intervals will ask
/// again: a request that is on its way when its connection closes has failed for it.
#[derive(Debug, Default)]
pub(crate) struct InFlight(HashMap<PeerId, Traffic>);

#[derive(Debug)]
struct Traffic {
    requests: usize,
    /// When one began or ended last.
    last: Instant,
    /// When the peer asked last.
    asked: Option<Instant>,
    /// When its last burst of requests began, and how long after the one before.
    burst: Option<Instant>,
    interval: Option<Duration>,
}

impl InFlight {
    /// A request of ours.
    pub(crate) fn begins(&mut self, peer: PeerId, now: Instant) {
        let idle = Traffic { requests: 0, last: now, asked: None, burst: None, interval: None };
        let traffic = self.0.entry(peer).or_insert(idle);
        (traffic.requests, traffic.last) = (traffic.requests + 1, now);
    }

    /// A request of the peer.
    pub(crate) fn asked_by(&mut self, peer: PeerId, now: Instant) {
        self.begins(peer, now);
        let Some(traffic) = self.0.get_mut(&peer) else { return };
        let before = traffic.asked.replace(now);
        if before.is_none_or(|before| now.saturating_duration_since(before) >= QUIET) {
            let burst = traffic.burst.replace(now);
            traffic.interval = burst.map(|burst| now.saturating_duration_since(burst));
        }
    }

    pub(crate) fn ends(&mut self, peer: &PeerId, now: Instant) {
        if let Some(traffic) = self.0.get_mut(peer) {
            (traffic.requests, traffic.last) = (traffic.requests.saturating_sub(1), now);
        }
    }

    /// Whether a connection may be closed without failing a request.
    pub(crate) fn is_quiet(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_none_or(|traffic| {
            let is_idle = traffic.requests == 0 && now.saturating_duration_since(traffic.last) >= QUIET;
            is_idle && !traffic.is_due(now)
        })
    }

    pub(crate) fn gone(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }
}

impl Traffic {
    /// Whether the peer's next request comes now, if it keeps to its interval.
    fn is_due(&self, now: Instant) -> bool {
        let next = self.burst.zip(self.interval).map(|(burst, interval)| after(burst, interval));
        next.is_some_and(|next| after(now, QUIET) >= next && now < after(next, QUIET))
    }
}

/// A protocol that has a state here and a behaviour in the swarm.
pub(crate) trait Served: Rpc + Sized {
    const KIND: Kind;
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>>;
    fn protocol_mut(protocols: &mut Protocols) -> &mut Protocol<Self>;
    fn inbound(request: Self::Request, responder: Responder<Self>) -> InboundRequest;
    /// The bytes of an answer, and what had to be looked up for it.
    fn size(response: &Self::Response) -> (usize, usize);
    /// What can be answered without the application, given the last head that it has answered; also to a request that
    /// is malformed.
    fn fallback(request: Option<&Self::Request>, head: PreconfHead) -> Self::Response;
    /// The head that an answer tells, if it tells one.
    fn head(_: &Self::Response) -> Option<PreconfHead> {
        None
    }
    /// An answer of a peer in the form in which the application is to see it.
    fn normalised(response: Self::Response) -> Self::Response {
        response
    }
}

impl Served for GetHead {
    const KIND: Kind = Kind::Small;

    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.head
    }

    fn protocol_mut(protocols: &mut Protocols) -> &mut Protocol<Self> {
        &mut protocols.head
    }

    fn inbound(_: GetHeadRequest, responder: Responder<Self>) -> InboundRequest {
        InboundRequest::Head(responder)
    }

    fn size(_: &PreconfHead) -> (usize, usize) {
        (64, 1)
    }

    fn fallback(_: Option<&GetHeadRequest>, head: PreconfHead) -> PreconfHead {
        head
    }

    fn head(response: &PreconfHead) -> Option<PreconfHead> {
        Some(*response)
    }
}

impl Served for GetCommitmentsByNumber {
    const KIND: Kind = Kind::Small;

    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.commitments
    }

    fn protocol_mut(protocols: &mut Protocols) -> &mut Protocol<Self> {
        &mut protocols.commitments
    }

    fn inbound(request: GetCommitmentsByNumberRequest, responder: Responder<Self>) -> InboundRequest {
        InboundRequest::Commitments(request, responder)
    }

    fn size(response: &GetCommitmentsByNumberResponse) -> (usize, usize) {
        let commitments = response.commitments().len();
        (commitments.saturating_mul(SIGNED_COMMITMENT_BYTES), commitments.max(1))
    }

    fn fallback(_: Option<&GetCommitmentsByNumberRequest>, _: PreconfHead) -> GetCommitmentsByNumberResponse {
        GetCommitmentsByNumberResponse::default()
    }

    fn normalised(response: GetCommitmentsByNumberResponse) -> GetCommitmentsByNumberResponse {
        response.with_low_s()
    }
}

impl Served for GetRawTxList {
    const KIND: Kind = Kind::List;

    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.txlist
    }

    fn protocol_mut(protocols: &mut Protocols) -> &mut Protocol<Self> {
        &mut protocols.txlist
    }

    fn inbound(request: GetRawTxListRequest, responder: Responder<Self>) -> InboundRequest {
        InboundRequest::TxList(request, responder)
    }

    fn size(response: &GetRawTxListResponse) -> (usize, usize) {
        (response.txlist.len(), 1)
    }

    fn fallback(request: Option<&GetRawTxListRequest>, _: PreconfHead) -> GetRawTxListResponse {
        GetRawTxListResponse::not_found(request.map_or(B256::ZERO, |request| request.raw_tx_list_hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_when_its_peer_is_about_to_ask_again() {
        let (mut in_flight, peer, start) = (InFlight::default(), PeerId::random(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(in_flight.is_quiet(&peer, start));
        // Three at once, every three seconds.
        for begun in [0, 3000] {
            for millis in [0, 20, 400] {
                in_flight.asked_by(peer, at(begun + millis));
                assert!(!in_flight.is_quiet(&peer, at(begun + millis)));
                in_flight.ends(&peer, at(begun + millis));
            }
            assert!(!in_flight.is_quiet(&peer, at(begun + 899)));
            assert!(in_flight.is_quiet(&peer, at(begun + 900)));
        }
        let quiet = [5499, 5500, 6000, 6499, 6500].map(|millis| in_flight.is_quiet(&peer, at(millis)));
        assert_eq!(quiet, [true, false, false, false, true]);
    }
}
