//! The equation: P = u₁·G + u₂·Q with u₁ = z/s and u₂ = r/s, and whether x(P) = r and y(P) has the parity that v says.

use crate::{
    curve::{Affine, Sums},
    field::Fe,
    inverse::{Invert as _, invert_all},
    limbs::from_be_bytes,
    scalar::Scalar,
    table::{TERMS, Table},
};

/// A digest and its signature: r ‖ s ‖ v with v from 0 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    pub(crate) digest: [u8; 32],
    pub(crate) bytes: [u8; 65],
}

impl Signature {
    /// Any bytes will do: what cannot be a signature is for the verdict to say.
    #[must_use]
    pub const fn new(digest: [u8; 32], bytes: [u8; 65]) -> Self {
        Self { digest, bytes }
    }
}

/// Whether the owner of a table made a signature.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did: recovery gives its key and no other.
    Signed,
    /// It did not: recovery gives another key or none.
    NotSigned,
    /// Not for this crate to say, see [`Table::verify`]: ask libsecp256k1.
    Undecided,
}

/// A signature in numbers: r and s from 1 to n − 1, s in the lower half, v 0 or 1.
#[derive(Clone, Copy)]
struct Numbers {
    digest: Scalar,
    r: Scalar,
    s: Scalar,
    odd: bool,
}

impl Numbers {
    fn of(signature: &Signature) -> Option<Self> {
        let [rs @ .., v] = &signature.bytes;
        let [r, s] = rs.as_chunks().0 else { return None };
        let number = |bytes| Scalar::new(from_be_bytes(bytes)).filter(|number| !number.is_zero());
        let (r, s) = (number(r)?, number(s).filter(|s| !s.is_high())?);
        let digest = Scalar::reduce(from_be_bytes(&signature.digest));
        (*v < 2).then_some(Self { digest, r, s, odd: *v == 1 })
    }

    /// The x coordinate of a point is compared with r itself, not modulo n: r = x − n is what v of 2 and 3 are for.
    fn verdict(&self, sum: &Affine) -> Verdict {
        let matches = sum.x.reduced() == self.r.limbs() && sum.y.reduced()[0] % 2 == u64::from(self.odd);
        if matches { Verdict::Signed } else { Verdict::NotSigned }
    }
}

impl Table {
    /// Whether the signer of this table made a signature. Allocates nothing.
    ///
    /// [`Verdict::Undecided`] says that r or s is not from 1 to n − 1, s is in the upper half, v is neither 0 nor 1, or two
    /// points met on the way that the formula for additions does not cover. No honest signature is among these.
    pub fn verify(&self, signature: &Signature) -> Verdict {
        let mut verdict = [Verdict::Undecided];
        let mut points = [Affine::UNSET; TERMS];
        let mut inverses = [Fe::ZERO; TERMS / 2];
        let mut scratch = [Fe::ZERO; TERMS / 2];
        let room = Room { points: &mut points, inverses: &mut inverses, scratch: &mut scratch };
        verify_group::<1>(&[(self, *signature)], &mut verdict, room);
        let [verdict] = verdict;
        verdict
    }
}

/// The verdict on each signature, in order, each as [`Table::verify`] would give it: a bad one affects no other.
/// Several times faster than one by one where there are many, as they share inversions.
#[must_use]
pub fn verify_all(signatures: &[(&Table, Signature)]) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::Undecided; signatures.len()];
    let group = signatures.len().min(GROUP);
    let mut points = vec![Affine::UNSET; group * TERMS];
    let mut inverses = vec![Fe::ZERO; group * TERMS / 2];
    let mut scratch = vec![Fe::ZERO; group * TERMS / 2];
    for (signatures, verdicts) in signatures.chunks(GROUP).zip(verdicts.chunks_mut(GROUP)) {
        let room = Room { points: &mut points, inverses: &mut inverses, scratch: &mut scratch };
        verify_group::<GROUP>(signatures, verdicts, room);
    }
    verdicts
}

/// Signatures that share inversions, at most: more would save little and need more than a core's cache.
const GROUP: usize = 64;

/// Where a group is worked on: for each signature [`TERMS`] points, and half as many inverses and scratch.
struct Room<'a> {
    points: &'a mut [Affine],
    inverses: &'a mut [Fe],
    scratch: &'a mut [Fe],
}

/// At most `N` signatures.
fn verify_group<const N: usize>(
    signatures: &[(&Table, Signature)],
    verdicts: &mut [Verdict],
    room: Room<'_>,
) {
    let Room { points, inverses, scratch } = room;
    let count = signatures.len();
    let mut numbers: [Option<Numbers>; N] = [None; N];
    let (mut of_s, mut spare, mut used) = ([Scalar::ONE; N], [Scalar::ONE; N], [0; N]);
    for (((_, signature), numbers), s) in signatures.iter().zip(&mut numbers).zip(&mut of_s) {
        *numbers = Numbers::of(signature);
        *s = numbers.map_or(Scalar::ONE, |numbers| numbers.s);
    }
    invert_all(&mut of_s[..count], &mut spare[..count]);
    let rows = points.chunks_mut(TERMS).zip(&mut used);
    for ((((table, _), numbers), inverse), (row, used)) in
        signatures.iter().zip(&numbers).zip(&of_s).zip(rows)
    {
        if let Some(Numbers { digest, r, .. }) = numbers {
            *used = table.terms(&digest.mul(inverse), &r.mul(inverse), row);
        }
    }
    let mut sums = Sums { points, stride: TERMS, used: &mut used[..count], inverses, scratch };
    sums.add_up();
    for (((numbers, row), used), verdict) in numbers.iter().zip(points.chunks(TERMS)).zip(used).zip(verdicts)
    {
        if let (Some(numbers), [sum, ..], 1) = (numbers, row, used) {
            *verdict = numbers.verdict(sum);
        }
    }
}
