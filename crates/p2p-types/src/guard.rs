//! What a signer has promised, and the guard that keeps it from contradicting itself.

use std::{cmp::Ordering, fmt, pin::Pin};

use preconfirmation_types::{Address, B256};

use crate::{BlockNumber, Misbehaviour, UnixSeconds};

/// A promise of one of our own signers. It must not sign another block of the same height and window, nor a block after it
/// has handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Promise {
    /// The end of the submission window.
    pub window_end: UnixSeconds,
    /// Who has signed.
    pub signer: Address,
    /// The height.
    pub block: BlockNumber,
    /// The preconfirmation hash.
    pub hash: B256,
    /// Whether it hands over (EOP).
    pub eop: bool,
    /// Whether it makes no block.
    pub eop_only: bool,
}

impl Promise {
    /// The lowest height at which a handover leaves its signer no block; none if it is no handover, or if no height is left.
    #[must_use]
    pub const fn first_forbidden(&self) -> Option<BlockNumber> {
        match (self.eop_only, self.eop) {
            (true, _) => Some(self.block),
            (false, true) => self.block.checked_add(1),
            (false, false) => None,
        }
    }

    /// The misbehaviour that both promises of one signer would prove.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> Option<Misbehaviour> {
        let one_turn = (self.window_end, self.signer) == (other.window_end, other.signer);
        if !one_turn || self.hash == other.hash {
            return None;
        }
        let (lower, higher) = match self.block.cmp(&other.block) {
            Ordering::Equal => return Some(Misbehaviour::Equivocation),
            Ordering::Less => (self, other),
            Ordering::Greater => (other, self),
        };
        // A handover forbids the blocks above it, and no other handover.
        (lower.eop && !higher.eop_only).then_some(Misbehaviour::BlockAfterEop)
    }
}

/// A promise that a new one would break: together, both signatures prove a misbehaviour. A guard
/// names both when it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// What both would prove.
    pub kind: Misbehaviour,
    /// Whose promises they are.
    pub signer: Address,
    /// The end of the window.
    pub window_end: UnixSeconds,
    /// The height of the commitment that was refused.
    pub block: BlockNumber,
    /// Preconfirmation hash of what is signed already.
    pub signed: B256,
    /// Preconfirmation hash of what was refused.
    pub refused: B256,
}

impl Conflict {
    /// What refuses `refused`, whose signer has signed `signed` before.
    #[must_use]
    pub const fn new(kind: Misbehaviour, signed: B256, refused: &Promise) -> Self {
        let Promise { signer, window_end, block, hash: refused, .. } = *refused;
        Self { kind, signer, window_end, block, signed, refused }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, signer, window_end, block, signed, refused } = self;
        write!(
            f,
            "{refused} at block {block} contradicts {signed}, which {signer} has signed for the window that ends at {window_end}: {}",
            kind.label()
        )
    }
}

/// The answer of a [`SigningGuard`].
pub type GuardFuture<'a> = Pin<Box<dyn Future<Output = Result<(), GuardError>> + Send + 'a>>;

/// Keeps a key from contradicting itself, on whatever machine it signs.
///
/// May this signer sign this promise? If so it is recorded, durably, before the answer, and question and record are one
/// step: of two contradicting promises that are asked at once, at most one is allowed. What is recorded only ever forbids.
/// The same promise again is a yes.
///
/// A future that is dropped may have recorded the promise or not.
pub trait SigningGuard: fmt::Debug + Send + Sync + 'static {
    /// Records the promise and allows it, or refuses it.
    ///
    /// # Errors
    /// [`GuardError`]: the promise must not be signed.
    fn permit(&self, promise: Promise) -> GuardFuture<'_>;
}

/// Why a [`SigningGuard`] did not allow a promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// It contradicts what is recorded. It must never be signed.
    #[error("{0}")]
    Conflict(Box<Conflict>),
    /// Another node signs for this key at present.
    #[error(
        "this node does not hold the lease{}: it must not sign until it does",
        leader.as_ref().map(|leader| format!(", {leader} does")).unwrap_or_default()
    )]
    NotLeader {
        /// Who does, if anybody.
        leader: Option<String>,
    },
    /// Promises for windows that ended before a time are not kept any more, so none is given for these. It must never be signed.
    #[error(
        "the window that ended at {window_end} is over: what was signed for windows before {below} is not kept"
    )]
    WindowOver {
        /// The end of the promise's window.
        window_end: UnixSeconds,
        /// That time.
        below: UnixSeconds,
    },
    /// There was no answer in time, or the guard failed. The promise must not be signed now. It may have been recorded:
    /// only the same one should be asked again.
    #[error("the signing guard gave no answer: {0}; nothing was signed, the same promise may be tried again")]
    Unavailable(String),
}

impl GuardError {
    /// Whether the same promise may be allowed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::Conflict(_) | Self::WindowOver { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(block: BlockNumber, hash: u8) -> Promise {
        Promise {
            window_end: UnixSeconds::new(9),
            signer: Address::ZERO,
            block,
            hash: B256::repeat_byte(hash),
            eop: false,
            eop_only: false,
        }
    }

    #[test]
    fn promises_conflict_by_height_and_after_a_handover() {
        let last = |number, hash| Promise { eop: true, ..block(number, hash) };
        let declines = |number, hash| Promise { eop_only: true, ..last(number, hash) };
        let (equivocation, after) = (Some(Misbehaviour::Equivocation), Some(Misbehaviour::BlockAfterEop));
        for (one, other, conflict) in [
            (block(5, 1), block(5, 1), None),
            (block(5, 1), block(5, 2), equivocation),
            (block(5, 1), block(6, 2), None),
            (block(5, 1), declines(5, 2), equivocation),
            (block(5, 1), declines(6, 2), None),
            (block(6, 1), declines(5, 2), after),
            (last(5, 1), block(5, 2), equivocation),
            (last(5, 1), block(6, 2), after),
            (last(5, 1), last(6, 2), after),
            (last(5, 1), declines(6, 2), None),
            (declines(5, 1), declines(6, 2), None),
            (block(5, 1), Promise { signer: Address::repeat_byte(1), ..block(5, 2) }, None),
            (block(5, 1), Promise { window_end: UnixSeconds::new(8), ..block(5, 2) }, None),
        ] {
            assert_eq!(one.conflicts_with(&other), conflict, "{one:?} {other:?}");
            assert_eq!(other.conflicts_with(&one), conflict, "{other:?} {one:?}");
        }
    }

    #[test]
    fn a_handover_forbids_what_stands_above_it() {
        let last = |number| Promise { eop: true, ..block(number, 1) };
        assert_eq!(block(5, 1).first_forbidden(), None);
        assert_eq!(last(5).first_forbidden(), Some(6));
        assert_eq!(Promise { eop_only: true, ..last(5) }.first_forbidden(), Some(5));
        assert_eq!(last(BlockNumber::MAX).first_forbidden(), None);
    }

    #[test]
    fn only_what_may_be_allowed_later_is_tried_again() {
        let conflict = Conflict::new(Misbehaviour::Equivocation, B256::ZERO, &block(5, 1));
        let over = GuardError::WindowOver { window_end: UnixSeconds::new(9), below: UnixSeconds::new(10) };
        for (error, later) in [
            (GuardError::Conflict(Box::new(conflict)), false),
            (over, false),
            (GuardError::NotLeader { leader: None }, true),
            (GuardError::Unavailable("late".into()), true),
        ] {
            assert_eq!(error.is_retryable(), later, "{error}");
        }
        let other = GuardError::NotLeader { leader: Some("b".into()) };
        assert!(other.to_string().contains("the lease, b does"), "{other}");
    }

    #[test]
    fn a_conflict_names_both_promises() {
        let (window_end, signer) = (UnixSeconds::new(7_000), Address::repeat_byte(1));
        let refused = Promise { window_end, signer, ..block(11, 3) };
        let conflict = Conflict::new(Misbehaviour::Equivocation, B256::repeat_byte(2), &refused);
        let text = conflict.to_string();
        for part in [
            conflict.signer.to_string(),
            conflict.signed.to_string(),
            conflict.refused.to_string(),
            "block 11".to_owned(),
            "7000".to_owned(),
            conflict.kind.label().to_owned(),
        ] {
            assert!(text.contains(&part), "{part} in {text}");
        }
    }
}
