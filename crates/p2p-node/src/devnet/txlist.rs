//! Transaction lists as preconfers build them: signed EIP-1559 transactions, RLP-encoded, zlib-compressed.

use std::io::Write;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Signature, TxKind, U256};
use flate2::{Compression, write::ZlibEncoder};
use preconfirmation_types::{Address, B256, Bytes, MAX_TXLIST_BYTES, SigningKey};

/// Most calldata of one transaction, below the limit that pools set.
const CALLDATA: usize = 96 * 1024;

/// What a transaction has beside its calldata, about, once it is compressed.
const OVERHEAD: usize = 160;

/// What zlib adds to what cannot be compressed, and room for the headers of RLP.
const ZLIB: usize = 64;

/// Builds transaction lists of about one size from one account. The calldata is random, so that what is asked
/// for is what travels.
pub(crate) struct TxListBuilder {
    key: SigningKey,
    chain_id: u64,
    nonce: u64,
    size: usize,
    rng: fastrand::Rng,
}

impl TxListBuilder {
    pub(crate) fn new(key: SigningKey, chain_id: u64, size: usize, seed: u64) -> Self {
        let size = size.min(MAX_TXLIST_BYTES);
        Self { key, chain_id, nonce: 0, size, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The next list.
    pub(crate) fn build(&mut self) -> std::io::Result<Bytes> {
        let mut transactions = Vec::new();
        let mut left = self.size.saturating_sub(ZLIB);
        while left > OVERHEAD || transactions.is_empty() {
            let calldata = left.saturating_sub(OVERHEAD).min(CALLDATA);
            transactions.push(self.transaction(calldata));
            // Deflate's blocks cost five bytes for each 16 KiB that cannot be compressed.
            left = left.saturating_sub(OVERHEAD + calldata + calldata / 3_000);
        }
        let mut zlib = ZlibEncoder::new(Vec::with_capacity(self.size), Compression::default());
        zlib.write_all(&alloy_rlp::encode(&transactions))?;
        Ok(zlib.finish()?.into())
    }

    fn transaction(&mut self, calldata: usize) -> TxEnvelope {
        let mut input = vec![0; calldata];
        self.rng.fill(&mut input);
        let mut to = Address::ZERO;
        self.rng.fill(to.as_mut_slice());
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: 21_000 + 40 * calldata as u64,
            max_fee_per_gas: 1_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to: TxKind::Call(to),
            value: U256::from(self.rng.u64(..)),
            access_list: Default::default(),
            input: input.into(),
        };
        self.nonce += 1;
        let [rs @ .., v] = self.key.sign_hash(&B256::from(transaction.signature_hash())).0;
        let signature = Signature::from_bytes_and_parity(&rs, v == 1);
        transaction.into_signed(signature).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use alloy_rlp::Decodable;
    use flate2::read::ZlibDecoder;

    use super::*;

    #[test]
    fn lists_are_real_and_of_about_the_size_asked_for() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        for size in [512, 4096, 131_072, MAX_TXLIST_BYTES] {
            let mut builder = TxListBuilder::new(key.clone(), 167_000, size, 3);
            let list = builder.build().unwrap();
            assert!(list.len() <= size && list.len() * 10 >= size * 8, "{} for {size}", list.len());
            let mut rlp = Vec::new();
            ZlibDecoder::new(&list[..]).read_to_end(&mut rlp).unwrap();
            let transactions = Vec::<TxEnvelope>::decode(&mut &rlp[..]).unwrap();
            assert!(!transactions.is_empty());
            for transaction in transactions {
                let TxEnvelope::Eip1559(signed) = transaction else { panic!() };
                // Signatures are deterministic, so a good one is the one.
                let [rs @ .., v] = key.sign_hash(&signed.tx().signature_hash()).0;
                assert_eq!(*signed.signature(), Signature::from_bytes_and_parity(&rs, v == 1));
            }
            assert_ne!(builder.build().unwrap(), list);
        }
    }
}
