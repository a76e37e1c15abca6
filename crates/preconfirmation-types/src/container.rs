//! What every container of the protocol can do, and the shared steps of decoding.

use alloy_primitives::U256;
use bytes::Bytes;

use crate::error::{DecodeError, DecodeErrorKind};

/// One SSZ container of the protocol (§2, §10, §11).
///
/// Decoding is total (any bytes give a value or a typed error, never a panic), exact (no byte may be
/// left over) and bounded (sizes are judged before anything is allocated). Decoding and encoding are
/// inverse: `C::from_ssz(&b)?.to_ssz() == b`.
pub trait Container: Sized {
    /// The name in the specification.
    const NAME: &'static str;
    /// Shortest SSZ encoding, in bytes.
    const MIN_SSZ_BYTES: usize;
    /// Longest SSZ encoding with the default limits, in bytes.
    const MAX_SSZ_BYTES: usize;

    /// Decodes one value. Transaction lists share memory with `bytes`; everything else is small and copied.
    ///
    /// # Errors
    /// [`DecodeError`] names the field, the length or the offset that is wrong.
    fn from_ssz(bytes: &Bytes) -> Result<Self, DecodeError>;

    /// The SSZ encoding, allocated once at its exact size.
    #[must_use]
    fn to_ssz(&self) -> Vec<u8>;

    /// The SSZ encoding in two parts: the first is copied, the second shares the memory of a transaction list and is
    /// empty where there is none.
    #[must_use]
    fn to_ssz_parts(&self) -> (Vec<u8>, Bytes) {
        (self.to_ssz(), Bytes::new())
    }
}

pub(crate) const fn error<C: Container>(kind: DecodeErrorKind) -> DecodeError {
    DecodeError { container: C::NAME, kind }
}

/// Checks the one length that a fixed-size container can have.
pub(crate) fn exact<C: Container>(bytes: &[u8]) -> Result<(), DecodeError> {
    let (expected, actual) = (C::MIN_SSZ_BYTES, bytes.len());
    if actual == expected { Ok(()) } else { Err(error::<C>(DecodeErrorKind::Length { expected, actual })) }
}

/// Checks a container whose fixed part ends with the offset of its one variable field, and returns how
/// many bytes that field has.
pub(crate) fn variable_tail<C: Container>(bytes: &[u8], field: &'static str) -> Result<usize, DecodeError> {
    let expected = C::MIN_SSZ_BYTES;
    let offset = bytes
        .get(..expected)
        .and_then(<[u8]>::last_chunk::<4>)
        .ok_or(error::<C>(DecodeErrorKind::TooShort { minimum: expected, actual: bytes.len() }))?;
    let actual = u32::from_le_bytes(*offset);
    if usize::try_from(actual) != Ok(expected) {
        return Err(error::<C>(DecodeErrorKind::Offset { field, expected, actual }));
    }
    Ok(bytes.len() - expected)
}

/// Decodes a fixed-size container whose length has been checked with `ethereum_ssz`. The only thing left
/// that can be wrong in it is the boolean in its first byte.
pub(crate) fn fixed<C: Container + ssz::Decode>(bytes: &[u8]) -> Result<C, DecodeError> {
    exact::<C>(bytes)?;
    C::from_ssz_bytes(bytes).map_err(|_| {
        error::<C>(DecodeErrorKind::Bool { field: "eop", byte: bytes.first().copied().unwrap_or_default() })
    })
}

/// The fields of a fixed-size container, one after the other. The derived decoder takes several times as long
/// for what every gossip message and every page goes through.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes; none where they are cut off.
    #[inline(always)]
    pub(crate) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    /// The next byte as a boolean; none if it is neither 0 nor 1.
    #[inline(always)]
    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.bytes()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) fn u256(&mut self) -> Option<U256> {
        self.bytes().map(U256::from_le_bytes::<32>)
    }

    /// Whether nothing is left over.
    #[inline(always)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Decoding of a fixed-size container that can read itself from its [`Fields`].
macro_rules! read_fields {
    ($type:ident, $len:expr) => {
        impl ssz::Decode for $type {
            fn is_ssz_fixed_len() -> bool {
                true
            }

            fn ssz_fixed_len() -> usize {
                $len
            }

            fn from_ssz_bytes(bytes: &[u8]) -> Result<Self, ssz::DecodeError> {
                let (len, expected) = (bytes.len(), $len);
                if len != expected {
                    return Err(ssz::DecodeError::InvalidByteLength { len, expected });
                }
                let mut fields = Fields::of(bytes);
                let read = Self::read(&mut fields).filter(|_| fields.is_empty());
                read.ok_or_else(|| ssz::DecodeError::BytesInvalid("a boolean is 0 or 1".into()))
            }
        }
    };
}
pub(crate) use read_fields;

macro_rules! fixed_container {
    ($type:ident, $len:expr) => {
        impl Container for $type {
            const NAME: &'static str = stringify!($type);
            const MIN_SSZ_BYTES: usize = $len;
            const MAX_SSZ_BYTES: usize = $len;

            fn from_ssz(bytes: &Bytes) -> Result<Self, DecodeError> {
                fixed(bytes)
            }

            fn to_ssz(&self) -> Vec<u8> {
                ssz::Encode::as_ssz_bytes(self)
            }
        }
    };
}
pub(crate) use fixed_container;
