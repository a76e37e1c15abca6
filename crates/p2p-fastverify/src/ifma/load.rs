//! From the tables into vectors.

use std::arch::x86_64::{__m512i, _mm512_shuffle_i64x2, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64};

use super::{field::Fe8, points::Affine8, vector};
use crate::table::Term;

/// One point for each lane, with its sign.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn points(terms: &[Term<'_>; 8]) -> Affine8 {
    let mut rows = [vector([0; 8]); 8];
    let mut negative = 0;
    for (lane, (row, term)) in rows.iter_mut().zip(terms).enumerate() {
        *row = vector(term.point.words());
        negative |= u8::from(term.negative) << lane;
    }
    let [x0, x1, x2, x3, y0, y1, y2, y3] = transposed(rows);
    Affine8 { x: Fe8::from_words([x0, x1, x2, x3]), y: Fe8::from_words([y0, y1, y2, y3]).negated(negative) }
}

/// Word i of row j becomes word j of row i.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn transposed([a, b, c, d, e, f, g, h]: [__m512i; 8]) -> [__m512i; 8] {
    // Pairs of words of two rows: 0, 2, 4 and 6 of both in the first, 1, 3, 5 and 7 in the second.
    let [even_ab, odd_ab] = [_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)];
    let [even_cd, odd_cd] = [_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d)];
    let [even_ef, odd_ef] = [_mm512_unpacklo_epi64(e, f), _mm512_unpackhi_epi64(e, f)];
    let [even_gh, odd_gh] = [_mm512_unpacklo_epi64(g, h), _mm512_unpackhi_epi64(g, h)];
    let [w0, w2, w4, w6] = quarters([even_ab, even_cd, even_ef, even_gh]);
    let [w1, w3, w5, w7] = quarters([odd_ab, odd_cd, odd_ef, odd_gh]);
    [w0, w1, w2, w3, w4, w5, w6, w7]
}

/// Quarter i of row j becomes quarter j of row i.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // Quarters 0 and 2 of two rows, and quarters 1 and 3.
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let [even_ab, odd_ab] = [_mm512_shuffle_i64x2::<EVEN>(a, b), _mm512_shuffle_i64x2::<ODD>(a, b)];
    let [even_cd, odd_cd] = [_mm512_shuffle_i64x2::<EVEN>(c, d), _mm512_shuffle_i64x2::<ODD>(c, d)];
    [
        _mm512_shuffle_i64x2::<EVEN>(even_ab, even_cd),
        _mm512_shuffle_i64x2::<EVEN>(odd_ab, odd_cd),
        _mm512_shuffle_i64x2::<ODD>(even_ab, even_cd),
        _mm512_shuffle_i64x2::<ODD>(odd_ab, odd_cd),
    ]
}
