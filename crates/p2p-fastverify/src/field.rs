//! The field of the curve: numbers modulo p = 2²⁵⁶ − 2³² − 977.

use crate::{
    inverse::{Invert, Modulus},
    limbs::{self, Limbs, add_carry, mul_add, sub_borrow},
};

/// 2²⁵⁶ − p: what a carry out of 256 bits is worth.
pub(crate) const FOLD: u64 = (1 << 32) + 977;

const P: Limbs = [u64::MAX - FOLD + 1, u64::MAX, u64::MAX, u64::MAX];

const MODULUS: Modulus = Modulus::new(P);

/// A number modulo p, in any of its forms below 2²⁵⁶: one number has two forms where it is below 2³² + 977. Equality,
/// parity and bytes are those of the reduced form, [`reduced`](Self::reduced).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fe(Limbs);

impl Fe {
    pub(crate) const ZERO: Self = Self([0; 4]);

    /// Any number below 2²⁵⁶.
    pub(crate) const fn new(limbs: Limbs) -> Self {
        Self(limbs)
    }

    /// Its limbs, in whatever form it has: for vectors.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn limbs(&self) -> Limbs {
        self.0
    }

    /// The number from 0 to p − 1.
    #[inline]
    pub(crate) const fn reduced(&self) -> Limbs {
        let (less, borrow) = limbs::sub(&self.0, &P);
        if borrow == 0 { less } else { self.0 }
    }

    #[inline]
    pub(crate) const fn is_zero(&self) -> bool {
        let [a, b, c, d] = self.0;
        (a | b | c | d) == 0 || (a == P[0] && (b & c & d) == u64::MAX)
    }

    #[inline(always)]
    pub(crate) const fn add(&self, other: &Self) -> Self {
        let (sum, carry) = limbs::add(&self.0, &other.0);
        Self(fold_carry(&sum, carry))
    }

    #[inline(always)]
    pub(crate) const fn double(&self) -> Self {
        self.add(self)
    }

    #[inline(always)]
    pub(crate) const fn sub(&self, other: &Self) -> Self {
        let (difference, borrow) = limbs::sub(&self.0, &other.0);
        // A borrow has added 2²⁵⁶; taking `FOLD` away leaves p added. Twice, where the first leaves less than zero again.
        let [a, b, c, d] = difference;
        let (a, borrow) = sub_borrow(a, FOLD & borrow.wrapping_neg(), 0);
        let (b, borrow) = sub_borrow(b, 0, borrow);
        let (c, borrow) = sub_borrow(c, 0, borrow);
        let (d, borrow) = sub_borrow(d, 0, borrow);
        // Then the number is above 2²⁵⁶ − FOLD, and nothing is borrowed from its second limb.
        Self([a.wrapping_sub(FOLD & borrow.wrapping_neg()), b, c, d])
    }

    #[inline(always)]
    pub(crate) const fn negate(&self) -> Self {
        Self::ZERO.sub(self)
    }

    #[inline(always)]
    pub(crate) const fn mul(&self, other: &Self) -> Self {
        Self(reduce(&limbs::product(&self.0, &other.0)))
    }

    #[inline(always)]
    pub(crate) const fn square(&self) -> Self {
        Self(reduce(&limbs::square(&self.0)))
    }
}

impl Invert for Fe {
    const ONE: Self = Self([1, 0, 0, 0]);

    #[inline(always)]
    fn times(&self, other: &Self) -> Self {
        self.mul(other)
    }

    fn inverse(&self) -> Self {
        Self(MODULUS.invert(&self.reduced()))
    }
}

impl PartialEq for Fe {
    fn eq(&self, other: &Self) -> bool {
        self.reduced() == other.reduced()
    }
}

impl Eq for Fe {}

/// A sum of 257 bits, brought below 2²⁵⁶.
#[inline(always)]
const fn fold_carry(sum: &Limbs, carry: u64) -> Limbs {
    let [a, b, c, d] = *sum;
    let (a, carry) = add_carry(a, FOLD & carry.wrapping_neg(), 0);
    let (b, carry) = add_carry(b, 0, carry);
    let (c, carry) = add_carry(c, 0, carry);
    let (d, carry) = add_carry(d, 0, carry);
    // With a second carry, what is left is below `FOLD`, and adding `FOLD` cannot leave the lowest limb.
    [a + (FOLD & carry.wrapping_neg()), b, c, d]
}

/// A product of 512 bits, brought below 2²⁵⁶.
#[inline(always)]
const fn reduce(product: &[u64; 8]) -> Limbs {
    let [a, b, c, d, e, f, g, h] = *product;
    let (a, carry) = mul_add(a, e, FOLD, 0);
    let (b, carry) = mul_add(b, f, FOLD, carry);
    let (c, carry) = mul_add(c, g, FOLD, carry);
    let (d, high) = mul_add(d, h, FOLD, carry);
    // `high` is at most FOLD, so that what it is worth is below 2⁶⁷.
    let (a, carry) = mul_add(a, high, FOLD, 0);
    let (b, carry) = add_carry(b, carry, 0);
    let (c, carry) = add_carry(c, 0, carry);
    let (d, carry) = add_carry(d, 0, carry);
    // With a carry, what is left is below 2⁶⁷: adding `FOLD` ends in the second limb.
    let (a, carry) = add_carry(a, FOLD & carry.wrapping_neg(), 0);
    [a, b + carry, c, d]
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;

    use super::*;

    const PRIME: U256 = U256::from_limbs(P);

    fn number(fe: Fe) -> U256 {
        U256::from_limbs(fe.reduced())
    }

    /// Numbers at which carries happen: around 0, p and 2²⁵⁶, and limbs that are full or empty.
    fn edges() -> Vec<U256> {
        let near = |center: U256| {
            (0..4).flat_map(move |by| {
                [center.wrapping_add(U256::from(by)), center.wrapping_sub(U256::from(by))]
            })
        };
        let fold = U256::from(FOLD);
        let centers = [
            U256::ZERO,
            PRIME,
            PRIME - fold,
            fold,
            fold << 1,
            U256::from(1) << 64,
            U256::from(1) << 255,
            U256::MAX << 64,
        ];
        centers.into_iter().flat_map(near).collect()
    }

    fn all() -> Vec<U256> {
        let mut rng = fastrand::Rng::with_seed(3);
        let random = (0..200).map(|_| U256::from_limbs(std::array::from_fn(|_| rng.u64(..))));
        edges().into_iter().chain(random).collect()
    }

    #[test]
    fn every_operation_is_that_of_integers_modulo_p() {
        let numbers = all();
        for &a in &numbers {
            let fe = Fe::new(a.into_limbs());
            let a = a.reduce_mod(PRIME);
            assert_eq!(number(fe), a);
            assert_eq!(fe.is_zero(), a.is_zero());
            assert_eq!(number(fe.square()), a.mul_mod(a, PRIME));
            assert_eq!(number(fe.double()), a.add_mod(a, PRIME));
            assert_eq!(number(fe.negate()), U256::ZERO.add_mod(PRIME - a, PRIME));
            assert_eq!(number(fe.inverse()), a.inv_mod(PRIME).unwrap_or_default());
            for &b in &numbers {
                let other = Fe::new(b.into_limbs());
                let b = b.reduce_mod(PRIME);
                assert_eq!(number(fe.mul(&other)), a.mul_mod(b, PRIME));
                assert_eq!(number(fe.add(&other)), a.add_mod(b, PRIME));
                assert_eq!(number(fe.sub(&other)), a.add_mod(PRIME - b, PRIME));
                assert_eq!(fe == other, a == b);
            }
        }
    }

    /// Why this module exists. `cargo test --release -p p2p-fastverify --lib -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    #[allow(clippy::disallowed_methods, reason = "what measures time reads the clock")]
    fn products_and_inverses_are_faster_than_those_of_k256() {
        use std::{hint::black_box, time::Instant};

        type Theirs = <k256::Secp256k1 as k256::elliptic_curve::hazmat::FieldArithmetic>::FieldElement;

        fn nanoseconds<T: Copy>(mut value: T, times: u32, step: impl Fn(T) -> T) -> f64 {
            let turns = (0..50).map(|_| {
                let start = Instant::now();
                for _ in 0..times {
                    value = black_box(step(value));
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(times)
            });
            turns.fold(f64::INFINITY, f64::min)
        }

        let [a, b, c, d] = [0x1234_5678_9abc_def1_u64, 0xfeed, u64::MAX / 3, 0x7777_7777_7777];
        let (ours, theirs) = (Fe::new([a, b, c, d]), Theirs::from_u64(a).square().square());
        for (what, ours, theirs) in [
            (
                "product",
                nanoseconds(ours, 5_000, |x| x.mul(&ours)),
                nanoseconds(theirs, 5_000, |x| x * theirs),
            ),
            ("square", nanoseconds(ours, 5_000, |x| x.square()), nanoseconds(theirs, 5_000, |x| x.square())),
            (
                "inverse",
                nanoseconds(ours, 100, |x| x.inverse()),
                nanoseconds(theirs, 100, |x| x.invert_vartime().unwrap_or(theirs)),
            ),
            (
                "four products beside each other, each",
                nanoseconds([ours; 4], 5_000, |x| x.map(|x| x.mul(&ours))) / 4.0,
                nanoseconds([theirs; 4], 5_000, |x| x.map(|x| x * theirs)) / 4.0,
            ),
        ] {
            println!("{what}: {ours:.1} ns, k256 {theirs:.1} ns");
            assert!(ours < theirs);
        }
    }
}
