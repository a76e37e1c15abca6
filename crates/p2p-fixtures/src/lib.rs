//! Keys, schedules, blocks and chains for the tests and benchmarks of this workspace.
//!
//! All values are constant: the same call gives the same bytes. Unless told otherwise, [`key`]`(1)` is elected for one
//! window of [`WINDOW`] seconds from time 0 on, and the chain begins above block [`BASE`].
//!
//! ```
//! use p2p_fixtures::{BASE, Block};
//!
//! let chain = Block::chain(3);
//! assert_eq!(chain[0].number(), BASE + 1);
//! assert_eq!(chain[1].signed.preconf().parent_preconfirmation_hash, chain[0].hash());
//! ```

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "fixtures of tests: constants that fit")]

mod anvil;
mod bounds;
pub mod node;
#[cfg(all(unix, feature = "postgres"))]
pub mod postgres;
mod relay;

pub use anvil::{Anvil, CONTRACTS, anvil, calls};
pub use bounds::assert_as_cheap;
pub use relay::relay;

use std::{num::NonZeroU64, sync::Arc};

use p2p_types::UnixSeconds;
use p2p_validation::{RotatingSchedule, ValidationConfig};
use preconfirmation_types::{
    Address, B256, Bytes, MAX_TXLIST_BYTES, PreconfCommitment, Preconfirmation, SignedCommitment,
    SigningDomain, SigningKey, TxList, U256, keccak256,
};

/// The L2 chain id.
pub const CHAIN: u64 = 167_000;

/// The domain that everything is signed under.
pub const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;

/// The slasher that all commitments name.
pub const SLASHER: Address = Address::repeat_byte(0x51);

/// Seconds of a window. The first one begins at time 0.
pub const WINDOW: u64 = 100_000;

/// The settled block that chains begin above.
pub const BASE: u64 = 10;

/// A signing key, by its number.
#[must_use]
pub fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes([number; 32]).unwrap()
}

/// A schedule in which these keys take turns, each for a [`WINDOW`].
#[must_use]
pub fn schedule(keys: &[SigningKey]) -> Arc<RotatingSchedule> {
    let operators = keys.iter().map(SigningKey::address).collect();
    Arc::new(RotatingSchedule::new(operators, UnixSeconds::new(0), NonZeroU64::new(WINDOW).unwrap()).unwrap())
}

/// The chain's configuration.
#[must_use]
pub fn rules() -> ValidationConfig {
    ValidationConfig::new(DOMAIN, SLASHER)
}

/// A list of `bytes` times `fill`.
#[must_use]
pub fn txlist(fill: u8, bytes: usize) -> TxList {
    TxList::new(vec![fill; bytes].into(), MAX_TXLIST_BYTES).unwrap()
}

/// A block of the first window. Its timestamp is its number.
#[must_use]
pub fn preconf(number: u64, parent: B256, raw_tx_list_hash: B256) -> Preconfirmation {
    Preconfirmation {
        block_number: U256::from(number),
        timestamp: U256::from(number),
        submission_window_end: U256::from(WINDOW - 1),
        raw_tx_list_hash,
        parent_preconfirmation_hash: parent,
        ..Default::default()
    }
}

/// The same block or handover, signed.
#[must_use]
pub fn sign(key: &SigningKey, preconf: Preconfirmation) -> SignedCommitment {
    PreconfCommitment { preconf, slasher_address: SLASHER }.sign(key, &DOMAIN)
}

/// A signed block and its transaction list.
#[derive(Debug, Clone)]
pub struct Block {
    /// The commitment.
    pub signed: SignedCommitment,
    /// The list that it names.
    pub txlist: Bytes,
}

impl Block {
    /// Block `number` of [`key`]`(1)`. Another `salt` makes another list and so another block.
    #[must_use]
    pub fn new(number: u64, parent: B256, salt: u64) -> Self {
        Self::signed(number, parent, salt, number, &key(1))
    }

    /// The block after `parent`, or the first above the [`BASE`].
    #[must_use]
    pub fn after(parent: Option<&Self>, salt: u64) -> Self {
        let number = parent.map_or(BASE, Self::number) + 1;
        Self::with(parent, salt, number, &key(1))
    }

    /// The same with a timestamp and a signer of choice.
    #[must_use]
    pub fn with(parent: Option<&Self>, salt: u64, timestamp: u64, signer: &SigningKey) -> Self {
        let number = parent.map_or(BASE, Self::number) + 1;
        Self::signed(number, parent.map_or(B256::ZERO, Self::hash), salt, timestamp, signer)
    }

    fn signed(number: u64, parent: B256, salt: u64, timestamp: u64, signer: &SigningKey) -> Self {
        let txlist = Bytes::from([number.to_be_bytes(), salt.to_be_bytes()].concat().repeat(13));
        let block = preconf(number, parent, keccak256(&txlist));
        let signed = sign(signer, Preconfirmation { timestamp: U256::from(timestamp), ..block });
        Self { signed, txlist }
    }

    /// So many blocks on top of each other, from the [`BASE`] on.
    #[must_use]
    pub fn chain(length: usize) -> Vec<Self> {
        std::iter::successors(Some(Self::after(None, 0)), |last| Some(Self::after(Some(last), 0)))
            .take(length)
            .collect()
    }

    /// Its height.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.signed.preconf().block_number.to()
    }

    /// Its preconfirmation hash, by which a child names it.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.signed.preconf().hash()
    }
}
