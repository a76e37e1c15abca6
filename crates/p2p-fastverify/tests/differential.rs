//! Each verdict against libsecp256k1's recovery, and a share of them against `k256`: signatures that are good, changed in
//! each field, at the borders of each range, and constructed so that sums become degenerate.
//!
//! Both methods of adding up answer to each case: words of 64 bits, and vectors where this machine has them.
//!
//! `FASTVERIFY_CASES` says how many (100,000 unless set) and `FASTVERIFY_SEED` which; with `--release` 10⁸ take hours.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what cannot be built ends the test"
)]

use std::{env, thread};

use alloy_primitives::{Address, U256};
use k256::{
    ProjectivePoint, Scalar,
    ecdsa::VerifyingKey,
    elliptic_curve::{PrimeField as _, point::AffineCoordinates as _},
};
use p2p_fastverify::{Claim, KnownSigners, Method, Signature, Table, Verdict};
use secp256k1::{
    Message, PublicKey, SecretKey,
    constants::CURVE_ORDER,
    ecdsa::{RecoverableSignature, RecoveryId},
};

const ORDER: U256 = U256::from_be_bytes(CURVE_ORDER);

fn number(scalar: &Scalar) -> U256 {
    U256::from_be_bytes(scalar.to_repr().into())
}

fn scalar(number: U256) -> Scalar {
    Scalar::from_repr(number.reduce_mod(ORDER).to_be_bytes::<32>().into()).unwrap()
}

/// A secret key and its table.
struct Signer {
    secret: Scalar,
    key: PublicKey,
    table: Table,
}

/// A nonce and its point.
#[derive(Clone, Copy)]
struct Nonce {
    k: Scalar,
    inverse: Scalar,
    r: U256,
    odd: bool,
}

impl Nonce {
    fn new(k: Scalar) -> Self {
        let point = (ProjectivePoint::GENERATOR * k).to_affine();
        let r = U256::from_be_slice(&point.x());
        Self { k, inverse: k.invert().unwrap(), r, odd: point.y_is_odd().into() }
    }
}

/// r, s and v in numbers, of any size.
#[derive(Debug, Clone, Copy)]
struct Parts {
    digest: U256,
    r: U256,
    s: U256,
    v: u8,
}

impl Parts {
    /// With s and v brought to the lower half.
    fn low(digest: Scalar, r: U256, s: Scalar, odd: bool) -> Self {
        let (digest, s) = (number(&digest), number(&s));
        let high = s > ORDER >> 1;
        Self { digest, r, s: if high { ORDER - s } else { s }, v: u8::from(odd != high) }
    }

    fn signature(self) -> Signature {
        let mut bytes = [self.v; 65];
        bytes[..32].copy_from_slice(&self.r.to_be_bytes::<32>());
        bytes[32..64].copy_from_slice(&self.s.to_be_bytes::<32>());
        Signature::new(self.digest.to_be_bytes(), bytes)
    }

    fn recover(self) -> Option<PublicKey> {
        let mut rs = [0; 64];
        rs[..32].copy_from_slice(&self.r.to_be_bytes::<32>());
        rs[32..].copy_from_slice(&self.s.to_be_bytes::<32>());
        let v = RecoveryId::try_from(i32::from(self.v)).ok()?;
        let message = Message::from_digest(self.digest.to_be_bytes());
        RecoverableSignature::from_compact(&rs, v).ok()?.recover_ecdsa(message).ok()
    }

    /// The same by `k256`, which refuses no high s either.
    fn recover_by_k256(self) -> Option<PublicKey> {
        let scalars = [self.r, self.s].map(|number| number.to_be_bytes::<32>());
        let signature = k256::ecdsa::Signature::from_scalars(scalars[0], scalars[1]).ok()?;
        let v = k256::ecdsa::RecoveryId::from_byte(self.v)?;
        let digest = self.digest.to_be_bytes::<32>();
        let key = VerifyingKey::recover_from_prehash(&digest, &signature, v).ok()?;
        Some(PublicKey::from_slice(key.to_sec1_point(false).as_bytes()).unwrap())
    }

    /// Whether a table has to decide, as long as no points meet.
    fn is_for_tables(self) -> bool {
        !self.r.is_zero() && self.r < ORDER && !self.s.is_zero() && self.s <= ORDER >> 1 && self.v < 2
    }
}

struct World {
    rng: fastrand::Rng,
    signers: Vec<Signer>,
    nonces: Vec<Nonce>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut random = || scalar(U256::from_limbs(std::array::from_fn(|_| rng.u64(..))));
        // Keys that have much in common with the generator and with the rows of tables, and some that have nothing.
        let small = [1_u64, 2, 3, 128, 256, 1 << 10, 1 << 20].map(Scalar::from);
        let secrets = small.into_iter().chain(small.map(|secret| -secret)).chain((0..6).map(|_| random()));
        let signers = secrets.map(|secret| {
            let key = SecretKey::from_secret_bytes(secret.to_repr().into()).unwrap().public_key();
            Signer { secret, key, table: Table::new(&key) }
        });
        let signers = signers.collect();
        let nonces = (0..256).map(|_| Nonce::new(random())).collect();
        Self { rng, signers, nonces }
    }

    fn random(&mut self) -> U256 {
        U256::from_limbs(std::array::from_fn(|_| self.rng.u64(..)))
    }

    /// A number at a border of something: of a range, of a digit, of a limb.
    fn edge(&mut self) -> U256 {
        let p = U256::MAX - U256::from((1_u64 << 32) + 976);
        let bit = U256::from(1) << self.rng.usize(..256);
        let one = U256::from(1);
        let near = [U256::ZERO, ORDER, ORDER >> 1, p, U256::MAX, p - ORDER, bit, ORDER - bit.min(ORDER)];
        let edge = near[self.rng.usize(..near.len())];
        match self.rng.u8(..4) {
            0 => edge.wrapping_add(one),
            1 => edge.wrapping_sub(one),
            2 => edge.wrapping_add(U256::from(self.rng.u8(..))),
            _ => edge,
        }
    }

    fn nonce(&mut self) -> Nonce {
        self.nonces[self.rng.usize(..self.nonces.len())]
    }

    /// A genuine signature.
    fn genuine(&mut self, signer: usize) -> Parts {
        let (Nonce { inverse, r, odd, .. }, digest) = (self.nonce(), scalar(self.random()));
        Parts::low(digest, r, inverse * (digest + scalar(r) * self.signers[signer].secret), odd)
    }

    /// The signature for which u₂ is this and u₁ follows from the nonce: u₁ + u₂·d = k.
    fn with_u2(&mut self, signer: usize, u2: Scalar) -> Option<Parts> {
        let Nonce { k, r, odd, .. } = self.nonce();
        let s = scalar(r) * Option::<Scalar>::from(u2.invert())?;
        Some(Parts::low((k - u2 * self.signers[signer].secret) * s, r, s, odd))
    }

    /// The signature with these u₁ and u₂, genuine where they are not opposite.
    fn with(&mut self, signer: usize, u1: Scalar, u2: Scalar) -> Option<Parts> {
        let k = u1 + u2 * self.signers[signer].secret;
        let nonce = if k.is_zero().into() { self.nonce() } else { Nonce::new(k) };
        let s = scalar(nonce.r) * Option::<Scalar>::from(u2.invert())?;
        Some(Parts::low(u1 * s, nonce.r, s, nonce.odd))
    }

    /// The next case: whose table is asked, about what, and whether points may meet in it.
    fn case(&mut self) -> (usize, Parts, bool) {
        let signer = self.rng.usize(..self.signers.len());
        let secret = self.signers[signer].secret;
        let mut parts = self.genuine(signer);
        let flip = U256::from(1) << self.rng.usize(..256);
        let mut may_meet = false;
        match self.rng.u8(..18) {
            0..=3 => {}
            4 => parts.digest ^= flip,
            5 => parts.r ^= flip,
            6 => parts.s ^= flip,
            7 => parts.v ^= 1,
            8 => parts.v = [2, 3, 4, 27, 28, 255][self.rng.usize(..6)],
            9 => (parts.s, parts.v) = (ORDER - parts.s, parts.v ^ 1),
            10 => return (self.rng.usize(..self.signers.len()), parts, false),
            11 => parts.digest = self.edge(),
            12 => parts.r = self.edge(),
            13 => parts.s = self.edge(),
            14 => {
                parts = Parts { digest: self.edge(), r: self.edge(), s: self.edge(), v: self.rng.u8(..4) };
                may_meet = true;
            }
            // u₁·G = ±u₂·Q.
            15 => {
                let u2 = if self.rng.bool() { scalar(self.random()) } else { scalar(self.edge()) };
                let u1 = if self.rng.bool() { u2 * secret } else { -(u2 * secret) };
                parts = self.with(signer, u1, u2).unwrap_or(parts);
                may_meet = true;
            }
            16 => {
                let u2 = scalar(self.edge());
                parts = self.with_u2(signer, u2).unwrap_or(parts);
                may_meet = true;
            }
            _ => {
                let (u1, u2) = (scalar(self.edge()), scalar(self.edge()));
                parts = self.with(signer, u1, u2).unwrap_or(parts);
                may_meet = true;
            }
        }
        (signer, parts, may_meet)
    }

    /// Compares so many cases; how many were signed, not signed and undecided though for tables.
    fn compare(&mut self, cases: usize) -> [usize; 3] {
        let mut verdicts = [0; 3];
        for batch in 0..cases.div_ceil(BATCH) {
            let count = BATCH.min(cases - batch * BATCH);
            let cases: Vec<_> = (0..count).map(|_| self.case()).collect();
            let to_verify: Vec<_> = cases
                .iter()
                .map(|(signer, parts, _)| (&self.signers[*signer].table, parts.signature()))
                .collect();
            let keys: Vec<_> = cases.iter().map(|(_, parts, _)| parts.recover()).collect();
            for method in methods() {
                let answers = method.verify_all(&to_verify);
                assert_eq!(answers.len(), cases.len());
                for (i, (((signer, parts, may_meet), answer), key)) in
                    cases.iter().zip(&answers).zip(&keys).enumerate()
                {
                    let signer = &self.signers[*signer];
                    check(parts, *may_meet, *answer, signer, *key);
                    // Alone as among others, and the other library as well, for some.
                    if i % 16 == 0 {
                        let alone = method.verify(&signer.table, &parts.signature());
                        check(parts, *may_meet, alone, signer, *key);
                        assert!(alone == *answer || *may_meet, "{method:?}: {parts:?}");
                    }
                    if i == 0 {
                        assert_eq!(parts.recover_by_k256(), *key, "{parts:?}");
                    }
                    verdicts[match answer {
                        Verdict::Signed => 0,
                        Verdict::NotSigned => 1,
                        Verdict::Undecided if parts.is_for_tables() => 2,
                        Verdict::Undecided => continue,
                    }] += 1;
                }
            }
        }
        verdicts
    }
}

/// The methods of this machine: one or two.
fn methods() -> Vec<Method> {
    let mut methods = vec![Method::PORTABLE, Method::fastest()];
    methods.dedup();
    methods
}

/// A verdict is the one that recovery gives, or none where that is allowed.
#[track_caller]
fn check(parts: &Parts, may_meet: bool, answer: Verdict, signer: &Signer, key: Option<PublicKey>) {
    match answer {
        Verdict::Signed => assert_eq!(key, Some(signer.key), "{parts:?}"),
        Verdict::NotSigned => assert_ne!(key, Some(signer.key), "{parts:?}"),
        Verdict::Undecided => assert!(!parts.is_for_tables() || may_meet, "{parts:?}"),
    }
    if !parts.is_for_tables() {
        assert_eq!(answer, Verdict::Undecided, "{parts:?}");
    }
}

/// Signatures that are verified together: an odd number, for groups that are full and one that is not.
const BATCH: usize = 103;

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn tables_and_libsecp256k1_agree() {
    let cases = usize::try_from(setting("FASTVERIFY_CASES").unwrap_or(100_000)).unwrap();
    let seed = setting("FASTVERIFY_SEED").unwrap_or(1);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let verdicts: Vec<[usize; 3]> = thread::scope(|scope| {
        let share = |core| (cases + core) / cores;
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                scope.spawn(move || World::new(seed.wrapping_mul(1 << 16) + core as u64).compare(share(core)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let [signed, not_signed, met] =
        [0, 1, 2].map(|i| verdicts.iter().map(|verdicts| verdicts[i]).sum::<usize>());
    let methods = methods();
    println!(
        "{cases} cases from seed {seed} by {methods:?}: {signed} signed, {not_signed} not signed, {met} with points that met"
    );
    let cases = cases * methods.len();
    if cases >= 1_000 {
        assert!(signed > cases / 4 && not_signed > cases / 4, "{signed} and {not_signed} of {cases}");
        assert!(met > 0 && met < cases / 10, "{met} of {cases}");
    }
}

#[test]
fn known_signers_answer_like_recovery() {
    let mut world = World::new(7);
    // Too little for all, so that tables come and go.
    let known = KnownSigners::new(Table::BYTES * (world.signers.len() - 3));
    for _ in 0..40 {
        let cases: Vec<_> = (0..BATCH).map(|_| world.case()).collect();
        let claims: Vec<Claim> = cases
            .iter()
            .map(|(signer, parts, _)| Claim {
                signature: parts.signature(),
                expected: world.rng.u8(..8).checked_sub(1).map(|_| world.signers[*signer].table.signer()),
            })
            .collect();
        let answers: Vec<Option<Address>> = cases
            .iter()
            .map(|(_, parts, _)| {
                parts.recover().map(|key| Address::from_raw_public_key(&key.serialize_uncompressed()[1..]))
            })
            .collect();
        assert_eq!(known.recover_all(&claims, || ()), answers);
        let alone: Vec<_> = claims.iter().map(|claim| known.recover(claim)).collect();
        assert_eq!(alone, answers);
        known.build_wanted();
    }
    let counts = known.counts();
    assert!(counts.hits > 1_000 && counts.misses > 500 && counts.fallbacks > 500, "{counts:?}");
    assert!(counts.tables == 17 && counts.tables_built >= 20, "{counts:?}");
}

/// An x that is at least n: r is x − n, and only v says so.
#[test]
fn an_r_that_is_x_less_n_is_left_to_recovery() {
    let mut found = 0;
    for above in 0..64_u64 {
        for v in 0..4 {
            let (digest, s) = (U256::from(0x1234), U256::from(0x5678));
            let parts = Parts { digest, r: U256::from(above + 1), s, v };
            let Some(key) = parts.recover() else { continue };
            let table = Table::new(&key);
            for method in methods() {
                let verdict = method.verify(&table, &parts.signature());
                assert_eq!(verdict, if v < 2 { Verdict::Signed } else { Verdict::Undecided }, "{parts:?}");
            }
            // The same r with the other meaning is another key's.
            let other = Parts { v: v ^ 2, ..parts };
            for method in methods() {
                let verdict = method.verify(&table, &other.signature());
                assert_eq!(verdict, if v < 2 { Verdict::Undecided } else { Verdict::NotSigned }, "{parts:?}");
            }
            assert_ne!(other.recover(), Some(key));
            found += usize::from(v > 1);
        }
    }
    assert!(found > 20, "{found}");
}

#[test]
fn a_degenerate_sum_is_undecided_and_affects_no_other() {
    let mut world = World::new(11);
    // Q = G, and u₁ = ±u₂ with a single digit: the only two points are equal or opposite.
    let opposite = world.with(0, -Scalar::from(5_u64), Scalar::from(5_u64)).unwrap();
    let equal = world.with(0, Scalar::from(5_u64), Scalar::from(5_u64)).unwrap();
    assert!(equal.recover() == Some(world.signers[0].key) && equal.is_for_tables());
    let genuine: Vec<_> = (0..63).map(|_| world.genuine(0)).collect();
    for degenerate in [opposite, equal] {
        for (method, at) in methods().into_iter().flat_map(|method| [0, 1, 31, 63].map(|at| (method, at))) {
            let table = &world.signers[0].table;
            assert_eq!(method.verify(table, &degenerate.signature()), Verdict::Undecided);
            let mut all = genuine.clone();
            all.insert(at, degenerate);
            let all: Vec<_> = all.iter().map(|parts| (table, parts.signature())).collect();
            for (i, verdict) in method.verify_all(&all).into_iter().enumerate() {
                assert_eq!(verdict, if i == at { Verdict::Undecided } else { Verdict::Signed }, "{i}");
            }
        }
    }
}

#[test]
fn any_number_of_signatures_is_verified_together() {
    let mut world = World::new(13);
    for (method, count) in methods()
        .into_iter()
        .flat_map(|method| (0..=18).chain([63, 64, 65, 127, 128, 129, 256]).map(move |count| (method, count)))
    {
        let all: Vec<_> = (0..count)
            .map(|i| {
                let signer = i % world.signers.len();
                let mut parts = world.genuine(signer);
                parts.v ^= u8::from(i % 3 == 2);
                (signer, parts)
            })
            .collect();
        let all: Vec<_> =
            all.iter().map(|(i, parts)| (&world.signers[*i].table, parts.signature())).collect();
        let verdicts = method.verify_all(&all);
        assert_eq!(verdicts.len(), count);
        for (i, verdict) in verdicts.into_iter().enumerate() {
            assert_eq!(
                verdict,
                if i % 3 == 2 { Verdict::NotSigned } else { Verdict::Signed },
                "{i} of {count}"
            );
        }
    }
}

#[test]
fn digits_at_every_border_are_read_as_libsecp256k1_reads_them() {
    let mut world = World::new(17);
    let table = world.signers.len() - 1;
    for bit in 0..256 {
        for near in [-1_i64, 0, 1] {
            let power = scalar(U256::from(1) << bit)
                + if near < 0 { -Scalar::ONE } else { Scalar::from(near.unsigned_abs()) };
            let random = scalar(world.random());
            for (u1, u2) in [(power, random), (random, power), (-power, random), (random, -power)] {
                if u2.is_zero().into() {
                    continue;
                }
                let parts = world.with(table, u1, u2).unwrap();
                for method in methods() {
                    let verdict = method.verify(&world.signers[table].table, &parts.signature());
                    assert_eq!(verdict, Verdict::Signed, "2^{bit} + {near}");
                    let several = vec![(&world.signers[table].table, parts.signature()); 3];
                    assert_eq!(method.verify_all(&several), [Verdict::Signed; 3], "2^{bit} + {near}");
                }
            }
        }
    }
}
