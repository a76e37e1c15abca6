//! Multiples of a point, precomputed: what makes a known signer fast.

use std::sync::LazyLock;

use alloy_primitives::Address;
use secp256k1::PublicKey;

use crate::{
    curve::{Affine, multiples},
    field::Fe,
    limbs::from_be_bytes,
    scalar::Scalar,
};

/// Bits of a digit, by which a signer's table is read. One more would double the table and save four additions of 58.
const BITS: usize = 8;
/// Digits of a scalar, and rows of a signer's table: 32 · 8 = 256 bits.
const DIGITS: usize = 32;
/// Points of a row: a digit is within ±2⁷.
const ROW: usize = 1 << (BITS - 1);

/// The same for the generator, whose table exists once: 26 · 10 = 260 bits.
const GENERATOR_BITS: usize = 10;
const GENERATOR_DIGITS: usize = 26;
const GENERATOR_ROW: usize = 1 << (GENERATOR_BITS - 1);

/// Points that u₁·G + u₂·Q is the sum of, at most.
pub(crate) const TERMS: usize = GENERATOR_DIGITS + DIGITS;

/// The signed digits of every scalar times a signer's key, ready to be added: 256 KiB, built in less than a millisecond.
///
/// ```
/// # use p2p_fastverify::{Signature, Table, Verdict};
/// use secp256k1::{Message, SecretKey, ecdsa::RecoverableSignature};
///
/// let secret = SecretKey::from_secret_bytes([7; 32])?;
/// let table = Table::new(&secret.public_key());
///
/// let digest = [0x42; 32];
/// let (v, rs) =
///     RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &secret).serialize_compact();
/// let mut bytes = [0; 65];
/// bytes[..64].copy_from_slice(&rs);
/// bytes[64] = v.to_u8();
///
/// assert_eq!(table.verify(&Signature::new(digest, bytes)), Verdict::Signed);
/// assert_eq!(table.verify(&Signature::new([0x43; 32], bytes)), Verdict::NotSigned);
/// # Ok::<(), secp256k1::Error>(())
/// ```
pub struct Table {
    signer: Address,
    points: Box<[Affine]>,
}

impl Table {
    /// What a table takes, without a few dozen bytes: 32 rows of 128 points of 64 bytes.
    pub const BYTES: usize = DIGITS * ROW * size_of::<Affine>();

    /// Builds the table of a key: 4,000 additions.
    #[must_use]
    pub fn new(key: &PublicKey) -> Self {
        let bytes = key.serialize_uncompressed();
        Self {
            signer: Address::from_raw_public_key(&bytes[1..]),
            points: multiples(point(&bytes), DIGITS, BITS, ROW),
        }
    }

    /// The Ethereum address of the key.
    #[must_use]
    pub const fn signer(&self) -> Address {
        self.signer
    }

    /// The points that u₁·G + u₂·Q is the sum of; how many there are.
    pub(crate) fn terms<'a>(&'a self, u1: &Scalar, u2: &Scalar, terms: &mut [Term<'a>; TERMS]) -> usize {
        let mut terms = terms.iter_mut();
        let digits = u1.signed_digits::<GENERATOR_DIGITS>(GENERATOR_BITS);
        pick(&GENERATOR, GENERATOR_ROW, &digits, &mut terms);
        pick(&self.points, ROW, &u2.signed_digits::<DIGITS>(BITS), &mut terms);
        TERMS - terms.len()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("signer", &self.signer).finish_non_exhaustive()
    }
}

/// A point of a table, or its negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term<'a> {
    pub(crate) point: &'a Affine,
    pub(crate) negative: bool,
}

impl Term<'_> {
    /// What an array holds before it is filled. Not a point.
    pub(crate) const UNSET: Self = Self { point: &Affine::UNSET, negative: false };

    pub(crate) const fn affine(&self) -> Affine {
        if self.negative { self.point.negate() } else { *self.point }
    }
}

/// One point for each digit that is not zero.
fn pick<'a, 't: 'a>(
    table: &'t [Affine],
    row: usize,
    digits: &[i32],
    terms: &mut impl Iterator<Item = &'a mut Term<'t>>,
) {
    for (row, &digit) in table.chunks(row).zip(digits) {
        let Some(index) = digit.unsigned_abs().checked_sub(1) else { continue };
        let (Some(point), Some(term)) = (row.get(index as usize), terms.next()) else { continue };
        *term = Term { point, negative: digit < 0 };
    }
}

/// The generator's table, 832 KiB, built when the first signature is verified.
static GENERATOR: LazyLock<Box<[Affine]>> = LazyLock::new(|| {
    let generator = secp256k1::constants::GENERATOR_X.iter().chain(&secp256k1::constants::GENERATOR_Y);
    let mut bytes = [4; 65];
    bytes[1..].iter_mut().zip(generator).for_each(|(to, from)| *to = *from);
    multiples(point(&bytes), GENERATOR_DIGITS, GENERATOR_BITS, GENERATOR_ROW)
});

/// A point from its uncompressed form.
fn point(bytes: &[u8; 65]) -> Affine {
    let [x, y] = [&bytes[1..33], &bytes[33..]].map(|half| half.try_into().unwrap_or([0; 32]));
    Affine { x: Fe::new(from_be_bytes(&x)), y: Fe::new(from_be_bytes(&y)) }
}
