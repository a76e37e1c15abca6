//! Inverses modulo an odd prime of 256 bits, by the division steps of Bernstein and Yang (*Fast constant-time gcd computation
//! and modular inversion*, 2019), in variable time.
//!
//! A division step maps (δ, f, g) with f odd to (1 − δ, g, (g − f)/2) where δ > 0 and g is odd, and otherwise to
//! (1 + δ, f, (g + (g mod 2)·f)/2). Started with f = m, g = x, it ends with g = 0 and f = ±gcd(m, x). Sixty-two steps depend
//! on the lowest 62 bits of f and g only, so they are done on words and then applied to the whole numbers as one matrix.
//! Beside f and g, the numbers d and e with f ≡ d·x and g ≡ e·x (mod m) take the same steps.

use crate::limbs::Limbs;

/// Bits of a limb here, and steps in a matrix.
const BITS: u32 = 62;
const MASK: u64 = (1 << BITS) - 1;

/// A number in signed limbs of 62 bits: all but the highest are within 0 and 2⁶² − 1, the highest carries the sign.
type Wide = [i64; 5];

/// A modulus: an odd prime of 256 bits.
pub(crate) struct Modulus {
    wide: Wide,
    /// −1/m mod 2⁶².
    negated_inverse: u64,
}

impl Modulus {
    pub(crate) const fn new(limbs: Limbs) -> Self {
        // x·(2 − m·x) doubles the number of low bits in which x is 1/m; an odd m is its own inverse in three.
        let mut inverse = limbs[0];
        let mut doublings = 0;
        while doublings < 5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(limbs[0].wrapping_mul(inverse)));
            doublings += 1;
        }
        Self { wide: widen(&limbs), negated_inverse: inverse.wrapping_neg() & MASK }
    }

    /// 1/x mod m for x from 1 to m − 1; 0 for 0.
    pub(crate) fn invert(&self, x: &Limbs) -> Limbs {
        let (mut f, mut g) = (self.wide, widen(x));
        let (mut d, mut e): (Wide, Wide) = ([0; 5], [1, 0, 0, 0, 0]);
        let mut delta = 1;
        while g != [0; 5] {
            let steps = Steps::of(&mut delta, f[0] as u64, g[0] as u64);
            (f, g) = steps.apply(&f, &g);
            (d, e) = steps.apply_modulo(&d, &e, self);
        }
        // f is 1 or −1 now (m where x is 0).
        if f[4] < 0 { self.narrow(&negate(&d)) } else { self.narrow(&d) }
    }

    /// A number within a few m of zero, reduced. `d` grows by less than m in each matrix, and there are at most twelve:
    /// 741 steps always do for 256 bits.
    fn narrow(&self, number: &Wide) -> Limbs {
        let mut number = *number;
        while number[4] < 0 {
            number = add(&number, &self.wide);
        }
        // Not negative and below 2²⁶⁰.
        loop {
            let less = add(&number, &negate(&self.wide));
            if less[4] < 0 {
                break;
            }
            number = less;
        }
        let [a, b, c, d, e] = number.map(|limb| limb as u64);
        [a | b << 62, b >> 2 | c << 60, c >> 4 | d << 58, d >> 6 | e << 56]
    }
}

/// Sixty-two division steps as a matrix of determinant ±2⁶²: (f, g) becomes (u·f + v·g, q·f + r·g) / 2⁶².
/// |u| + |v| and |q| + |r| are at most 2⁶².
struct Steps {
    u: i64,
    v: i64,
    q: i64,
    r: i64,
}

impl Steps {
    fn of(delta: &mut i64, f: u64, g: u64) -> Self {
        let (mut f, mut g) = (f, g);
        let (mut u, mut v, mut q, mut r) = (1_i64, 0_i64, 0_i64, 1_i64);
        let mut left = BITS;
        loop {
            // As many steps with an even g as follow: only g is halved, which the matrix shows by doubling the other row.
            let even = g.trailing_zeros().min(left);
            g >>= even;
            u <<= even;
            v <<= even;
            *delta += i64::from(even);
            left -= even;
            if left == 0 {
                return Self { u, v, q, r };
            }
            if *delta > 0 {
                *delta = -*delta;
                (f, g) = (g, f.wrapping_neg());
                (u, v, q, r) = (q, r, -u, -v);
            }
            // Now δ ≤ 0. Until it is positive again, f stays and each step clears the lowest bit of g by adding f or
            // nothing: several bits are cleared by adding one multiple. f·(2 − f²) is 1/f in six bits.
            let bits = (1 - *delta).min(6).min(i64::from(left));
            let multiple = g.wrapping_mul(f).wrapping_mul(f.wrapping_mul(f).wrapping_sub(2));
            let multiple = multiple & ((1 << bits) - 1);
            g = g.wrapping_add(f.wrapping_mul(multiple));
            q += u * multiple as i64;
            r += v * multiple as i64;
        }
    }

    /// The steps on whole numbers. The division is exact.
    fn apply(&self, f: &Wide, g: &Wide) -> (Wide, Wide) {
        (divide(self.u, f, self.v, g, 0, &[0; 5]), divide(self.q, f, self.r, g, 0, &[0; 5]))
    }

    /// The steps modulo m: a multiple of m makes the division exact.
    fn apply_modulo(&self, d: &Wide, e: &Wide, modulus: &Modulus) -> (Wide, Wide) {
        let row = |a: i64, b: i64| {
            let low = (a as u64).wrapping_mul(d[0] as u64).wrapping_add((b as u64).wrapping_mul(e[0] as u64));
            let multiple = low.wrapping_mul(modulus.negated_inverse) & MASK;
            divide(a, d, b, e, multiple as i64, &modulus.wide)
        };
        (row(self.u, self.v), row(self.q, self.r))
    }
}

/// (a·x + b·y + c·z) / 2⁶², where the lowest 62 bits of the sum are zero. The three products are below 2¹²⁶ together.
#[inline(always)]
fn divide(a: i64, x: &Wide, b: i64, y: &Wide, c: i64, z: &Wide) -> Wide {
    let (a, b, c) = (i128::from(a), i128::from(b), i128::from(c));
    let product = |x: &Wide, by: i128| x.map(|limb| by * i128::from(limb));
    let (x, y, z) = (product(x, a), product(y, b), product(z, c));
    let mask = i128::from(MASK);
    let sum = (x[0] + y[0] + z[0]) >> BITS;
    let sum = sum + x[1] + y[1] + z[1];
    let r0 = (sum & mask) as i64;
    let sum = (sum >> BITS) + x[2] + y[2] + z[2];
    let r1 = (sum & mask) as i64;
    let sum = (sum >> BITS) + x[3] + y[3] + z[3];
    let r2 = (sum & mask) as i64;
    let sum = (sum >> BITS) + x[4] + y[4] + z[4];
    let r3 = (sum & mask) as i64;
    [r0, r1, r2, r3, (sum >> BITS) as i64]
}

const fn widen(limbs: &Limbs) -> Wide {
    let [a, b, c, d] = *limbs;
    [
        (a & MASK) as i64,
        ((a >> 62 | b << 2) & MASK) as i64,
        ((b >> 60 | c << 4) & MASK) as i64,
        ((c >> 58 | d << 6) & MASK) as i64,
        (d >> 56) as i64,
    ]
}

fn add(a: &Wide, b: &Wide) -> Wide {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (*a, *b);
    carry([a0 + b0, a1 + b1, a2 + b2, a3 + b3, a4 + b4])
}

fn negate(a: &Wide) -> Wide {
    carry(a.map(|limb| -limb))
}

/// Brings all limbs but the highest back into their range.
fn carry(mut number: Wide) -> Wide {
    let mut carry = 0;
    for limb in number.iter_mut().take(4) {
        let sum = *limb + carry;
        *limb = sum & MASK as i64;
        carry = sum >> BITS;
    }
    number[4] += carry;
    number
}

/// What inverses are taken of many at a time.
pub(crate) trait Invert: Copy {
    /// The neutral element of multiplication.
    const ONE: Self;

    /// The product.
    fn times(&self, other: &Self) -> Self;

    /// The inverse; 0 for 0.
    fn inverse(&self) -> Self;
}

/// Replaces each of `values` by its inverse, with one inversion and three products each (Montgomery's trick). None may be
/// zero: then all would become zero. `scratch` is of the same length.
///
/// Four products run beside each other, as one would wait for itself.
pub(crate) fn invert_all<T: Invert>(values: &mut [T], scratch: &mut [T]) {
    let mut products = [T::ONE; CHAINS];
    for (values, before) in values.chunks(CHAINS).zip(scratch.chunks_mut(CHAINS)) {
        for ((value, before), product) in values.iter().zip(before).zip(&mut products) {
            *before = *product;
            *product = product.times(value);
        }
    }
    let [a, b, c, d] = products;
    let (ab, cd) = (a.times(&b), c.times(&d));
    let all = ab.times(&cd).inverse();
    let (of_ab, of_cd) = (all.times(&cd), all.times(&ab));
    let mut inverses = [of_ab.times(&b), of_ab.times(&a), of_cd.times(&d), of_cd.times(&c)];
    for (values, before) in values.chunks_mut(CHAINS).zip(scratch.chunks(CHAINS)).rev() {
        for ((value, before), inverse) in values.iter_mut().zip(before).zip(&mut inverses) {
            let of_value = inverse.times(before);
            *inverse = inverse.times(value);
            *value = of_value;
        }
    }
}

const CHAINS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{field::Fe, scalar::Scalar};

    #[test]
    fn the_inverse_of_zero_is_zero_and_that_of_one_is_one() {
        assert_eq!(Fe::ZERO.inverse(), Fe::ZERO);
        assert_eq!(Fe::ONE.inverse(), Fe::ONE);
        assert_eq!(Fe::ONE.negate().inverse(), Fe::ONE.negate());
        assert_eq!(Scalar::ONE.inverse(), Scalar::ONE);
    }

    #[test]
    fn many_inverses_are_those_of_each_whatever_their_number() {
        for count in 0..20 {
            let values: Vec<Fe> = (0..count).map(|i| Fe::new([i * i + 3, i, 7, 1 << i])).collect();
            let (mut inverses, mut scratch) = (values.clone(), values.clone());
            invert_all(&mut inverses, &mut scratch);
            assert_eq!(inverses, values.iter().map(Fe::inverse).collect::<Vec<_>>());
            assert!(values.iter().zip(&inverses).all(|(value, inverse)| value.mul(inverse) == Fe::ONE));
        }
    }
}
