//! Points of y² = x³ + 7 and their sums. None of these is the point at infinity: a sum that would be is refused.

use crate::{
    field::Fe,
    inverse::{Invert as _, invert_all},
};

/// A point by its coordinates: a line of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Affine {
    pub(crate) x: Fe,
    pub(crate) y: Fe,
}

impl Affine {
    /// What a table holds before it is filled. Not a point.
    pub(crate) const UNSET: Self = Self { x: Fe::ZERO, y: Fe::ZERO };

    pub(crate) const fn negate(&self) -> Self {
        Self { x: self.x, y: self.y.negate() }
    }

    /// The limbs of x, then those of y: for vectors.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) const fn words(&self) -> [u64; 8] {
        let ([a, b, c, d], [e, f, g, h]) = (self.x.limbs(), self.y.limbs());
        [a, b, c, d, e, f, g, h]
    }

    /// This and another point, from 1/(x₂ − x₁): five products and a square with their share of an inversion.
    #[inline(always)]
    fn add(&self, other: &Self, inverse: &Fe) -> Self {
        self.along(&other.y.sub(&self.y).mul(inverse), &other.x)
    }

    /// Twice this, from 1/(2y).
    fn double(&self, inverse: &Fe) -> Self {
        let square = self.x.square();
        self.along(&square.double().add(&square).mul(inverse), &self.x)
    }

    /// The third point of a line through this one, mirrored, from the line's slope and the x of the second point.
    #[inline(always)]
    fn along(&self, slope: &Fe, other_x: &Fe) -> Self {
        let x = slope.square().sub(&self.x).sub(other_x);
        Self { x, y: slope.mul(&self.x.sub(&x)).sub(&self.y) }
    }
}

/// A point by x = X/Z², y = Y/Z³: its sums need no inversion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jacobian {
    x: Fe,
    y: Fe,
    z: Fe,
}

impl From<Affine> for Jacobian {
    fn from(Affine { x, y }: Affine) -> Self {
        Self { x, y, z: Fe::ONE }
    }
}

impl Jacobian {
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn new(x: Fe, y: Fe, z: Fe) -> Self {
        Self { x, y, z }
    }

    /// This and another point, in eight products and three squares. None where they are the same or opposite.
    pub(crate) fn add(&self, other: &Affine) -> Option<Self> {
        let zz = self.z.square();
        let dx = other.x.mul(&zz).sub(&self.x);
        if dx.is_zero() {
            return None;
        }
        let dy = other.y.mul(&zz.mul(&self.z)).sub(&self.y);
        let dx2 = dx.square();
        let dx3 = dx2.mul(&dx);
        let v = self.x.mul(&dx2);
        let x = dy.square().sub(&dx3).sub(&v.double());
        let y = dy.mul(&v.sub(&x)).sub(&self.y.mul(&dx3));
        Some(Self { x, y, z: self.z.mul(&dx) })
    }

    /// Twice this. No point of the curve has y = 0, so that there is always one.
    pub(crate) fn double(&self) -> Self {
        let (xx, yy) = (self.x.square(), self.y.square());
        let yyyy8 = yy.square().double().double().double();
        let slope = xx.double().add(&xx);
        let xyy4 = self.x.mul(&yy).double().double();
        let x = slope.square().sub(&xyy4.double());
        let y = slope.mul(&xyy4.sub(&x)).sub(&yyyy8);
        Self { x, y, z: self.y.mul(&self.z).double() }
    }

    /// Its coordinates, from 1/Z.
    pub(crate) fn affine(&self, inverse: &Fe) -> Affine {
        let zz = inverse.square();
        Affine { x: self.x.mul(&zz), y: self.y.mul(&zz.mul(inverse)) }
    }

    pub(crate) const fn z(&self) -> Fe {
        self.z
    }
}

/// The multiples 1 to `multiples` (a power of two) of `point`, of `point`·2^`bits`, of `point`·2^(2·`bits`) and so on:
/// `windows` rows.
///
/// Multiples below the group's order are never equal or opposite to each other, so that no sum is refused.
pub(crate) fn multiples(point: Affine, windows: usize, bits: usize, multiples: usize) -> Box<[Affine]> {
    let mut table = vec![Affine::UNSET; windows * multiples].into_boxed_slice();
    let mut bases: Vec<Jacobian> = vec![point.into()];
    while let Some(last) = bases.last().filter(|_| bases.len() < windows) {
        bases.push((0..bits).fold(*last, |base, _| base.double()));
    }
    let mut inverses: Vec<Fe> = bases.iter().map(Jacobian::z).collect();
    let mut scratch = vec![Fe::ONE; windows * multiples.div_ceil(2).max(1)];
    invert_all(&mut inverses, &mut scratch[..windows]);
    for ((row, base), inverse) in table.chunks_mut(multiples).zip(&bases).zip(&inverses) {
        row[0] = base.affine(inverse);
    }
    // With the first `known` of each row, the next ones are the sums of each with the last of them.
    let mut known = 1;
    while known < multiples {
        inverses.clear();
        for row in table.chunks(multiples) {
            let last = &row[known - 1];
            inverses.extend(row[..known - 1].iter().map(|point| last.x.sub(&point.x)));
            inverses.push(last.y.double());
        }
        invert_all(&mut inverses, &mut scratch[..windows * known]);
        for (row, inverses) in table.chunks_mut(multiples).zip(inverses.chunks(known)) {
            let (lower, upper) = row.split_at_mut(known);
            let last = lower[known - 1];
            for ((sum, point), inverse) in upper.iter_mut().zip(&lower[..known - 1]).zip(inverses) {
                *sum = point.add(&last, inverse);
            }
            upper[known - 1] = last.double(&inverses[known - 1]);
        }
        known *= 2;
    }
    table
}

/// Points to add up, sum by sum, each in a row of its own.
pub(crate) struct Sums<'a> {
    /// `rows` rows of the same length.
    pub(crate) points: &'a mut [Affine],
    /// The length of a row.
    pub(crate) stride: usize,
    /// How many points of each row are used.
    pub(crate) used: &'a mut [usize],
    /// Half as much room as `points` has.
    pub(crate) inverses: &'a mut [Fe],
    /// As much as `inverses`.
    pub(crate) scratch: &'a mut [Fe],
}

/// Additions that share one inversion, at least: with fewer, coordinates without inversions are faster.
const SHARED: usize = 24;

impl Sums<'_> {
    /// Adds up each row: its first point is the sum then. `used` becomes 1, or 0 for a row without a point and for one in
    /// which two points were the same or opposite on the way.
    ///
    /// While many pairs are left in all rows together, each is added to its neighbour with one inversion for all; the rest
    /// is added up row by row.
    pub(crate) fn add_up(&mut self) {
        while self.pairs() >= SHARED {
            self.add_pairs();
        }
        if self.pairs() > 0 {
            self.add_rest();
        }
    }

    fn pairs(&self) -> usize {
        self.used.iter().map(|used| used / 2).sum()
    }

    fn add_pairs(&mut self) {
        let mut next = 0;
        for (row, used) in self.points.chunks(self.stride).zip(&mut *self.used) {
            let mut refused = false;
            for [first, second] in row[..*used].as_chunks().0 {
                let difference = second.x.sub(&first.x);
                let degenerate = difference.is_zero();
                refused |= degenerate;
                // The sum is of no use then, and the others need a product that is not zero.
                self.inverses[next] = if degenerate { Fe::ONE } else { difference };
                next += 1;
            }
            if refused {
                next -= *used / 2;
                *used = 0;
            }
        }
        invert_all(&mut self.inverses[..next], &mut self.scratch[..next]);
        let mut inverses = self.inverses[..next].iter();
        for (row, used) in self.points.chunks_mut(self.stride).zip(&mut *self.used) {
            let half = *used / 2;
            for (i, inverse) in inverses.by_ref().take(half).enumerate() {
                row[i] = row[2 * i].add(&row[2 * i + 1], inverse);
            }
            if *used % 2 == 1 {
                row[half] = row[*used - 1];
            }
            *used = used.div_ceil(2);
        }
    }

    fn add_rest(&mut self) {
        let rows = self.used.len();
        // Where a row is refused or empty, 1 keeps the product of the others.
        let sum_of = |row: &mut [Affine], used: &mut usize| {
            let (first, others) = row[..*used].split_first()?;
            let sum = others.iter().try_fold(Jacobian::from(*first), |sum, point| sum.add(point));
            *used = usize::from(sum.is_some());
            sum
        };
        for ((row, used), z) in
            self.points.chunks_mut(self.stride).zip(&mut *self.used).zip(&mut *self.inverses)
        {
            *z = Fe::ONE;
            if let Some(sum) = sum_of(row, used) {
                row[0] = Affine { x: sum.x, y: sum.y };
                *z = sum.z;
            }
        }
        invert_all(&mut self.inverses[..rows], &mut self.scratch[..rows]);
        for (row, inverse) in self.points.chunks_mut(self.stride).zip(&self.inverses[..rows]) {
            let Affine { x, y } = row[0];
            row[0] = Jacobian { x, y, z: Fe::ONE }.affine(inverse);
        }
    }
}
