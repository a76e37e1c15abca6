//! Numbers modulo n, the order of the curve's group, and the digits by which tables are read.

use crate::{
    inverse::{Invert, Modulus},
    limbs::{self, Limbs, add_carry, mul_add},
};

/// n.
pub(crate) const ORDER: Limbs =
    [0xbfd2_5e8c_d036_4141, 0xbaae_dce6_af48_a03b, 0xffff_ffff_ffff_fffe, 0xffff_ffff_ffff_ffff];

/// (n − 1) / 2: the largest low s.
pub(crate) const HALF_ORDER: Limbs =
    [0xdfe9_2f46_681b_20a0, 0x5d57_6e73_57a4_501d, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff];

/// 2²⁵⁶ − n, 129 bits: what a carry out of 256 bits is worth.
const FOLD: Limbs = [0x402d_a173_2fc9_bebf, 0x4551_2319_50b7_5fc4, 1, 0];

const MODULUS: Modulus = Modulus::new(ORDER);

/// A number from 0 to n − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scalar(Limbs);

impl Scalar {
    /// A number below n; none for others.
    pub(crate) const fn new(limbs: Limbs) -> Option<Self> {
        if limbs::less(&limbs, &ORDER) { Some(Self(limbs)) } else { None }
    }

    /// Any number below 2²⁵⁶, modulo n.
    pub(crate) const fn reduce(limbs: Limbs) -> Self {
        let (less, borrow) = limbs::sub(&limbs, &ORDER);
        Self(if borrow == 0 { less } else { limbs })
    }

    pub(crate) const fn is_zero(&self) -> bool {
        matches!(self.0, [0, 0, 0, 0])
    }

    /// Whether it is in the upper half.
    pub(crate) const fn is_high(&self) -> bool {
        limbs::less(&HALF_ORDER, &self.0)
    }

    /// The number itself.
    pub(crate) const fn limbs(&self) -> Limbs {
        self.0
    }

    pub(crate) const fn mul(&self, other: &Self) -> Self {
        // 512 bits; then at most 256 + 129 = 385; then at most 129 + 129 + 1 = 259; then at most one carry.
        let [a, b, c, d, high @ ..] = limbs::product(&self.0, &other.0);
        let [e, f, g, h, top @ ..] = limbs::product(&high, &FOLD);
        let (low, carry) = limbs::add(&[a, b, c, d], &[e, f, g, h]);
        let (t0, carry) = add_carry(top[0], carry, 0);
        let (t1, carry) = add_carry(top[1], 0, carry);
        let (t2, _) = add_carry(top[2], 0, carry);
        // top is below 2¹³⁰ and its worth below 2²⁵⁹.
        let [e, f, g, h, over, ..] = limbs::product(&[t0, t1, t2, 0], &FOLD);
        let (low, carry) = limbs::add(&low, &[e, f, g, h]);
        let over = over + carry;
        let (a, carry) = mul_add(0, over, FOLD[0], 0);
        let (b, carry) = mul_add(0, over, FOLD[1], carry);
        let (low, last) = limbs::add(&low, &[a, b, over + carry, 0]);
        if last == 1 {
            // What is left is below 2¹³³, and so is the sum far below n.
            return Self(limbs::add(&low, &FOLD).0);
        }
        Self::reduce(low)
    }

    /// The digits of this number (of its negative where it is in the upper half, which `negated` says) to the base 2^bits,
    /// each within ±2^(bits−1), the lowest first. A number in the lower half has 255 bits, so the last digit takes the
    /// carry of the one before, as `digits`·`bits` is at least 256.
    pub(crate) fn signed_digits<const DIGITS: usize>(&self, bits: usize) -> [i32; DIGITS] {
        let negated = self.is_high();
        let number = if negated { limbs::sub(&ORDER, &self.0).0 } else { self.0 };
        let sign = if negated { -1 } else { 1 };
        let (mut carry, half) = (0, 1 << (bits - 1));
        std::array::from_fn(|i| {
            let digit = window(&number, i * bits, bits) + carry;
            carry = i32::from(digit > half);
            sign * (digit - (carry << bits))
        })
    }
}

/// `bits` bits from bit `at` on; bits beyond the highest are zero.
fn window(number: &Limbs, at: usize, bits: usize) -> i32 {
    let limb = |i: usize| number.get(i).copied().unwrap_or(0);
    let (index, shift) = (at / 64, at % 64);
    let pair = u128::from(limb(index)) | u128::from(limb(index + 1)) << 64;
    ((pair >> shift) as i32) & ((1 << bits) - 1)
}

impl Invert for Scalar {
    const ONE: Self = Self([1, 0, 0, 0]);

    fn times(&self, other: &Self) -> Self {
        self.mul(other)
    }

    fn inverse(&self) -> Self {
        Self(MODULUS.invert(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;

    use super::*;

    const N: U256 = U256::from_limbs(ORDER);

    fn all() -> Vec<U256> {
        let mut rng = fastrand::Rng::with_seed(5);
        let random = (0..200).map(|_| U256::from_limbs(std::array::from_fn(|_| rng.u64(..))));
        let near = |center: U256| {
            (0..4).flat_map(move |by| {
                [center.wrapping_add(U256::from(by)), center.wrapping_sub(U256::from(by))]
            })
        };
        let centers = [U256::ZERO, N, N >> 1, U256::from_limbs(FOLD), U256::from(1) << 128, U256::MAX << 64];
        let edges = centers.into_iter().flat_map(near);
        edges.chain(random).collect()
    }

    #[test]
    fn products_and_inverses_are_those_of_integers_modulo_n() {
        let numbers = all();
        for &a in &numbers {
            let scalar = Scalar::reduce(a.into_limbs());
            assert_eq!(Scalar::new(a.into_limbs()), (a < N).then_some(scalar));
            let a = a.reduce_mod(N);
            assert_eq!((U256::from_limbs(scalar.limbs()), scalar.is_zero()), (a, a.is_zero()));
            assert_eq!(scalar.is_high(), a > N >> 1);
            assert_eq!(U256::from_limbs(scalar.inverse().limbs()), a.inv_mod(N).unwrap_or_default());
            for &b in &numbers {
                let product = scalar.mul(&Scalar::reduce(b.into_limbs()));
                assert_eq!(U256::from_limbs(product.limbs()), a.mul_mod(b.reduce_mod(N), N));
            }
        }
    }

    #[test]
    fn the_largest_products_fold_more_than_once() {
        let largest = Scalar::new((N - U256::from(1)).into_limbs()).unwrap();
        assert_eq!(largest.mul(&largest), Scalar::ONE);
    }

    fn check_digits<const DIGITS: usize>(scalar: &Scalar, bits: usize) {
        let digits = scalar.signed_digits::<DIGITS>(bits);
        let mut sum = U256::ZERO;
        for digit in digits.iter().rev() {
            assert!(digit.unsigned_abs() <= 1 << (bits - 1), "{digit}");
            let size = U256::from(digit.unsigned_abs());
            let digit = if *digit < 0 { N - size } else { size };
            sum = sum.mul_mod(U256::from(1_u64 << bits), N).add_mod(digit, N);
        }
        assert_eq!(sum, U256::from_limbs(scalar.limbs()));
    }

    #[test]
    fn signed_digits_add_up_and_stay_within_half_a_base() {
        let powers = (0..256).map(|bit| U256::from(1) << bit);
        let below = powers.clone().map(|power| power - U256::from(1));
        for number in all().into_iter().chain(powers).chain(below) {
            let scalar = Scalar::reduce(number.into_limbs());
            check_digits::<32>(&scalar, 8);
            check_digits::<26>(&scalar, 10);
            check_digits::<24>(&scalar, 11);
            check_digits::<37>(&scalar, 7);
        }
    }
}
