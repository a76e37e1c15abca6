//! A schedule whose windows overlap and of which several signers may sign at once.

use std::sync::Arc;

use p2p_types::{Address, Preconfirmation, SignedCommitment, U256, UnixSeconds};
use p2p_validation::{
    Admission, Arrival, Lookahead, LookaheadError, Missing, Rejection, Signers, Slot, ValidationOutcome,
    Validator, Window,
};
use preconfirmation_types::Container;

use crate::world::{DOMAIN, GENESIS, ON_BASE, SLASHER, accepts, config, key, preconf, rejection};

const NOW: Arrival = Arrival::Live(UnixSeconds::new(GENESIS + 15));

fn window(start: u64, end: u64) -> Window {
    Window { start: UnixSeconds::new(GENESIS + start), end: UnixSeconds::new(GENESIS + end) }
}

/// The first window is that of key 1, the second that of keys 2 and 3; they share the seconds 12 to 24.
struct Overlapping;

impl Overlapping {
    fn slots() -> [(Window, Signers); 2] {
        let address = |n| key(n).address();
        let both = Signers::one(address(2)).and(address(3)).unwrap();
        [(window(0, 24), Signers::one(address(1))), (window(12, 48), both)]
    }
}

impl Lookahead for Overlapping {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let found = Self::slots().into_iter().find(|(window, _)| window.contains(moment));
        Ok(found.map(|(window, signers)| Slot { signer: signers.first(), window }))
    }

    fn admissible(
        &self,
        timestamp: UnixSeconds,
        window_end: UnixSeconds,
    ) -> Result<Admission, LookaheadError> {
        let found = Self::slots().into_iter().find(|(window, _)| window.end == window_end);
        Ok(match found {
            None => Admission::NoWindow { scheduled: Self::slots()[0].0.end },
            Some((window, _)) if !window.contains(timestamp) => Admission::Outside { window },
            Some((window, signers)) => Admission::Open { window, signers },
        })
    }

    fn may_be_elected(&self, signer: Address, timestamp: UnixSeconds) -> bool {
        signer == key(4).address() && timestamp.get() > GENESIS + 13
    }
}

fn signed(signer: u8, timestamp: u64, window_end: u64) -> SignedCommitment {
    let preconf = Preconfirmation {
        timestamp: U256::from(GENESIS + timestamp),
        submission_window_end: U256::from(GENESIS + window_end),
        ..preconf()
    };
    p2p_types::PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(signer), &DOMAIN)
}

fn judge(signer: u8, timestamp: u64, window_end: u64) -> ValidationOutcome<p2p_validation::Linked> {
    let validator = Validator::new(config(), Arc::new(Overlapping));
    validator.validate(&signed(signer, timestamp, window_end).to_ssz(), NOW, &ON_BASE)
}

#[test]
fn the_window_end_says_which_of_two_windows_is_meant() {
    accepts(judge(1, 12, 24));
    accepts(judge(2, 12, 48));
    let (elected, signer) = (key(1).address(), key(2).address());
    assert_eq!(rejection(judge(2, 12, 24)), Rejection::WrongSigner { elected, signer });
    let outside = rejection(judge(2, 11, 48));
    assert!(matches!(outside, Rejection::OutsideWindow { window: of, .. } if of == window(12, 48)));
    assert_eq!(rejection(judge(1, 12, 25)).label(), "window_end");
}

#[test]
fn each_of_several_signers_may_sign() {
    for signer in [2, 3] {
        let ValidationOutcome::Accept(linked) = judge(signer, 13, 48) else { panic!("{signer}") };
        assert_eq!(linked.window(), window(12, 48));
    }
    let (elected, signer) = (key(2).address(), key(1).address());
    assert_eq!(rejection(judge(1, 13, 48)), Rejection::WrongSigner { elected, signer });
}

#[test]
fn a_signer_whom_an_unseen_change_may_elect_waits() {
    let waits = ValidationOutcome::Defer(Missing::Schedule(UnixSeconds::new(GENESIS + 48)));
    assert_eq!(judge(4, 14, 48), waits);
    assert_eq!(rejection(judge(4, 13, 48)).label(), "wrong_signer", "the schedule is newer than that");
    assert_eq!(rejection(judge(5, 14, 48)).label(), "wrong_signer");
}
