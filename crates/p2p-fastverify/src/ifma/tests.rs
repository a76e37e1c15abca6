//! Vectors against words of 64 bits, at the numbers where carries happen.

use super::{Ifma, field::Fe8};
use crate::{
    field::{FOLD, Fe},
    limbs::Limbs,
};

/// Numbers around 0, p, 2²⁵⁶ and the borders of limbs of 52 bits, and random ones.
fn numbers() -> Vec<Fe> {
    let full = u64::MAX;
    let mut all: Vec<Limbs> = vec![
        [0; 4],
        [1, 0, 0, 0],
        [full; 4],
        [full - FOLD + 1, full, full, full],
        [full - FOLD, full, full, full],
        [full - FOLD + 2, full, full, full],
        [FOLD, 0, 0, 0],
        [full, 0, 0, 0],
        [0, 0, 0, full],
        [0, 0, 0, 1 << 63],
        [0, full, 0, full],
    ];
    // All ones and a single one at each border of a limb.
    for bit in [51, 52, 53, 103, 104, 105, 155, 156, 157, 207, 208, 209, 255] {
        let mut power = [0; 4];
        power[bit / 64] = 1 << (bit % 64);
        let below = std::array::from_fn(|i| match i.cmp(&(bit / 64)) {
            std::cmp::Ordering::Less => full,
            std::cmp::Ordering::Equal => (1 << (bit % 64)) - 1,
            std::cmp::Ordering::Greater => 0,
        });
        all.extend([power, below, below.map(|limb: u64| !limb)]);
    }
    let mut rng = fastrand::Rng::with_seed(23);
    all.extend((0..300).map(|_| std::array::from_fn(|_| rng.u64(..))));
    all.into_iter().map(Fe::new).collect()
}

/// Every operation on eight pairs, as vectors and as words.
#[target_feature(enable = "avx512f,avx512ifma")]
fn check(a: &[Fe; 8], b: &[Fe; 8], c: &[Fe; 8]) {
    let (va, vb, vc) = (Fe8::of(a), Fe8::of(b), Fe8::of(c));
    let words =
        |of: fn(&Fe, &Fe, &Fe) -> Fe| -> Vec<Fe> { (0..8).map(|i| of(&a[i], &b[i], &c[i])).collect() };
    assert_eq!(va.numbers().to_vec(), words(|a, _, _| *a));
    assert_eq!(va.mul(&vb).numbers().to_vec(), words(|a, b, _| a.mul(b)));
    assert_eq!(va.square().numbers().to_vec(), words(|a, _, _| a.square()));
    assert_eq!(va.add(&vb).numbers().to_vec(), words(|a, b, _| a.add(b)));
    assert_eq!(va.sub(&vb).numbers().to_vec(), words(|a, b, _| a.sub(b)));
    assert_eq!(va.mul_sub(&vb, &vc).numbers().to_vec(), words(|a, b, c| a.mul(b).sub(c)));
    assert_eq!(va.square_sub(&vb, &vc).numbers().to_vec(), words(|a, b, c| a.square().sub(b).sub(c)));
    assert_eq!(va.negated(0xff).numbers().to_vec(), words(|a, _, _| a.negate()));
    let mixed = va.negated(0b0101_0011).replaced(0b1111_0000, &vb).numbers();
    for lane in 0..8 {
        let own = if 0b0101_0011 >> lane & 1 == 1 { a[lane].negate() } else { a[lane] };
        assert_eq!(mixed[lane], if lane < 4 { own } else { b[lane] });
    }
    // Results are as good as numbers that were given: also where carries have made them long.
    let long = va.sub(&vb).mul_sub(&va.add(&vb), &vc.negated(0xff));
    let expected = words(|a, b, c| a.sub(b).mul(&a.add(b)).add(c));
    assert_eq!(long.numbers().to_vec(), expected);
    let longer = long.square_sub(&long, &long).mul(&long).numbers().to_vec();
    let expected: Vec<Fe> = expected.iter().map(|x| x.square().sub(x).sub(x).mul(x)).collect();
    assert_eq!(longer, expected);
}

#[test]
fn vectors_calculate_like_words_at_every_border() {
    if Ifma::detect().is_none() {
        println!("skipped: this machine has no AVX-512 IFMA");
        return;
    }
    let numbers = numbers();
    let at = |i: usize| numbers[i % numbers.len()];
    for shift in 0..numbers.len() {
        for first in (0..numbers.len()).step_by(8) {
            let [a, b, c] = [
                std::array::from_fn(|lane| at(first + lane)),
                std::array::from_fn(|lane| at(first + lane + shift)),
                std::array::from_fn(|lane| at(first + 3 * lane + 7 * shift)),
            ];
            // SAFETY: `check` needs AVX-512F and IFMA, which `detect` has found.
            unsafe { check(&a, &b, &c) };
        }
    }
}

#[test]
fn lanes_change_places_with_those_four_two_and_one_away() {
    use super::field::Away;

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn swapped(numbers: &[Fe; 8], away: Away) -> [Fe; 8] {
        Fe8::of(numbers).swapped(away).numbers()
    }

    if Ifma::detect().is_none() {
        println!("skipped: this machine has no AVX-512 IFMA");
        return;
    }
    let numbers: [Fe; 8] = std::array::from_fn(|lane| Fe::new([lane as u64, 0, 0, 0]));
    for (away, distance) in [(Away::Four, 4), (Away::Two, 2), (Away::One, 1)] {
        // SAFETY: `swapped` needs AVX-512F and IFMA, which `detect` has found.
        let swapped = unsafe { swapped(&numbers, away) };
        assert_eq!(swapped, std::array::from_fn(|lane| numbers[lane ^ distance]));
    }
}
