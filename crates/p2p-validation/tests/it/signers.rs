//! Known signers: other ways to the same answers.

use allocation_counter::measure;
use p2p_types::{Preconfirmation, SignedCommitment, U256};
use p2p_validation::{Rejection, SignerCounts, ValidationConfig, ValidationOutcome, Validator};
use preconfirmation_types::{Container, SignatureError};

use crate::world::{GENESIS, LIVE, ON_BASE, WINDOW, config, key, preconf, sign, validator, validator_with};

/// Block `number`, signed by key 1, whose window it is.
fn block(number: u64) -> SignedCommitment {
    sign(Preconfirmation { block_number: U256::from(number), ..preconf() })
}

/// The same block signed by another key.
fn forged(number: u64, by: u8) -> SignedCommitment {
    p2p_fixtures::sign(&key(by), block(number).preconf().clone())
}

fn page(blocks: std::ops::Range<u64>) -> Vec<SignedCommitment> {
    blocks.map(block).collect()
}

fn without_tables() -> Validator {
    validator_with(ValidationConfig { signer_tables: 0, ..config() })
}

/// Good, forged and damaged commitments of both windows.
fn mixed() -> Vec<SignedCommitment> {
    let mut page = page(1..90);
    for (i, signed) in page.iter_mut().enumerate() {
        match i % 9 {
            3 => signed.signature[40] ^= 1,
            4 => signed.signature[64] ^= 1,
            5 => *signed = forged(7, 3),
            6 => signed.commitment.preconf.block_number += U256::from(1),
            7 => signed.signature[3] ^= 0x80,
            8 => {
                let of_two = Preconfirmation {
                    timestamp: U256::from(GENESIS + WINDOW),
                    submission_window_end: U256::from(GENESIS + 2 * WINDOW - 1),
                    ..*signed.preconf()
                };
                *signed = p2p_fixtures::sign(&key(2), of_two);
            }
            _ => {}
        }
    }
    page[20].signature[64] = 27;
    page[21].signature[32..64].fill(0);
    page
}

#[test]
fn tables_change_no_answer() {
    let (with, without) = (validator(), without_tables());
    let page = mixed();
    let answers = without.authenticate_page(&page);
    assert_eq!(without.signer_counts().hits, 0);
    // Cold, then warm; as a page, as messages, one by one.
    let wire: Vec<_> = page.iter().map(Container::to_ssz).collect();
    for _ in 0..2 {
        assert_eq!(with.authenticate_page(&page), answers);
        assert_eq!(with.authenticate_all(&wire), answers);
        let alone: Vec<_> = wire.iter().map(|ssz| with.authenticate(ssz)).collect();
        assert_eq!(alone, answers);
    }
    let SignerCounts { hits, misses, recoveries, .. } = with.signer_counts();
    assert!(hits > 200 && misses > 100 && recoveries > 0, "{:?}", with.signer_counts());
    assert!(answers.contains(&Err(Rejection::Signature(SignatureError::RecoveryId(27)))));
    assert!(answers.contains(&Err(Rejection::Signature(SignatureError::OutOfRange))));
    assert!(answers.contains(&Err(Rejection::Signature(SignatureError::Unrecoverable))));
}

#[test]
fn a_page_by_one_new_signer_is_recovered_once() {
    let validator = validator();
    assert!(validator.authenticate_page(&page(1..65)).iter().all(Result::is_ok));
    let expected = SignerCounts { hits: 64, recoveries: 1, tables_built: 1, tables: 1, ..Default::default() };
    assert_eq!(validator.signer_counts(), expected);
    // Clones share what is known.
    assert!(validator.clone().authenticate(&block(1).to_ssz()).is_ok());
    assert_eq!(validator.signer_counts().hits, 65);
}

#[test]
fn a_signer_of_gossip_is_learnt_beside_it() {
    let validator = validator();
    for number in 1..9 {
        assert!(validator.authenticate(&block(number).to_ssz()).is_ok());
    }
    while validator.signer_counts().tables == 0 {
        std::thread::yield_now();
    }
    assert!(validator.authenticate(&block(9).to_ssz()).is_ok());
    assert_eq!((validator.signer_counts().hits, validator.signer_counts().recoveries), (1, 8));
}

#[test]
fn who_was_not_elected_is_not_learnt() {
    let validator = validator();
    for _ in 0..3 {
        let page: Vec<_> = (1..65).map(|number| forged(number, 3)).collect();
        assert!(validator.authenticate_page(&page).iter().all(Result::is_ok));
    }
    assert_eq!(validator.signer_counts().tables_built, 0);
}

#[test]
fn judging_a_known_signer_allocates_nothing() {
    let validator = validator();
    drop(validator.authenticate_page(&page(1..65)));
    for ssz in [block(42).to_ssz(), forged(42, 3).to_ssz()] {
        let mut outcome = None;
        let info = measure(|| outcome = Some(validator.validate(&ssz, LIVE, &ON_BASE)));
        assert_eq!(info.count_total, 0);
        let accepted = matches!(outcome, Some(ValidationOutcome::Accept(_)));
        assert_eq!(accepted, ssz == block(42).to_ssz());
    }
    assert_eq!((validator.signer_counts().hits, validator.signer_counts().misses), (65, 1));
}
