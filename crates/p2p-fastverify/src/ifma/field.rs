//! Eight field elements in five vectors, one in each lane: numbers modulo p = 2²⁵⁶ − c to the base 2⁵².
//!
//! The instructions multiply the lowest 52 bits of two words and add the lower or the upper half of the 104 bits of the product
//! to a third word. So whatever is multiplied has limbs below 2⁵², exactly; between products, sums of up to 2¹² of them fit in a
//! word.

use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_mask_blend_epi64, _mm512_mask_sub_epi64, _mm512_or_si512, _mm512_permutex_epi64,
    _mm512_set1_epi64, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_slli_epi64,
    _mm512_srli_epi64, _mm512_sub_epi64,
};

use crate::field::{FOLD, Fe};

/// Limbs of a number.
const LIMBS: usize = 5;

/// Eight numbers below 2²⁵⁷, congruent to the ones that are meant: limbs 0 to 3 are below 2⁵², the highest is below 2⁴⁹.
#[derive(Clone, Copy)]
pub(super) struct Fe8([__m512i; LIMBS]);

const MASK: u64 = (1 << 52) - 1;

/// The bits of the highest limb that belong to 256.
const TOP: u64 = (1 << 48) - 1;

/// 2²⁶⁰ − 16p: what a carry out of five limbs is worth, below 2³⁷.
const FOLD_LIMBS: u64 = FOLD << 4;

/// p in limbs.
const P: [u64; LIMBS] = [MASK - FOLD + 1, MASK, MASK, MASK, TOP];

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn splat(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

/// sum + the lower 52 bits of a·b.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn low(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd52lo_epu64(sum, a, b)
}

/// sum + the upper 52 bits of a·b.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn high(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd52hi_epu64(sum, a, b)
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn plus(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(a, b)
}

/// A product in columns of 52 bits, each the sum of at most ten halves, below 2⁵⁶.
type Columns = [__m512i; 2 * LIMBS];

/// Brings words below 2⁶² into limbs.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn carried([a, b, c, d, e]: [__m512i; LIMBS]) -> Fe8 {
    let mask = splat(MASK);
    // What is above 2²⁵⁶ comes back as so many times c: below 2¹⁴ · 2³³.
    let (above, e) = (_mm512_srli_epi64::<48>(e), _mm512_and_si512(e, splat(TOP)));
    let a = low(a, above, splat(FOLD));
    let (b, a) = (plus(b, _mm512_srli_epi64::<52>(a)), _mm512_and_si512(a, mask));
    let (c, b) = (plus(c, _mm512_srli_epi64::<52>(b)), _mm512_and_si512(b, mask));
    let (d, c) = (plus(d, _mm512_srli_epi64::<52>(c)), _mm512_and_si512(c, mask));
    // Below 2⁴⁸ + 2¹¹.
    let (e, d) = (plus(e, _mm512_srli_epi64::<52>(d)), _mm512_and_si512(d, mask));
    Fe8([a, b, c, d, e])
}

/// Columns modulo p, five words below 2⁵⁷.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn folded([a, b, c, d, e, f, g, h, i, j]: Columns) -> [__m512i; LIMBS] {
    let fold = splat(FOLD_LIMBS);
    // Column k from the sixth on is worth `fold` in column k − 5. Only its lowest 52 bits are multiplied: what is above them
    // goes one column higher. The highest is the upper half of one product, and has nothing above.
    let (a, b) = (low(a, f, fold), high(b, f, fold));
    let b = low(b, _mm512_srli_epi64::<52>(f), fold);
    let (b, c) = (low(b, g, fold), high(c, g, fold));
    let c = low(c, _mm512_srli_epi64::<52>(g), fold);
    let (c, d) = (low(c, h, fold), high(d, h, fold));
    let d = low(d, _mm512_srli_epi64::<52>(h), fold);
    let (d, e) = (low(d, i, fold), high(e, i, fold));
    let e = low(e, _mm512_srli_epi64::<52>(i), fold);
    let (e, over) = (low(e, j, fold), high(_mm512_setzero_si512(), j, fold));
    // `over` is below 2³⁷.
    [low(a, over, fold), high(b, over, fold), c, d, e]
}

impl Fe8 {
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn one() -> Self {
        let zero = _mm512_setzero_si512();
        Self([splat(1), zero, zero, zero, zero])
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn product(&self, other: &Self) -> Columns {
        let mut columns = [_mm512_setzero_si512(); 2 * LIMBS];
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                columns[i + j] = low(columns[i + j], *a, *b);
                columns[i + j + 1] = high(columns[i + j + 1], *a, *b);
            }
        }
        columns
    }

    /// The mixed products once, doubled, and the squares.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn squared(&self) -> Columns {
        let mut columns = [_mm512_setzero_si512(); 2 * LIMBS];
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in self.0.iter().enumerate().skip(i + 1) {
                columns[i + j] = low(columns[i + j], *a, *b);
                columns[i + j + 1] = high(columns[i + j + 1], *a, *b);
            }
        }
        for column in &mut columns {
            *column = plus(*column, *column);
        }
        for (i, a) in self.0.iter().enumerate() {
            columns[2 * i] = low(columns[2 * i], *a, *a);
            columns[2 * i + 1] = high(columns[2 * i + 1], *a, *a);
        }
        columns
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn mul(&self, other: &Self) -> Self {
        carried(folded(self.product(other)))
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn square(&self) -> Self {
        carried(folded(self.squared()))
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn add(&self, other: &Self) -> Self {
        let mut sums = self.0;
        for (sum, other) in sums.iter_mut().zip(other.0) {
            *sum = plus(*sum, other);
        }
        carried(sums)
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn sub(&self, other: &Self) -> Self {
        carried(minus(self.0, other))
    }

    /// self·other − less.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn mul_sub(&self, other: &Self, less: &Self) -> Self {
        carried(minus(folded(self.product(other)), less))
    }

    /// self² − less − and_less.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn square_sub(&self, less: &Self, and_less: &Self) -> Self {
        carried(minus(minus(folded(self.squared()), less), and_less))
    }

    /// Where the mask says so, `other`; elsewhere `self`.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn replaced(&self, mask: __mmask8, other: &Self) -> Self {
        let mut limbs = self.0;
        for (limb, other) in limbs.iter_mut().zip(other.0) {
            *limb = _mm512_mask_blend_epi64(mask, *limb, other);
        }
        Self(limbs)
    }

    /// Where the mask says so, the negative.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn negated(&self, mask: __mmask8) -> Self {
        let mut limbs = self.0;
        for (limb, bias) in limbs.iter_mut().zip(BIAS) {
            *limb = _mm512_mask_sub_epi64(*limb, mask, splat(bias), *limb);
        }
        carried(limbs)
    }

    /// Eight numbers below 2²⁵⁶, from vectors of their words of 64 bits.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn from_words([a, b, c, d]: [__m512i; 4]) -> Self {
        let mask = splat(MASK);
        let below = |word| _mm512_and_si512(word, mask);
        Self([
            below(a),
            below(_mm512_or_si512(_mm512_srli_epi64::<52>(a), _mm512_slli_epi64::<12>(b))),
            below(_mm512_or_si512(_mm512_srli_epi64::<40>(b), _mm512_slli_epi64::<24>(c))),
            below(_mm512_or_si512(_mm512_srli_epi64::<28>(c), _mm512_slli_epi64::<36>(d))),
            _mm512_srli_epi64::<16>(d),
        ])
    }

    /// One number for each lane.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn of(numbers: &[Fe; 8]) -> Self {
        let word = |index: usize| {
            let [a, b, c, d, e, f, g, h] = numbers.map(|number| number.limbs()[index].cast_signed());
            _mm512_setr_epi64(a, b, c, d, e, f, g, h)
        };
        Self::from_words([word(0), word(1), word(2), word(3)])
    }

    /// The number of each lane.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn numbers(&self) -> [Fe; 8] {
        let limbs = self.0.map(super::words);
        std::array::from_fn(|lane| {
            let [a, b, c, d, e] = limbs.map(|limb| limb[lane]);
            let below =
                Fe::new([a | b << 52, b >> 12 | c << 40, c >> 24 | d << 28, d >> 36 | (e & TOP) << 16]);
            below.add(&Fe::new([(e >> 48) * FOLD, 0, 0, 0]))
        })
    }

    /// Lanes change places with those four, two or one away.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn swapped(&self, away: Away) -> Self {
        Self(match away {
            Away::Four => self.0.map(|limb| _mm512_shuffle_i64x2::<0b01_00_11_10>(limb, limb)),
            Away::Two => self.0.map(|limb| _mm512_permutex_epi64::<0b01_00_11_10>(limb)),
            Away::One => self.0.map(|limb| _mm512_permutex_epi64::<0b10_11_00_01>(limb)),
        })
    }
}

/// How far lanes are from those that they change places with.
#[derive(Clone, Copy)]
pub(super) enum Away {
    Four,
    Two,
    One,
}

/// 4p, with every limb at least as large as the same one of any [`Fe8`].
const BIAS: [u64; LIMBS] = [4 * P[0], 4 * P[1], 4 * P[2], 4 * P[3], 4 * P[4]];

/// Words less a number, and 4p more, so that none is below zero.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn minus(mut words: [__m512i; LIMBS], less: &Fe8) -> [__m512i; LIMBS] {
    for ((word, less), bias) in words.iter_mut().zip(less.0).zip(BIAS) {
        *word = plus(*word, _mm512_sub_epi64(splat(bias), less));
    }
    words
}
