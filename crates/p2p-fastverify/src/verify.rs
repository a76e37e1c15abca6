//! The equation: P = u₁·G + u₂·Q with u₁ = z/s and u₂ = r/s, and whether x(P) = r and y(P) has the parity that v says.

use std::array;

use crate::{
    curve::{Affine, Sums},
    field::Fe,
    ifma::Ifma,
    inverse::{Invert as _, invert_all},
    limbs::from_be_bytes,
    scalar::Scalar,
    table::{TERMS, Table, Term},
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

/// Signatures that share inversions, at most: more would save little and need more than a core's cache.
const GROUP: usize = 64;

/// Fewer signatures than this leave most lanes of a vector empty: each has all lanes to itself then.
const LEAST_TOGETHER: usize = 3;

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

    /// The points that u₁·G + u₂·Q is the sum of, from 1/s; how many there are.
    fn terms<'a>(&self, table: &'a Table, inverse: &Scalar, terms: &mut [Term<'a>; TERMS]) -> usize {
        table.terms(&self.digest.mul(inverse), &self.r.mul(inverse), terms)
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
        Method::fastest().verify(self, signature)
    }
}

/// The verdict on each signature, in order, each as [`Table::verify`] would give it: a bad one affects no other.
/// Several times faster than one by one where there are many, as they share inversions.
#[must_use]
pub fn verify_all(signatures: &[(&Table, Signature)]) -> Vec<Verdict> {
    Method::fastest().verify_all(signatures)
}

/// How points are added up. All methods give the same verdicts, but that of an undecided one, whose points met in one order
/// of the additions, may be given in another.
///
/// For tests and measurements: [`Table::verify`] and [`verify_all`] take the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(Option<Ifma>);

impl Method {
    /// By words of 64 bits, on any machine.
    pub const PORTABLE: Self = Self(None);

    /// By the vectors of AVX-512 with IFMA instructions, where this machine has them; as [`PORTABLE`](Self::PORTABLE)
    /// elsewhere.
    #[must_use]
    pub fn fastest() -> Self {
        Self(Ifma::detect())
    }

    /// As [`Table::verify`].
    pub fn verify(self, table: &Table, signature: &Signature) -> Verdict {
        let Some(numbers) = Numbers::of(signature) else { return Verdict::Undecided };
        let inverse = numbers.s.inverse();
        let mut terms = [Term::UNSET; TERMS];
        let count = numbers.terms(table, &inverse, &mut terms);
        let terms = &terms[..count];
        let sum = match self.0.and_then(|ifma| ifma.sum_of_one(terms)) {
            Some(sum) => (!sum.z().is_zero()).then(|| sum.affine(&sum.z().inverse())),
            None => {
                let mut points = [Affine::UNSET; TERMS];
                let mut inverses = [Fe::ZERO; TERMS / 2];
                let mut scratch = [Fe::ZERO; TERMS / 2];
                let room = Room { points: &mut points, inverses: &mut inverses, scratch: &mut scratch };
                let [sum] = add_up(&[terms], room);
                sum
            }
        };
        sum.map_or(Verdict::Undecided, |sum| numbers.verdict(&sum))
    }

    /// As [`verify_all`].
    #[must_use]
    pub fn verify_all(self, signatures: &[(&Table, Signature)]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(signatures.len());
        let group = signatures.len().min(GROUP);
        let (mut prepared, mut sums) = (Vec::with_capacity(group), Vec::with_capacity(group));
        for signatures in signatures.chunks(GROUP) {
            prepare(signatures, &mut prepared);
            let terms: Vec<_> = prepared.iter().map(|prepared| &prepared.terms[..prepared.count]).collect();
            sums.clear();
            let added_up = match self.0 {
                Some(ifma) => signatures.len() >= LEAST_TOGETHER && ifma.sums(&terms, &mut sums).is_ok(),
                None => {
                    add_up_group(&terms, &mut sums);
                    true
                }
            };
            if added_up {
                let verdict =
                    |(prepared, sum): (&Prepared<'_>, &Option<Affine>)| match (prepared.numbers, sum) {
                        (Some(numbers), Some(sum)) => numbers.verdict(sum),
                        _ => Verdict::Undecided,
                    };
                verdicts.extend(prepared.iter().zip(&sums).map(verdict));
            } else {
                // Where two points met, one by one: it is one of them.
                verdicts.extend(signatures.iter().map(|(table, signature)| self.verify(table, signature)));
            }
        }
        verdicts
    }
}

/// A signature in numbers, where it is one, and the points that are to be added up.
struct Prepared<'a> {
    numbers: Option<Numbers>,
    terms: [Term<'a>; TERMS],
    count: usize,
}

/// Prepares at most [`GROUP`] signatures, with one inversion for all.
fn prepare<'a>(signatures: &[(&'a Table, Signature)], prepared: &mut Vec<Prepared<'a>>) {
    prepared.clear();
    let (mut inverses, mut scratch) = ([Scalar::ONE; GROUP], [Scalar::ONE; GROUP]);
    for ((_, signature), inverse) in signatures.iter().zip(&mut inverses) {
        let numbers = Numbers::of(signature);
        *inverse = numbers.map_or(Scalar::ONE, |numbers| numbers.s);
        prepared.push(Prepared { numbers, terms: [Term::UNSET; TERMS], count: 0 });
    }
    let count = prepared.len();
    invert_all(&mut inverses[..count], &mut scratch[..count]);
    for ((prepared, (table, _)), inverse) in prepared.iter_mut().zip(signatures).zip(&inverses) {
        if let Some(numbers) = prepared.numbers {
            prepared.count = numbers.terms(table, inverse, &mut prepared.terms);
        }
    }
}

/// Where sums are worked on by words: for each [`TERMS`] points, and half as many inverses and scratch.
struct Room<'a> {
    points: &'a mut [Affine],
    inverses: &'a mut [Fe],
    scratch: &'a mut [Fe],
}

/// The sums of at most `N` signatures, by words; none for one without points and for one in which points met.
fn add_up<const N: usize>(terms: &[&[Term<'_>]], room: Room<'_>) -> [Option<Affine>; N] {
    let Room { points, inverses, scratch } = room;
    let mut used = [0; N];
    for ((row, used), terms) in points.chunks_mut(TERMS).zip(&mut used).zip(terms) {
        for (point, term) in row.iter_mut().zip(*terms) {
            *point = term.affine();
        }
        *used = terms.len();
    }
    Sums { points, stride: TERMS, used: &mut used[..terms.len()], inverses, scratch }.add_up();
    array::from_fn(|i| (used[i] == 1).then(|| points[i * TERMS]))
}

/// The same of a group.
fn add_up_group(terms: &[&[Term<'_>]], sums: &mut Vec<Option<Affine>>) {
    let mut points = vec![Affine::UNSET; terms.len() * TERMS];
    let mut inverses = vec![Fe::ZERO; terms.len() * TERMS / 2];
    let mut scratch = inverses.clone();
    let room = Room { points: &mut points, inverses: &mut inverses, scratch: &mut scratch };
    sums.extend(add_up::<GROUP>(terms, room).into_iter().take(terms.len()));
}
