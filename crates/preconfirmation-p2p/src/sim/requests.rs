//! Requests over the simulated wire: typed at both ends, bytes in between.

use futures::{FutureExt as _, future::BoxFuture};
use preconfirmation_types::{Bytes, Container as _, Offence, PreconfHead};
use tokio::sync::oneshot;

use crate::{
    error::RequestError,
    responder::{InboundRequest, Responder},
    rpc::{OutboundRequest, Served},
};

/// Ends a request with the bytes of its answer, or without; tells what the peer is to be charged with.
pub(super) type Finish = Box<dyn FnOnce(Result<Bytes, RequestError>) -> Option<Offence> + Send>;

/// The bytes of a request, and what to do with the answer.
pub(super) fn encode<R: Served>(request: OutboundRequest<R>) -> (Bytes, Finish) {
    let OutboundRequest { request, reply, .. } = request;
    let ssz = request.to_ssz().into();
    let finish = move |answer: Result<Bytes, RequestError>| {
        let answer = answer.and_then(|ssz| {
            let response =
                R::Response::from_ssz(&ssz).map_err(|error| RequestError::Malformed(error.into()))?;
            R::matches(&request, &response).map_err(RequestError::Mismatch)?;
            Ok(R::normalised(response))
        });
        let offence = match &answer {
            Err(RequestError::Malformed(_)) => Some(Offence::Malformed),
            Err(RequestError::Mismatch(_)) => Some(Offence::WrongAnswer),
            _ => None,
        };
        // Whoever has stopped waiting does not get it.
        drop(reply.send(answer));
        offence
    };
    (ssz, Box::new(finish))
}

/// A request of a peer.
pub(super) struct Incoming {
    /// What the application is asked.
    pub(super) request: InboundRequest,
    /// The bytes that it answers; none if it drops the request.
    pub(super) answer: BoxFuture<'static, Option<Bytes>>,
    /// What is answered without it.
    pub(super) fallback: Bytes,
}

/// The request in these bytes; none if they are malformed.
pub(super) fn decode<R: Served>(ssz: &Bytes, head: PreconfHead) -> Option<Incoming> {
    let request = R::Request::from_ssz(ssz).ok()?;
    let fallback = R::fallback(Some(&request), head).to_ssz().into();
    let (answer, answered) = oneshot::channel::<R::Response>();
    let bytes = answered.map(|answer| answer.ok().map(|response| response.to_ssz().into()));
    Some(Incoming {
        request: R::inbound(request, Responder::simulated(answer)),
        answer: bytes.boxed(),
        fallback,
    })
}
