//! Request/response in both directions: requests of catch-up and the application, and those of peers (§10, §11).

use std::sync::Arc;

use hashbrown::HashSet;
use p2p_catchup::{Failure, Reply, Request};
use p2p_storage::{SdkStorage, StorageError, StoredCommitment};
use p2p_types::{B256, BlockNumber, PeerId, TxList};
use p2p_validation::{Authenticated, Rejection, Validator};
use preconfirmation_p2p::{InboundRequest, NetworkHandle, RequestError};
use preconfirmation_types::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, MAX_COMMITMENTS_PER_RESPONSE,
    Offence, PreconfHead, U256,
};

use crate::{Component, P2pClientError, blocking::spawn_blocking, hashing::ListHasher, metrics::Metrics};

/// A list of no more bytes is hashed in the task that asked for it: a tenth of a millisecond, which is less than
/// waking another thread costs on a busy machine.
const HASHED_IN_PLACE: usize = 32 * 1024;

/// Most batches of peers' requests that are served at a time.
pub(crate) const MAX_SERVING: usize = 2;

/// Sends requests to peers and authenticates what they answer; cheap to clone.
#[derive(Clone)]
pub(crate) struct Requester {
    pub(crate) network: NetworkHandle,
    pub(crate) validator: Validator,
    pub(crate) max_txlist_bytes: usize,
    pub(crate) hasher: ListHasher,
    /// Invalid answers cost no peer anything.
    pub(crate) soft_fail: bool,
    pub(crate) metrics: Arc<Metrics>,
}

impl Requester {
    pub(crate) async fn head(&self, peer: PeerId) -> Result<PreconfHead, P2pClientError> {
        self.network.request::<GetHead>(peer, GetHeadRequest {}).await.map_err(request_failed(peer))
    }

    /// A page: the commitments before the first that breaks a rule, each authenticated, and that rule. What only the
    /// author of that one can know costs nobody anything; what every peer checks, the peer that serves it.
    pub(crate) async fn page(
        &self,
        peer: PeerId,
        from: BlockNumber,
        max_count: u32,
    ) -> Result<(Vec<Authenticated>, Option<Rejection>), P2pClientError> {
        let request = GetCommitmentsByNumberRequest { start_block_number: U256::from(from), max_count };
        let answer = self.network.request::<GetCommitmentsByNumber>(peer, request).await;
        let page = answer.map_err(request_failed(peer))?.into_commitments();
        let validator = self.validator.clone();
        let judged = spawn_blocking(move || {
            let mut good = Vec::with_capacity(page.len());
            for judged in validator.authenticate_page(&page) {
                match judged {
                    Ok(commitment) => good.push(commitment),
                    Err(rejection) => return (good, Some(rejection)),
                }
            }
            (good, None)
        });
        let (good, rejection) = judged.await.map_err(|_| P2pClientError::Panicked(Component::Validation))?;
        if let Some(rejection) = &rejection {
            self.metrics.rejected(rejection.label());
            if is_relays_fault(rejection) && !self.soft_fail {
                self.network.report(peer, rejection.offence());
            }
        }
        Ok((good, rejection))
    }

    /// A list, hashed; none if the peer does not have it.
    pub(crate) async fn txlist(&self, peer: PeerId, hash: B256) -> Result<Option<TxList>, P2pClientError> {
        let request = GetRawTxListRequest { raw_tx_list_hash: hash };
        let answer =
            self.network.request::<GetRawTxList>(peer, request).await.map_err(request_failed(peer))?;
        let verified = if answer.txlist.len() <= HASHED_IN_PLACE {
            answer.verify(self.max_txlist_bytes)
        } else {
            let verified = self.hasher.verify(answer.raw_tx_list_hash, answer.txlist).await;
            verified.ok_or(P2pClientError::Panicked(Component::Validation))?.map(Some)
        };
        verified.map_err(|source| P2pClientError::InvalidTxList { peer, source: Box::new(source) })
    }

    /// Sends a request of catch-up.
    pub(crate) async fn reply(&self, peer: PeerId, request: Request) -> Reply {
        let answer = match request {
            Request::Head => self
                .head(peer)
                .await
                .map(|head| Reply::Head { block: u64::try_from(head.block_number).unwrap_or(u64::MAX) }),
            Request::Page { from, count } => {
                self.page(peer, from, count.get()).await.map(|(good, _)| Reply::Page(good))
            }
            Request::TxList { hash } => {
                self.txlist(peer, hash).await.map(|list| list.map_or(Reply::TxListNotFound, Reply::TxList))
            }
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(%peer, %error, "request failed");
            Reply::Failed(failure(&error))
        })
    }
}

fn request_failed(peer: PeerId) -> impl FnOnce(RequestError) -> P2pClientError {
    move |source| P2pClientError::Request { peer, source: Arc::new(source) }
}

/// Whether a rule is one that everybody checks who relays or serves a commitment: its form, its signature, the EOP rule.
pub(crate) const fn is_relays_fault(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Malformed(_) | Rejection::Signature(_) | Rejection::MissingTxListHash)
}

fn failure(error: &P2pClientError) -> Failure {
    match error {
        P2pClientError::Request { source, .. } => match source.as_ref() {
            RequestError::Malformed(_) => Failure::Charged(Offence::Malformed),
            RequestError::Mismatch(_) => Failure::Charged(Offence::WrongAnswer),
            _ => Failure::NotAnswered,
        },
        error => offence(error).map_or(Failure::NotAnswered, Failure::Misbehaved),
    }
}

/// What the answering peer is to be charged with, where the network could not know.
pub(crate) const fn offence(error: &P2pClientError) -> Option<Offence> {
    match error {
        // A page has been charged where its answer was read.
        P2pClientError::InvalidTxList { .. } => Some(Offence::HashMismatch),
        _ => None,
    }
}

/// Serves peers from the store (§11); blocks. Every request gets a response: where the store fails, an empty one. Returns the
/// lists that are damaged.
pub(crate) fn serve(store: &dyn SdkStorage, requests: Vec<(PeerId, InboundRequest)>) -> HashSet<B256> {
    let mut damaged = HashSet::new();
    for (peer, request) in requests {
        match request {
            InboundRequest::Head(responder) => responder.send(found(peer, head(store))),
            InboundRequest::Commitments(request, responder) => {
                responder.send(found(peer, page(store, &request)));
            }
            InboundRequest::TxList(request, responder) => {
                let hash = request.raw_tx_list_hash;
                let list = match store.get(&hash) {
                    Err(StorageError::Corrupt { .. }) => {
                        damaged.insert(hash);
                        None
                    }
                    answer => found(peer, answer),
                };
                responder.send(list.map_or_else(|| GetRawTxListResponse::not_found(hash), Into::into));
            }
            _ => tracing::debug!("a request of a kind that this version does not serve"),
        }
    }
    damaged
}

/// What the store has, or nothing where it fails.
fn found<T: Default>(peer: PeerId, answer: Result<T, StorageError>) -> T {
    answer.unwrap_or_else(|error| {
        tracing::warn!(%peer, %error, "cannot serve what is stored");
        T::default()
    })
}

fn head(store: &dyn SdkStorage) -> Result<PreconfHead, StorageError> {
    let head = match store.head()? {
        Some(head) => store.by_block(head.number)?.map(|stored| head_of(&stored)),
        None => None,
    };
    // Without a block above the base, the base is all that there is to claim.
    let base = store.base()?.map_or(0, |base| base.number);
    Ok(head.unwrap_or(PreconfHead { block_number: U256::from(base), ..Default::default() }))
}

fn page(
    store: &dyn SdkStorage,
    request: &GetCommitmentsByNumberRequest,
) -> Result<GetCommitmentsByNumberResponse, StorageError> {
    let limit = usize::try_from(request.max_count).unwrap_or(usize::MAX).min(MAX_COMMITMENTS_PER_RESPONSE);
    // No block has a number beyond 64 bits.
    let found = match u64::try_from(request.start_block_number) {
        Ok(from) => store.range(from, limit)?,
        Err(_) => Vec::new(),
    };
    let page = found.iter().map(|stored| stored.recovered.signed().clone()).collect();
    Ok(GetCommitmentsByNumberResponse::new(page).unwrap_or_default())
}

fn head_of(stored: &StoredCommitment) -> PreconfHead {
    let preconf = stored.recovered.signed().preconf();
    PreconfHead { block_number: preconf.block_number, submission_window_end: preconf.submission_window_end }
}
