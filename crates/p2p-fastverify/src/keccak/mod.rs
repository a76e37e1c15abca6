//! Keccak-256 of many messages: eight at a time with AVX-512, four with AVX2, one after the other elsewhere.
//!
//! One message is a chain of permutations that no second core or vector can shorten. Several messages are independent: lane i
//! of each vector holds a word of message i's state, and one instruction works on them all.

#[cfg_attr(not(target_arch = "x86_64"), path = "no_lanes.rs")]
mod lanes;

use alloy_primitives::{B256, keccak256};

/// Bytes that one permutation absorbs: 1600 bits less twice those of the hash.
const RATE: usize = 136;

/// keccak256 of each message, in order.
///
/// Messages of about the same length are hashed beside each other, so that lists of any lengths take little longer than the
/// longest of them or an even share of all, whichever is more. Detects what the processor can do when it is called.
///
/// ```
/// use alloy_primitives::keccak256;
/// use p2p_fastverify::hash_all;
///
/// let lists: [&[u8]; 3] = [b"", b"of any length", &[7; 1000]];
/// assert_eq!(hash_all(&lists), lists.map(keccak256));
/// ```
#[must_use]
pub fn hash_all(messages: &[&[u8]]) -> Vec<B256> {
    Lanes::of_this_machine().hash_all(messages)
}

/// How many messages [`hash_all`] hashes beside each other on this machine: 8, 4 or 1.
#[must_use]
pub fn hashes_at_once() -> usize {
    Lanes::of_this_machine().count_and_cost().0
}

/// How many messages are hashed beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lanes {
    One,
    Four(lanes::Avx2),
    Eight(lanes::Avx512),
}

impl Lanes {
    fn of_this_machine() -> Self {
        let eight = || lanes::Avx512::detect().map(Self::Eight);
        let four = || lanes::Avx2::detect().map(Self::Four);
        eight().or_else(four).unwrap_or(Self::One)
    }

    /// How many, and what a permutation of so many costs in halves of one of a single message: measured with AVX-512 and long
    /// messages, assumed with AVX2. It decides what is hashed beside each other, never a hash.
    const fn count_and_cost(self) -> (usize, usize) {
        match self {
            Self::One => (1, 2),
            Self::Four(_) => (4, 4),
            Self::Eight(_) => (8, 3),
        }
    }

    fn hash_all(self, messages: &[&[u8]]) -> Vec<B256> {
        let mut hashes = vec![B256::ZERO; messages.len()];
        let mut longest_first: Vec<usize> = (0..messages.len()).collect();
        longest_first.sort_by_key(|index| std::cmp::Reverse(messages[*index].len()));
        let mut left = &longest_first[..];
        let (count, cost) = self.count_and_cost();
        // As the lengths fall, no group takes longer than an even share of the group before: in all, not longer than the
        // longest message and an even share of all.
        while let Some((first, others)) = left.split_first() {
            let (group, rest) = left.split_at(count.min(left.len()));
            let blocks = |index: &usize| messages[*index].len() / RATE + 1;
            // Lanes that stay empty while the longest is hashed cost what they would cost full.
            let is_worth = 2 * group.iter().map(blocks).sum::<usize>() > cost * blocks(first);
            if count > 1 && is_worth {
                self.hash_group(messages, group, &mut hashes);
                left = rest;
            } else {
                hashes[*first] = keccak256(messages[*first]);
                left = others;
            }
        }
        hashes
    }

    /// Hashes no more messages than there are lanes.
    fn hash_group(self, messages: &[&[u8]], group: &[usize], hashes: &mut [B256]) {
        match self {
            Self::One => {}
            Self::Four(lanes) => spread(group, hashes, &lanes.hash(gather(messages, group))),
            Self::Eight(lanes) => spread(group, hashes, &lanes.hash(gather(messages, group))),
        }
    }
}

/// The messages of a group; lanes beyond them hash nothing.
fn gather<'a, const LANES: usize>(messages: &[&'a [u8]], group: &[usize]) -> [&'a [u8]; LANES] {
    std::array::from_fn(|lane| group.get(lane).map_or(&[][..], |index| messages[*index]))
}

fn spread(group: &[usize], hashes: &mut [B256], of_group: &[B256]) {
    for (index, hash) in group.iter().zip(of_group) {
        hashes[*index] = *hash;
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{b256, hex};

    use super::*;

    /// What this machine can do, and what every machine can.
    fn all_lanes() -> Vec<Lanes> {
        let mut all = vec![Lanes::One];
        all.extend(lanes::Avx2::detect().map(Lanes::Four));
        all.extend(lanes::Avx512::detect().map(Lanes::Eight));
        all
    }

    fn random(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
    }

    #[track_caller]
    fn check(messages: &[&[u8]]) {
        let expected: Vec<B256> = messages.iter().map(keccak256).collect();
        for lanes in all_lanes() {
            assert_eq!(lanes.hash_all(messages), expected, "{lanes:?}");
        }
    }

    /// From the Keccak team's `ShortMsgKAT_256` (the hash before SHA-3 changed its padding), and Ethereum's empty hash.
    #[test]
    fn published_vectors_are_met_in_every_lane() {
        let vectors = [
            (&b""[..], b256!("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")),
            (&hex!("cc"), b256!("eead6dbfc7340a56caedc044696a168870549a6a7f6f56961e84a54bd9970b8a")),
            (&hex!("41fb"), b256!("a8eaceda4d47b3281a795ad9e1ea2122b407baf9aabcb9e18b5717b7873537d2")),
            (b"abc", b256!("4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45")),
            (
                b"The quick brown fox jumps over the lazy dog",
                b256!("4d741b6f1eb29cb2a9b9911c82f56fa8d73b04959d3d9d222895df6c0b28aa15"),
            ),
        ];
        for lanes in all_lanes() {
            for shift in 0..8 {
                let turned: Vec<_> = (0..8).map(|i| vectors[(i + shift) % vectors.len()]).collect();
                let messages: Vec<&[u8]> = turned.iter().map(|(message, _)| *message).collect();
                let hashes: Vec<B256> = turned.iter().map(|(_, hash)| *hash).collect();
                assert_eq!(lanes.hash_all(&messages), hashes, "{lanes:?}");
            }
        }
    }

    #[test]
    fn every_length_around_a_block_is_padded_rightly() {
        let bytes = random(&mut fastrand::Rng::with_seed(1), 3 * RATE);
        let messages: Vec<&[u8]> = (0..bytes.len()).map(|len| &bytes[..len]).collect();
        check(&messages);
        for messages in messages.chunks(8) {
            check(messages);
        }
    }

    #[test]
    fn messages_of_unequal_lengths_are_hashed_in_order() {
        let mut rng = fastrand::Rng::with_seed(2);
        for count in 0..70 {
            let messages: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let most = [1, 40, 300, 1_000, 20_000][rng.usize(..5)];
                    let len = rng.usize(..most);
                    random(&mut rng, len)
                })
                .collect();
            check(&messages.iter().map(|message| &message[..]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_long_message_among_short_ones_is_hashed() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (long, short) = (random(&mut rng, 100_000), random(&mut rng, 200));
        for at in 0..9 {
            let mut messages = vec![&short[..]; 8];
            messages.insert(at, &long);
            check(&messages);
            messages.push(&long[..60_000]);
            check(&messages);
        }
    }

    #[test]
    fn messages_at_any_address_are_read() {
        let bytes = random(&mut fastrand::Rng::with_seed(4), 2_000);
        check(&(0..64).map(|from| &bytes[from..1_000 + from]).collect::<Vec<_>>());
    }
}
