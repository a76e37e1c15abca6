//! What can go wrong.

use std::sync::Arc;

use p2p_catchup::ConfigError;
use p2p_storage::StorageError;
use p2p_types::PeerId;
use p2p_validation::{IgnoreReason, Missing, Rejection};
use preconfirmation_p2p::{NetworkError, PublishError, RequestError};
use preconfirmation_types::TxListError;

/// Why the client could not do what it was asked, or why it ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum P2pClientError {
    /// A setting of catch-up cannot work.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// Nothing says who may sign: give [`P2pClientBuilder::lookahead`](crate::P2pClientBuilder::lookahead).
    #[error("configuration: no lookahead was given")]
    MissingLookahead,
    /// The commitment breaks a rule: every peer would refuse it.
    #[error("invalid commitment: {0}")]
    Invalid(Box<Rejection>),
    /// The commitment cannot be judged here yet: its parent or its schedule is not known.
    #[error("the commitment waits for {0:?}")]
    Deferred(Missing),
    /// The commitment is of no use any more, or not yet.
    #[error("the commitment is ignored: {0:?}")]
    Ignored(IgnoreReason),
    /// The transaction list is too large, or not the one that the commitment names.
    #[error(transparent)]
    TxList(#[from] TxListError),
    /// A block was published with a list although it hands over without one.
    #[error("an EOP-only commitment has no transaction list")]
    UnexpectedTxList,
    /// The store failed. Shared because everybody who waits is told.
    #[error("storage: {0}")]
    Storage(#[source] Arc<StorageError>),
    /// The network failed.
    #[error("network: {0}")]
    Network(#[source] Arc<NetworkError>),
    /// The network did not take a message. What was published is stored.
    #[error("publishing: {0}")]
    Publish(#[from] PublishError),
    /// A request had no usable answer.
    #[error("request to {peer}: {source}")]
    Request {
        /// The peer that was asked.
        peer: PeerId,
        /// Why.
        source: Arc<RequestError>,
    },
    /// A peer answered a request with something invalid; it has been charged.
    #[error("{peer} answered with an invalid commitment: {rejection}")]
    InvalidAnswer {
        /// The peer that was asked.
        peer: PeerId,
        /// The rule broken.
        rejection: Box<Rejection>,
    },
    /// A peer answered with a list that is not the one asked for; it has been charged.
    #[error("{peer} answered with another transaction list: {source}")]
    InvalidTxList {
        /// The peer that was asked.
        peer: PeerId,
        /// What is wrong.
        source: Box<TxListError>,
    },
    /// No peer is connected that could be asked.
    #[error("no peer to ask")]
    MissingPeer,
    /// A part of the client died: a panic in one of its tasks.
    #[error("a part of the client died: {0}")]
    Join(&'static str),
    /// The client has shut down.
    #[error("the client has shut down")]
    Closed,
}

impl P2pClientError {
    /// Whether the same call can succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Deferred(_) | Self::MissingPeer => true,
            Self::Ignored(reason) => {
                matches!(reason, IgnoreReason::Early { .. } | IgnoreReason::Lookahead(_))
            }
            Self::Storage(error) => error.is_retryable(),
            Self::Network(error) => error.is_retryable(),
            Self::Publish(error) => error.is_retryable(),
            Self::Request { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}

impl From<StorageError> for P2pClientError {
    fn from(error: StorageError) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl From<NetworkError> for P2pClientError {
    fn from(error: NetworkError) -> Self {
        Self::Network(Arc::new(error))
    }
}
