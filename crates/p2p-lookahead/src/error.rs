//! What can go wrong: with the configuration, and with L1.

use std::time::Duration;

use alloy_primitives::{Address, B256};

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nobody to ask.
    #[error("at least one endpoint is needed")]
    NoEndpoints,
    /// A URL of another kind than `http`, `https`, `ws`, `wss`.
    #[error("an endpoint has the scheme {scheme}: http, https, ws and wss are known")]
    Scheme {
        /// The scheme.
        scheme: Box<str>,
    },
    /// A duration of zero.
    #[error("{field} is zero")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// A silence that is shorter than the pause between two questions.
    #[error("{silence:?} of silence end an endpoint that is asked every {poll:?} only")]
    SilenceBelowPoll {
        /// The silence.
        silence: Duration,
        /// The pause.
        poll: Duration,
    },
}

/// Why L1 did not tell what it was asked. Our own trouble: it costs no peer anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum L1Error {
    /// No answer within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection failed, or what came was no answer.
    #[error("{0}")]
    Transport(Box<str>),
    /// The endpoint answered with an error.
    #[error("refused with code {code}: {message}")]
    Refused {
        /// The code of JSON-RPC.
        code: i64,
        /// What the endpoint says.
        message: Box<str>,
    },
    /// Another chain.
    #[error("the endpoint is on chain {actual}, not {expected}")]
    ChainId {
        /// The chain that is wanted.
        expected: u64,
        /// Its chain.
        actual: u64,
    },
    /// No new block for a time in which there are several.
    #[error("no new block for {0:?}")]
    Silent(Duration),
    /// A head that is older than what L1 has told already, by more than a reorg explains.
    #[error("its head is {0:?} older than what was read before")]
    Behind(Duration),
    /// A head that is later than our clock, by more than two clocks differ.
    #[error("its head is {0:?} ahead of the clock of this host")]
    Ahead(Duration),
    /// Every endpoint has failed and is let alone for a while.
    #[error("no endpoint answers")]
    Unavailable,
    /// The chain, or which endpoint is asked, changed between two questions: ask again.
    #[error("the chain changed while it was read")]
    Moved,
    /// A block below one that the endpoint has told.
    #[error("block {0} is missing below its head")]
    Missing(u64),
    /// L1 has no block at or after the genesis of its slots yet.
    #[error("L1's head is before the genesis of its slots")]
    BeforeGenesis,
    /// A block that the endpoint does not have, or no longer the state of.
    #[error("block {0} is not there")]
    NoBlock(B256),
    /// Another block than the one that was asked for, or a parent that is not one below its child.
    #[error("another block than the one that was asked for")]
    OtherBlock,
    /// No contract of a generation that is known answers there.
    #[error("the contract {0} is neither a whitelist nor a lookahead store")]
    NoSource(Address),
    /// A contract answered something else than its interface says.
    #[error("{call} of {contract} is not what it should be")]
    Answer {
        /// The contract.
        contract: Address,
        /// The call or event.
        call: &'static str,
    },
}

impl L1Error {
    /// Whether asking again may help without a change of the configuration.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::ChainId { .. } | Self::NoSource(_))
    }

    /// Whether the endpoint is at fault, so that another one is worth asking.
    pub(crate) const fn is_of_endpoint(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_)
                | Self::Transport(_)
                | Self::ChainId { .. }
                | Self::Silent(_)
                | Self::Behind(_)
                | Self::Ahead(_)
                | Self::OtherBlock
                | Self::Missing(_)
        )
    }
}
