//! Signed transactions, and lists of them; the tests against a node include this file.

use std::io::Write;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use flate2::{Compression, write::ZlibEncoder};
use preconfirmation_types::SigningKey;

/// The key that signs.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

fn signature(hash: B256) -> Signature {
    let [rs @ .., v] = key().sign_hash(&hash).0;
    Signature::from_bytes_and_parity(&rs, v == 1)
}

const CHAIN: u64 = 31_337;
const TO: TxKind = TxKind::Call(Address::repeat_byte(0x77));

/// A legacy transaction with a nonce.
pub(crate) fn legacy(nonce: u64) -> TxEnvelope {
    let transaction = TxLegacy {
        chain_id: Some(CHAIN),
        nonce,
        gas_price: 2_000_000_000,
        gas_limit: 21_000,
        to: TO,
        value: U256::from(1),
        input: Bytes::new(),
    };
    let signature = signature(transaction.signature_hash());
    transaction.into_signed(signature).into()
}

/// A transaction of EIP-1559 with a nonce.
pub(crate) fn typed(nonce: u64) -> TxEnvelope {
    let transaction = TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 60_000,
        max_fee_per_gas: 20_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TO,
        value: U256::from(2),
        input: Bytes::from(vec![5; 100]),
        ..TxEip1559::default()
    };
    let signature = signature(transaction.signature_hash());
    transaction.into_signed(signature).into()
}

/// RLP, as it travels.
pub(crate) fn packed(rlp: &[u8]) -> Bytes {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(rlp).unwrap();
    zlib.finish().unwrap().into()
}

/// A list of these, as it travels.
pub(crate) fn list(transactions: &[TxEnvelope]) -> Bytes {
    let mut rlp = Vec::new();
    alloy_rlp::encode_list(transactions, &mut rlp);
    packed(&rlp)
}
