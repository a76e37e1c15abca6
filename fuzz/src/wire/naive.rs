//! The same containers by `ssz_rs`.

use std::fmt::Debug;

use preconfirmation_types as ours;
use ssz_rs::prelude::*;

use super::is_hash;

const MAX_TXLIST_BYTES: usize = ours::MAX_TXLIST_BYTES;

type Bytes20 = Vector<u8, 20>;
type Bytes32 = Vector<u8, 32>;

/// Whether both decoders found the same value.
pub(super) trait Same<C>: Deserialize + Serialize + Debug {
    fn is_same(&self, ours: &C) -> bool;
}

/// Decodes any container; none where the bytes are wrong, or not what the value is encoded as.
pub(super) fn decode<T: Deserialize + Serialize>(bytes: &[u8]) -> Option<T> {
    let value = T::deserialize(bytes).ok()?;
    let mut again = Vec::with_capacity(bytes.len());
    value.serialize(&mut again).ok()?;
    (again == bytes).then_some(value)
}

fn is_number(theirs: &U256, ours: &ours::U256) -> bool {
    theirs.to_bytes_le() == ours.to_le_bytes::<32>()
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct Preconfirmation {
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

impl Same<ours::Preconfirmation> for Preconfirmation {
    fn is_same(&self, ours: &ours::Preconfirmation) -> bool {
        self.eop == ours.eop
            && is_number(&self.block_number, &ours.block_number)
            && is_number(&self.timestamp, &ours.timestamp)
            && is_number(&self.gas_limit, &ours.gas_limit)
            && *self.coinbase == ours.coinbase.as_slice()
            && is_number(&self.anchor_block_number, &ours.anchor_block_number)
            && is_hash(&self.raw_tx_list_hash, &ours.raw_tx_list_hash)
            && is_hash(&self.parent_preconfirmation_hash, &ours.parent_preconfirmation_hash)
            && is_number(&self.submission_window_end, &ours.submission_window_end)
            && *self.prover_auth == ours.prover_auth.as_slice()
            && is_number(&self.proposal_id, &ours.proposal_id)
    }
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct Commitment {
    preconf: Preconfirmation,
    slasher_address: Bytes20,
}

impl Same<ours::PreconfCommitment> for Commitment {
    fn is_same(&self, ours: &ours::PreconfCommitment) -> bool {
        self.preconf.is_same(&ours.preconf) && *self.slasher_address == ours.slasher_address.as_slice()
    }
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct SignedCommitment {
    commitment: Commitment,
    signature: Vector<u8, 65>,
}

impl Same<ours::SignedCommitment> for SignedCommitment {
    fn is_same(&self, ours: &ours::SignedCommitment) -> bool {
        self.commitment.is_same(&ours.commitment) && *self.signature == ours.signature.as_slice()
    }
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct Page {
    commitments: List<SignedCommitment, 256>,
}

impl Same<ours::GetCommitmentsByNumberResponse> for Page {
    fn is_same(&self, ours: &ours::GetCommitmentsByNumberResponse) -> bool {
        let ours = ours.commitments();
        self.commitments.len() == ours.len()
            && self.commitments.iter().zip(ours).all(|(theirs, ours)| theirs.is_same(ours))
    }
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct TxList {
    raw_tx_list_hash: Bytes32,
    txlist: List<u8, MAX_TXLIST_BYTES>,
}

impl Same<ours::RawTxListGossip> for TxList {
    fn is_same(&self, ours: &ours::RawTxListGossip) -> bool {
        is_hash(&self.raw_tx_list_hash, &ours.raw_tx_list_hash) && *self.txlist == *ours.txlist
    }
}

impl Same<ours::GetRawTxListResponse> for TxList {
    fn is_same(&self, ours: &ours::GetRawTxListResponse) -> bool {
        is_hash(&self.raw_tx_list_hash, &ours.raw_tx_list_hash) && *self.txlist == *ours.txlist
    }
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct Head {
    block_number: U256,
    submission_window_end: U256,
}

impl Same<ours::PreconfHead> for Head {
    fn is_same(&self, ours: &ours::PreconfHead) -> bool {
        is_number(&self.block_number, &ours.block_number)
            && is_number(&self.submission_window_end, &ours.submission_window_end)
    }
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct PageRequest {
    start_block_number: U256,
    max_count: u32,
}

impl Same<ours::GetCommitmentsByNumberRequest> for PageRequest {
    fn is_same(&self, ours: &ours::GetCommitmentsByNumberRequest) -> bool {
        is_number(&self.start_block_number, &ours.start_block_number) && self.max_count == ours.max_count
    }
}

#[derive(Debug, Default, PartialEq, Eq, SimpleSerialize)]
pub(super) struct TxListRequest {
    raw_tx_list_hash: Bytes32,
}

impl Same<ours::GetRawTxListRequest> for TxListRequest {
    fn is_same(&self, ours: &ours::GetRawTxListRequest) -> bool {
        is_hash(&self.raw_tx_list_hash, &ours.raw_tx_list_hash)
    }
}
