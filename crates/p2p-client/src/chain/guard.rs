//! The signing guard: keeps the application from contradicting what the signer of a commitment has promised before.

use std::time::Duration;

use p2p_storage::Promise;
use p2p_types::{Address, B256, BlockNumber, Misbehaviour, UnixSeconds};
use p2p_validation::{Authenticated, Witness};

/// How long own promises are kept after their window is over: more than a clock is ever wrong by.
const PROMISES_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A promise that a new one would break: together, both signatures prove a misbehaviour. Only a refusal gives
/// one, so that nobody acknowledges a conflict that they have not been shown.
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

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, signer, window_end, block, signed, refused } = self;
        write!(
            f,
            "{refused} at block {block} contradicts {signed}, which {signer} has signed for the window that ends at {window_end}: {}",
            kind.label()
        )
    }
}

/// The first earlier promise that a new one would break: of `own`, which the application has published for the window and
/// the store keeps until that is over, then of all that this node has seen of the signer, linked or not.
pub(super) fn conflict(own: &[Promise], witness: &Witness, new: &Authenticated) -> Option<Conflict> {
    let promise = Promise::from(new);
    let broken = own.iter().find_map(|own| Some((own.conflicts_with(&promise)?, own.hash)));
    let (kind, signed) = broken.or_else(|| witness.conflict(new))?;
    let Promise { signer, window_end, block, hash: refused, .. } = promise;
    Some(Conflict { kind, signer, window_end, block, signed, refused })
}

/// The promises for windows that ended before this can be forgotten: nothing can be signed for them any more.
pub(super) fn promises_over(unix: UnixSeconds, executor_slot_grace: Duration) -> UnixSeconds {
    // A clock that jumps ahead by hours must not forget what it can still contradict.
    unix.saturating_sub(executor_slot_grace).saturating_sub(PROMISES_KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_both_promises() {
        let conflict = Conflict {
            kind: Misbehaviour::Equivocation,
            signer: Address::repeat_byte(1),
            window_end: UnixSeconds::new(7_000),
            block: 11,
            signed: B256::repeat_byte(2),
            refused: B256::repeat_byte(3),
        };
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

    #[test]
    fn a_promise_is_kept_for_a_day_after_window_and_grace() {
        let over = promises_over(UnixSeconds::new(1_000_000), Duration::from_secs(4));
        assert_eq!(over, UnixSeconds::new(1_000_000 - 4 - 86_400));
        assert_eq!(promises_over(UnixSeconds::new(5), Duration::from_secs(4)), UnixSeconds::new(0));
    }
}
