//! Sums of many points: of many signatures, one in a lane, and of one signature in all lanes.

use std::{arch::x86_64::__mmask8, array};

use super::{
    LEAST_OF_ONE, Met,
    field::{Away, Fe8},
    load,
    points::{Affine8, Jacobian8},
};
use crate::{
    curve::{Affine, Jacobian},
    field::Fe,
    inverse::{Invert as _, invert_all},
    table::{TERMS, Term},
};

const LANES: usize = 8;

/// A lane without a point holds this.
const NOTHING: Term<'static> = Term::UNSET;

/// Vectors of additions that are worth an inversion that they share: with fewer, coordinates without inversions are faster.
const SHARED: usize = 16;

/// Products that are waited for beside each other.
const CHAINS: usize = 2;

/// The mask of the lanes for which this is true.
fn lanes(mut is: impl FnMut(usize) -> bool) -> __mmask8 {
    (0..LANES).fold(0, |mask, lane| mask | (u8::from(is(lane)) << lane))
}

/// See [`Ifma::sum_of_one`](super::Ifma::sum_of_one).
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn sum_of_one(terms: &[Term<'_>]) -> Option<Jacobian> {
    if terms.len() < LEAST_OF_ONE {
        return None;
    }
    let (vectors, rest) = terms.as_chunks::<LANES>();
    let [first, second, others @ ..] = vectors else { return None };
    let mut sum = Jacobian8::of_sum(&load::points(first), &load::points(second));
    for vector in others {
        sum = sum.add(&load::points(vector));
    }
    if !rest.is_empty() {
        let vector = array::from_fn(|lane| rest.get(lane).copied().unwrap_or(NOTHING));
        sum = sum.replaced(lanes(|lane| lane < rest.len()), &sum.add(&load::points(&vector)));
    }
    sum = sum.add_across(Away::Four);
    sum = sum.add_across(Away::Two);
    sum = sum.add_across(Away::One);
    let [x, y, z] = [sum.x, sum.y, sum.z].map(|coordinate| coordinate.numbers()[0]);
    Some(Jacobian::new(x, y, z))
}

/// Eight signatures: their points, and how many each has left.
struct Eight {
    points: Vec<Affine8>,
    used: [usize; LANES],
}

impl Eight {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn of(terms: &[&[Term<'_>]]) -> Self {
        let of_lane: [&[Term<'_>]; LANES] = array::from_fn(|lane| terms.get(lane).copied().unwrap_or(&[]));
        let used = of_lane.map(<[_]>::len);
        let mut points = Vec::with_capacity(TERMS);
        for index in 0..most(&used) {
            let mut row = [NOTHING; LANES];
            for (term, of_lane) in row.iter_mut().zip(of_lane) {
                *term = of_lane.get(index).copied().unwrap_or(NOTHING);
            }
            points.push(load::points(&row));
        }
        Self { points, used }
    }

    /// The lanes in which there is a pair `index` to add.
    fn with_pair(&self, index: usize) -> __mmask8 {
        lanes(|lane| 2 * index + 1 < self.used[lane])
    }

    /// Pairs, in the lane with the most.
    fn pairs(&self) -> usize {
        most(&self.used) / 2
    }
}

fn most(used: &[usize; LANES]) -> usize {
    used.iter().copied().max().unwrap_or(0)
}

/// See [`Ifma::sums`](super::Ifma::sums).
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn sums(terms: &[&[Term<'_>]], sums: &mut Vec<Option<Affine>>) -> Result<(), Met> {
    let mut eights = Vec::with_capacity(terms.len().div_ceil(LANES));
    for terms in terms.chunks(LANES) {
        eights.push(Eight::of(terms));
    }
    let mut inverses = Inverses::with_capacity(eights.len() * TERMS / 2);
    while eights.iter().map(Eight::pairs).sum::<usize>() >= SHARED {
        add_pairs(&mut eights, &mut inverses)?;
    }
    add_rest(&mut eights, &mut inverses)?;
    for (eight, terms) in eights.iter().zip(terms.chunks(LANES)) {
        let Some(Affine8 { x, y }) = eight.points.first() else {
            sums.extend(terms.iter().map(|_| None));
            continue;
        };
        let (x, y) = (x.numbers(), y.numbers());
        let sum = |lane: usize| (eight.used[lane] > 0).then(|| Affine { x: x[lane], y: y[lane] });
        sums.extend((0..terms.len()).map(sum));
    }
    Ok(())
}

/// Adds each pair of neighbours, with one inversion for all.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_pairs(eights: &mut [Eight], inverses: &mut Inverses) -> Result<(), Met> {
    // Sums take the places of the pairs from the front, and inverses come in the opposite order of their numbers.
    for eight in eights.iter().rev() {
        for index in (0..eight.pairs()).rev() {
            let (first, second) = (&eight.points[2 * index], &eight.points[2 * index + 1]);
            let difference = second.x.sub(&first.x);
            inverses.push(&Fe8::one().replaced(eight.with_pair(index), &difference));
        }
    }
    inverses.invert()?;
    for eight in eights {
        for index in 0..eight.pairs() {
            let inverse = inverses.pop();
            let (first, second) = (&eight.points[2 * index], &eight.points[2 * index + 1]);
            eight.points[index] = first.replaced(eight.with_pair(index), &first.add(second, &inverse));
        }
        let used = most(&eight.used);
        if used % 2 == 1 {
            eight.points[used / 2] = eight.points[used - 1];
        }
        eight.used = eight.used.map(|used| used.div_ceil(2));
    }
    Ok(())
}

/// Adds up what is left of each signature, with one inversion for all.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_rest(eights: &mut [Eight], inverses: &mut Inverses) -> Result<(), Met> {
    for eight in eights.iter_mut() {
        let left = most(&eight.used);
        let [first, second, others @ ..] = &eight.points[..left] else { continue };
        // Lanes with a single point keep it, over a Z of 1.
        let mut sum = Jacobian8 { x: first.x, y: first.y, z: Fe8::one() };
        sum = sum.replaced(eight.with_pair(0), &Jacobian8::of_sum(first, second));
        for (index, point) in (2..).zip(others) {
            sum = sum.replaced(lanes(|lane| index < eight.used[lane]), &sum.add(point));
        }
        inverses.push(&sum.z);
        eight.points[0] = Affine8 { x: sum.x, y: sum.y };
    }
    inverses.invert()?;
    for eight in eights.iter_mut().rev().filter(|eight| eight.pairs() > 0) {
        let inverse = inverses.pop();
        let square = inverse.square();
        let Affine8 { x, y } = eight.points[0];
        eight.points[0] = Affine8 { x: x.mul(&square), y: y.mul(&square.mul(&inverse)) };
        eight.used = eight.used.map(|used| used.min(1));
    }
    Ok(())
}

/// Numbers that are inverted together, with one inversion and three products each: pushed, inverted, and popped in the
/// opposite order.
struct Inverses {
    numbers: Vec<Fe8>,
    /// For each number, the product of those before it in its chain.
    before: Vec<Fe8>,
    /// The product of each chain; once inverted, the inverse of the product of those that are left.
    chains: [Fe8; CHAINS],
}

impl Inverses {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn with_capacity(capacity: usize) -> Self {
        let [numbers, before] = [Vec::with_capacity(capacity), Vec::with_capacity(capacity)];
        Self { numbers, before, chains: [Fe8::one(); CHAINS] }
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn push(&mut self, number: &Fe8) {
        let chain = &mut self.chains[self.numbers.len() % CHAINS];
        self.before.push(*chain);
        self.numbers.push(*number);
        *chain = chain.mul(number);
    }

    /// Error where a number is zero.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn invert(&mut self) -> Result<(), Met> {
        let [a, b] = self.chains;
        let mut products = a.mul(&b).numbers();
        if products.iter().any(Fe::is_zero) {
            return Err(Met);
        }
        let mut scratch = [Fe::ONE; LANES];
        invert_all(&mut products, &mut scratch);
        let inverse = Fe8::of(&products);
        self.chains = [inverse.mul(&b), inverse.mul(&a)];
        Ok(())
    }

    /// The inverse of the last number. When all are taken, this is ready for others.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn pop(&mut self) -> Fe8 {
        let (Some(number), Some(before)) = (self.numbers.pop(), self.before.pop()) else { return Fe8::one() };
        let chain = &mut self.chains[self.numbers.len() % CHAINS];
        let inverse = chain.mul(&before);
        *chain = chain.mul(&number);
        if self.numbers.is_empty() {
            self.chains = [Fe8::one(); CHAINS];
        }
        inverse
    }
}
