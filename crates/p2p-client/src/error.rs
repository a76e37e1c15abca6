//! What can go wrong.

use std::{fmt, sync::Arc, time::Duration};

use p2p_storage::StorageError;
use p2p_types::{GuardError, Head, HeadSyncStatus, PeerId};
use p2p_validation::{IgnoreReason, LookaheadError, Missing, Rejection};
use preconfirmation_p2p::{NetworkError, PublishError, RequestError};
use preconfirmation_types::TxListError;

use crate::{ConfigError, Conflict};

/// Why the client could not do what it was asked, or why it ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum P2pClientError {
    /// A setting cannot work.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The commitment breaks a rule: every peer would refuse it.
    #[error("invalid commitment: {0}")]
    Invalid(Box<Rejection>),
    /// Its signer has promised something else: both signatures together would prove its misbehaviour. Nothing
    /// was stored or sent. See
    /// [`publish_despite_conflict`](crate::Publisher::publish_despite_conflict).
    #[error("refused to protect the signer: {0}")]
    Conflict(Box<Conflict>),
    /// The [signing guard](crate::P2pClientConfig::guard) did not allow it. Nothing was stored or sent.
    #[error("refused by the signing guard: {0}")]
    Guard(GuardError),
    /// This client only follows; see [`P2pClientConfig::publishing`](crate::P2pClientConfig::publishing).
    #[error("this client does not publish: its configuration says that it only follows")]
    NotPublisher,
    /// The client does not know what it would build on: it is behind, or not sure. See
    /// [`publish_while_behind`](crate::Publisher::publish_while_behind).
    #[error("refused to publish while not live: {0}")]
    NotLive(HeadSyncStatus),
    /// What was to be signed on the head was built on another block: the chain has moved meanwhile.
    #[error("the head is another one by now: {}; build on that", .0.map_or_else(|| "the settled block".to_owned(), |head| head.to_string()))]
    StaleHead(Option<Head>),
    /// A command of a kind that this version does not know.
    #[error("this version does not know the command {command}")]
    UnknownCommand {
        /// Its [label](crate::SdkCommand::label).
        command: &'static str,
    },
    /// The commitment cannot be judged here yet: its parent or its schedule is not known.
    #[error("the commitment waits for {0}")]
    Deferred(Missing),
    /// The commitment is of no use any more, or not yet.
    #[error("the commitment is ignored: {0}")]
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
    /// The lookahead failed.
    #[error("lookahead: {0}")]
    Lookahead(#[source] LookaheadError),
    /// The queue of commands is full, or too many events wait for a slow handler.
    #[error("too much waits already")]
    Backpressure,
    /// No peer was [ready](crate::NetworkApi::wait_for_bootstrap) in time.
    #[error("no peer was ready within {} s", limit.as_secs_f64())]
    BootstrapTimeout {
        /// [`bootstrap_timeout`](crate::P2pClientConfig::bootstrap_timeout).
        limit: Duration,
    },
    /// The shutdown took too long; what was still open is abandoned.
    #[error("the shutdown took longer than {} s", limit.as_secs_f64())]
    ShutdownTimeout {
        /// [`shutdown_timeout`](crate::P2pClientConfig::shutdown_timeout).
        limit: Duration,
    },
    /// No peer is connected that could be asked.
    #[error("no peer to ask")]
    MissingPeer,
    /// A task of the client panicked.
    #[error("a task of the client panicked: {0}")]
    Panicked(Component),
    /// The client has shut down.
    #[error("the client has shut down")]
    Closed,
}

/// The part of a client that a task belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Component {
    /// The chain processor.
    Chain,
    /// The service that drives the others.
    Client,
    /// The network.
    Network,
    /// Preparing what is published.
    Publishing,
    /// Calls of the store.
    Storage,
    /// Checking signatures and hashes.
    Validation,
}

impl Component {
    /// A short label for logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Client => "client",
            Self::Network => "network",
            Self::Publishing => "publishing",
            Self::Storage => "storage",
            Self::Validation => "validation",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What an error is about, for those who decide by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot work.
    Config,
    /// A rule is broken, by what was published or by what a peer answered.
    Validation,
    /// It would prove the signer's misbehaviour.
    Conflict,
    /// The signing guard: another node signs, or it gave no answer.
    Guard,
    /// Bytes that are not what they should be.
    Decode,
    /// The network.
    Network,
    /// The store.
    Storage,
    /// The lookahead.
    Lookahead,
    /// Something took too long.
    Timeout,
    /// A queue is full.
    Backpressure,
    /// No peer could be asked.
    MissingPeer,
    /// A parent or a schedule is not known yet.
    MissingData,
    /// A task of the client panicked.
    Panicked,
    /// The client has shut down.
    Shutdown,
}

impl P2pClientError {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::NotPublisher | Self::UnknownCommand { .. } => ErrorKind::Config,
            Self::Invalid(rejection) | Self::InvalidAnswer { rejection, .. } => match **rejection {
                Rejection::Malformed(_) => ErrorKind::Decode,
                _ => ErrorKind::Validation,
            },
            Self::Ignored(_) | Self::TxList(_) | Self::UnexpectedTxList | Self::InvalidTxList { .. } => {
                ErrorKind::Validation
            }
            Self::Conflict(_) | Self::Guard(GuardError::Conflict(_)) => ErrorKind::Conflict,
            Self::Guard(_) => ErrorKind::Guard,
            Self::Deferred(_) | Self::NotLive(_) | Self::StaleHead(_) => ErrorKind::MissingData,
            Self::Storage(_) => ErrorKind::Storage,
            Self::Network(error) => match **error {
                NetworkError::Config(_) => ErrorKind::Config,
                _ => ErrorKind::Network,
            },
            Self::Publish(PublishError::QueueFull { .. }) => ErrorKind::Backpressure,
            Self::Publish(PublishError::Malformed(_)) => ErrorKind::Decode,
            Self::Publish(_) => ErrorKind::Network,
            Self::Request { source, .. } => match **source {
                RequestError::TimedOut => ErrorKind::Timeout,
                RequestError::Malformed(_) => ErrorKind::Decode,
                _ => ErrorKind::Network,
            },
            Self::Lookahead(_) => ErrorKind::Lookahead,
            Self::Backpressure => ErrorKind::Backpressure,
            Self::BootstrapTimeout { .. } | Self::ShutdownTimeout { .. } => ErrorKind::Timeout,
            Self::MissingPeer => ErrorKind::MissingPeer,
            Self::Panicked(_) => ErrorKind::Panicked,
            Self::Closed => ErrorKind::Shutdown,
        }
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Deferred(_)
            | Self::NotLive(_)
            | Self::StaleHead(_)
            | Self::MissingPeer
            | Self::Backpressure
            | Self::Lookahead(_)
            | Self::BootstrapTimeout { .. } => true,
            Self::Ignored(reason) => {
                matches!(reason, IgnoreReason::Early { .. } | IgnoreReason::Lookahead(_))
            }
            Self::Guard(error) => error.is_retryable(),
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
