//! Whose turn it is after an EOP.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
};

use p2p_types::{B256, PreconfCommitment, Preconfirmation, U256, UnixSeconds};
use p2p_validation::{
    Arrival, Elected, Handovers, Lookahead, LookaheadError, OpenSchedule, RotatingSchedule, Slot,
    ValidationOutcome, Validator,
};

use crate::world::{DOMAIN, GENESIS, SLASHER, WINDOW, config, key, preconf};

fn schedule() -> RotatingSchedule {
    let operators = vec![key(1).address(), key(2).address(), key(3).address()];
    RotatingSchedule::new(operators, UnixSeconds::new(GENESIS), NonZeroU64::new(WINDOW).unwrap()).unwrap()
}

/// What a key signs in the `index`-th window.
fn signed(lookahead: Arc<dyn Lookahead>, by: u8, index: u64, preconf: Preconfirmation) -> Elected {
    let start = GENESIS + index * WINDOW;
    let preconf = Preconfirmation {
        timestamp: U256::from(start + 1),
        submission_window_end: U256::from(start + WINDOW - 1),
        ..preconf
    };
    let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(by), &DOMAIN);
    let validator = Validator::new(config(), lookahead);
    let commitment = validator.authenticate_signed(signed).unwrap();
    match validator.elect(commitment, Arrival::Live(UnixSeconds::new(start + 2))) {
        ValidationOutcome::Accept(elected) => elected,
        other => panic!("not elected: {other:?}"),
    }
}

fn eop(by: u8, index: u64) -> Elected {
    let declines = Preconfirmation { eop: true, raw_tx_list_hash: B256::ZERO, ..preconf() };
    signed(Arc::new(schedule()), by, index, declines)
}

fn handovers(limit: usize) -> Handovers {
    Handovers::new(NonZeroUsize::new(limit).unwrap())
}

#[test]
fn an_eop_advances_the_expected_preconfer_to_the_next_for_the_rest_of_the_window() {
    let (schedule, mut handovers) = (schedule(), handovers(8));
    let [a, b, c, d] = [0, 1, 2, 3].map(|index| schedule.nth(index));
    let expected =
        |handovers: &Handovers, moment| handovers.expected(&schedule, UnixSeconds::new(moment)).unwrap();
    let (last, next) = (GENESIS + WINDOW - 1, GENESIS + WINDOW);
    assert_eq!([GENESIS - 1, GENESIS, last, next].map(|at| expected(&handovers, at)), [None, a, a, b]);

    assert!(!handovers.note(&signed(Arc::new(schedule.clone()), 1, 0, preconf())), "a block is no handover");
    assert_eq!(expected(&handovers, GENESIS), a);

    assert!(handovers.note(&eop(1, 0)));
    assert!(!handovers.note(&eop(1, 0)), "known");
    assert_eq!([GENESIS, last, next, next + WINDOW].map(|at| expected(&handovers, at)), [b, b, b, c]);

    assert!(handovers.note(&eop(2, 1)));
    assert_eq!([GENESIS, last, next, next + WINDOW].map(|at| expected(&handovers, at)), [c; 4]);

    let ends_with_a_block = Preconfirmation { eop: true, ..preconf() };
    assert!(handovers.note(&signed(Arc::new(schedule.clone()), 3, 2, ends_with_a_block)));
    assert_eq!(expected(&handovers, GENESIS), d, "a last block hands over too");
}

#[test]
fn a_handover_of_somebody_whom_a_reorg_has_unelected_counts_no_more() {
    let mut handovers = handovers(8);
    assert!(handovers.note(&eop(1, 0)));
    let operators = vec![key(2).address(), key(1).address()];
    let other = RotatingSchedule::new(operators, UnixSeconds::new(GENESIS), NonZeroU64::new(WINDOW).unwrap())
        .unwrap();
    assert_eq!(handovers.expected(&other, UnixSeconds::new(GENESIS)), Ok(other.nth(0)));
}

#[test]
fn where_anyone_may_sign_anyone_hands_over() {
    let (genesis, window) = (UnixSeconds::new(GENESIS), NonZeroU64::new(WINDOW).unwrap());
    let open = OpenSchedule::accepting_any_signer(genesis, window);
    let mut handovers = handovers(8);
    let declines = Preconfirmation { eop: true, ..preconf() };
    assert!(handovers.note(&signed(Arc::new(open), 77, 0, declines)));
    let expected = handovers.expected(&open, genesis).unwrap().unwrap();
    assert_eq!(expected.window.start, UnixSeconds::new(GENESIS + WINDOW));
}

#[test]
fn the_oldest_window_is_forgotten_first() {
    let (schedule, mut handovers) = (schedule(), handovers(1));
    assert!(handovers.note(&eop(1, 0)));
    assert!(handovers.note(&eop(2, 1)));
    let expected = |index| handovers.expected(&schedule, UnixSeconds::new(GENESIS + index * WINDOW)).unwrap();
    assert_eq!((expected(0), expected(1)), (schedule.nth(0), schedule.nth(2)));
}

#[test]
fn what_the_lookahead_does_not_know_or_answers_wrongly_ends_the_search() {
    struct Constant(Result<Option<Slot>, LookaheadError>);
    impl Lookahead for Constant {
        fn turn(&self, _: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
            self.0
        }
    }
    let mut handovers = handovers(8);
    assert!(handovers.note(&eop(1, 0)));
    let expected = |answer| handovers.expected(&Constant(answer), UnixSeconds::new(GENESIS));
    assert_eq!(expected(Ok(None)), Ok(None));
    assert_eq!(expected(Err(LookaheadError::Unavailable)), Err(LookaheadError::Unavailable));
    assert_eq!(expected(Ok(schedule().nth(0))), Ok(None), "always the same slot");
}
