//! Good bytes by a grammar, and what untrusted peers do to them.

use preconfirmation_types::DecodeErrorKind;
use proptest::prelude::*;

/// The grammar of a container, said a second time.
pub(crate) enum Shape {
    /// This many bytes, of which the first may be a boolean.
    Fixed { len: usize, bool_first: bool },
    /// A header that ends with the offset of one list of fixed-size items.
    List { header: usize, item: usize, limit: usize, bool_first: bool },
}

impl Shape {
    pub(crate) fn well_formed(&self, bytes: &[u8]) -> bool {
        match *self {
            Self::Fixed { len, bool_first } => {
                bytes.len() == len && (!bool_first || bytes.first().is_some_and(|&byte| byte < 2))
            }
            Self::List { header, item, limit, bool_first } => {
                let Some((head, tail)) = bytes.split_at_checked(header) else {
                    return false;
                };
                let offset = u32::from_le_bytes(*head.last_chunk().unwrap());
                usize::try_from(offset) == Ok(header)
                    && tail.len().is_multiple_of(item)
                    && tail.len() / item <= limit
                    && (!bool_first
                        || tail.chunks(item).all(|item| item.first().is_some_and(|&byte| byte < 2)))
            }
        }
    }

    /// Whether an error says truly what is wrong with the bytes.
    pub(crate) fn explains(&self, bytes: &[u8], kind: DecodeErrorKind) -> bool {
        use DecodeErrorKind::{Bool, Item, Length, ListTooLong, Offset, PartialItem, TooShort};
        let size = bytes.len();
        match (self, kind) {
            (Self::Fixed { len, .. }, Length { expected, actual }) => {
                expected == *len && actual == size && actual != expected
            }
            (Self::Fixed { len, bool_first }, Bool { byte, .. }) => {
                *bool_first && size == *len && byte > 1 && bytes.first() == Some(&byte)
            }
            (Self::List { header, .. }, TooShort { minimum, actual }) => {
                minimum == *header && actual == size && size < *header
            }
            (Self::List { header, .. }, Offset { expected, actual, .. }) => {
                let offset = bytes.get(header - 4..).and_then(<[u8]>::first_chunk);
                expected == *header
                    && usize::try_from(actual) != Ok(*header)
                    && offset == Some(&actual.to_le_bytes())
            }
            (Self::List { header, item, .. }, PartialItem { item: of, bytes, .. }) => {
                of == *item && bytes == size - header && bytes % item != 0
            }
            (Self::List { header, item, limit, .. }, ListTooLong { limit: at_most, actual, .. }) => {
                at_most == *limit && actual == (size - header) / item && actual > *limit
            }
            (Self::List { header, item, bool_first, .. }, Item { index, byte, .. }) => {
                *bool_first && byte > 1 && bytes.get(header + index * item) == Some(&byte)
            }
            _ => false,
        }
    }

    /// A valid encoding, drawn from `noise`.
    pub(crate) fn sample(&self, noise: &mut Noise) -> Vec<u8> {
        match *self {
            Self::Fixed { len, bool_first } => noise.item(len, bool_first),
            Self::List { header, item, limit, bool_first } => {
                let mut bytes = noise.item(header - 4, false);
                bytes.extend_from_slice(&u32::try_from(header).unwrap().to_le_bytes());
                for _ in 0..noise.below(limit.min(if item == 1 { 200 } else { 4 }) + 1) {
                    bytes.extend(noise.item(item, bool_first));
                }
                bytes
            }
        }
    }
}

pub(crate) const COMMITMENT_LIST: Shape = Shape::List { header: 4, item: 382, limit: 256, bool_first: true };
pub(crate) const TXLIST: Shape =
    Shape::List { header: 36, item: 1, limit: 2 * 1024 * 1024, bool_first: false };

pub(crate) const fn fixed(len: usize, bool_first: bool) -> Shape {
    Shape::Fixed { len, bool_first }
}

/// Bytes without end from one seed (SplitMix64), so that a case is a few numbers that shrink well.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn item(&mut self, len: usize, bool_first: bool) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        if let (true, Some(first)) = (bool_first, bytes.first_mut()) {
            *first &= 1;
        }
        bytes
    }
}

/// One thing that an untrusted peer does to bytes.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// Cut off behind a position.
    Truncate(prop::sample::Index),
    /// Something appended.
    Extend {
        seed: u64,
        len: usize,
    },
    FlipBit(prop::sample::Index, u8),
    SetByte(prop::sample::Index, u8),
    /// Four bytes that mean a length or an offset, near the right ones or anywhere.
    Offset(prop::sample::Index, u32),
    /// Four such bytes at the places where offsets are.
    KnownOffset(bool, u32),
    /// A part said twice.
    Duplicate(prop::sample::Index),
    /// Nothing of the original left.
    Replace {
        seed: u64,
        len: usize,
    },
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let offset = || prop_oneof![0_u32..64, (u32::MAX - 64)..=u32::MAX, any::<u32>()];
    prop_oneof![
        at().prop_map(Damage::Truncate),
        (any::<u64>(), 1_usize..400).prop_map(|(seed, len)| Damage::Extend { seed, len }),
        (at(), 0_u8..8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::SetByte(at, byte)),
        (at(), offset()).prop_map(|(at, value)| Damage::Offset(at, value)),
        (any::<bool>(), offset()).prop_map(|(late, value)| Damage::KnownOffset(late, value)),
        at().prop_map(Damage::Duplicate),
        (any::<u64>(), 0_usize..800).prop_map(|(seed, len)| Damage::Replace { seed, len }),
    ]
}

impl Damage {
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        let overwrite = |bytes: &mut Vec<u8>, at: usize, with: &[u8]| {
            for (byte, with) in bytes.iter_mut().skip(at).zip(with) {
                *byte = *with;
            }
        };
        match self {
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Self::Extend { seed, len } => bytes.extend(Noise(*seed).item(*len, false)),
            Self::FlipBit(at, bit) => {
                if let Some(byte) = (!bytes.is_empty()).then(|| at.get_mut(bytes)) {
                    *byte ^= 1 << bit;
                }
            }
            Self::SetByte(at, value) => overwrite(bytes, at.index(bytes.len() + 1), &[*value]),
            Self::Offset(at, value) => overwrite(bytes, at.index(bytes.len() + 1), &value.to_le_bytes()),
            Self::KnownOffset(late, value) => {
                overwrite(bytes, if *late { 32 } else { 0 }, &value.to_le_bytes());
            }
            Self::Duplicate(at) => bytes.extend_from_within(at.index(bytes.len() + 1)..),
            Self::Replace { seed, len } => *bytes = Noise(*seed).item(*len, false),
        }
    }
}

pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    // None at all is a case too: the untouched original must decode.
    prop::collection::vec(damage(), 0..4)
}
