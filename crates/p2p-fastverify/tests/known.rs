//! What is learnt, kept and counted, and what forgeries may cost.

#![allow(clippy::unwrap_used, reason = "fixtures of tests")]

use std::cell::Cell;

use allocation_counter::measure;
use alloy_primitives::Address;
use p2p_fastverify::{Claim, Counts, KnownSigners, LEARNT_AFTER, Signature, Table};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa::RecoverableSignature};

fn secret(number: u8) -> SecretKey {
    SecretKey::from_secret_bytes([number; 32]).unwrap()
}

fn key(number: u8) -> PublicKey {
    secret(number).public_key()
}

fn address(number: u8) -> Address {
    Address::from_raw_public_key(&key(number).serialize_uncompressed()[1..])
}

/// A signature by one key, in the name of another.
fn claim(by: u8, expected: u8, message: u32) -> Claim {
    let mut digest = [0x5a; 32];
    digest[..4].copy_from_slice(&message.to_be_bytes());
    let signature = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &secret(by));
    let (v, rs) = signature.serialize_compact();
    let mut bytes = [v.to_u8(); 65];
    bytes[..64].copy_from_slice(&rs);
    Claim { signature: Signature::new(digest, bytes), expected: Some(address(expected)) }
}

fn claims(by: u8, expected: u8, count: u32) -> Vec<Claim> {
    (0..count).map(|message| claim(by, expected, message)).collect()
}

#[test]
fn a_signer_is_learnt_after_some_recoveries_and_then_hit() {
    let known = KnownSigners::new(1 << 20);
    for (i, claim) in (1..).zip(claims(1, 1, LEARNT_AFTER)) {
        assert!(!known.wants_tables());
        assert_eq!(known.recover(&claim), Some(address(1)));
        assert_eq!(known.wants_tables(), i == LEARNT_AFTER);
    }
    // Until it is built, nobody else is told.
    assert_eq!(known.recover(&claim(1, 1, 99)), Some(address(1)));
    assert!(!known.wants_tables());
    known.build_wanted();
    assert!(!known.wants_tables() && known.knows(address(1)));
    assert_eq!(known.recover(&claim(1, 1, 100)), Some(address(1)));
    let recoveries = u64::from(LEARNT_AFTER) + 1;
    assert_eq!(
        known.counts(),
        Counts { hits: 1, recoveries, tables_built: 1, tables: 1, ..Counts::default() }
    );
}

#[test]
fn nobody_is_learnt_who_was_not_expected() {
    let known = KnownSigners::new(1 << 20);
    for message in 0..3 * LEARNT_AFTER {
        let forged = claim(2, 1, message);
        assert_eq!(known.recover(&forged), Some(address(2)));
        assert_eq!(known.recover(&Claim { expected: None, ..forged }), Some(address(2)));
    }
    assert!(!known.wants_tables());
    known.build_wanted();
    assert_eq!(known.counts().tables_built, 0);
}

#[test]
fn many_by_a_new_signer_are_worth_its_table_and_few_are_not() {
    let known = KnownSigners::new(1 << 20);
    assert!(known.worth_learning(&claims(1, 1, 23)).is_empty());
    // Forgeries before the first genuine one do no harm, and forgeries alone teach nothing.
    let mixed: Vec<_> = [claims(3, 1, 2), claims(1, 1, 30), claims(3, 2, 30)].concat();
    let worth = known.worth_learning(&mixed);
    assert_eq!(worth.iter().map(|(signer, _)| *signer).collect::<Vec<_>>(), [address(1), address(2)]);
    for (signer, samples) in &worth {
        known.learn(*signer, samples);
    }
    assert!(known.knows(address(1)) && !known.knows(address(2)));
    assert_eq!(known.worth_learning(&mixed).len(), 1);
    let recovered = Cell::new(0);
    let answers = known.recover_all(&mixed, || recovered.set(recovered.get() + 1));
    assert!(
        answers
            .iter()
            .zip(0..)
            .all(|(answer, i)| *answer == Some(address(if (2..32).contains(&i) { 1 } else { 3 })))
    );
    assert_eq!((known.counts().hits, known.counts().misses), (30, 2));
    assert_eq!(recovered.get(), 32, "after each that its table has not proved");
}

#[test]
fn tables_stay_within_their_bytes_and_the_one_used_last_stays() {
    let known = KnownSigners::new(2 * Table::BYTES + Table::BYTES / 2);
    known.add(&key(1));
    known.add(&key(2));
    assert_eq!(known.recover(&claim(1, 1, 0)), Some(address(1)));
    known.add(&key(3));
    assert_eq!([1, 2, 3].map(|number| known.knows(address(number))), [true, false, true]);
    assert_eq!((known.counts().tables, known.counts().tables_built), (2, 3));
    known.add(&key(3));
    assert_eq!(known.counts().tables_built, 3);
}

#[test]
fn without_bytes_every_signature_is_recovered() {
    let known = KnownSigners::new(Table::BYTES - 1);
    known.add(&key(1));
    for claim in claims(1, 1, 40) {
        assert_eq!(known.recover(&claim), Some(address(1)));
    }
    assert!(!known.wants_tables() && known.worth_learning(&claims(1, 1, 40)).is_empty());
    assert_eq!(known.counts(), Counts { recoveries: 40, ..Counts::default() });
}

#[test]
fn a_flood_of_forgeries_is_soon_not_tried_any_more() {
    let known = KnownSigners::new(1 << 20);
    known.add(&key(1));
    let forged = claim(2, 1, 0);
    for _ in 0..1024 {
        assert_eq!(known.recover(&forged), Some(address(2)));
    }
    let before = known.counts().misses;
    assert_eq!(before, 1024);
    for _ in 0..160 {
        known.recover(&forged);
    }
    assert_eq!(known.counts().misses, before);
    // A genuine one, which is recovered, gives the table another chance: for four, and then for more.
    assert_eq!(known.recover(&claim(1, 1, 0)), Some(address(1)));
    assert_eq!(known.counts().hits, 0);
    for message in 1..=3 {
        known.recover(&forged);
        assert_eq!(known.recover(&claim(1, 1, message)), Some(address(1)));
    }
    assert_eq!((known.counts().hits, known.counts().misses), (3, before + 3));
    for _ in 0..100 {
        known.recover(&forged);
    }
    // 4, and for each of three rounds 4 more and one less.
    assert_eq!(known.counts().misses, before + 3 + 13);
}

#[test]
fn what_is_no_signature_is_a_fallback_and_names_nobody() {
    let known = KnownSigners::new(1 << 20);
    known.add(&key(1));
    let Claim { expected, .. } = claim(1, 1, 0);
    for bytes in [[0; 65], [0xff; 65]] {
        let claim = Claim { signature: Signature::new([7; 32], bytes), expected };
        assert_eq!(known.recover(&claim), None);
        assert_eq!(known.recover_all(&[claim, claim], || ()), [None, None]);
    }
    assert_eq!(known.counts().fallbacks, 6);
}

#[test]
fn recovering_one_allocates_nothing_whether_known_or_not() {
    let known = KnownSigners::new(1 << 20);
    known.add(&key(1));
    let (hit, miss, unknown) = (claim(1, 1, 0), claim(2, 1, 0), claim(2, 2, 0));
    // The generator's table is built by the first.
    known.recover(&hit);
    known.recover(&unknown);
    for claim in [hit, miss, unknown, Claim { expected: None, ..hit }] {
        assert_eq!(measure(|| _ = known.recover(&claim)).count_total, 0);
    }
}
