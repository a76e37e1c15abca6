//! Why nothing was proposed.

use std::{sync::Arc, time::Duration};

use p2p_types::{Address, BlockNumber};

use super::NotReady;
use crate::P2pClientError;

/// Why a block or a handover was not published.
///
/// From `Signer` on, the promise of the height is recorded: the same block may be proposed again, and no other one of this
/// window and height. Before that, nothing binds.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// It is not the time for it.
    #[error("not ready: {0}")]
    NotReady(#[from] NotReady),
    /// The settled block that the first one would stand on is known by its number alone.
    #[error(
        "the preconfirmation hash of the settled block {base} is not known here: declare the base with its hash, or wait for a block of somebody else"
    )]
    ParentUnknown {
        /// The settled block.
        base: BlockNumber,
    },
    /// A rule, an earlier promise, the guard, the store or the network.
    #[error(transparent)]
    Client(#[from] P2pClientError),
    /// The signer failed.
    #[error("block {block} was not signed: {source}; propose the same block again")]
    Signer {
        /// The height.
        block: BlockNumber,
        /// Why.
        source: Arc<alloy_signer::Error>,
    },
    /// The signer took too long.
    #[error("block {block} was not signed within {} s; propose the same block again", limit.as_secs_f64())]
    SignerTimeout {
        /// The height.
        block: BlockNumber,
        /// [`with_signing_timeout`](super::Preconfer::with_signing_timeout).
        limit: Duration,
    },
    /// The signature is not that of the signer's address.
    #[error(
        "the signature of block {block} is {}, not of {expected}: check the key of the signer",
        recovered.map_or_else(|| "of nobody".to_owned(), |by| format!("of {by}"))
    )]
    ForeignSignature {
        /// The height.
        block: BlockNumber,
        /// The signer's address.
        expected: Address,
        /// Whose it is; none if it is no signature.
        recovered: Option<Address>,
    },
}

impl ProposeError {
    /// Whether the same block may be published later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotReady(why) => why.is_retryable(),
            Self::Client(error) => error.is_retryable(),
            Self::ParentUnknown { .. } | Self::Signer { .. } | Self::SignerTimeout { .. } => true,
            Self::ForeignSignature { .. } => false,
        }
    }
}
