//! Bytes from an untrusted peer: every container and every frame, valid and then damaged in one to three places.
//! Decoding gives a typed error or a value that encodes to the very same bytes; it never panics. What is
//! well formed is said a second time in `damage`, independently, so that an error for good bytes fails as well,
//! and so does an error that names the wrong reason.
//! Seeds are fixed: 160,000 cases, the same ones on every run.

use std::cell::Cell;

use preconfirmation_types::{
    B256, Bytes, COMMITMENT_BYTES, Container, FrameError, GetCommitmentsByNumber,
    GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead, GetHeadRequest, GetRawTxList,
    GetRawTxListRequest, GetRawTxListResponse, MAX_TXLIST_BYTES, PreconfCommitment, PreconfHead,
    Preconfirmation, RawTxListGossip, Recovered, Rpc, SIGNED_COMMITMENT_BYTES, SignatureError,
    SignedCommitment, SigningDomain, SigningKey, TXLIST_HEADER_BYTES, U256, frame,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseResult, TestRunner},
};

use super::damage::{COMMITMENT_LIST, Noise, Shape, TXLIST, damages, fixed};

const CONTAINER_CASES: u32 = 10_000;
const FRAME_CASES: u32 = 8_000;
const SIGNATURE_CASES: u32 = 12_000;

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(0x7a1c_0c0d_e000_0001),
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(strategy, test);
    // The text of a failure holds the smallest case found.
    assert!(result.is_ok(), "{}", result.map_or_else(|failure| failure.to_string(), |()| String::new()));
}

/// All damage to a container, against its grammar.
fn container<C: Container>(shape: &Shape) {
    let (accepted, refused) = (Cell::new(0_u32), Cell::new(0_u32));
    run(CONTAINER_CASES, &(any::<u64>(), damages()), |(seed, damages)| {
        let mut bytes = shape.sample(&mut Noise(seed));
        prop_assert!(shape.well_formed(&bytes));
        prop_assert!((C::MIN_SSZ_BYTES..=C::MAX_SSZ_BYTES).contains(&bytes.len()));
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        match C::from_ssz(&bytes) {
            Ok(value) => {
                accepted.set(accepted.get() + 1);
                prop_assert!(shape.well_formed(&bytes), "accepted what is not well formed");
                prop_assert_eq!(value.to_ssz(), bytes);
            }
            Err(error) => {
                refused.set(refused.get() + 1);
                prop_assert!(!shape.well_formed(&bytes), "{} for good bytes", error);
                prop_assert!(shape.explains(&bytes, error.kind), "{}: not so", error);
                prop_assert_eq!(error.container, C::NAME);
                prop_assert!(error.to_string().starts_with(C::NAME));
            }
        }
        Ok(())
    });
    // Both answers were really asked for, more than now and then.
    assert!(accepted.get() > CONTAINER_CASES / 10, "{accepted:?} accepted");
    assert!(refused.get() > CONTAINER_CASES / 10, "{refused:?} refused");
}

#[test]
fn preconfirmations() {
    container::<Preconfirmation>(&fixed(297, true));
}

#[test]
fn commitments() {
    container::<PreconfCommitment>(&fixed(317, true));
}

#[test]
fn signed_commitments() {
    container::<SignedCommitment>(&fixed(382, true));
}

#[test]
fn txlist_gossip() {
    container::<RawTxListGossip>(&TXLIST);
}

#[test]
fn head_requests() {
    container::<GetHeadRequest>(&Shape::List { header: 4, item: 1, limit: 0, bool_first: false });
}

#[test]
fn heads() {
    container::<PreconfHead>(&fixed(64, false));
}

#[test]
fn page_requests() {
    container::<GetCommitmentsByNumberRequest>(&fixed(36, false));
}

#[test]
fn pages() {
    container::<GetCommitmentsByNumberResponse>(&COMMITMENT_LIST);
}

#[test]
fn txlist_requests() {
    container::<GetRawTxListRequest>(&fixed(32, false));
}

#[test]
fn txlist_responses() {
    container::<GetRawTxListResponse>(&TXLIST);
}

/// The bounds of the two lists, which random sizes would never meet.
#[test]
fn lists_end_at_their_limit() {
    fn at_limit<C: Container>(shape: &Shape, header: &[u8], tail: usize, item: usize) {
        for (tail, good) in [(tail, true), (tail + 1, false), (tail + item, false), (tail - item, true)] {
            let mut bytes = header.to_vec();
            bytes.resize(header.len() + tail, 0);
            assert_eq!(shape.well_formed(&bytes), good);
            assert_eq!(C::from_ssz(&bytes.into()).is_ok(), good);
        }
    }
    let mut header = [0; TXLIST_HEADER_BYTES];
    header[32] = 36;
    at_limit::<RawTxListGossip>(&TXLIST, &header, MAX_TXLIST_BYTES, 1);
    at_limit::<GetRawTxListResponse>(&TXLIST, &header, MAX_TXLIST_BYTES, 1);
    at_limit::<GetCommitmentsByNumberResponse>(
        &COMMITMENT_LIST,
        &[4, 0, 0, 0],
        256 * SIGNED_COMMITMENT_BYTES,
        SIGNED_COMMITMENT_BYTES,
    );
}

/// A length prefix, minimal or with a superfluous group.
fn prefix(mut length: u64, padded: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let group = length.to_le_bytes()[0] & 0x7f;
        length >>= 7;
        if length == 0 {
            bytes.push(if padded { group | 0x80 } else { group });
            break;
        }
        bytes.push(group | 0x80);
    }
    if padded {
        bytes.push(0);
    }
    bytes
}

/// All damage to the frames of a container: to the content, to the prefix, and to the whole.
fn framed<C: Container>(shape: &Shape, cap: usize) {
    let (accepted, refused) = (Cell::new(0_u32), Cell::new(0_u32));
    let lie = prop::option::weighted(0.2, prop_oneof![0_u64..300, any::<u64>()]);
    let strategy = (any::<u64>(), damages(), lie, prop::bool::weighted(0.1), damages(), any::<bool>());
    run(FRAME_CASES, &strategy, |(seed, inner, lie, padded, outer, whole)| {
        let mut ssz = shape.sample(&mut Noise(seed));
        for damage in inner.iter().filter(|_| !whole) {
            damage.apply(&mut ssz);
        }
        let mut bytes = prefix(lie.unwrap_or(u64::try_from(ssz.len()).unwrap()), padded);
        bytes.extend(ssz);
        for damage in outer.iter().filter(|_| whole) {
            damage.apply(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        if let Ok(Some((length, taken))) = frame::read_prefix(&bytes, cap) {
            prop_assert!(length <= cap && taken <= frame::MAX_PREFIX_BYTES);
            prop_assert_eq!(prefix(u64::try_from(length).unwrap(), false), bytes.slice(..taken));
        }
        match frame::read::<C>(&bytes, cap) {
            Ok(value) => {
                accepted.set(accepted.get() + 1);
                prop_assert_eq!(frame::write(&value), bytes);
            }
            Err(error) => {
                refused.set(refused.get() + 1);
                if let FrameError::Content(error) = error {
                    prop_assert_eq!(error.container, C::NAME);
                }
            }
        }
        Ok(())
    });
    assert!(accepted.get() > FRAME_CASES / 20, "{accepted:?} accepted");
    assert!(refused.get() > FRAME_CASES / 10, "{refused:?} refused");
}

#[test]
fn frames_of_heads() {
    framed::<GetHeadRequest>(
        &Shape::List { header: 4, item: 1, limit: 0, bool_first: false },
        GetHead::REQUEST_CAP,
    );
    framed::<PreconfHead>(&fixed(64, false), GetHead::RESPONSE_CAP);
}

#[test]
fn frames_of_pages() {
    framed::<GetCommitmentsByNumberRequest>(&fixed(36, false), GetCommitmentsByNumber::REQUEST_CAP);
    framed::<GetCommitmentsByNumberResponse>(&COMMITMENT_LIST, GetCommitmentsByNumber::RESPONSE_CAP);
}

#[test]
fn frames_of_txlists() {
    framed::<GetRawTxListRequest>(&fixed(32, false), GetRawTxList::REQUEST_CAP);
    framed::<GetRawTxListResponse>(&TXLIST, GetRawTxList::RESPONSE_CAP);
}

fn signed(seed: u64) -> (SignedCommitment, SigningKey) {
    let noise = &mut Noise(seed);
    let key = SigningKey::from_bytes([u8::try_from(1 + noise.below(200)).unwrap(); 32]).unwrap();
    let ssz = noise.item(COMMITMENT_BYTES, true);
    let commitment = PreconfCommitment::from_ssz(&ssz.into()).unwrap();
    (commitment.sign(&key, &SigningDomain::PLACEHOLDER), key)
}

#[test]
fn a_changed_commitment_never_keeps_its_signer() {
    let recovered = Cell::new(0_u32);
    run(SIGNATURE_CASES, &(any::<u64>(), damages()), |(seed, damages)| {
        let (original, key) = signed(seed);
        let original = original.to_ssz();
        let mut bytes = original.clone();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        match Recovered::from_ssz(&bytes, &SigningDomain::PLACEHOLDER) {
            Ok(found) => {
                prop_assert_eq!(found.signer() == key.address(), bytes == original);
                prop_assert_eq!(found.signed().to_ssz(), bytes);
                recovered.set(recovered.get() + u32::from(found.signer() != key.address()));
            }
            Err(_) => prop_assert_ne!(bytes, original),
        }
        Ok(())
    });
    // Many changed commitments do name somebody: the test is about those.
    assert!(recovered.get() > SIGNATURE_CASES / 20, "{recovered:?}");
}

/// The order of the group of secp256k1.
const ORDER: U256 = U256::from_limbs([
    0xbfd2_5e8c_d036_4141,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
]);

#[test]
fn the_twin_of_a_signature_is_refused() {
    for seed in 0..64 {
        let (mut twin, key) = signed(seed);
        let s = U256::from_be_slice(&twin.signature[32..64]);
        twin.signature[32..64].copy_from_slice(B256::from(ORDER - s).as_slice());
        // With its v flipped the twin would name the same signer; without, somebody else.
        for flip in [0, 1] {
            twin.signature[64] ^= flip;
            let judged = twin.clone().recover(&SigningDomain::PLACEHOLDER);
            assert_eq!(judged.map(|r| r.signer()), Err(SignatureError::HighS), "{key:?}");
        }
    }
}
