//! The file as it is. Every key of it is named in these structs, and a key that is not named fails the
//! tests: nothing in it goes unread.

use alloy_primitives::hex;
use preconfirmation_types::{
    Address, B256, Bytes, FixedBytes, PreconfCommitment, Preconfirmation, SignedCommitment, SigningKey, U256,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Vectors {
    pub(crate) about: String,
    pub(crate) chain_id: u64,
    pub(crate) default_domain: B256,
    pub(crate) topics: Topics,
    pub(crate) protocols: Protocols,
    pub(crate) commitments: Vec<Vector>,
    pub(crate) request_response: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Topics {
    pub(crate) preconfirmation_commitments: String,
    pub(crate) raw_tx_lists: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Protocols {
    pub(crate) get_head: String,
    pub(crate) get_commitments_by_number: String,
    pub(crate) get_raw_tx_list: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Vector {
    pub(crate) secret_key: B256,
    pub(crate) signer: Address,
    /// As written in the file, to compare with what our types write.
    pub(crate) preconfirmation: Value,
    pub(crate) slasher_address: Address,
    pub(crate) ssz_preconfirmation: Hex,
    pub(crate) ssz_commitment: Hex,
    pub(crate) ssz_signed_commitment: Hex,
    pub(crate) preconfirmation_hash: B256,
    pub(crate) signing_hash: B256,
    pub(crate) signature: FixedBytes<65>,
    pub(crate) custom_domain: B256,
    pub(crate) custom_domain_signing_hash: B256,
    pub(crate) custom_domain_signature: FixedBytes<65>,
    pub(crate) txlist: Hex,
    pub(crate) txlist_hash: B256,
    pub(crate) ssz_raw_tx_list_gossip: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    pub(crate) message: String,
    pub(crate) ssz: Hex,
    pub(crate) frame: Hex,
}

pub(crate) struct Hex(pub(crate) Bytes);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize::<_, Vec<u8>>(deserializer).map(|bytes| Self(bytes.into()))
    }
}

pub(crate) fn vectors() -> Vectors {
    serde_json::from_str(include_str!("wire.json")).unwrap()
}

impl Vector {
    pub(crate) fn key(&self) -> SigningKey {
        SigningKey::from_bytes(self.secret_key.0).unwrap()
    }

    /// The number of a field, read without our own parser of numbers.
    pub(crate) fn number(&self, field: &str) -> U256 {
        U256::from_str_radix(self.preconfirmation[field].as_str().unwrap(), 10).unwrap()
    }

    fn bytes<const N: usize>(&self, field: &str) -> [u8; N] {
        hex::decode_to_array(self.preconfirmation[field].as_str().unwrap()).unwrap()
    }

    /// The fields, one by one, without our own serde.
    pub(crate) fn fields(&self) -> PreconfCommitment {
        assert_eq!(self.preconfirmation.as_object().unwrap().len(), 11);
        PreconfCommitment {
            preconf: Preconfirmation {
                eop: self.preconfirmation["eop"].as_bool().unwrap(),
                block_number: self.number("blockNumber"),
                timestamp: self.number("timestamp"),
                gas_limit: self.number("gasLimit"),
                coinbase: self.bytes("coinbase").into(),
                anchor_block_number: self.number("anchorBlockNumber"),
                raw_tx_list_hash: self.bytes("rawTxListHash").into(),
                parent_preconfirmation_hash: self.bytes("parentPreconfirmationHash").into(),
                submission_window_end: self.number("submissionWindowEnd"),
                prover_auth: self.bytes("proverAuth").into(),
                proposal_id: self.number("proposalId"),
            },
            slasher_address: self.slasher_address,
        }
    }

    pub(crate) fn signed(&self) -> SignedCommitment {
        SignedCommitment { commitment: self.fields(), signature: self.signature }
    }
}
