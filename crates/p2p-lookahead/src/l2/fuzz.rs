//! What is read of an execution node's answers, and of lists.

use alloy_primitives::B256;

use super::{
    AnchorCall,
    rpc::{Origin, RawBlock},
    txlist::{hashes, unpack},
};

pub(crate) fn block(json: &[u8], anchor_gas: Option<u64>) -> Option<(u64, usize)> {
    let block: RawBlock = serde_json::from_slice(json).ok()?;
    let settled = block.settled(anchor_gas, None);
    Some((settled.number, settled.transactions.len()))
}

pub(crate) fn origin(json: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Option<Origin>>(json).ok()??.block.get()
}

pub(crate) fn anchor(call: &AnchorCall, input: &[u8]) -> Option<u64> {
    call.read(input)
}

pub(crate) fn transactions(txlist: &[u8], limit: usize) -> Option<Vec<B256>> {
    let rlp = unpack(txlist, limit).ok()?;
    assert!(rlp.len() <= limit, "unpacked beyond the limit");
    hashes(&rlp).ok()
}

pub(crate) fn unpacked_transactions(rlp: &[u8]) -> Option<Vec<B256>> {
    hashes(rlp).ok()
}
