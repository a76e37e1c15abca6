//! Signing domains and keys, and the numbers of the curve.

use std::fmt;

use alloy_primitives::{Address, B256, FixedBytes, Keccak256, U256};
use secp256k1::{PublicKey, SecretKey, ecdsa::RecoverableSignature};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::InvalidSecretKey;

/// The 32 bytes that separate signatures of one chain and deployment from all others. Chain configuration:
/// there is no `Default`, so that nobody signs under the wrong one by leaving it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SigningDomain(B256);

impl SigningDomain {
    /// The domain of chains that configure none: the ASCII text `TAIKO_PRECONF_DOMAIN_PLACEHOLDER`.
    pub const PLACEHOLDER: Self = Self(B256::new(*b"TAIKO_PRECONF_DOMAIN_PLACEHOLDER"));

    /// A domain from chain configuration.
    #[must_use]
    pub const fn new(domain: B256) -> Self {
        Self(domain)
    }

    /// The bytes that go before the commitment into the signing hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }

    /// `keccak256(domain ‖ commitment_ssz)`: what a preconfer signs, from the encoding of a
    /// [`PreconfCommitment`](crate::PreconfCommitment).
    #[must_use]
    pub fn signing_hash(&self, commitment_ssz: &[u8]) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(self.as_bytes());
        hasher.update(commitment_ssz);
        hasher.finalize()
    }
}

impl fmt::Display for SigningDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A preconfer's secp256k1 key. Not printable, not serialisable; overwritten when dropped.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<[u8; 32]>, Address);

impl SigningKey {
    /// A key from its 32 big-endian bytes.
    ///
    /// # Errors
    /// [`InvalidSecretKey`] for zero and for numbers not below the group order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidSecretKey> {
        let bytes = Zeroizing::new(bytes);
        let mut secret = SecretKey::from_secret_bytes(*bytes).map_err(|_| InvalidSecretKey)?;
        let address = address_of(&PublicKey::from_secret_key(&secret));
        secret.non_secure_erase();
        Ok(Self(bytes, address))
    }

    /// The Ethereum address of the key: what the lookahead elects.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.1
    }

    /// Signs a 32-byte hash: deterministic (RFC 6979), low s, `r ‖ s ‖ v` with v 0 or 1.
    ///
    /// Commitments are signed with [`PreconfCommitment::sign`](crate::PreconfCommitment::sign); this is for
    /// what else a preconfer signs, such as transactions.
    #[must_use]
    pub fn sign_hash(&self, hash: &B256) -> FixedBytes<65> {
        // `from_bytes` has checked the key, so the error arm cannot be reached; it would give a
        // signature that nobody accepts rather than a panic.
        let Ok(mut secret) = SecretKey::from_secret_bytes(*self.0) else {
            return FixedBytes::ZERO;
        };
        let message = secp256k1::Message::from_digest(hash.0);
        let (v, rs) = RecoverableSignature::sign_ecdsa_recoverable(message, &secret).serialize_compact();
        secret.non_secure_erase();
        FixedBytes::<64>::new(rs).concat_const(FixedBytes::new([v.to_u8()]))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("address", &self.1).finish_non_exhaustive()
    }
}

/// The twin with s in the lower half, if s is in the upper half and v is 0 or 1.
pub(crate) fn low_s(signature: &FixedBytes<65>) -> Option<FixedBytes<65>> {
    let [rs @ .., v] = &signature.0;
    let (r, s) = rs.split_at(32);
    if s <= &HALF_ORDER[..] || s >= &ORDER[..] || *v > 1 {
        return None;
    }
    let low = U256::from_be_bytes(ORDER) - U256::from_be_slice(s);
    let low = low.to_be_bytes::<32>();
    let mut twin = *signature;
    twin.iter_mut().zip(r.iter().chain(&low).chain(&[*v ^ 1])).for_each(|(to, from)| *to = *from);
    Some(twin)
}

pub(crate) fn address_of(key: &PublicKey) -> Address {
    Address::from_raw_public_key(&key.serialize_uncompressed()[1..])
}

/// The order n of the secp256k1 group, big-endian.
pub(crate) const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, //
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// (n − 1) / 2, the largest s that Ethereum accepts, big-endian.
pub(crate) const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, //
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_out_of_range_are_refused_and_debug_hides_the_key() {
        assert_eq!(SigningKey::from_bytes([0; 32]).unwrap_err(), InvalidSecretKey);
        assert_eq!(SigningKey::from_bytes(ORDER).unwrap_err(), InvalidSecretKey);
        assert!(!format!("{:?}", SigningKey::from_bytes([0x42; 32]).unwrap()).contains("4242"));
    }

    #[test]
    fn a_domain_is_shown_in_hexadecimal() {
        let domain = SigningDomain::new(B256::repeat_byte(0xab));
        assert_eq!(domain.to_string(), format!("0x{}", "ab".repeat(32)));
    }
}
