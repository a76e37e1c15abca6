//! Transaction lists as preconfers build them: signed EIP-1559 transactions, RLP-encoded, zlib-compressed.

use std::io::Write;

use alloy_rlp::Encodable;
use flate2::{Compression, write::ZlibEncoder};
use preconfirmation_types::{Bytes, MAX_TXLIST_BYTES, SigningKey, keccak256};

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

    /// One signed transaction to a random address, with this much random calldata.
    fn transaction(&mut self, calldata: usize) -> Bytes {
        let mut input = vec![0; calldata];
        self.rng.fill(&mut input);
        let mut to = [0; 20];
        self.rng.fill(&mut to);
        let gas_limit = 21_000 + 40 * calldata as u64;
        let (max_priority_fee, max_fee) = (1_000_000u64, 1_000_000_000u64);
        let value = self.rng.u64(..);
        let access_list = Vec::<Bytes>::new();
        // The fields of EIP-1559, in its order.
        let unsigned: [&dyn Encodable; 9] = [
            &self.chain_id,
            &self.nonce,
            &max_priority_fee,
            &max_fee,
            &gas_limit,
            &to,
            &value,
            &input.as_slice(),
            &access_list,
        ];
        let [rs @ .., v] = self.key.sign_hash(&keccak256(typed(&unsigned))).0;
        let (r, s) = rs.split_at(32);
        let signature: [&dyn Encodable; 3] = [&v, &integer(r), &integer(s)];
        let transaction = typed(&[&unsigned[..], &signature].concat()).into();
        self.nonce += 1;
        transaction
    }
}

/// The envelope of a transaction with these fields: its type (EIP-2718), then their RLP list.
fn typed(fields: &[&dyn Encodable]) -> Vec<u8> {
    const EIP_1559: u8 = 2;
    let mut out = vec![EIP_1559];
    alloy_rlp::encode_list::<_, dyn Encodable>(fields, &mut out);
    out
}

/// A big-endian number as RLP has it: without leading zeros.
fn integer(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use alloy_consensus::{SignableTransaction as _, TxEnvelope};
    use alloy_primitives::Signature;
    use alloy_rlp::Decodable as _;
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
