//! A small world: two operators that take turns, and commitments in it.

use std::{num::NonZeroU64, sync::Arc};

use p2p_types::{B256, Base, Preconfirmation, SignedCommitment, U256, UnixSeconds};
use p2p_validation::{
    Arrival, Authenticated, Facts, Linked, Rejection, RotatingSchedule, ValidationConfig, ValidationOutcome,
    Validator,
};
use preconfirmation_types::Container;

pub(crate) use p2p_fixtures::{DOMAIN, SLASHER, key, rules as config};

pub(crate) const GENESIS: u64 = 1_000;
pub(crate) const WINDOW: u64 = 12;

/// Keys 1 and 2 take turns: 1000..=1011 and 1012..=1023, and so on.
pub(crate) fn validator_with(config: ValidationConfig) -> Validator {
    let operators = vec![key(1).address(), key(2).address()];
    let schedule =
        RotatingSchedule::new(operators, UnixSeconds::new(GENESIS), NonZeroU64::new(WINDOW).unwrap());
    Validator::new(config, Arc::new(schedule.unwrap()))
}

pub(crate) fn validator() -> Validator {
    validator_with(config())
}

/// Block 42 in the first window.
pub(crate) fn preconf() -> Preconfirmation {
    Preconfirmation {
        block_number: U256::from(42),
        timestamp: U256::from(GENESIS + 3),
        submission_window_end: U256::from(GENESIS + WINDOW - 1),
        raw_tx_list_hash: B256::repeat_byte(1),
        parent_preconfirmation_hash: B256::repeat_byte(9),
        ..Default::default()
    }
}

pub(crate) fn sign(preconf: Preconfirmation) -> SignedCommitment {
    p2p_fixtures::sign(&key(1), preconf)
}

pub(crate) const LIVE: Arrival = Arrival::Live(UnixSeconds::new(GENESIS + 4));
pub(crate) const ON_BASE: Facts<'static> = Facts { base: Base::at(41), parent: None, before: None };

pub(crate) fn judge(signed: &SignedCommitment) -> ValidationOutcome<Linked> {
    validator().validate(&signed.to_ssz(), LIVE, &ON_BASE)
}

pub(crate) fn rejection<T: std::fmt::Debug>(outcome: ValidationOutcome<T>) -> Rejection {
    match outcome {
        ValidationOutcome::Reject(rejection) => rejection,
        other => panic!("expected a rejection, got {other:?}"),
    }
}

pub(crate) fn accepts<T: std::fmt::Debug>(outcome: ValidationOutcome<T>) {
    assert!(matches!(outcome, ValidationOutcome::Accept(_)), "{outcome:?}");
}

pub(crate) fn authenticated(signed: SignedCommitment) -> Authenticated {
    validator().authenticate_signed(signed).unwrap()
}
