//! The three protocols as the swarm has them: one desk each, told apart by type.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    time::Instant,
};

use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId, OutboundRequestId},
};
use preconfirmation_types::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, PreconfHead, Rpc,
    SIGNED_COMMITMENT_BYTES,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    behaviour::Behaviour,
    codec::SszCodec,
    error::RequestError,
    event::{Answer, InWork, InboundRequest, Responder},
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

/// A request that has left.
pub(crate) struct Asked<R: Rpc> {
    pub(crate) ask: Ask<R>,
    pub(crate) at: Instant,
    /// Until when its answer is waited for.
    pub(crate) until: Instant,
}

/// An answer of any protocol that has been paid for.
pub(crate) enum Paid {
    Head(Answer<GetHead>),
    Commitments(Answer<GetCommitmentsByNumber>),
    TxList(Answer<GetRawTxList>),
}

/// What the service remembers of one protocol.
pub(crate) struct Desk<R: Rpc> {
    /// Requests of ours without an answer yet.
    pub(crate) asked: HashMap<OutboundRequestId, Asked<R>>,
    /// Answers of ours that are being written.
    pub(crate) writing: HashMap<InboundRequestId, InWork>,
    /// Requests of peers that were refused, until their streams have closed.
    pub(crate) refused: HashSet<InboundRequestId>,
    pub(crate) answers: mpsc::Sender<Answer<R>>,
    pub(crate) answered: mpsc::Receiver<Answer<R>>,
}

impl<R: Rpc> Desk<R> {
    fn new(in_work: NonZeroUsize) -> Self {
        let (answers, answered) = mpsc::channel(in_work.get());
        Self { asked: HashMap::new(), writing: HashMap::new(), refused: HashSet::new(), answers, answered }
    }
}

/// The desks of all protocols.
pub(crate) struct Desks {
    pub(crate) head: Desk<GetHead>,
    pub(crate) commitments: Desk<GetCommitmentsByNumber>,
    pub(crate) txlist: Desk<GetRawTxList>,
}

impl Desks {
    pub(crate) fn new(in_work: NonZeroUsize) -> Self {
        Self { head: Desk::new(in_work), commitments: Desk::new(in_work), txlist: Desk::new(in_work) }
    }

    /// Whether a request of ours to this peer is without an answer yet.
    pub(crate) fn asks(&self, peer: &PeerId) -> bool {
        self.head.asked.values().any(|asked| asked.ask.peer == *peer)
            || self.commitments.asked.values().any(|asked| asked.ask.peer == *peer)
            || self.txlist.asked.values().any(|asked| asked.ask.peer == *peer)
    }
}

/// A protocol that has a desk and a behaviour in the swarm.
pub(crate) trait Served: Rpc + Sized {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>>;
    fn desk(desks: &mut Desks) -> &mut Desk<Self>;
    fn inbound(request: Self::Request, responder: Responder<Self>) -> InboundRequest;
    fn paid(answer: Answer<Self>) -> Paid;
    /// The bytes of an answer, and what had to be looked up for it.
    fn size(response: &Self::Response) -> (usize, usize);
}

impl Served for GetHead {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.others.head
    }

    fn desk(desks: &mut Desks) -> &mut Desk<Self> {
        &mut desks.head
    }

    fn inbound(_: GetHeadRequest, responder: Responder<Self>) -> InboundRequest {
        InboundRequest::Head(responder)
    }

    fn paid(answer: Answer<Self>) -> Paid {
        Paid::Head(answer)
    }

    fn size(_: &PreconfHead) -> (usize, usize) {
        (64, 1)
    }
}

impl Served for GetCommitmentsByNumber {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.others.commitments
    }

    fn desk(desks: &mut Desks) -> &mut Desk<Self> {
        &mut desks.commitments
    }

    fn inbound(request: GetCommitmentsByNumberRequest, responder: Responder<Self>) -> InboundRequest {
        InboundRequest::Commitments(request, responder)
    }

    fn paid(answer: Answer<Self>) -> Paid {
        Paid::Commitments(answer)
    }

    fn size(response: &GetCommitmentsByNumberResponse) -> (usize, usize) {
        let commitments = response.commitments().len();
        (commitments.saturating_mul(SIGNED_COMMITMENT_BYTES), commitments.max(1))
    }
}

impl Served for GetRawTxList {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.others.txlist
    }

    fn desk(desks: &mut Desks) -> &mut Desk<Self> {
        &mut desks.txlist
    }

    fn inbound(request: GetRawTxListRequest, responder: Responder<Self>) -> InboundRequest {
        InboundRequest::TxList(request, responder)
    }

    fn paid(answer: Answer<Self>) -> Paid {
        Paid::TxList(answer)
    }

    fn size(response: &GetRawTxListResponse) -> (usize, usize) {
        (response.txlist.len(), 1)
    }
}
