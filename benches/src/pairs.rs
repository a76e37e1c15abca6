//! What is measured: each piece of work twice, our way and the naive way, on the same bytes.

use std::{
    collections::HashSet,
    hint::black_box,
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use p2p_fastverify::{Table, hash_all};
use p2p_storage::SeenCache;
use p2p_types::{Base, MessageId, UnixSeconds};
use p2p_validation::{Arrival, Facts, RotatingSchedule, ValidationConfig, ValidationOutcome, Validator};
use preconfirmation_types::{
    Address, Bytes, Container, GetCommitmentsByNumberResponse, MAX_TXLIST_BYTES, PreconfCommitment,
    RawTxListGossip, SignedCommitment, SigningKey, U256, Unrecovered,
};

use crate::{DOMAIN, baseline, commitment, key, page, signed, txlist};

/// Does a piece of work so many times and says how long that took.
pub type Work = Box<dyn FnMut(u64) -> Duration>;

/// One piece of work, both ways.
pub struct Pair {
    /// Its name, with what and how much.
    pub name: &'static str,
    /// Our way.
    pub ours: Work,
    /// The naive way.
    pub baseline: Work,
    /// The bytes that our way keeps for it, where that is asked.
    pub bytes: Option<usize>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("name", &self.name).finish_non_exhaustive()
    }
}

fn work<T>(mut once: impl FnMut() -> T + 'static) -> Work {
    Box::new(move |times| {
        let start = Instant::now();
        for _ in 0..times {
            black_box(once());
        }
        start.elapsed()
    })
}

fn pair<A, B>(
    name: &'static str,
    ours: impl FnMut() -> A + 'static,
    baseline: impl FnMut() -> B + 'static,
) -> Pair {
    Pair { name, ours: work(ours), baseline: work(baseline), bytes: None }
}

/// The last second of the one window, in which all fixtures lie.
const WINDOW_END: u64 = 1_760_000_384;
const WINDOW: u64 = 1_000;
const NOW: Arrival = Arrival::Live(UnixSeconds::new(WINDOW_END));
const FACTS: Facts<'static> = Facts { base: Base::at(0), parent: None, before: None };

/// Recovers every signature, as it does those of signers that it does not know.
fn validator() -> Validator {
    validator_of(&[key().unwrap()], 0)
}

/// The keys take turns; tables of signers may take so many bytes.
fn validator_of(keys: &[SigningKey], signer_tables: usize) -> Validator {
    let genesis = UnixSeconds::new(WINDOW_END + 1 - WINDOW);
    let window = NonZeroU64::new(WINDOW).unwrap();
    let operators = keys.iter().map(SigningKey::address).collect();
    let schedule = RotatingSchedule::new(operators, genesis, window).unwrap();
    let config = ValidationConfig::new(DOMAIN, Address::repeat_byte(0x51));
    Validator::new(ValidationConfig { signer_tables, ..config }, Arc::new(schedule))
}

fn chain() -> baseline::Chain {
    baseline::Chain {
        domain: *DOMAIN.as_bytes(),
        slasher: [0x51; 20],
        signer: key().unwrap().address().into(),
        window_start: WINDOW_END + 1 - WINDOW,
        window_end: WINDOW_END,
    }
}

/// Every pair, in the order of the table.
#[must_use]
pub fn all() -> Vec<Pair> {
    let mut pairs =
        vec![decode(), encode(), signing_hash(), preconfirmation_hash(), recovery(), single(), page_256()];
    pairs.extend(known());
    pairs.extend(rejects());
    pairs.extend([
        keccak_of_eight("keccak_8x10kib", 10 << 10),
        keccak_of_eight("keccak_8x2mib", MAX_TXLIST_BYTES),
    ]);
    for (names, bytes) in [
        (["txlist_decode_1kib", "txlist_encode_1kib", "txlist_hash_1kib", "txlist_check_1kib"], 1024),
        (
            ["txlist_decode_128kib", "txlist_encode_128kib", "txlist_hash_128kib", "txlist_check_128kib"],
            128 * 1024,
        ),
        (
            ["txlist_decode_2mib", "txlist_encode_2mib", "txlist_hash_2mib", "txlist_check_2mib"],
            MAX_TXLIST_BYTES,
        ),
    ] {
        pairs.extend(txlists(names, bytes));
    }
    pairs
}

pub(crate) fn wire() -> Bytes {
    signed(1).unwrap().to_ssz().into()
}

pub(crate) fn wire_page() -> Bytes {
    page(256).unwrap().to_ssz().into()
}

fn naive() -> baseline::SignedCommitment {
    baseline::decode(&wire()).unwrap()
}

fn decode() -> Pair {
    let (ours, theirs) = (wire(), wire());
    pair(
        "decode",
        move || SignedCommitment::from_ssz(black_box(&ours)).unwrap(),
        move || baseline::decode::<baseline::SignedCommitment>(black_box(&theirs)).unwrap(),
    )
}

fn encode() -> Pair {
    let (ours, theirs) = (signed(1).unwrap(), naive());
    assert_eq!(ours.to_ssz(), baseline::encode(&theirs));
    pair("encode", move || black_box(&ours).to_ssz(), move || baseline::encode(black_box(&theirs)))
}

fn signing_hash() -> Pair {
    let (ours, theirs) = (wire(), naive());
    let domain = *DOMAIN.as_bytes();
    assert_eq!(DOMAIN.signing_hash(&ours[..317]), theirs.signing_hash(&domain));
    pair(
        "signing_hash",
        move || DOMAIN.signing_hash(&black_box(&ours)[..317]),
        move || black_box(&theirs).signing_hash(&domain),
    )
}

fn preconfirmation_hash() -> Pair {
    let (ours, theirs) = (wire(), naive());
    assert_eq!(signed(1).unwrap().preconf().hash(), theirs.preconfirmation_hash());
    pair(
        "preconfirmation_hash",
        move || preconfirmation_types::keccak256(&black_box(&ours)[..297]),
        move || black_box(&theirs).preconfirmation_hash(),
    )
}

fn recovery() -> Pair {
    let (ours, theirs, mut buffer) = (signed(1).unwrap(), naive(), Vec::new());
    pair(
        "recovery",
        move || Unrecovered::from_signed(black_box(&ours).clone(), &mut buffer).recover(&DOMAIN).unwrap(),
        move || baseline::recover(black_box(&theirs), DOMAIN.as_bytes()).unwrap(),
    )
}

pub(crate) fn accepted(validator: &Validator, ssz: &[u8]) -> bool {
    matches!(validator.validate(ssz, NOW, &FACTS), ValidationOutcome::Accept(_))
}

fn single() -> Pair {
    let (ours, theirs, validator, chain) = (wire(), wire(), validator(), chain());
    assert!(accepted(&validator, &ours) && baseline::validate(&theirs, &chain).is_some());
    pair(
        "single",
        move || accepted(&validator, black_box(&ours)),
        move || baseline::validate(black_box(&theirs), &chain),
    )
}

fn page_256() -> Pair {
    let wire = wire_page();
    let (theirs, validator, chain) = (wire.clone(), validator(), chain());
    assert_eq!(baseline::validate_page(&theirs, &chain).unwrap().len(), 256);
    pair(
        "page_256",
        move || {
            let page = GetCommitmentsByNumberResponse::from_ssz(black_box(&wire)).unwrap();
            let answers = validator.authenticate_page(page.commitments());
            assert!(answers.len() == 256 && answers.iter().all(Result::is_ok));
        },
        move || assert!(baseline::validate_page(black_box(&theirs), &chain).is_some()),
    )
}

/// Bytes for the tables of all signers.
const TABLES: usize = 16 << 20;

/// A validator that knows the table of the one signer.
pub(crate) fn warm() -> Validator {
    let validator = validator_of(&[key().unwrap()], TABLES);
    let answers = validator.authenticate_page(page(256).unwrap().commitments());
    assert!(answers.iter().all(Result::is_ok) && validator.signer_counts().tables == 1);
    validator
}

/// From bytes to authenticated.
pub(crate) fn authenticate(validator: &Validator, wire: &Bytes) {
    let page = GetCommitmentsByNumberResponse::from_ssz(black_box(wire)).unwrap();
    let answers = validator.authenticate_page(page.commitments());
    assert!(answers.len() == 256 && answers.iter().all(Result::is_ok));
}

/// Signers whose tables are at hand, or not yet.
fn known() -> Vec<Pair> {
    let (ours, theirs, validator) = (wire(), wire(), warm());
    let single = pair(
        "single_known",
        move || accepted(&validator, black_box(&ours)),
        move || baseline::validate(black_box(&theirs), &chain()),
    );
    let wire = wire_page();
    let (ours, theirs, validator) = (wire.clone(), wire.clone(), warm());
    let naive = move |wire: &Bytes| assert!(baseline::validate_page(black_box(wire), &chain()).is_some());
    let page = pair("page_256_known", move || authenticate(&validator, &ours), move || naive(&theirs));
    let (ours, theirs, validator) = (wire.clone(), wire.clone(), warm());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    // The thread of such a pool shares its work with nobody.
    let one_core = pair(
        "page_256_known_one_core",
        move || one.install(|| authenticate(&validator, &ours)),
        move || naive(&theirs),
    );
    let (cold, keys, theirs) = (cold_page(), cold_keys(), wire);
    let cold = pair(
        "page_256_cold",
        move || authenticate(&validator_of(&keys, TABLES), &cold),
        move || naive(&theirs),
    );
    vec![single, page, one_core, cold, flood_unknown(), table_build()]
}

fn cold_keys() -> Vec<SigningKey> {
    [0x61, 0x62, 0x63].map(|byte| SigningKey::from_bytes([byte; 32]).unwrap()).to_vec()
}

/// A page of three signers, one window each.
fn cold_page() -> Bytes {
    let page = (0..256_u64).map(|block| {
        let turn = block / 86;
        let mut commitment = commitment(block);
        commitment.preconf.timestamp = U256::from(WINDOW_END + turn * WINDOW);
        commitment.preconf.submission_window_end = U256::from(WINDOW_END + turn * WINDOW);
        commitment.sign(&cold_keys()[usize::try_from(turn).unwrap()], &DOMAIN)
    });
    GetCommitmentsByNumberResponse::new(page.collect()).unwrap().to_ssz().into()
}

/// Forgeries in the name of a known signer, each by another key: with tables, and with every signature recovered.
fn flood_unknown() -> Pair {
    let forged = (1..255_u8).map(|byte| {
        let key = SigningKey::from_bytes([byte; 32]).unwrap();
        Bytes::from(commitment(byte.into()).sign(&key, &DOMAIN).to_ssz())
    });
    let flood: Vec<Bytes> = forged.filter(|ssz| !accepted(&validator(), ssz)).collect();
    let (theirs, with, without) = (flood.clone(), warm(), validator());
    let judge = |validator: &Validator, flood: &[Bytes]| {
        assert!(flood.iter().all(|ssz| !accepted(validator, black_box(ssz))));
    };
    pair("flood_unknown", move || judge(&with, &flood), move || judge(&without, &theirs))
}

/// What a new signer costs once, against one naive recovery.
fn table_build() -> Pair {
    let secret = secp256k1::SecretKey::from_secret_bytes([0x42; 32]).unwrap();
    let (key, theirs) = (secret.public_key(), naive());
    let build = pair(
        "table_build",
        move || Table::new(black_box(&key)),
        move || baseline::recover(black_box(&theirs), DOMAIN.as_bytes()).unwrap(),
    );
    Pair { bytes: Some(Table::BYTES), ..build }
}

/// Bytes that both refuse.
fn reject(name: &'static str, ssz: Vec<u8>) -> Pair {
    let (validator, chain, theirs) = (validator(), chain(), ssz.clone());
    assert!(!accepted(&validator, &ssz) && baseline::validate(&theirs, &chain).is_none());
    pair(
        name,
        move || accepted(&validator, black_box(&ssz)),
        move || baseline::validate(black_box(&theirs), &chain).is_some(),
    )
}

fn rejects() -> Vec<Pair> {
    let by = |key: &SigningKey, change: fn(&mut PreconfCommitment)| {
        let mut commitment = commitment(1);
        change(&mut commitment);
        commitment.sign(key, &DOMAIN).to_ssz()
    };
    let (key, other) = (key().unwrap(), SigningKey::from_bytes([0x43; 32]).unwrap());
    let mut unsigned = by(&key, |_| {});
    unsigned[381] = 27;
    vec![
        reject("reject_out_of_range", by(&key, |c| c.preconf.gas_limit = U256::MAX)),
        reject("reject_window", by(&key, |c| c.preconf.submission_window_end += U256::from(1))),
        duplicate(),
        reject("reject_bad_signature", unsigned),
        reject("reject_wrong_signer", by(&other, |_| {})),
    ]
}

fn duplicate() -> Pair {
    let (ours, theirs, now) = (wire(), wire(), Instant::now());
    let mut seen = SeenCache::new(16 * 1024, Duration::from_secs(600));
    let mut naive = HashSet::new();
    for message in 0..16_000_u64 {
        seen.insert(now, MessageId::of_commitment(&message.to_le_bytes()));
        baseline::is_new(&mut naive, &message.to_le_bytes());
    }
    assert!(seen.insert(now, MessageId::of_commitment(&ours)) && baseline::is_new(&mut naive, &theirs));
    pair(
        "reject_duplicate",
        move || seen.insert(now, MessageId::of_commitment(black_box(&ours))),
        move || baseline::is_new(&mut naive, black_box(&theirs)),
    )
}

/// Eight lists beside each other, against one after the other by the hash that a single list gets.
fn keccak_of_eight(name: &'static str, bytes: usize) -> Pair {
    let lists: Vec<Bytes> = (0..8_u8).map(|fill| vec![fill; bytes].into()).collect();
    let theirs = lists.clone();
    let all = |lists: &[Bytes]| hash_all(&lists.iter().map(|list| &list[..]).collect::<Vec<_>>());
    let one_by_one = |lists: &[Bytes]| lists.iter().map(preconfirmation_types::keccak256).collect::<Vec<_>>();
    assert_eq!(all(&lists), one_by_one(&lists));
    pair(name, move || all(black_box(&lists)), move || one_by_one(black_box(&theirs)))
}

fn txlists([decode, encode, hash, check]: [&'static str; 4], bytes: usize) -> Vec<Pair> {
    let gossip = RawTxListGossip::from(txlist(bytes).unwrap());
    let wire = Bytes::from(gossip.to_ssz());
    let naive: baseline::TxList = baseline::decode(&wire).unwrap();
    assert!(gossip.clone().verify(MAX_TXLIST_BYTES).is_ok() && naive.is_its_hash());
    let (to_decode, naive_to_decode, to_check, naive_to_check) =
        (wire.clone(), wire.clone(), wire.clone(), wire);
    let (to_encode, naive_to_encode) = (gossip.clone(), naive.clone());
    vec![
        pair(
            decode,
            move || RawTxListGossip::from_ssz(black_box(&to_decode)).unwrap(),
            move || baseline::decode::<baseline::TxList>(black_box(&naive_to_decode)).unwrap(),
        ),
        pair(
            encode,
            move || black_box(&to_encode).to_ssz(),
            move || baseline::encode(black_box(&naive_to_encode)),
        ),
        pair(
            hash,
            move || black_box(&gossip).clone().verify(MAX_TXLIST_BYTES).unwrap(),
            move || black_box(&naive).is_its_hash(),
        ),
        pair(
            check,
            move || {
                RawTxListGossip::from_ssz(black_box(&to_check)).unwrap().verify(MAX_TXLIST_BYTES).unwrap()
            },
            move || baseline::check_txlist(black_box(&naive_to_check)),
        ),
    ]
}
