//! The promise: [`Preconfirmation`], [`PreconfCommitment`], [`SignedCommitment`].

use alloy_primitives::{Address, B256, FixedBytes, U256, keccak256};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ssz::Encode as _;
use ssz_derive::Encode;

use crate::{
    COMMITMENT_BYTES, PRECONFIRMATION_BYTES, SIGNED_COMMITMENT_BYTES, SigningDomain, SigningKey,
    container::{Container, Fields, fixed, fixed_container, read_fields},
    decimal,
    error::DecodeError,
    signing::low_s,
};

/// What a preconfer promises about one L2 block (§2). On the wire every number is a u256; whether it is
/// a number that this software can work with is validation's question, so any value decodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Encode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconfirmation {
    /// End of preconfirmation: the preconfer hands over to the next one.
    pub eop: bool,
    /// L2 block number. In an EOP-only commitment: the height that the signer declines.
    #[serde(with = "decimal")]
    pub block_number: U256,
    /// L2 block time, unix seconds.
    #[serde(with = "decimal")]
    pub timestamp: U256,
    /// L2 block gas limit.
    #[serde(with = "decimal")]
    pub gas_limit: U256,
    /// L2 fee recipient.
    pub coinbase: Address,
    /// L1 block that the L2 block is anchored to.
    #[serde(with = "decimal")]
    pub anchor_block_number: U256,
    /// keccak256 of the compressed transaction list; zero in an EOP-only commitment.
    pub raw_tx_list_hash: B256,
    /// Preconfirmation hash of the block before.
    pub parent_preconfirmation_hash: B256,
    /// Unix seconds at which the signer's window closes.
    #[serde(with = "decimal")]
    pub submission_window_end: U256,
    /// Who may prove the block.
    pub prover_auth: Address,
    /// L1 proposal that the block belongs to.
    #[serde(with = "decimal")]
    pub proposal_id: U256,
}

impl Preconfirmation {
    /// The preconfirmation hash, `keccak256(ssz(self))`: the name by which a child calls its parent.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(self.as_ssz_bytes())
    }

    /// Whether this hands over without a block: `eop` set and no transaction list (§4).
    #[must_use]
    pub fn is_eop_only(&self) -> bool {
        self.eop && self.raw_tx_list_hash.is_zero()
    }
}

/// A preconfirmation and the contract that punishes breaking it (§2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Encode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreconfCommitment {
    /// The promise.
    #[serde(rename = "preconfirmation")]
    pub preconf: Preconfirmation,
    /// The chain's slasher.
    pub slasher_address: Address,
}

impl Preconfirmation {
    #[inline(always)]
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            eop: fields.bool()?,
            block_number: fields.u256()?,
            timestamp: fields.u256()?,
            gas_limit: fields.u256()?,
            coinbase: Address::new(fields.bytes()?),
            anchor_block_number: fields.u256()?,
            raw_tx_list_hash: B256::new(fields.bytes()?),
            parent_preconfirmation_hash: B256::new(fields.bytes()?),
            submission_window_end: fields.u256()?,
            prover_auth: Address::new(fields.bytes()?),
            proposal_id: fields.u256()?,
        })
    }
}

impl PreconfCommitment {
    #[inline(always)]
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { preconf: Preconfirmation::read(fields)?, slasher_address: Address::new(fields.bytes()?) })
    }
}

impl SignedCommitment {
    #[inline(always)]
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            commitment: PreconfCommitment::read(fields)?,
            signature: FixedBytes::new(fields.bytes()?),
        })
    }
}

read_fields!(Preconfirmation, PRECONFIRMATION_BYTES);
read_fields!(PreconfCommitment, COMMITMENT_BYTES);
read_fields!(SignedCommitment, SIGNED_COMMITMENT_BYTES);
fixed_container!(Preconfirmation, PRECONFIRMATION_BYTES);
fixed_container!(PreconfCommitment, COMMITMENT_BYTES);
fixed_container!(SignedCommitment, SIGNED_COMMITMENT_BYTES);

impl PreconfCommitment {
    /// What a preconfer signs: `keccak256(domain ‖ ssz(self))`.
    #[must_use]
    pub fn signing_hash(&self, domain: &SigningDomain) -> B256 {
        domain.signing_hash(&self.as_ssz_bytes())
    }

    /// Signs the commitment: deterministic (RFC 6979), low s, v 0 or 1.
    #[must_use]
    pub fn sign(self, key: &SigningKey, domain: &SigningDomain) -> SignedCommitment {
        let signature = key.sign_hash(&self.signing_hash(domain));
        SignedCommitment { commitment: self, signature }
    }
}

/// A commitment with its signature: what travels by gossip and in pages (§2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Serialize, Deserialize)]
pub struct SignedCommitment {
    /// The commitment.
    #[serde(flatten)]
    pub commitment: PreconfCommitment,
    /// `r ‖ s ‖ v`, with v the recovery id 0 or 1.
    pub signature: FixedBytes<65>,
}

impl SignedCommitment {
    /// The promise inside.
    #[must_use]
    pub const fn preconf(&self) -> &Preconfirmation {
        &self.commitment.preconf
    }

    /// The same promise with s in the lower half of the group order, the only form that Ethereum takes (§4):
    /// an s in the upper half becomes n − s and v is flipped. Anything else, what is no signature included,
    /// stays as it is.
    #[must_use]
    pub fn with_low_s(mut self) -> Self {
        if let Some(low) = low_s(&self.signature) {
            self.signature = low;
        }
        self
    }
}
