//! Pages, and what the hot path allocates.

use allocation_counter::measure;
use p2p_types::{Preconfirmation, SignedCommitment, U256};
use p2p_validation::{Rejection, ValidationOutcome};
use preconfirmation_types::{Container, SignatureError};

use crate::world::{GENESIS, LIVE, ON_BASE, WINDOW, preconf, sign, validator};

fn block(number: u64) -> SignedCommitment {
    sign(Preconfirmation { block_number: U256::from(number), ..preconf() })
}

#[test]
fn a_page_keeps_its_order_and_a_bad_commitment_affects_no_other() {
    let mut page: Vec<_> = (1..=40).map(block).collect();
    page[7].signature[64] = 27;
    page[30].commitment.preconf.submission_window_end = U256::from(GENESIS + WINDOW);
    let answers = validator().authenticate_page(&page);
    assert_eq!(answers.len(), page.len());
    for (index, (answer, signed)) in answers.iter().zip(&page).enumerate() {
        match index {
            7 => assert_eq!(*answer, Err(Rejection::Signature(SignatureError::RecoveryId(27)))),
            30 => assert!(matches!(answer, Err(Rejection::WindowEnd { .. }))),
            _ => assert_eq!(answer.as_ref().unwrap().recovered().signed(), signed),
        }
        assert_eq!(*answer, validator().authenticate(&signed.to_ssz()), "as alone");
    }
    let mut messages: Vec<_> = page.iter().map(Container::to_ssz).collect();
    assert_eq!(validator().authenticate_all(&messages), answers, "as messages");
    messages[7].pop();
    assert!(matches!(validator().authenticate_all(&messages)[7], Err(Rejection::Malformed(_))));
    assert_eq!(validator().authenticate_page(&[]), []);
}

#[test]
fn judging_a_commitment_allocates_nothing_whatever_comes_of_it() {
    let validator = validator();
    let wire = |preconf| sign(preconf).to_ssz();
    let good = wire(preconf());
    let mut forged = good.clone();
    forged[300] ^= 1;
    let mut unsigned = good.clone();
    unsigned[381] = 27;
    let cases = [
        (good.clone(), true),
        (good[..381].to_vec(), false),
        (forged, false),
        (unsigned, false),
        (wire(Preconfirmation { gas_limit: U256::MAX, ..preconf() }), false),
        (wire(Preconfirmation { submission_window_end: U256::from(7), ..preconf() }), false),
    ];
    for (ssz, valid) in cases {
        let mut accepted = false;
        let info = measure(|| {
            accepted = matches!(validator.validate(&ssz, LIVE, &ON_BASE), ValidationOutcome::Accept(_));
        });
        assert_eq!((accepted, info.count_total), (valid, 0));
    }
}

#[test]
fn a_page_allocates_a_few_times_for_many_commitments() {
    let page: Vec<_> = (1..=64).map(block).collect();
    let validator = validator();
    // The first page starts the thread pool.
    drop(validator.authenticate_page(&page));
    let info = measure(|| drop(validator.authenticate_page(&page)));
    // Of each share of 32 the buffer, what it is hashed in and what it is verified in; the lists of shares, the jobs of the
    // pool, the result.
    assert!(info.count_total < 80, "{info:?}");
}
