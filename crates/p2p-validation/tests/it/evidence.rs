//! Misbehaviour that two commitments prove.

use std::num::NonZeroUsize;

use p2p_types::{B256, PreconfCommitment, Preconfirmation, Promise, U256, UnixSeconds};
use p2p_validation::{
    Arrival, Elected, Evidence, EvidenceError, EvidenceRecord, Misbehaviour, Rejection, ValidationOutcome,
    Witness, WitnessLimits,
};

use crate::world::{DOMAIN, GENESIS, SLASHER, WINDOW, key, preconf, validator};

/// What the preconfer of the `turn`-th window signs.
fn signed(turn: u64, preconf: Preconfirmation) -> Elected {
    let start = GENESIS + turn * WINDOW;
    let preconf = Preconfirmation {
        timestamp: U256::from(start + 3),
        submission_window_end: U256::from(start + WINDOW - 1),
        ..preconf
    };
    let by = if turn.is_multiple_of(2) { key(1) } else { key(2) };
    let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&by, &DOMAIN);
    let commitment = validator().authenticate_signed(signed).unwrap();
    match validator().elect(commitment, Arrival::Live(UnixSeconds::new(start + 4))) {
        ValidationOutcome::Accept(elected) => elected,
        other => panic!("not elected: {other:?}"),
    }
}

/// A block; `salt` makes it another one.
fn block(number: u64, salt: u8) -> Preconfirmation {
    Preconfirmation {
        block_number: U256::from(number),
        raw_tx_list_hash: B256::repeat_byte(salt),
        ..preconf()
    }
}

fn last_block(number: u64) -> Preconfirmation {
    Preconfirmation { eop: true, ..block(number, 1) }
}

fn declines(number: u64) -> Preconfirmation {
    Preconfirmation { eop: true, ..block(number, 0) }
}

/// What a new witness finds in these, as (kind, height), in this order and in the other.
fn found(commitments: &[(u64, Preconfirmation)]) -> Vec<(Misbehaviour, u64)> {
    let witness = |commitments: &mut dyn Iterator<Item = &(u64, Preconfirmation)>| {
        let mut witness = Witness::default();
        let mut found: Vec<_> = commitments
            .flat_map(|(turn, preconf)| witness.note(&signed(*turn, preconf.clone())))
            .map(|evidence| (evidence.kind(), evidence.block()))
            .collect();
        assert_eq!(found.len(), witness.evidence().count());
        found.sort_unstable();
        found
    };
    let forwards = witness(&mut commitments.iter());
    assert_eq!(witness(&mut commitments.iter().rev()), forwards, "in any order");
    forwards
}

use Misbehaviour::{BlockAfterEop, Equivocation};

#[test]
fn two_contents_for_one_height_of_one_window_are_an_equivocation() {
    assert_eq!(found(&[(0, block(42, 1)), (0, block(42, 2))]), [(Equivocation, 42)]);
    assert_eq!(found(&[(0, block(42, 1)), (0, block(42, 1))]), [], "the same again");
    assert_eq!(found(&[(0, block(42, 1)), (0, block(43, 2))]), [], "another height");
    assert_eq!(found(&[(0, block(42, 1)), (1, block(42, 2))]), [], "another signer");
    assert_eq!(found(&[(0, block(42, 1)), (2, block(42, 2))]), [], "another window of the same signer");
    let three = [(0, block(42, 1)), (0, block(42, 2)), (0, block(42, 3))];
    assert_eq!(found(&three), [(Equivocation, 42)], "once for a window");
}

#[test]
fn a_block_after_a_handover_is_misbehaviour_from_the_first_forbidden_height_on() {
    assert_eq!(found(&[(0, block(41, 1)), (0, last_block(42))]), []);
    assert_eq!(found(&[(0, last_block(42)), (0, block(43, 1))]), [(BlockAfterEop, 43)]);
    assert_eq!(found(&[(0, last_block(42)), (1, block(43, 1))]), [], "the next preconfer's");
    assert_eq!(found(&[(0, last_block(42)), (2, block(43, 1))]), [], "another window");
    assert_eq!(found(&[(0, last_block(42)), (0, last_block(43))]), [(BlockAfterEop, 43)]);
    assert_eq!(found(&[(0, last_block(42)), (0, declines(43))]), [], "no block");

    assert_eq!(found(&[(0, block(41, 1)), (0, declines(42))]), []);
    assert_eq!(found(&[(0, declines(42)), (0, block(43, 1))]), [(BlockAfterEop, 43)]);
    let declined = [(0, declines(42)), (0, block(42, 1))];
    let mut witness = Witness::default();
    assert_eq!(declined.iter().flat_map(|(turn, p)| witness.note(&signed(*turn, p.clone()))).count(), 2);
    assert_eq!(found(&[(0, last_block(u64::MAX)), (0, block(u64::MAX - 1, 1))]), [], "no height is left");
}

#[test]
fn the_handover_that_leaves_least_counts_and_one_proof_is_enough() {
    let all = [last_block(50), last_block(42), block(45, 1), block(47, 1), block(47, 2), block(48, 2)];
    for order in [all.iter().collect::<Vec<_>>(), all.iter().rev().collect()] {
        let mut witness = Witness::default();
        let mut kinds: Vec<_> =
            order.into_iter().flat_map(|preconf| witness.note(&signed(0, preconf.clone()))).collect();
        kinds.sort_unstable_by_key(Evidence::kind);
        let kinds: Vec<_> = kinds.iter().map(Evidence::kind).collect();
        assert_eq!(kinds, [Equivocation, BlockAfterEop]);
    }
    let mut witness = Witness::default();
    for preconf in [declines(43), last_block(42)] {
        assert!(witness.note(&signed(0, preconf)).is_empty());
    }
    let [evidence] = &witness.note(&signed(0, block(44, 1)))[..] else { panic!() };
    assert!(evidence.first().is_eop_only(), "of two that leave the same, the first");
}

#[test]
fn evidence_names_both_commitments_and_survives_being_written_down() {
    let (eop, later) = (signed(0, last_block(42)), signed(0, block(43, 1)));
    let mut witness = Witness::default();
    assert!(witness.note(&later).is_empty());
    let [evidence] = &witness.note(&eop)[..] else { panic!() };
    assert_eq!((evidence.kind(), evidence.block(), evidence.signer()), (BlockAfterEop, 43, key(1).address()));
    assert_eq!((evidence.first(), evidence.second()), (&*eop, &*later), "the EOP first, whenever it came");

    let json = serde_json::to_string(&evidence.record()).unwrap();
    assert!(json.starts_with(r#"{"kind":"block_after_eop","first":{"#));
    let read: EvidenceRecord = serde_json::from_str(&json).unwrap();
    let verified = read.verify(&validator()).unwrap();
    assert_eq!(&verified, evidence);
    assert!(!witness.keep(verified.clone()), "known");
    assert!(Witness::default().keep(verified));
}

#[test]
fn a_record_that_proves_nothing_is_refused() {
    let record = |kind, first: &Elected, second: &Elected| {
        let signed = |commitment: &Elected| commitment.recovered().signed().clone();
        EvidenceRecord { kind, first: signed(first), second: signed(second) }
    };
    let (one, other, next) = (signed(0, block(42, 1)), signed(0, block(42, 2)), signed(1, block(42, 2)));
    assert!(record(Equivocation, &one, &other).verify(&validator()).is_ok());
    for (kind, first, second) in
        [(Equivocation, &one, &one), (Equivocation, &one, &next), (BlockAfterEop, &one, &other)]
    {
        let refused = record(kind, first, second).verify(&validator());
        assert_eq!(refused, Err(EvidenceError::Unproven(kind)));
    }
    let mut forged = record(Equivocation, &one, &other);
    forged.second.commitment.preconf.gas_limit += U256::from(1);
    assert_eq!(forged.verify(&validator()), Err(EvidenceError::Unproven(Equivocation)), "another signer's");
    let mut unsigned = record(Equivocation, &one, &other);
    unsigned.first.signature[64] = 27;
    let refused = unsigned.verify(&validator());
    assert!(matches!(refused, Err(EvidenceError::Commitment(Rejection::Signature(_)))));
    assert!(Evidence::new(Equivocation, (*one).clone(), (*other).clone()).is_some());
    assert!(Evidence::new(Equivocation, (*one).clone(), (*next).clone()).is_none());
    assert_eq!([Equivocation, BlockAfterEop].map(Misbehaviour::label), ["equivocation", "block_after_eop"]);
}

#[test]
fn a_full_witness_forgets_the_oldest_window_and_the_worst_signers_oldest() {
    let nz = |n| NonZeroUsize::new(n).unwrap();
    let mut witness = Witness::new(WitnessLimits { commitments: nz(2), evidence: nz(3) });
    let mut note = |turn, preconf| witness.note(&signed(turn, preconf)).len();
    assert_eq!([note(0, block(1, 1)), note(2, block(2, 1)), note(4, block(3, 1))], [0; 3]);
    assert_eq!(note(0, block(1, 2)), 0, "forgotten");
    assert_eq!(note(2, block(2, 2)), 1, "not forgotten");

    for (turn, height) in [(10, 10), (11, 11), (12, 12)] {
        assert_eq!(note(turn, block(height, 1)) + note(turn, block(height, 2)), 1);
    }
    let kept: Vec<_> = witness.evidence().map(|evidence| (evidence.signer(), evidence.block())).collect();
    let mut expected = [(key(1).address(), 10), (key(1).address(), 12), (key(2).address(), 11)];
    expected.sort_unstable();
    assert_eq!(kept, expected, "of signer 1's three, height 2 had to go");
    assert_eq!(WitnessLimits::default(), WitnessLimits { commitments: nz(4096), evidence: nz(1024) });
}

#[test]
fn handovers_are_forgotten_with_their_window_too() {
    let nz = |n| NonZeroUsize::new(n).unwrap();
    let mut witness = Witness::new(WitnessLimits { commitments: nz(1), evidence: nz(8) });
    let mut note = |turn, preconf| witness.note(&signed(turn, preconf)).len();
    assert_eq!([note(0, last_block(1)), note(2, last_block(2))], [0; 2]);
    assert_eq!(note(0, block(3, 1)), 0, "forgotten");
    assert_eq!(note(2, block(3, 1)), 1, "not forgotten");
}

#[test]
fn a_new_commitment_is_held_against_all_that_was_seen() {
    let mut witness = Witness::default();
    drop(witness.note(&signed(0, block(41, 1))));
    drop(witness.note(&signed(0, last_block(42))));
    drop(witness.note(&signed(2, block(50, 1))));
    let conflict = |turn, preconf: Preconfirmation| witness.conflict(&Promise::from(&*signed(turn, preconf)));
    let eop = last_block(42).hash();
    assert_eq!(conflict(0, block(41, 1)), None, "the same again");
    assert_eq!(conflict(0, last_block(42)), None, "the same again");
    assert_eq!(conflict(0, block(41, 2)), Some((Equivocation, block(41, 1).hash())));
    assert_eq!(conflict(0, declines(41)), Some((Equivocation, block(41, 1).hash())));
    assert_eq!(conflict(0, block(42, 2)), Some((Equivocation, eop)));
    assert_eq!(conflict(0, block(43, 1)), Some((BlockAfterEop, eop)));
    assert_eq!(conflict(0, declines(43)), None, "no block");
    assert_eq!(conflict(0, block(40, 1)), None);
    assert_eq!(conflict(0, declines(40)), Some((BlockAfterEop, block(41, 1).hash())), "a block above");
    assert_eq!(conflict(2, last_block(49)), Some((BlockAfterEop, signed(2, block(50, 1)).hash())));
    assert_eq!(conflict(2, last_block(51)), None);
    assert_eq!(conflict(1, block(41, 2)), None, "another signer's window");
}
