//! Signatures: what recovers them, and what verifies them against known signers, against `k256`.

use std::sync::OnceLock;

use k256::ecdsa::VerifyingKey;
use p2p_fastverify::{Claim, KnownSigners, Method, Signature, Table, Verdict};
use preconfirmation_types::{
    Address, B256, Container as _, FixedBytes, PreconfCommitment, Preconfirmation, Recovered,
    SignedCommitment, SigningDomain, SigningKey, U256, keccak256,
};
use secp256k1::{SecretKey, constants::CURVE_ORDER};

use crate::input::Input;

const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
const KEYS: u8 = 4;
const COMMITMENTS: u64 = 8;

/// Commitments of some signers, and what is known of these.
struct World {
    /// By each key, each with its digest.
    signed: Vec<(SignedCommitment, B256)>,
    tables: Vec<Table>,
    known: KnownSigners,
}

impl World {
    fn new() -> Self {
        let keys: Vec<SigningKey> =
            (1..=KEYS).map(|byte| SigningKey::from_bytes([byte; 32]).unwrap()).collect();
        let known = KnownSigners::new(4 << 20);
        let tables = (1..=KEYS).map(|byte| {
            let public = SecretKey::from_secret_bytes([byte; 32]).unwrap().public_key();
            known.add(&public);
            Table::new(&public)
        });
        let tables = tables.collect();
        let signed = keys.iter().flat_map(|key| {
            (0..COMMITMENTS).map(|number| {
                let preconf = Preconfirmation { block_number: U256::from(number), ..Default::default() };
                let commitment = PreconfCommitment { preconf, slasher_address: Address::ZERO };
                let digest = commitment.signing_hash(&DOMAIN);
                (commitment.sign(key, &DOMAIN), digest)
            })
        });
        Self { signed: signed.collect(), tables, known }
    }

    fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }
}

/// A genuine signature that is changed, or numbers at the borders of their ranges: `k256` has the same answer.
pub fn signature(data: &[u8]) {
    let world = World::get();
    let mut input = Input::new(data);
    let (signed, digest) = &world.signed[input.below(world.signed.len())];
    let mut bytes = signed.signature.0;
    match input.byte() % 4 {
        0 => {}
        1 => (0..=input.below(3)).for_each(|_| bytes[input.below(65)] ^= input.byte()),
        2 => {
            let at = input.below(2) * 32;
            bytes[at..at + 32].copy_from_slice(&border(&mut input, &signed.signature));
            bytes[64] ^= input.byte() & 3;
        }
        _ => bytes.iter_mut().for_each(|byte| *byte = input.byte()),
    }
    let expected = recovered_by_k256(digest, &bytes);
    let signer = checked_by_us(signed, bytes, expected);
    verified(world, digest.0, bytes, expected, signer);
}

/// Numbers at which something begins or ends.
fn border(input: &mut Input<'_>, signature: &FixedBytes<65>) -> [u8; 32] {
    let order = U256::from_be_bytes(CURVE_ORDER);
    let near = U256::from(input.below(4));
    let number = match input.byte() % 8 {
        0 => near,
        1 => order - near,
        2 => order + near,
        3 => (order >> 1) + near,
        4 => (order >> 1) - near,
        5 => U256::MAX - near,
        6 => U256::from_be_slice(&signature[..32]) + near,
        _ => order - U256::from_be_slice(&signature[32..64]) + near,
    };
    number.to_be_bytes()
}

/// Who signed, by `k256` alone, which takes a high s.
fn recovered_by_k256(digest: &B256, bytes: &[u8; 65]) -> Option<Address> {
    let (r, s): ([u8; 32], [u8; 32]) = (bytes[..32].try_into().unwrap(), bytes[32..64].try_into().unwrap());
    let signature = k256::ecdsa::Signature::from_scalars(r, s).ok()?;
    let v = k256::ecdsa::RecoveryId::from_byte(bytes[64])?;
    let key = VerifyingKey::recover_from_prehash(&digest.0, &signature, v).ok()?;
    let point = key.to_sec1_point(false);
    Some(Address::from_raw_public_key(&point.as_bytes()[1..]))
}

/// Recovery of a commitment: the same signer, where Ethereum takes the signature.
fn checked_by_us(signed: &SignedCommitment, bytes: [u8; 65], expected: Option<Address>) -> Option<Address> {
    let half = U256::from_be_bytes(CURVE_ORDER) >> 1;
    let is_low = U256::from_be_slice(&bytes[32..64]) <= half;
    let changed = SignedCommitment { signature: FixedBytes::new(bytes), ..signed.clone() };
    let ours = changed.clone().recover(&DOMAIN).map(|recovered| recovered.signer()).ok();
    assert_eq!(ours, expected.filter(|_| is_low && bytes[64] < 2), "a low s and v of 0 or 1");
    let ssz = changed.to_ssz();
    let from_wire = Recovered::from_ssz(&ssz, &DOMAIN).ok();
    assert_eq!(from_wire.as_ref().map(Recovered::signer), ours);
    if let Some(recovered) = from_wire {
        assert_eq!(recovered.hash(), keccak256(changed.commitment.preconf.to_ssz()));
    }
    // The twin is one of the same signer.
    if !is_low && bytes[64] < 2 {
        let low = changed.with_low_s();
        assert_eq!(low.recover(&DOMAIN).map(|recovered| recovered.signer()).ok(), expected);
    }
    ours
}

/// Verification against known signers: what it decides is what recovery gives.
fn verified(
    world: &World,
    digest: [u8; 32],
    bytes: [u8; 65],
    expected: Option<Address>,
    signer: Option<Address>,
) {
    let signature = Signature::new(digest, bytes);
    for table in &world.tables {
        for method in [Method::PORTABLE, Method::fastest()] {
            match method.verify(table, &signature) {
                Verdict::Signed => assert_eq!(signer, Some(table.signer())),
                Verdict::NotSigned => assert_ne!(signer, Some(table.signer())),
                Verdict::Undecided => {}
            }
        }
    }
    let claimed = world.tables[usize::from(bytes[0]) % world.tables.len()].signer();
    let claim = Claim { signature, expected: Some(claimed) };
    assert_eq!(world.known.recover(&claim), expected, "as libsecp256k1 answers");
}
