//! Keccak's permutation on vectors: lane i of each belongs to message i.
//!
//! # Why `unsafe`
//!
//! An instruction that a processor does not have ends the process, or worse. So the functions that use them say by
//! `#[target_feature]` what they need, and may be called without `unsafe` only from functions that need the same. Two things
//! are left for `unsafe`: the first call, from code that needs nothing, which a value of [`Avx2`] or [`Avx512`] allows because
//! only a successful detection makes one; and looking at a vector as the words that it is made of.
#![allow(unsafe_code, reason = "the two things that the module's documentation names")]

use alloy_primitives::B256;

use super::RATE;

/// Proof that this processor has AVX2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub(super) fn hash(self, messages: [&[u8]; 4]) -> [B256; 4] {
        // SAFETY: `avx2::hash` needs AVX2, and `self` was made by `detect`, which has found it.
        unsafe { avx2::hash(messages) }
    }
}

/// Proof that this processor has AVX-512 (its foundation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    pub(super) fn hash(self, messages: [&[u8]; 8]) -> [B256; 8] {
        // SAFETY: `avx512::hash` needs AVX-512F, and `self` was made by `detect`, which has found it.
        unsafe { avx512::hash(messages) }
    }
}

const WORDS: usize = RATE / 8;
const ROUNDS: usize = 24;

/// What ι adds in each round: bits at 2ʲ − 1, from a linear feedback shift register over x⁸ + x⁶ + x⁵ + x⁴ + 1.
const CONSTANTS: [u64; ROUNDS] = {
    let (mut constants, mut register, mut round) = ([0; ROUNDS], 1_u8, 0);
    while round < ROUNDS {
        let mut j = 0;
        while j < 7 {
            constants[round] |= (register as u64 & 1) << ((1 << j) - 1);
            register = (register << 1) ^ ((register >> 7) * 0x71);
            j += 1;
        }
        round += 1;
    }
    constants
};

/// A block of zeros, for lanes whose message has ended.
const NOTHING: [u8; RATE] = [0; RATE];

/// The last block of a message: what is left of it, a one, zeros and a one.
fn last_block(message: &[u8]) -> [u8; RATE] {
    let mut block = NOTHING;
    let (_, rest) = message.as_chunks::<RATE>();
    block[..rest.len()].copy_from_slice(rest);
    block[rest.len()] = 1;
    block[RATE - 1] |= 0x80;
    block
}

/// Word `index` of a block.
#[inline]
fn word(block: &[u8; RATE], index: usize) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    u64::from_le_bytes(words[index])
}

/// The sponge on vectors of `$Vector`, from the operations of the module that it is written in.
macro_rules! sponge {
    ($features:tt, $Vector:ty, $lanes:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn hash(messages: [&[u8]; $lanes]) -> [B256; $lanes] {
            let whole = messages.map(|message| message.as_chunks::<RATE>().0);
            let last = messages.map(last_block);
            let most = whole.iter().map(|blocks| blocks.len()).max().unwrap_or(0);
            let mut state = [splat(0); 25];
            let mut hashes = [B256::ZERO; $lanes];
            for index in 0..=most {
                let mut blocks = [&NOTHING; $lanes];
                let mut ends = false;
                for ((block, whole), last) in blocks.iter_mut().zip(&whole).zip(&last) {
                    if let Some(whole) = whole.get(index) {
                        *block = whole;
                    } else if index == whole.len() {
                        (*block, ends) = (last, true);
                    }
                }
                for (i, of_state) in state[..WORDS].iter_mut().enumerate() {
                    *of_state = xor(*of_state, vector(blocks.map(|block| word(block, i))));
                }
                permute(&mut state);
                if ends {
                    for (i, of_state) in state[..4].iter().enumerate() {
                        for ((hash, whole), word) in hashes.iter_mut().zip(&whole).zip(words(*of_state)) {
                            if whole.len() == index {
                                hash[8 * i..][..8].copy_from_slice(&word.to_le_bytes());
                            }
                        }
                    }
                }
            }
            hashes
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn words(vector: $Vector) -> [u64; $lanes] {
            // SAFETY: both have the same size and are nothing but integers, of which every pattern of bits is one.
            unsafe { std::mem::transmute(vector) }
        }

        /// θ, ρ, π, χ and ι, 24 times. Lane (x, y) of the state is at x + 5y.
        #[target_feature(enable = $features)]
        #[inline]
        fn permute(state: &mut [$Vector; 25]) {
            let mut a = *state;
            for constant in CONSTANTS {
                let parity = [
                    xor3(xor3(a[0], a[5], a[10]), a[15], a[20]),
                    xor3(xor3(a[1], a[6], a[11]), a[16], a[21]),
                    xor3(xor3(a[2], a[7], a[12]), a[17], a[22]),
                    xor3(xor3(a[3], a[8], a[13]), a[18], a[23]),
                    xor3(xor3(a[4], a[9], a[14]), a[19], a[24]),
                ];
                let d = [
                    xor(parity[4], rotate::<1, 63>(parity[1])),
                    xor(parity[0], rotate::<1, 63>(parity[2])),
                    xor(parity[1], rotate::<1, 63>(parity[3])),
                    xor(parity[2], rotate::<1, 63>(parity[4])),
                    xor(parity[3], rotate::<1, 63>(parity[0])),
                ];
                // Where π takes the lanes of each row of its result from, and how far ρ has rotated them.
                a = {
                    let [r0, r1, r2, r3, r4] = row([
                        xor(a[0], d[0]),
                        rotate::<44, 20>(xor(a[6], d[1])),
                        rotate::<43, 21>(xor(a[12], d[2])),
                        rotate::<21, 43>(xor(a[18], d[3])),
                        rotate::<14, 50>(xor(a[24], d[4])),
                    ]);
                    let r0 = xor(r0, splat(constant));
                    let [r5, r6, r7, r8, r9] = row([
                        rotate::<28, 36>(xor(a[3], d[3])),
                        rotate::<20, 44>(xor(a[9], d[4])),
                        rotate::<3, 61>(xor(a[10], d[0])),
                        rotate::<45, 19>(xor(a[16], d[1])),
                        rotate::<61, 3>(xor(a[22], d[2])),
                    ]);
                    let [r10, r11, r12, r13, r14] = row([
                        rotate::<1, 63>(xor(a[1], d[1])),
                        rotate::<6, 58>(xor(a[7], d[2])),
                        rotate::<25, 39>(xor(a[13], d[3])),
                        rotate::<8, 56>(xor(a[19], d[4])),
                        rotate::<18, 46>(xor(a[20], d[0])),
                    ]);
                    let [r15, r16, r17, r18, r19] = row([
                        rotate::<27, 37>(xor(a[4], d[4])),
                        rotate::<36, 28>(xor(a[5], d[0])),
                        rotate::<10, 54>(xor(a[11], d[1])),
                        rotate::<15, 49>(xor(a[17], d[2])),
                        rotate::<56, 8>(xor(a[23], d[3])),
                    ]);
                    let [r20, r21, r22, r23, r24] = row([
                        rotate::<62, 2>(xor(a[2], d[2])),
                        rotate::<55, 9>(xor(a[8], d[3])),
                        rotate::<39, 25>(xor(a[14], d[4])),
                        rotate::<41, 23>(xor(a[15], d[0])),
                        rotate::<2, 62>(xor(a[21], d[1])),
                    ]);
                    [
                        r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15, r16, r17, r18,
                        r19, r20, r21, r22, r23, r24,
                    ]
                };
            }
            *state = a;
        }

        /// χ on a row.
        #[target_feature(enable = $features)]
        #[inline]
        fn row([a, b, c, d, e]: [$Vector; 5]) -> [$Vector; 5] {
            [chi(a, b, c), chi(b, c, d), chi(c, d, e), chi(d, e, a), chi(e, a, b)]
        }
    };
}

mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_andnot_si256, _mm256_or_si256, _mm256_set1_epi64x, _mm256_setr_epi64x,
        _mm256_slli_epi64, _mm256_srli_epi64, _mm256_xor_si256,
    };

    use super::{B256, CONSTANTS, NOTHING, RATE, WORDS, last_block, word};

    sponge!("avx2", __m256i, 4);

    #[target_feature(enable = "avx2")]
    #[inline]
    fn vector([a, b, c, d]: [u64; 4]) -> __m256i {
        _mm256_setr_epi64x(a.cast_signed(), b.cast_signed(), c.cast_signed(), d.cast_signed())
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn splat(word: u64) -> __m256i {
        _mm256_set1_epi64x(word.cast_signed())
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn xor(a: __m256i, b: __m256i) -> __m256i {
        _mm256_xor_si256(a, b)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn xor3(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        xor(xor(a, b), c)
    }

    /// Each word by `LEFT` bits to the left, and `RIGHT` is 64 − `LEFT`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn rotate<const LEFT: i32, const RIGHT: i32>(a: __m256i) -> __m256i {
        _mm256_or_si256(_mm256_slli_epi64::<LEFT>(a), _mm256_srli_epi64::<RIGHT>(a))
    }

    /// a ⊕ (¬b ∧ c).
    #[target_feature(enable = "avx2")]
    #[inline]
    fn chi(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        xor(a, _mm256_andnot_si256(b, c))
    }
}

mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_rol_epi64, _mm512_set1_epi64, _mm512_setr_epi64, _mm512_ternarylogic_epi64,
        _mm512_xor_si512,
    };

    use super::{B256, CONSTANTS, NOTHING, RATE, WORDS, last_block, word};

    sponge!("avx512f", __m512i, 8);

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn vector(words: [u64; 8]) -> __m512i {
        let [a, b, c, d, e, f, g, h] = words.map(u64::cast_signed);
        _mm512_setr_epi64(a, b, c, d, e, f, g, h)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn splat(word: u64) -> __m512i {
        _mm512_set1_epi64(word.cast_signed())
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn xor(a: __m512i, b: __m512i) -> __m512i {
        _mm512_xor_si512(a, b)
    }

    /// The table of a function of three bits has one bit for each of their patterns abc, from 000 to 111: 0x96 are the
    /// patterns with an odd number of ones.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        _mm512_ternarylogic_epi64::<0x96>(a, b, c)
    }

    /// Each word by `LEFT` bits to the left.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn rotate<const LEFT: i32, const RIGHT: i32>(a: __m512i) -> __m512i {
        _mm512_rol_epi64::<LEFT>(a)
    }

    /// a ⊕ (¬b ∧ c): true for the patterns 001, 100, 110 and 111.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn chi(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        _mm512_ternarylogic_epi64::<0xd2>(a, b, c)
    }
}
