//! How L2 is followed.

use std::time::Duration;

use p2p_types::BlockNumber;
use url::Url;

use crate::{
    ConfigError,
    rpc::{Layer, PoolConfig},
};

/// Where the calldata of the anchor transaction has the L1 block that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorCall {
    /// Selector of the function that it calls.
    pub selector: [u8; 4],
    /// Which word of 32 bytes after the selector is the number of the L1 block.
    pub word: usize,
}

impl AnchorCall {
    /// The L1 block that a call names; none where it is another call, or no number of 64 bits.
    pub(super) fn read(&self, input: &[u8]) -> Option<BlockNumber> {
        let words = input.strip_prefix(&self.selector)?;
        let start = self.word.checked_mul(32)?;
        let word = words.get(start..start.checked_add(32)?)?;
        let (high, low) = word.split_at(24);
        let is_small = high.iter().all(|byte| *byte == 0);
        is_small.then(|| low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// How L2 is followed.
#[derive(Debug, Clone)]
pub struct L2Config {
    /// JSON-RPC endpoints of execution nodes in the order of preference: `http`, `https`, `ws`, `wss`.
    pub endpoints: Vec<Url>,
    /// The chain that they must be on.
    pub chain_id: u64,
    /// How long a call may take. 5 s.
    pub call_timeout: Duration,
    /// How often the last settled block is asked for. 4 s.
    pub poll_interval: Duration,
    /// How long an endpoint may be without a newer settled block before another one is tried. 768 s, two epochs of L1.
    pub silence: Duration,
    /// How long an endpoint has to say that a lower block of the same chain is the last settled one before it is believed: it
    /// may only be catching up. Another endpoint than the one that told the higher block has to say so for half of `silence`, and
    /// a node that synchronizes itself is not believed. Another block at a height that was settled is believed at once. 36 s.
    pub regress_after: Duration,
    /// Gas that the execution layer adds to a block's promised limit for the anchor transaction. None, as by default: gas
    /// limits are not compared.
    pub anchor_gas: Option<u64>,
    /// Where the anchor transaction names its L1 block. None, as by default: that number is not compared, the anchor
    /// transaction is, with the others. Otherwise one more call for each block.
    pub anchor_call: Option<AnchorCall>,
}

impl L2Config {
    /// What suits an execution node that is near.
    #[must_use]
    pub const fn recommended(endpoints: Vec<Url>, chain_id: u64) -> Self {
        Self {
            endpoints,
            chain_id,
            call_timeout: Duration::from_secs(5),
            poll_interval: Duration::from_secs(4),
            silence: Duration::from_secs(2 * 384),
            regress_after: Duration::from_secs(36),
            anchor_gas: None,
            anchor_call: None,
        }
    }

    pub(super) fn pool(&self) -> PoolConfig<'_> {
        PoolConfig {
            layer: Layer::L2,
            endpoints: &self.endpoints,
            chain_id: self.chain_id,
            call_timeout: self.call_timeout,
            poll_interval: self.poll_interval,
            silence: self.silence,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.pool().check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anchor_is_read_from_its_word() {
        let call = AnchorCall { selector: [1, 2, 3, 4], word: 1 };
        let mut input = vec![1, 2, 3, 4];
        input.extend([0xff; 32]);
        input.extend([0; 30]);
        input.extend([0x12, 0x34]);
        assert_eq!(call.read(&input), Some(0x1234));
        assert_eq!(AnchorCall { word: 0, ..call }.read(&input), None, "no number of 64 bits");
        assert_eq!(AnchorCall { word: 2, ..call }.read(&input), None);
        assert_eq!(AnchorCall { word: usize::MAX, ..call }.read(&input), None);
        assert_eq!(AnchorCall { selector: [0; 4], ..call }.read(&input), None);
        assert_eq!(call.read(&[]), None);
    }

    #[test]
    fn an_l2_config_without_endpoints_is_refused() {
        assert_eq!(L2Config::recommended(vec![], 1).check(), Err(ConfigError::NoEndpoints));
        assert_eq!(L2Config::recommended(vec!["http://a".parse().unwrap()], 1).check(), Ok(()));
    }
}
