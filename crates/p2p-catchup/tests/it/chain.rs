//! Real commitments, made once: signing is the slow part.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use p2p_catchup::CatchUpConfig;
use p2p_types::{
    Address, B256, BlockNumber, Head, PeerId, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey,
    TxList, U256, UnixSeconds,
};
use p2p_validation::{Authenticated, RotatingSchedule, ValidationConfig, Validator};

/// A preconfer that signs chains.
pub(crate) struct Signer {
    key: SigningKey,
    validator: Validator,
}

impl Signer {
    pub(crate) fn new(key: u8) -> Self {
        let key = SigningKey::from_bytes([key; 32]).unwrap();
        let slot = NonZeroU64::new(12).unwrap();
        let schedule = RotatingSchedule::new(vec![key.address()], UnixSeconds::new(0), slot).unwrap();
        let config = ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::ZERO);
        Self { key, validator: Validator::new(config, Arc::new(schedule)) }
    }

    pub(crate) fn block(&self, block: BlockNumber, parent: B256, branch: u64) -> Authenticated {
        self.sign(Preconfirmation {
            block_number: U256::from(block),
            timestamp: U256::from(1_000 + branch),
            submission_window_end: U256::from(1_011),
            raw_tx_list_hash: txlist(block).hash(),
            parent_preconfirmation_hash: parent,
            ..Default::default()
        })
    }

    /// Declines `block`: EOP-only.
    pub(crate) fn handover(&self, block: BlockNumber, parent: B256) -> Authenticated {
        self.sign(Preconfirmation {
            eop: true,
            block_number: U256::from(block),
            timestamp: U256::from(1_000),
            submission_window_end: U256::from(1_011),
            parent_preconfirmation_hash: parent,
            ..Default::default()
        })
    }

    fn sign(&self, preconf: Preconfirmation) -> Authenticated {
        let signed = PreconfCommitment { preconf, slasher_address: Address::ZERO }
            .sign(&self.key, &SigningDomain::PLACEHOLDER);
        self.validator.authenticate_signed(signed).unwrap()
    }

    /// Blocks `from..=to`, the first on `parent`.
    pub(crate) fn chain(
        &self,
        from: BlockNumber,
        to: BlockNumber,
        parent: B256,
        branch: u64,
    ) -> Vec<Authenticated> {
        let mut parent = parent;
        let blocks = (from..=to).map(|block| {
            let made = self.block(block, parent, branch);
            parent = made.hash();
            made
        });
        blocks.collect()
    }
}

/// Blocks `from..=to` of the one chain that most tests use.
pub(crate) fn blocks(from: BlockNumber, to: BlockNumber) -> Vec<Authenticated> {
    use std::sync::OnceLock;
    static CHAIN: OnceLock<Vec<Authenticated>> = OnceLock::new();
    let chain = CHAIN.get_or_init(|| Signer::new(7).chain(1, 60, B256::ZERO, 0));
    chain[from as usize - 1..to as usize].to_vec()
}

/// A chain that leaves that one after `fork`, up to `to`, with that one's blocks below.
pub(crate) fn branch(fork: BlockNumber, to: BlockNumber) -> Vec<Authenticated> {
    let mut chain = if fork > 0 { blocks(1, fork) } else { Vec::new() };
    let parent = chain.last().map(Authenticated::hash).unwrap_or_default();
    chain.extend(Signer::new(7).chain(fork + 1, to, parent, 1));
    chain
}

/// The block at a height of that chain, as a head.
pub(crate) fn head(number: BlockNumber) -> Option<Head> {
    (number > 0).then(|| head_of(&blocks(number, number)[0]))
}

pub(crate) fn head_of(block: &Authenticated) -> Head {
    Head { number: block.block(), hash: block.hash() }
}

/// The transaction list of the blocks at a height, whatever their branch.
pub(crate) fn txlist(block: BlockNumber) -> TxList {
    TxList::new(block.to_be_bytes().to_vec().into(), 100).unwrap()
}

/// Small pages, so that few blocks make many.
pub(crate) fn config() -> CatchUpConfig {
    CatchUpConfig {
        page_size: 4.try_into().unwrap(),
        pages_in_flight: 2.try_into().unwrap(),
        ..Default::default()
    }
}

/// Distinct peers, the same in each run.
pub(crate) fn peer(n: u8) -> PeerId {
    let mut bytes = vec![0x00, 0x20];
    bytes.extend([n; 32]);
    PeerId::from_bytes(&bytes).unwrap()
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
