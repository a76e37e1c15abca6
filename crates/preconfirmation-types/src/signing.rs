//! Domains, keys, and the proof that somebody signed.

use std::fmt;

use alloy_primitives::{Address, B256, FixedBytes, Keccak256, U256, keccak256};
use secp256k1::{
    PublicKey, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use serde::{Deserialize, Serialize};
use ssz::Encode as _;
use zeroize::Zeroizing;

use crate::{
    COMMITMENT_BYTES, PRECONFIRMATION_BYTES, SignedCommitment,
    container::fixed,
    error::{DecodeError, InvalidSecretKey, RecoverError, SignatureError},
};

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

/// A signed commitment together with its signer and its preconfirmation hash. Only recovery builds one:
/// whoever holds it need not ask again whether the signature is good. (With the feature `trusted-store`, a
/// store on disk can take up again what it was given recovered.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    #[serde(flatten)]
    signed: SignedCommitment,
    preconfirmation_hash: B256,
    signing_hash: B256,
    signer: Address,
}

impl Recovered {
    /// Decodes and recovers in one go, hashing the bytes as they came and allocating nothing.
    ///
    /// # Errors
    /// [`RecoverError`] if the bytes are not a `SignedCommitment` or its signature names nobody.
    pub fn from_ssz(bytes: &[u8], domain: &SigningDomain) -> Result<Self, RecoverError> {
        Ok(Unrecovered::from_ssz(bytes)?.recover(domain)?)
    }

    /// The commitment with its signature.
    #[must_use]
    pub const fn signed(&self) -> &SignedCommitment {
        &self.signed
    }

    /// Takes up again what was recovered before and kept together with its signer: both hashes are computed
    /// anew from the bytes, the signature is not recovered a second time (a twentieth of the cost).
    ///
    /// This is for stores that protect what they keep with a checksum of their own and were given a
    /// `Recovered` in the first place. `signer` is believed: given bytes that nobody has recovered, what comes
    /// back proves nothing. Anything that has been out of the caller's hands, be it a file from elsewhere or a
    /// message, goes through [`from_ssz`](Self::from_ssz).
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a `SignedCommitment`.
    #[cfg(feature = "trusted-store")]
    pub fn from_trusted_store(
        bytes: &[u8],
        signer: Address,
        domain: &SigningDomain,
    ) -> Result<Self, DecodeError> {
        let signed = fixed::<SignedCommitment>(bytes)?;
        let signing_hash = domain.signing_hash(bytes.get(..COMMITMENT_BYTES).unwrap_or(bytes));
        let preconfirmation_hash = keccak256(bytes.get(..PRECONFIRMATION_BYTES).unwrap_or(bytes));
        Ok(Self { signed, preconfirmation_hash, signing_hash, signer })
    }

    /// The commitment with its signature, by value.
    #[must_use]
    pub fn into_signed(self) -> SignedCommitment {
        self.signed
    }

    /// Who signed it.
    #[must_use]
    pub const fn signer(&self) -> Address {
        self.signer
    }

    /// `keccak256(ssz(preconfirmation))`: the name by which a child calls this.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.preconfirmation_hash
    }

    /// `keccak256(domain ‖ ssz(commitment))`: what was signed.
    #[must_use]
    pub const fn signing_hash(&self) -> B256 {
        self.signing_hash
    }
}

/// A decoded commitment next to its encoding, whose signer nobody has asked for yet. What can be judged
/// without the signer is judged here, before the recovery, which costs a hundred times as much as the rest.
#[derive(Debug, Clone)]
pub struct Unrecovered<'a> {
    signed: SignedCommitment,
    ssz: &'a [u8],
}

impl<'a> Unrecovered<'a> {
    /// Decodes wire bytes, which are hashed as they came when the signer is recovered. Allocates nothing.
    ///
    /// # Errors
    /// [`DecodeError`] if they are not a `SignedCommitment`.
    pub fn from_ssz(ssz: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(Self { signed: fixed(ssz)?, ssz })
    }

    /// For a commitment whose wire bytes are gone: encodes it into a buffer of the caller's, so that many
    /// commitments cost one allocation.
    #[must_use]
    pub fn from_signed(signed: SignedCommitment, buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        signed.ssz_append(buffer);
        Self { signed, ssz: buffer }
    }

    /// The commitment, of whoever signed it.
    #[must_use]
    pub const fn signed(&self) -> &SignedCommitment {
        &self.signed
    }

    /// Recovers who signed it under `domain`. A signature that cannot be one is refused before anything is
    /// hashed.
    ///
    /// # Errors
    /// [`SignatureError`] if v is not 0 or 1, s is high, r or s is out of range, or no key recovers.
    pub fn recover(self, domain: &SigningDomain) -> Result<Recovered, SignatureError> {
        let Self { signed, ssz } = self;
        let signature = well_formed(&signed.signature)?;
        let signing_hash = domain.signing_hash(ssz.get(..COMMITMENT_BYTES).unwrap_or(ssz));
        let signer = signature
            .recover_ecdsa(secp256k1::Message::from_digest(signing_hash.0))
            .map(|key| address_of(&key))
            .map_err(|_| SignatureError::Unrecoverable)?;
        let preconfirmation_hash = keccak256(ssz.get(..PRECONFIRMATION_BYTES).unwrap_or(ssz));
        Ok(Recovered { signed, preconfirmation_hash, signing_hash, signer })
    }
}

/// A signature that can be one: v, r and s are in range and s is in the lower half. No curve arithmetic.
fn well_formed(signature: &FixedBytes<65>) -> Result<RecoverableSignature, SignatureError> {
    let [rs @ .., v] = &signature.0;
    let v = match *v {
        0 => RecoveryId::Zero,
        1 => RecoveryId::One,
        other => return Err(SignatureError::RecoveryId(other)),
    };
    let (r, s) = rs.split_at(32);
    if s > &HALF_ORDER[..] && s < &ORDER[..] {
        return Err(SignatureError::HighS);
    }
    let zero = |half: &[u8]| half.iter().all(|&byte| byte == 0);
    if zero(r) || zero(s) {
        return Err(SignatureError::OutOfRange);
    }
    RecoverableSignature::from_compact(rs, v).map_err(|_| SignatureError::OutOfRange)
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

fn address_of(key: &PublicKey) -> Address {
    Address::from_raw_public_key(&key.serialize_uncompressed()[1..])
}

/// The order n of the secp256k1 group, big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, //
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// (n − 1) / 2, the largest s that Ethereum accepts, big-endian.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, //
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

#[cfg(test)]
mod tests {

    use super::*;
    use crate::PreconfCommitment;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_bytes([byte; 32]).unwrap()
    }

    fn signed() -> SignedCommitment {
        PreconfCommitment::default().sign(&key(7), &SigningDomain::PLACEHOLDER)
    }

    fn recover(signed: SignedCommitment) -> Result<Address, SignatureError> {
        signed.recover(&SigningDomain::PLACEHOLDER).map(|r| r.signer())
    }

    #[test]
    fn the_signer_is_recovered_and_another_domain_names_another() {
        assert_eq!(recover(signed()), Ok(key(7).address()));
        let other = SigningDomain::new(B256::repeat_byte(1));
        assert_ne!(signed().recover(&other).map(|r| r.signer()), Ok(key(7).address()));
    }

    #[test]
    #[cfg(feature = "trusted-store")]
    fn what_a_store_kept_comes_back_as_it_was() {
        use crate::Container;
        let recovered = signed().recover(&SigningDomain::PLACEHOLDER).unwrap();
        let ssz = signed().to_ssz();
        let again =
            Recovered::from_trusted_store(&ssz, recovered.signer(), &SigningDomain::PLACEHOLDER).unwrap();
        assert_eq!(again, recovered);
        let cut = &ssz[1..];
        assert!(Recovered::from_trusted_store(cut, recovered.signer(), &SigningDomain::PLACEHOLDER).is_err());
    }

    #[test]
    fn mirrored_s_with_flipped_v_is_refused() {
        let mut twin = signed();
        let s = U256::from_be_slice(&twin.signature[32..64]);
        let mirrored = U256::from_be_bytes(ORDER) - s;
        twin.signature[32..64].copy_from_slice(&mirrored.to_be_bytes::<32>());
        twin.signature[64] ^= 1;
        assert_eq!(recover(twin), Err(SignatureError::HighS));
    }

    #[test]
    fn a_high_s_becomes_the_low_s_of_the_same_signer() {
        let genuine = signed();
        assert_eq!(genuine.clone().with_low_s(), genuine);
        let mut twin = genuine.clone();
        let s = U256::from_be_slice(&twin.signature[32..64]);
        let mirrored = U256::from_be_bytes(ORDER) - s;
        twin.signature[32..64].copy_from_slice(&mirrored.to_be_bytes::<32>());
        twin.signature[64] ^= 1;
        assert_eq!(twin.clone().with_low_s(), genuine);
        // What can be no signature is left for recovery to refuse.
        for v in [2, 27, 255] {
            let mut other = twin.clone();
            other.signature[64] = v;
            assert_eq!(other.clone().with_low_s(), other);
        }
        for s in [[0; 32], HALF_ORDER, ORDER, [0xff; 32]] {
            let mut other = twin.clone();
            other.signature[32..64].copy_from_slice(&s);
            assert_eq!(other.clone().with_low_s(), other);
        }
        // The borders of the upper half.
        for (high, low) in [
            (U256::from_be_bytes(HALF_ORDER) + U256::from(1), U256::from_be_bytes(HALF_ORDER)),
            (U256::from_be_bytes(ORDER) - U256::from(1), U256::from(1)),
        ] {
            let mut other = twin.clone();
            other.signature[32..64].copy_from_slice(&high.to_be_bytes::<32>());
            assert_eq!(U256::from_be_slice(&other.with_low_s().signature[32..64]), low);
        }
    }

    #[test]
    fn half_order_is_the_last_low_s() {
        let n = U256::from_be_bytes(ORDER);
        assert_eq!(U256::from_be_bytes(HALF_ORDER), (n - U256::from(1)) / U256::from(2));
        let mut at = signed();
        at.signature[32..64].copy_from_slice(&HALF_ORDER);
        assert!(!matches!(recover(at.clone()), Err(SignatureError::HighS)));
        at.signature[63] += 1;
        assert_eq!(recover(at), Err(SignatureError::HighS));
    }

    #[test]
    fn v_other_than_0_and_1_is_refused() {
        for v in (2..=255).chain([27, 28]) {
            let mut bad = signed();
            bad.signature[64] = v;
            assert_eq!(recover(bad), Err(SignatureError::RecoveryId(v)));
        }
    }

    #[test]
    fn r_and_s_out_of_range_are_refused() {
        for half in [0..32, 32..64] {
            for value in [[0; 32], ORDER, [0xff; 32]] {
                let mut bad = signed();
                bad.signature[half.clone()].copy_from_slice(&value);
                assert_eq!(recover(bad), Err(SignatureError::OutOfRange));
            }
        }
    }

    #[test]
    fn an_r_that_is_no_x_coordinate_recovers_nobody() {
        // x = 5 has no point on secp256k1.
        let mut bad = signed();
        bad.signature[..32].copy_from_slice(&U256::from(5).to_be_bytes::<32>());
        assert_eq!(recover(bad), Err(SignatureError::Unrecoverable));
    }

    #[test]
    fn keys_out_of_range_are_refused_and_debug_hides_the_key() {
        assert_eq!(SigningKey::from_bytes([0; 32]).unwrap_err(), InvalidSecretKey);
        assert_eq!(SigningKey::from_bytes(ORDER).unwrap_err(), InvalidSecretKey);
        assert!(!format!("{:?}", key(0x42)).contains("4242"));
    }
}
