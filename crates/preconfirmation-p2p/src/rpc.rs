//! The three request/response protocols, told apart by type: requests in flight of either side, and what the service needs
//! to know of each protocol.

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc, time::Instant};

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
    error::RequestError,
    inbound::{Asker, Kind},
    responder::{Answer, InboundRequest, Responder},
    serving::WritePermit,
};

/// One of the three request/response protocols (§10, §11): [`GetHead`], [`GetCommitmentsByNumber`], [`GetRawTxList`]. Sealed.
pub trait Protocol: sealed::Sealed {}

impl<R: sealed::Sealed> Protocol for R {}

mod sealed {
    use preconfirmation_types::Rpc;

    use super::{OutboundRequest, Outgoing};

    pub trait Sealed: Rpc + Sized {
        fn outgoing(request: OutboundRequest<Self>) -> Outgoing;
    }
}

/// A request of the application on its way to the service.
pub struct OutboundRequest<R: Rpc> {
    pub(crate) peer: PeerId,
    pub(crate) request: R::Request,
    pub(crate) reply: oneshot::Sender<Result<R::Response, RequestError>>,
}

/// A request of any protocol.
pub enum Outgoing {
    Head(OutboundRequest<GetHead>),
    Commitments(OutboundRequest<GetCommitmentsByNumber>),
    TxList(OutboundRequest<GetRawTxList>),
}

impl sealed::Sealed for GetHead {
    fn outgoing(request: OutboundRequest<Self>) -> Outgoing {
        Outgoing::Head(request)
    }
}

impl sealed::Sealed for GetCommitmentsByNumber {
    fn outgoing(request: OutboundRequest<Self>) -> Outgoing {
        Outgoing::Commitments(request)
    }
}

impl sealed::Sealed for GetRawTxList {
    fn outgoing(request: OutboundRequest<Self>) -> Outgoing {
        Outgoing::TxList(request)
    }
}

impl Outgoing {
    pub(crate) const fn peer(&self) -> PeerId {
        match self {
            Self::Head(request) => request.peer,
            Self::Commitments(request) => request.peer,
            Self::TxList(request) => request.peer,
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
            Self::Head(request) => !request.reply.is_closed(),
            Self::Commitments(request) => !request.reply.is_closed(),
            Self::TxList(request) => !request.reply.is_closed(),
        }
    }

    /// Answers with an error. Nobody may be waiting any more.
    pub(crate) fn fail(self, error: RequestError) {
        let _gone = match self {
            Self::Head(request) => request.reply.send(Err(error)).is_err(),
            Self::Commitments(request) => request.reply.send(Err(error)).is_err(),
            Self::TxList(request) => request.reply.send(Err(error)).is_err(),
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

/// The requests of one protocol.
pub(crate) struct ProtocolState<R: Rpc> {
    /// Requests of ours without an answer yet. Bounded by `pacing.in_flight` for each peer.
    pub(crate) pending: HashMap<OutboundRequestId, Pending<R>>,
    /// Requests of peers without an answer yet. Bounded by the streams of each connection.
    pub(crate) inbound: HashMap<InboundRequestId, Inbound<R>>,
    /// Answers that are being written.
    pub(crate) writing: HashMap<InboundRequestId, Writing>,
    pub(crate) answers: mpsc::Sender<Answer<R>>,
    pub(crate) answered: mpsc::Receiver<Answer<R>>,
}

impl<R: Rpc> ProtocolState<R> {
    fn new(in_hand: NonZeroUsize) -> Self {
        let (answers, answered) = mpsc::channel(in_hand.get());
        Self { pending: HashMap::new(), inbound: HashMap::new(), writing: HashMap::new(), answers, answered }
    }
}

/// The state of all protocols.
pub(crate) struct Protocols {
    pub(crate) head: ProtocolState<GetHead>,
    pub(crate) commitments: ProtocolState<GetCommitmentsByNumber>,
    pub(crate) txlist: ProtocolState<GetRawTxList>,
}

impl Protocols {
    pub(crate) fn new(in_hand: NonZeroUsize) -> Self {
        Self {
            head: ProtocolState::new(in_hand),
            commitments: ProtocolState::new(in_hand),
            txlist: ProtocolState::new(in_hand),
        }
    }
}

/// A request of a peer by protocol and id: each protocol counts for itself.
pub(crate) type InboundKey = (&'static str, InboundRequestId);

/// A protocol as the service needs it.
pub(crate) trait Served: Rpc + Sized {
    const KIND: Kind;
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>>;
    fn protocol_mut(protocols: &mut Protocols) -> &mut ProtocolState<Self>;
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

    fn protocol_mut(protocols: &mut Protocols) -> &mut ProtocolState<Self> {
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

    fn protocol_mut(protocols: &mut Protocols) -> &mut ProtocolState<Self> {
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

    fn protocol_mut(protocols: &mut Protocols) -> &mut ProtocolState<Self> {
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
