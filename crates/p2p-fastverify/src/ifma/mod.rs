//! Sums of points on vectors, by the instructions of AVX-512 IFMA (integer fused multiply-add, of 52 bits): eight field
//! elements are multiplied in about the time that one takes without them.
//!
//! Many signatures have a lane each, and their points are added up pair by pair with inversions that all share ([`Ifma::sums`]); a
//! single one spreads its points over the lanes, and the eight sums are added up across them ([`Ifma::sum_of_one`]). What comes
//! before, from the bytes to the digits, and after, the comparison with r and v, is the same code for all.
//!
//! # Why `unsafe`
//!
//! An instruction that a processor does not have ends the process, or worse. So the functions that use them say by
//! `#[target_feature]` what they need, and may be called without `unsafe` only from functions that need the same. Two things
//! are left for `unsafe`: the first call, from code that needs nothing, which a value of [`Ifma`] allows because only a
//! successful detection makes one; and looking at a vector as the words that it is made of, and the other way round. There is
//! no pointer in any of it.
#![allow(unsafe_code, reason = "the two things that the module's documentation names")]

mod field;
mod load;
mod points;
mod sums;
#[cfg(test)]
mod tests;

use std::arch::x86_64::__m512i;

use crate::{
    curve::{Affine, Jacobian},
    table::Term,
};

/// Proof that this processor has AVX-512 and its IFMA instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ifma(());

/// Fewer points than this are not spread over eight lanes, as each needs two.
pub(crate) const LEAST_OF_ONE: usize = 16;

impl Ifma {
    pub(crate) fn detect() -> Option<Self> {
        let detected = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma");
        detected.then_some(Self(()))
    }

    /// The sum of the points of one signature: its Z is zero where points met on the way. None where there are fewer than
    /// [`LEAST_OF_ONE`].
    pub(crate) fn sum_of_one(self, terms: &[Term<'_>]) -> Option<Jacobian> {
        // SAFETY: `sums::sum_of_one` needs AVX-512F and IFMA, and `self` was made by `detect`, which has found them.
        unsafe { sums::sum_of_one(terms) }
    }

    /// The sum of the points of each signature, none for one without points. Error where points met on the way: then there
    /// is no sum of any.
    pub(crate) fn sums(self, terms: &[&[Term<'_>]], sums: &mut Vec<Option<Affine>>) -> Result<(), Met> {
        // SAFETY: `sums::sums` needs AVX-512F and IFMA, and `self` was made by `detect`, which has found them.
        unsafe { sums::sums(terms, sums) }
    }
}

/// Two points that were to be added are the same or opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met;

/// A vector as the eight words that it is.
#[inline]
fn words(vector: __m512i) -> [u64; 8] {
    // SAFETY: both have 64 bytes and are nothing but integers, of which every pattern of bits is one.
    unsafe { std::mem::transmute(vector) }
}

/// Eight words as a vector.
#[inline]
fn vector(words: [u64; 8]) -> __m512i {
    // SAFETY: as in `words`.
    unsafe { std::mem::transmute(words) }
}
