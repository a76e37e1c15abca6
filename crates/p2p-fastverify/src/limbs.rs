//! 256-bit numbers as four little-endian limbs of 64 bits: what the field and the scalars share.

pub(crate) type Limbs = [u64; 4];

/// `a + b + carry`, and the carry out.
#[inline(always)]
pub(crate) const fn add_carry(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let sum = a as u128 + b as u128 + carry as u128;
    (sum as u64, (sum >> 64) as u64)
}

/// `a − b − borrow`, and the borrow out: 0 or 1.
#[inline(always)]
pub(crate) const fn sub_borrow(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let difference = (a as u128).wrapping_sub(b as u128 + borrow as u128);
    (difference as u64, (difference >> 64) as u64 & 1)
}

/// `a + b·c + carry`, and the carry out. Cannot overflow: (2⁶⁴ − 1)² + 2·(2⁶⁴ − 1) = 2¹²⁸ − 1.
#[inline(always)]
pub(crate) const fn mul_add(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let sum = a as u128 + b as u128 * c as u128 + carry as u128;
    (sum as u64, (sum >> 64) as u64)
}

/// `a + b`, and the carry out.
#[inline(always)]
pub(crate) const fn add(a: &Limbs, b: &Limbs) -> (Limbs, u64) {
    let (r0, carry) = add_carry(a[0], b[0], 0);
    let (r1, carry) = add_carry(a[1], b[1], carry);
    let (r2, carry) = add_carry(a[2], b[2], carry);
    let (r3, carry) = add_carry(a[3], b[3], carry);
    ([r0, r1, r2, r3], carry)
}

/// `a − b`, and the borrow out.
#[inline(always)]
pub(crate) const fn sub(a: &Limbs, b: &Limbs) -> (Limbs, u64) {
    let (r0, borrow) = sub_borrow(a[0], b[0], 0);
    let (r1, borrow) = sub_borrow(a[1], b[1], borrow);
    let (r2, borrow) = sub_borrow(a[2], b[2], borrow);
    let (r3, borrow) = sub_borrow(a[3], b[3], borrow);
    ([r0, r1, r2, r3], borrow)
}

/// Whether `a < b`.
#[inline(always)]
pub(crate) const fn less(a: &Limbs, b: &Limbs) -> bool {
    sub(a, b).1 == 1
}

/// The whole product, 512 bits.
#[inline(always)]
pub(crate) const fn product(a: &Limbs, b: &Limbs) -> [u64; 8] {
    let (r0, c) = mul_add(0, a[0], b[0], 0);
    let (r1, c) = mul_add(0, a[1], b[0], c);
    let (r2, c) = mul_add(0, a[2], b[0], c);
    let (r3, r4) = mul_add(0, a[3], b[0], c);

    let (r1, c) = mul_add(r1, a[0], b[1], 0);
    let (r2, c) = mul_add(r2, a[1], b[1], c);
    let (r3, c) = mul_add(r3, a[2], b[1], c);
    let (r4, r5) = mul_add(r4, a[3], b[1], c);

    let (r2, c) = mul_add(r2, a[0], b[2], 0);
    let (r3, c) = mul_add(r3, a[1], b[2], c);
    let (r4, c) = mul_add(r4, a[2], b[2], c);
    let (r5, r6) = mul_add(r5, a[3], b[2], c);

    let (r3, c) = mul_add(r3, a[0], b[3], 0);
    let (r4, c) = mul_add(r4, a[1], b[3], c);
    let (r5, c) = mul_add(r5, a[2], b[3], c);
    let (r6, r7) = mul_add(r6, a[3], b[3], c);
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

/// The whole square: the six mixed products once, doubled, and the four squares.
#[inline(always)]
pub(crate) const fn square(a: &Limbs) -> [u64; 8] {
    let (r1, c) = mul_add(0, a[1], a[0], 0);
    let (r2, c) = mul_add(0, a[2], a[0], c);
    let (r3, r4) = mul_add(0, a[3], a[0], c);
    let (r3, c) = mul_add(r3, a[2], a[1], 0);
    let (r4, r5) = mul_add(r4, a[3], a[1], c);
    let (r5, r6) = mul_add(r5, a[3], a[2], 0);

    let r7 = r6 >> 63;
    let r6 = r6 << 1 | r5 >> 63;
    let r5 = r5 << 1 | r4 >> 63;
    let r4 = r4 << 1 | r3 >> 63;
    let r3 = r3 << 1 | r2 >> 63;
    let r2 = r2 << 1 | r1 >> 63;
    let r1 = r1 << 1;

    let (r0, c) = mul_add(0, a[0], a[0], 0);
    let (r1, c) = add_carry(r1, c, 0);
    let (low, high) = mul_add(0, a[1], a[1], 0);
    let (r2, c) = add_carry(r2, low, c);
    let (r3, c) = add_carry(r3, high, c);
    let (low, high) = mul_add(0, a[2], a[2], 0);
    let (r4, c) = add_carry(r4, low, c);
    let (r5, c) = add_carry(r5, high, c);
    let (low, high) = mul_add(0, a[3], a[3], 0);
    let (r6, c) = add_carry(r6, low, c);
    let (r7, _) = add_carry(r7, high, c);
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

/// A number from its 32 big-endian bytes.
pub(crate) fn from_be_bytes(bytes: &[u8; 32]) -> Limbs {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_be_bytes(*chunk);
    }
    limbs
}

/// Its 32 big-endian bytes.
#[cfg(test)]
pub(crate) fn to_be_bytes(limbs: &Limbs) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(limbs.iter().rev()) {
        *chunk = limb.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_limbs_turn_into_each_other() {
        let bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(from_be_bytes(&bytes)[3], 0x0001_0203_0405_0607);
        assert_eq!(to_be_bytes(&from_be_bytes(&bytes)), bytes);
    }

    #[test]
    fn a_square_is_a_product_with_itself_also_at_the_largest_limbs() {
        for a in [[u64::MAX; 4], [1, u64::MAX, 0, u64::MAX], [u64::MAX, 0, 0, 1 << 63], [3, 5, 7, 11]] {
            assert_eq!(square(&a), product(&a, &a));
        }
        assert_eq!(
            product(&[u64::MAX; 4], &[u64::MAX; 4]),
            [1, 0, 0, 0, u64::MAX - 1, u64::MAX, u64::MAX, u64::MAX]
        );
    }

    #[test]
    fn a_difference_below_zero_borrows() {
        assert_eq!(sub(&[0; 4], &[1, 0, 0, 0]), ([u64::MAX; 4], 1));
        assert_eq!(add(&[u64::MAX; 4], &[1, 0, 0, 0]), ([0; 4], 1));
        assert!(less(&[5, 0, 0, 0], &[0, 1, 0, 0]) && !less(&[5, 0, 0, 0], &[5, 0, 0, 0]));
    }
}
