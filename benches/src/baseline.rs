//! The naive way, from plain published crates: what the hot path is measured against.
//!
//! Nothing here is slow on purpose. It is what one writes who takes an SSZ crate, a hash crate and a curve
//! crate as they come: bytes are decoded into lists of bytes, whatever is hashed is encoded again, and each
//! recovery has a context of its own.

use std::collections::HashSet;

use preconfirmation_types::MAX_TXLIST_BYTES;
use secp256k1::{
    All, Message, Secp256k1,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use sha3::{Digest as _, Keccak256};
use ssz_rs::prelude::*;

type Bytes20 = Vector<u8, 20>;
type Bytes32 = Vector<u8, 32>;

/// A promise.
#[derive(Debug, Default, Clone, PartialEq, Eq, SimpleSerialize)]
pub struct Preconfirmation {
    eop: bool,
    block_number: U256,
    timestamp: U256,
    gas_limit: U256,
    coinbase: Bytes20,
    anchor_block_number: U256,
    raw_tx_list_hash: Bytes32,
    parent_preconfirmation_hash: Bytes32,
    submission_window_end: U256,
    prover_auth: Bytes20,
    proposal_id: U256,
}

/// A promise and its slasher.
#[derive(Debug, Default, Clone, PartialEq, Eq, SimpleSerialize)]
pub struct Commitment {
    preconf: Preconfirmation,
    slasher_address: Bytes20,
}

/// A signed promise.
#[derive(Debug, Default, Clone, PartialEq, Eq, SimpleSerialize)]
pub struct SignedCommitment {
    commitment: Commitment,
    signature: Vector<u8, 65>,
}

/// A page of signed promises.
#[derive(Debug, Default, Clone, PartialEq, Eq, SimpleSerialize)]
pub struct Page {
    commitments: List<SignedCommitment, 256>,
}

/// A transaction list and its hash.
#[derive(Debug, Default, Clone, PartialEq, Eq, SimpleSerialize)]
pub struct TxList {
    raw_tx_list_hash: Bytes32,
    txlist: List<u8, MAX_TXLIST_BYTES>,
}

/// What the naive validator knows of the chain.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The signing domain.
    pub domain: [u8; 32],
    /// The slasher.
    pub slasher: [u8; 20],
    /// The one elected preconfer.
    pub signer: [u8; 20],
    /// First second of its window.
    pub window_start: u64,
    /// Last second of its window.
    pub window_end: u64,
}

/// Decodes any container; none where the bytes are wrong.
#[must_use]
pub fn decode<T: Deserialize>(bytes: &[u8]) -> Option<T> {
    T::deserialize(bytes).ok()
}

/// Encodes any container.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // It fails on lists beyond their bound alone, which these types cannot hold.
    value.serialize(&mut bytes).map(|_| bytes).unwrap_or_default()
}

impl SignedCommitment {
    /// The hash that a preconfer signs.
    #[must_use]
    pub fn signing_hash(&self, domain: &[u8; 32]) -> [u8; 32] {
        let mut message = domain.to_vec();
        message.extend(encode(&self.commitment));
        Keccak256::digest(&message).into()
    }

    /// The name of the promise.
    #[must_use]
    pub fn preconfirmation_hash(&self) -> [u8; 32] {
        Keccak256::digest(encode(&self.commitment.preconf)).into()
    }
}

/// Who signed this.
#[must_use]
#[allow(deprecated, reason = "the call that takes the context, which is the point")]
pub fn recover(signed: &SignedCommitment, domain: &[u8; 32]) -> Option<[u8; 20]> {
    let bytes = signed.signature.to_vec();
    let (v, rs) = bytes.split_last()?;
    let v = RecoveryId::try_from(i32::from(*v)).ok()?;
    let signature = RecoverableSignature::from_compact(rs, v).ok()?;
    let message = Message::from_digest(signed.signing_hash(domain));
    let context: Secp256k1<All> = Secp256k1::new();
    let key = context.recover_ecdsa(message, &signature).ok()?;
    let hash = Keccak256::digest(key.serialize_uncompressed().get(1..)?);
    hash.get(12..)?.try_into().ok()
}

/// Judges a decoded commitment: the signature, then the rules. Gives its name.
#[must_use]
pub fn judge(signed: &SignedCommitment, chain: &Chain) -> Option<[u8; 32]> {
    let preconf = &signed.commitment.preconf;
    let good = recover(signed, &chain.domain)? == chain.signer
        && (preconf.eop || preconf.raw_tx_list_hash.iter().any(|byte| *byte != 0))
        && preconf.gas_limit <= U256::from(u64::MAX)
        && signed.commitment.slasher_address.to_vec() == chain.slasher
        && preconf.submission_window_end == U256::from(chain.window_end)
        && preconf.timestamp >= U256::from(chain.window_start)
        && preconf.timestamp <= U256::from(chain.window_end);
    good.then(|| signed.preconfirmation_hash())
}

/// Judges a commitment from its wire bytes.
#[must_use]
pub fn validate(bytes: &[u8], chain: &Chain) -> Option<[u8; 32]> {
    judge(&decode(bytes)?, chain)
}

/// Judges a page from its wire bytes, one commitment after the other.
#[must_use]
pub fn validate_page(bytes: &[u8], chain: &Chain) -> Option<Vec<[u8; 32]>> {
    let page: Page = decode(bytes)?;
    page.commitments.iter().map(|signed| judge(signed, chain)).collect()
}

/// Whether a message is new.
pub fn is_new(seen: &mut HashSet<[u8; 32]>, bytes: &[u8]) -> bool {
    seen.insert(Keccak256::digest(bytes).into())
}

impl TxList {
    /// Whether the list is the one that its hash names.
    #[must_use]
    pub fn is_its_hash(&self) -> bool {
        Keccak256::digest(&self.txlist[..])[..] == self.raw_tx_list_hash[..]
    }
}

/// Judges a transaction list from its wire bytes, and takes it out of its container.
#[must_use]
pub fn check_txlist(bytes: &[u8]) -> Option<Vec<u8>> {
    let list: TxList = decode(bytes)?;
    list.is_its_hash().then(|| list.txlist.to_vec())
}
