//! Errors of calls: a code for programs, a message for people.

use jsonrpsee::types::ErrorObjectOwned;
use p2p_client::{GuardError, IgnoreReason, Missing, P2pClientError, PublishError, Rejection};

/// Longest message in bytes: what a caller gave may be part of it.
const LONGEST: usize = 512;

/// What kind of error it is. Those down to −32006 are the ones that existing preconfer software knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidParams,
    Internal,
    Commitment,
    TxListForm,
    Settled,
    WindowEnd,
    Signer,
    Schedule,
    Conflict,
    NotLive,
    NotPublisher,
    Rule,
    Parent,
    Busy,
    Reorged,
    Peer,
    Guard,
}

impl Code {
    #[cfg(test)]
    const ALL: &'static [Self] = &[
        Self::InvalidParams,
        Self::Internal,
        Self::Commitment,
        Self::TxListForm,
        Self::Settled,
        Self::WindowEnd,
        Self::Signer,
        Self::Schedule,
        Self::Conflict,
        Self::NotLive,
        Self::NotPublisher,
        Self::Rule,
        Self::Parent,
        Self::Busy,
        Self::Reorged,
        Self::Peer,
        Self::Guard,
    ];

    pub(crate) const fn number(self) -> i32 {
        match self {
            Self::InvalidParams => -32602,
            Self::Internal => -32000,
            Self::Commitment => -32001,
            Self::TxListForm => -32002,
            Self::Settled => -32003,
            Self::WindowEnd => -32004,
            Self::Signer => -32005,
            Self::Schedule => -32006,
            // -32007 to -32011 are the server's own: sizes and batches. So is -32006 where a connection has too many
            // subscriptions: callers know the schedule's by that number.
            Self::Conflict => -32020,
            Self::NotLive => -32021,
            Self::NotPublisher => -32022,
            Self::Rule => -32023,
            Self::Parent => -32024,
            Self::Busy => -32025,
            Self::Reorged => -32026,
            Self::Peer => -32027,
            Self::Guard => -32028,
        }
    }

    /// A short label for metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::InvalidParams => "invalid_params",
            Self::Internal => "internal",
            Self::Commitment => "commitment",
            Self::TxListForm => "txlist_form",
            Self::Settled => "settled",
            Self::WindowEnd => "window_end",
            Self::Signer => "signer",
            Self::Schedule => "schedule",
            Self::Conflict => "conflict",
            Self::NotLive => "not_live",
            Self::NotPublisher => "not_publisher",
            Self::Rule => "rule",
            Self::Parent => "parent",
            Self::Busy => "busy",
            Self::Reorged => "reorged",
            Self::Peer => "peer",
            Self::Guard => "guard",
        }
    }

    /// What it means, for the OpenRPC document.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::InvalidParams => {
                "the parameters have another form, or their timestamp is outside of what the schedule knows"
            }
            Self::Internal => "this node failed",
            Self::Commitment => "the commitment, its signature or the hash of its transaction list is wrong",
            Self::TxListForm => "the transaction list is not a compressed (zlib) RLP list",
            Self::Settled => "the block is not above the settled block",
            Self::WindowEnd => "submissionWindowEnd is not the one of the slot, or the window is over",
            Self::Signer => "another slasher, or not the elected signer",
            Self::Schedule => "the schedule is not known or its source failed; try again later",
            Self::Conflict => {
                "its signer has signed something else for this height or has handed over: both would prove its misbehaviour"
            }
            Self::NotLive => {
                "this node is behind and does not know what the block would stand on; try again later"
            }
            Self::NotPublisher => "this node only follows",
            Self::Rule => "a rule on blocks and their parents is broken",
            Self::Parent => "the parent is not known here",
            Self::Busy => "too much waits already; try again later",
            Self::Reorged => "the block that the subscriber has is no longer in the chain",
            Self::Peer => "the peer cannot be reached, or is not connected; or discovery does not run",
            Self::Guard => {
                "another node signs for this key, or the signing guard gave no answer: nothing was stored or sent; try again later"
            }
        }
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl ToString) -> Self {
        let mut message = message.to_string();
        if message.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or_default());
            message.push('…');
        }
        Self { code, message }
    }
}

impl From<Failure> for ErrorObjectOwned {
    fn from(failure: Failure) -> Self {
        Self::owned(failure.code.number(), failure.message, None::<()>)
    }
}

impl From<P2pClientError> for Failure {
    fn from(error: P2pClientError) -> Self {
        let code = match &error {
            P2pClientError::Conflict(_) | P2pClientError::Guard(GuardError::Conflict(_)) => Code::Conflict,
            P2pClientError::Guard(GuardError::WindowOver { .. }) => Code::WindowEnd,
            P2pClientError::Guard(_) => Code::Guard,
            P2pClientError::NotPublisher => Code::NotPublisher,
            P2pClientError::NotLive(_) => Code::NotLive,
            P2pClientError::Invalid(rejection) => of_rejection(rejection),
            P2pClientError::Deferred(Missing::Parent(_)) => Code::Parent,
            P2pClientError::Deferred(Missing::Schedule(_)) | P2pClientError::Lookahead(_) => Code::Schedule,
            P2pClientError::Deferred(Missing::Time(_)) => Code::InvalidParams,
            P2pClientError::Ignored(reason) => of_ignored(reason),
            P2pClientError::TxList(_) | P2pClientError::UnexpectedTxList => Code::Commitment,
            P2pClientError::Backpressure | P2pClientError::Publish(PublishError::QueueFull { .. }) => {
                Code::Busy
            }
            _ => Code::Internal,
        };
        if code == Code::Conflict {
            // The usual cause, which the software that signs cannot see.
            return Self::new(
                code,
                format_args!(
                    "{error}; if the execution node has not taken the block that is signed already, the next one was \
                     built on the wrong parent"
                ),
            );
        }
        Self::new(code, error)
    }
}

const fn of_rejection(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::Malformed(_)
        | Rejection::Signature(_)
        | Rejection::OutOfRange { .. }
        | Rejection::MissingTxListHash => Code::Commitment,
        Rejection::Slasher { .. } | Rejection::WrongSigner { .. } => Code::Signer,
        Rejection::WindowEnd { .. } | Rejection::OutsideWindow { .. } => Code::WindowEnd,
        _ => Code::Rule,
    }
}

const fn of_ignored(reason: &IgnoreReason) -> Code {
    match reason {
        IgnoreReason::Late { .. } => Code::WindowEnd,
        IgnoreReason::Early { .. } => Code::InvalidParams,
        IgnoreReason::Settled { .. } => Code::Settled,
        IgnoreReason::BeyondHorizon { .. } | IgnoreReason::Lookahead(_) => Code::Schedule,
        _ => Code::Rule,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_is_another_and_none_is_for_sizes_and_batches() {
        let numbers: HashSet<_> = Code::ALL.iter().map(|code| code.number()).collect();
        let labels: HashSet<_> = Code::ALL.iter().map(|code| code.label()).collect();
        assert_eq!((numbers.len(), labels.len()), (Code::ALL.len(), Code::ALL.len()));
        assert!((-32011..=-32007).all(|server| !numbers.contains(&server)));
    }

    #[test]
    fn an_error_is_a_code_and_a_message_of_bounded_length() {
        let error = ErrorObjectOwned::from(Failure::new(Code::Signer, "é".repeat(LONGEST)));
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["code", "message"]);
        assert_eq!(json["code"], -32005);
        assert!(json["message"].as_str().unwrap().len() <= LONGEST + '…'.len_utf8());
    }
}
