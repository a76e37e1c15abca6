//! The preconfer of nodes that run as processes: one window, which is longer than any run, and a chain of its own from the base on.

use std::{fs, io, path::Path};

use alloy_primitives::hex;
use p2p_fixtures::{BASE, key, node::now, sign};
use preconfirmation_types::{B256, Container as _, Preconfirmation, U256, keccak256};
use serde_json::json;

/// Seconds of its window.
const WINDOW: u64 = 1_000_000;

pub(crate) struct Preconfer {
    window_end: u64,
    /// Preconfirmation hashes, from the base on.
    pub(crate) published: Vec<B256>,
}

impl Preconfer {
    /// One whose window began so many seconds ago. Its schedule is written to a file.
    pub(crate) fn new(since: u64, schedule: &Path) -> io::Result<Self> {
        let genesis = now() - since;
        let rotation = json!({ "genesis": genesis, "window": WINDOW, "operators": [key(1).address()] });
        fs::write(schedule, rotation.to_string())?;
        Ok(Self { window_end: genesis + WINDOW - 1, published: Vec::new() })
    }

    /// The first second of its window.
    pub(crate) const fn begin(&self) -> u64 {
        self.window_end + 1 - WINDOW
    }

    /// The height of the last block.
    pub(crate) const fn height(&self) -> u64 {
        BASE + self.published.len() as u64
    }

    /// The next block, with a list of so many bytes, as a line of `--publish`.
    pub(crate) fn next(&mut self, timestamp: u64, bytes: usize) -> String {
        let number = self.height() + 1;
        let list = list(number, bytes);
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp),
            gas_limit: U256::from(30_000_000),
            submission_window_end: U256::from(self.window_end),
            raw_tx_list_hash: keccak256(&list),
            parent_preconfirmation_hash: self.published.last().copied().unwrap_or_default(),
            ..Default::default()
        };
        self.published.push(preconf.hash());
        let commitment = hex::encode(sign(&key(1), preconf).to_ssz());
        json!({ "commitment": commitment, "txlist": hex::encode(list) }).to_string()
    }
}

/// Bytes that no other block has and no compression makes fewer.
fn list(number: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut list = vec![0; bytes];
    random.fill(&mut list);
    list
}
