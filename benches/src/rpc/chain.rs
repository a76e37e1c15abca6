//! A chain that is published: each block on the one before it, with a list of its own that does not shrink.

use std::{io::Write as _, num::NonZeroU64};

use alloy_primitives::hex;
use flate2::{Compression, write::ZlibEncoder};
use p2p_types::{Address, UnixSeconds};
use p2p_validation::RotatingSchedule;
use preconfirmation_types::{
    B256, Bytes, Container as _, PreconfCommitment, Preconfirmation, SignedCommitment, U256, keccak256,
};

use crate::{DOMAIN, key};

/// The settled block.
pub(crate) const BASE: u64 = 10;

/// What every commitment names.
pub(crate) const SLASHER: Address = Address::repeat_byte(0x51);

/// Seconds of a window, as on Ethereum: an epoch. There is a block in each, whose number is its time.
const WINDOW: NonZeroU64 = NonZeroU64::new(384).unwrap();

/// Bytes of a transaction in each list, before its list is encoded and compressed.
const LIST: usize = 10 * 1024;

/// Signs the next block, and the next.
pub(crate) struct Chain {
    number: u64,
    parent: B256,
}

/// A block, as both ways of publishing take it.
pub(crate) struct Made {
    pub(crate) number: u64,
    pub(crate) signed: SignedCommitment,
    pub(crate) txlist: Bytes,
}

impl Made {
    /// The call of `preconf_publishBlock`.
    pub(crate) fn call(&self) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"preconf_publishBlock","params":[{{"commitment":"{}","txListHash":"{}","txList":"{}"}}]}}"#,
            self.number,
            hex::encode_prefixed(self.signed.to_ssz()),
            self.signed.preconf().raw_tx_list_hash,
            hex::encode_prefixed(&self.txlist),
        )
    }
}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self { number: BASE, parent: B256::ZERO }
    }

    pub(crate) fn next(&mut self) -> Made {
        self.number += 1;
        let txlist = list(self.number);
        let preconf = Preconfirmation {
            block_number: U256::from(self.number),
            timestamp: U256::from(self.number),
            submission_window_end: U256::from((self.number / WINDOW + 1) * WINDOW.get() - 1),
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: self.parent,
            ..Default::default()
        };
        self.parent = preconf.hash();
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key().unwrap(), &DOMAIN);
        Made { number: self.number, signed, txlist }
    }

    pub(crate) fn take(&mut self, blocks: usize) -> Vec<Made> {
        std::iter::repeat_with(|| self.next()).take(blocks).collect()
    }
}

/// Who signs: the one key, window after window.
pub(crate) fn schedule() -> RotatingSchedule {
    RotatingSchedule::new(vec![key().unwrap().address()], UnixSeconds::new(0), WINDOW).unwrap()
}

/// A zlib stream of an RLP list of one transaction of noise.
fn list(seed: u64) -> Bytes {
    let mut state = seed;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(LIST)
    .collect();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&alloy_rlp::encode(vec![noise.as_slice()])).unwrap();
    zlib.finish().unwrap().into()
}
