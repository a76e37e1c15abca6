//! Outcomes of validation, and whether they are the sender's fault.

use std::time::Duration;

use p2p_types::{Address, B256, BlockNumber, Missing, Offence, U256, UnixSeconds};
use preconfirmation_types::{DecodeError, SignatureError};

use crate::{LookaheadError, Window};

/// The outcome of a step. Only [`Reject`](Self::Reject) can lead to a penalty for the peer that delivered the message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum ValidationOutcome<T> {
    /// Every rule of this step holds.
    Accept(T),
    /// Not decidable yet: keep it, and validate again when the missing fact arrives. No penalty.
    Defer(Missing),
    /// Not usable, and nobody's fault.
    Ignore(IgnoreReason),
    /// A rule is broken.
    Reject(Rejection),
}

impl<T> ValidationOutcome<T> {
    /// Continues with the next step if this one accepted.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> ValidationOutcome<U>) -> ValidationOutcome<U> {
        match self {
            Self::Accept(value) => next(value),
            Self::Defer(missing) => ValidationOutcome::Defer(missing),
            Self::Ignore(reason) => ValidationOutcome::Ignore(reason),
            Self::Reject(rejection) => ValidationOutcome::Reject(rejection),
        }
    }
}

impl<T> From<Rejection> for ValidationOutcome<T> {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}

/// Why a commitment is of no use without being wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreReason {
    /// It arrived live after its window and the grace (§5, rule 7).
    #[error("arrived at {arrived}, after its window ended at {window_end} and a grace of {} s", grace.as_secs())]
    Late {
        /// End of its window.
        window_end: UnixSeconds,
        /// `executor_slot_grace`.
        grace: Duration,
        /// When it arrived.
        arrived: UnixSeconds,
    },
    /// Its block time is a slot or more ahead of our clock (§5, rule 7).
    #[error("block time {timestamp} is too far ahead of our clock at {now}")]
    Early {
        /// Its block time.
        timestamp: UnixSeconds,
        /// Our clock.
        now: UnixSeconds,
    },
    /// Its window is not in the schedule that we know, and ends beyond the horizon up to which one can be expected.
    #[error("its window ends at {window_end}, beyond the horizon {horizon}")]
    BeyondHorizon {
        /// End of its window.
        window_end: UnixSeconds,
        /// The latest end that it may have to wait.
        horizon: UnixSeconds,
    },
    /// Its height is settled by the contracts, or it stands on a block that was not.
    #[error("block {block} is not above the settled block {base}, or does not stand on it")]
    Settled {
        /// Its height.
        block: BlockNumber,
        /// The settled height.
        base: BlockNumber,
    },
    /// Our own lookahead failed.
    #[error(transparent)]
    Lookahead(LookaheadError),
}

impl IgnoreReason {
    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Late { .. } => "late",
            Self::Early { .. } => "early",
            Self::BeyondHorizon { .. } => "beyond_horizon",
            Self::Settled { .. } => "settled",
            Self::Lookahead(_) => "lookahead",
        }
    }
}

/// The rule that a commitment breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The bytes are no `SignedCommitment` (§2).
    #[error(transparent)]
    Malformed(DecodeError),
    /// The signature recovers to no signer (§4).
    #[error(transparent)]
    Signature(SignatureError),
    /// A number is beyond anything that a chain can reach.
    #[error("{field} is {value}, beyond 64 bits")]
    OutOfRange {
        /// The field, as JSON names it.
        field: &'static str,
        /// The number.
        value: U256,
    },
    /// A block without a transaction list that is no handover (§4, rule 2).
    #[error("eop is false and rawTxListHash is zero")]
    MissingTxListHash,
    /// Another contract than the chain's slasher (§4, rule 3).
    #[error("slasherAddress is {actual}, the chain's is {expected}")]
    Slasher {
        /// The chain's slasher.
        expected: Address,
        /// The slasher named.
        actual: Address,
    },
    /// No window ends when this says (§4, rule 4).
    #[error("no window ends at {claimed}; the window there ends at {scheduled}")]
    WindowEnd {
        /// `submissionWindowEnd`.
        claimed: UnixSeconds,
        /// The end of the window that this moment belongs to.
        scheduled: UnixSeconds,
    },
    /// Signed by somebody else than the elected preconfer (§4, rule 4).
    #[error("signed by {signer}, elected is {elected}")]
    WrongSigner {
        /// Whom the lookahead names first.
        elected: Address,
        /// Who signed.
        signer: Address,
    },
    /// Its block time is outside the signer's window (§4, rule 4).
    #[error("timestamp {timestamp} is outside the window {window}")]
    OutsideWindow {
        /// `timestamp`.
        timestamp: UnixSeconds,
        /// The signer's window.
        window: Window,
    },
    /// Its parent is known, and is not the block before (§5, rule 5).
    #[error("block {block} names block {parent} as its parent")]
    BlockNumber {
        /// Its height.
        block: BlockNumber,
        /// Its parent's height.
        parent: BlockNumber,
    },
    /// It claims another parent than the settled block (§5, rule 5).
    #[error("parent is {actual}, the settled block before is {expected}")]
    Parent {
        /// Hash of the settled block.
        expected: B256,
        /// `parentPreconfirmationHash`.
        actual: B256,
    },
    /// Its parent created no block (§5, rule 5).
    #[error("an EOP-only commitment cannot be a parent")]
    EopOnlyParent,
    /// A block that does not say who gets its fees, where the chain asks for it (§5, rule 6).
    #[error("coinbase is zero")]
    ZeroCoinbase,
    /// A number is not within the chain's limits (§5, rule 6).
    #[error("{field} is {actual}, the chain's is from {lowest} to {highest}")]
    Parameter {
        /// The field, as JSON names it.
        field: &'static str,
        /// The number.
        actual: U256,
        /// The lowest allowed.
        lowest: u64,
        /// The highest allowed.
        highest: u64,
    },
    /// A live block stands on an L1 block that is too old (§5, rule 6).
    #[error("anchorBlockNumber is {anchor}, more than {max_offset} behind L1's head {l1_head}")]
    StaleAnchor {
        /// `anchorBlockNumber`.
        anchor: U256,
        /// The head of L1.
        l1_head: BlockNumber,
        /// How far behind an anchor may be.
        max_offset: u64,
    },
    /// A chain rule on its parameters against its parent's (§5, rule 6).
    #[error("{field} is {actual}, the parent's is {parent}: {rule}")]
    Block {
        /// The field, as JSON names it.
        field: &'static str,
        /// What the rule asks.
        rule: &'static str,
        /// The parent's value.
        parent: U256,
        /// The value found.
        actual: U256,
    },
}

impl Rejection {
    /// The offence of the peer that delivered it (§7.1).
    #[must_use]
    pub const fn offence(&self) -> Offence {
        match self {
            Self::Malformed(_) => Offence::Malformed,
            Self::Signature(_) => Offence::BadSignature,
            Self::WrongSigner { .. } => Offence::WrongSigner,
            _ => Offence::InvalidCommitment,
        }
    }

    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Signature(_) => "bad_signature",
            Self::OutOfRange { .. } => "out_of_range",
            Self::MissingTxListHash => "missing_txlist_hash",
            Self::Slasher { .. } => "slasher",
            Self::WindowEnd { .. } => "window_end",
            Self::WrongSigner { .. } => "wrong_signer",
            Self::OutsideWindow { .. } => "outside_window",
            Self::BlockNumber { .. } => "block_number",
            Self::Parent { .. } => "parent",
            Self::EopOnlyParent => "eop_only_parent",
            Self::ZeroCoinbase => "zero_coinbase",
            Self::Parameter { .. } => "block_parameter",
            Self::StaleAnchor { .. } => "stale_anchor",
            Self::Block { .. } => "block_rule",
        }
    }
}
