//! Who signed a commitment: [`Unrecovered`] and [`Hashed`] before the signature is recovered, [`Recovered`] after.

use alloy_primitives::{Address, B256, FixedBytes, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use serde::Serialize;
use ssz::Encode as _;

use crate::{
    COMMITMENT_BYTES, PRECONFIRMATION_BYTES, SIGNED_COMMITMENT_BYTES, SigningDomain,
    commitment::SignedCommitment,
    container::fixed,
    error::{DecodeError, RecoverError, SignatureError},
    signing::{HALF_ORDER, ORDER, address_of},
};

impl SignedCommitment {
    /// Recovers who signed this under `domain`. Whoever holds wire bytes saves an encoding with
    /// [`Recovered::from_ssz`].
    ///
    /// # Errors
    /// [`SignatureError`] if v is not 0 or 1, s is high, r or s is out of range, or no key recovers.
    pub fn recover(self, domain: &SigningDomain) -> Result<Recovered, SignatureError> {
        let mut ssz = Vec::with_capacity(SIGNED_COMMITMENT_BYTES);
        Unrecovered::from_signed(self, &mut ssz).recover(domain)
    }
}

/// A signed commitment together with its signer and its preconfirmation hash. Only recovery builds one:
/// whoever holds it need not ask again whether the signature is good. (With the feature `trusted-store`, a
/// store on disk can take up again what it was given recovered; with `trusted-signer` and `trusted-hash`, faster code can
/// bring the signer that it has verified and the hashes that it has computed.)
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
        self.hash(domain)?.recover()
    }

    /// Computes both hashes and leaves the recovery for later. A signature that cannot be one is refused before
    /// anything is hashed.
    ///
    /// # Errors
    /// [`SignatureError`] if v is not 0 or 1, s is high, or r or s is out of range.
    pub fn hash(self, domain: &SigningDomain) -> Result<Hashed, SignatureError> {
        let Self { signed, ssz } = self;
        well_formed(&signed.signature)?;
        let signing_hash = domain.signing_hash(ssz.get(..COMMITMENT_BYTES).unwrap_or(ssz));
        let preconfirmation_hash = keccak256(ssz.get(..PRECONFIRMATION_BYTES).unwrap_or(ssz));
        Ok(Hashed { signed, preconfirmation_hash, signing_hash })
    }
}

/// Gives keccak256 of each message, in order.
#[cfg(feature = "trusted-hash")]
pub type HashAll = fn(&[&[u8]]) -> Vec<B256>;

/// Commitments whose hashes are computed together, by code of the caller's that hashes many messages at once.
///
/// Its hashes are believed: with others than keccak256, what comes back proves nothing.
#[cfg(feature = "trusted-hash")]
#[derive(Debug)]
pub struct HashBatch<'a> {
    domain: &'a SigningDomain,
    commitments: Vec<SignedCommitment>,
    /// For each commitment the domain and its encoding without the signature.
    messages: Vec<[u8; SIGNED_BYTES]>,
}

/// What is signed: the domain and the commitment.
#[cfg(feature = "trusted-hash")]
const SIGNED_BYTES: usize = 32 + COMMITMENT_BYTES;

#[cfg(feature = "trusted-hash")]
impl<'a> HashBatch<'a> {
    /// An empty batch with room for so many commitments.
    #[must_use]
    pub fn with_capacity(domain: &'a SigningDomain, capacity: usize) -> Self {
        let (commitments, messages) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Self { domain, commitments, messages }
    }

    /// Adds a commitment. One whose signature cannot be one is refused before anything is hashed.
    ///
    /// # Errors
    /// [`SignatureError`] if v is not 0 or 1, s is high, or r or s is out of range.
    pub fn push(&mut self, commitment: Unrecovered<'_>) -> Result<(), SignatureError> {
        let Unrecovered { signed, ssz } = commitment;
        well_formed(&signed.signature)?;
        let mut message = [0; SIGNED_BYTES];
        let (domain, encoded) = message.split_at_mut(32);
        domain.copy_from_slice(self.domain.as_bytes());
        encoded.copy_from_slice(ssz.get(..COMMITMENT_BYTES).unwrap_or(&[0; COMMITMENT_BYTES]));
        self.commitments.push(signed);
        self.messages.push(message);
        Ok(())
    }

    /// Each commitment, in order, with its hashes.
    pub fn hash(self, hash_all: HashAll) -> impl Iterator<Item = Hashed> {
        let signing = self.messages.iter().map(|message| &message[..]);
        let preconfirmations = self.messages.iter().map(|message| &message[32..32 + PRECONFIRMATION_BYTES]);
        let messages: Vec<&[u8]> = signing.chain(preconfirmations).collect();
        let mut hashes = hash_all(&messages).into_iter();
        let signing: Vec<B256> = hashes.by_ref().take(self.commitments.len()).collect();
        let hashed = |((signed, signing_hash), preconfirmation_hash)| Hashed {
            signed,
            preconfirmation_hash,
            signing_hash,
        };
        self.commitments.into_iter().zip(signing).zip(hashes).map(hashed)
    }
}

/// A commitment with its hashes and a signature that can be one. All that is missing is who signed it.
#[derive(Debug, Clone)]
pub struct Hashed {
    signed: SignedCommitment,
    preconfirmation_hash: B256,
    signing_hash: B256,
}

impl Hashed {
    /// `keccak256(domain ‖ ssz(commitment))`: what was signed.
    #[must_use]
    pub const fn signing_hash(&self) -> B256 {
        self.signing_hash
    }

    /// r ‖ s ‖ v with r and s in range, s low and v 0 or 1.
    #[must_use]
    pub const fn signature(&self) -> &FixedBytes<65> {
        &self.signed.signature
    }

    /// Recovers who signed it.
    ///
    /// # Errors
    /// [`SignatureError::Unrecoverable`] if no key did.
    pub fn recover(self) -> Result<Recovered, SignatureError> {
        let signer = well_formed(&self.signed.signature)?
            .recover_ecdsa(secp256k1::Message::from_digest(self.signing_hash.0))
            .map_err(|_| SignatureError::Unrecoverable)?;
        Ok(self.by(address_of(&signer)))
    }

    /// Takes the signer from a recovery of the caller's own, which must give what [`recover`](Self::recover) gives.
    ///
    /// This is for code that checks signatures faster than one by one. `signer` is believed: without a check of the
    /// signature, what comes back proves nothing.
    #[cfg(feature = "trusted-signer")]
    #[must_use]
    pub fn signed_by(self, signer: Address) -> Recovered {
        self.by(signer)
    }

    fn by(self, signer: Address) -> Recovered {
        let Self { signed, preconfirmation_hash, signing_hash } = self;
        Recovered { signed, preconfirmation_hash, signing_hash, signer }
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

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;

    use super::*;
    use crate::{PreconfCommitment, SigningKey};

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
    #[cfg(feature = "trusted-hash")]
    fn a_batch_hashes_each_and_refuses_what_is_no_signature() {
        let domain = SigningDomain::new(B256::repeat_byte(9));
        let (mut batch, mut buffer) = (HashBatch::with_capacity(&domain, 3), Vec::new());
        let commitments: Vec<_> = (0..3)
            .map(|number| {
                let mut commitment = PreconfCommitment::default();
                commitment.preconf.block_number = U256::from(number);
                commitment.sign(&key(7), &domain)
            })
            .collect();
        let mut bad = signed();
        bad.signature[64] = 27;
        let refused = batch.push(Unrecovered::from_signed(bad, &mut buffer));
        assert_eq!(refused, Err(SignatureError::RecoveryId(27)));
        for signed in &commitments {
            batch.push(Unrecovered::from_signed(signed.clone(), &mut buffer)).unwrap();
        }
        let hashed = batch.hash(|messages| messages.iter().map(keccak256).collect());
        let recovered: Vec<_> = hashed.map(|hashed| hashed.recover().unwrap()).collect();
        let alone: Vec<_> = commitments.into_iter().map(|signed| signed.recover(&domain).unwrap()).collect();
        assert_eq!(recovered, alone);
    }

    #[test]
    #[cfg(all(feature = "trusted-hash", feature = "trusted-signer"))]
    fn a_signer_that_the_caller_found_is_taken_as_recovered() {
        let domain = SigningDomain::PLACEHOLDER;
        let (mut batch, mut buffer) = (HashBatch::with_capacity(&domain, 1), Vec::new());
        batch.push(Unrecovered::from_signed(signed(), &mut buffer)).unwrap();
        let hashed = batch.hash(|messages| messages.iter().map(keccak256).collect()).next().unwrap();
        assert_eq!(hashed.signature(), &signed().signature);
        let recovered = signed().recover(&domain).unwrap();
        assert_eq!(hashed.signing_hash(), recovered.signing_hash());
        assert_eq!(hashed.signed_by(key(7).address()), recovered);
        assert_eq!(recovered.into_signed(), signed());
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
}
