//! Requests of peers as the application has them.

use std::{fmt, sync::Weak};

use libp2p::request_response::InboundRequestId;
use preconfirmation_types::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetHead, GetRawTxList, GetRawTxListRequest, Rpc,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::metrics;

/// A request of a peer, well formed and within its limits (§10, §11). Dropping it, or its responder, answers with what
/// can be said without the application: its last head, an empty page, a list that is not there.
#[derive(Debug)]
#[non_exhaustive]
pub enum InboundRequest {
    /// How far have you come?
    Head(Responder<GetHead>),
    /// Which commitments do you have from this block on?
    Commitments(GetCommitmentsByNumberRequest, Responder<GetCommitmentsByNumber>),
    /// Do you have this transaction list? Not having it is answered too:
    /// [`GetRawTxListResponse::not_found`](preconfirmation_types::GetRawTxListResponse::not_found).
    TxList(GetRawTxListRequest, Responder<GetRawTxList>),
}

/// An answer on its way to the service; none where the application has dropped its responder.
pub(crate) struct Answer<R: Rpc> {
    pub(crate) id: InboundRequestId,
    pub(crate) response: Option<R::Response>,
    /// Bounds what the application has in hand, and so what is on this way.
    pub(crate) _in_hand: OwnedSemaphorePermit,
}

/// Where the answer to one request goes. Dropping it answers without the application: no request of a peer is left
/// without an answer, for which deployed peers ban.
#[must_use = "a request whose responder is dropped is answered as if nothing were there"]
pub struct Responder<R: Rpc> {
    way: Option<Way<R>>,
}

/// The way of an answer.
enum Way<R: Rpc> {
    Swarm {
        id: InboundRequestId,
        /// Lives as long as the peer waits.
        open: Weak<()>,
        in_hand: OwnedSemaphorePermit,
        answers: mpsc::Sender<Answer<R>>,
    },
    #[cfg(feature = "test-utils")]
    Simulated(tokio::sync::oneshot::Sender<R::Response>),
}

impl<R: Rpc> Responder<R> {
    pub(crate) const fn new(
        id: InboundRequestId,
        open: Weak<()>,
        in_hand: OwnedSemaphorePermit,
        answers: mpsc::Sender<Answer<R>>,
    ) -> Self {
        Self { way: Some(Way::Swarm { id, open, in_hand, answers }) }
    }

    #[cfg(feature = "test-utils")]
    pub(crate) const fn simulated(answer: tokio::sync::oneshot::Sender<R::Response>) -> Self {
        Self { way: Some(Way::Simulated(answer)) }
    }

    /// Answers. Never blocks, never fails; where the peer has gone or has waited too long it does nothing.
    pub fn send(mut self, response: R::Response) {
        self.give(Some(response));
    }

    fn give(&mut self, response: Option<R::Response>) {
        match self.way.take() {
            Some(Way::Swarm { id, in_hand, answers, .. }) => {
                let answer = Answer { id, response, _in_hand: in_hand };
                // Room for as many as can be in hand.
                if let Err(mpsc::error::TrySendError::Full(_)) = answers.try_send(answer) {
                    metrics::dropped("answers");
                }
            }
            #[cfg(feature = "test-utils")]
            Some(Way::Simulated(answer)) => drop(response.map(|response| answer.send(response))),
            None => {}
        }
    }

    /// Whether the peer still waits.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match &self.way {
            Some(Way::Swarm { open, .. }) => open.strong_count() > 0,
            #[cfg(feature = "test-utils")]
            Some(Way::Simulated(answer)) => !answer.is_closed(),
            None => false,
        }
    }
}

impl<R: Rpc> Drop for Responder<R> {
    fn drop(&mut self) {
        self.give(None);
    }
}

impl<R: Rpc> fmt::Debug for Responder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("protocol", &R::NAME)
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}
