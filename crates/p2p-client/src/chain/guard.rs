//! The signing guard: keeps the application from contradicting what the signer of a commitment has promised before.

use std::time::Duration;

use p2p_storage::Promise;
use p2p_types::{Conflict, UnixSeconds};
use p2p_validation::Witness;

/// How long own promises are kept after their window is over: more than a clock is ever wrong by.
const PROMISES_KEPT: Duration = Duration::from_secs(24 * 3600);

/// The first earlier promise that a new one would break: of `own`, which the application has published for the window and
/// the store keeps until that is over, then of all that this node has seen of the signer, linked or not.
pub(super) fn conflict(own: &[Promise], witness: &Witness, new: &Promise) -> Option<Conflict> {
    let broken = own.iter().find_map(|own| Some((own.conflicts_with(new)?, own.hash)));
    let (kind, signed) = broken.or_else(|| witness.conflict(new))?;
    Some(Conflict::new(kind, signed, new))
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
    fn a_promise_is_kept_for_a_day_after_window_and_grace() {
        let over = promises_over(UnixSeconds::new(1_000_000), Duration::from_secs(4));
        assert_eq!(over, UnixSeconds::new(1_000_000 - 4 - 86_400));
        assert_eq!(promises_over(UnixSeconds::new(5), Duration::from_secs(4)), UnixSeconds::new(0));
    }
}
