//! What the examples share: a chain with one preconfer, on loopback.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::{num::NonZeroU64, sync::Arc};

use p2p_client::{
    Address, B256, Base, Bytes, Keypair, P2pClient, P2pClientConfig, PreconfCommitment, Preconfirmation,
    Publishing, RotatingSchedule, SignedCommitment, SigningDomain, SigningKey, U256, UnixSeconds,
    ValidationConfig, keccak256,
};

/// What an example ends with.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The settled block.
pub(crate) const BASE: Base = Base::at(1_000);

const SLASHER: Address = Address::repeat_byte(0x51);

/// The only window there is: from the epoch for some thousand years.
const WINDOW: NonZeroU64 = NonZeroU64::new(100_000_000_000).unwrap();

/// The settings of a node on this chain.
pub(crate) fn config() -> P2pClientConfig {
    let rules = ValidationConfig::new(SigningDomain::PLACEHOLDER, SLASHER);
    let config = P2pClientConfig::local(167_000, Keypair::generate_ed25519(), rules);
    // With a store on disk, `Publishing::Guarded`: here nothing is at stake.
    config.with_publishing(Publishing::GuardedUntilRestart)
}

/// Who may sign: the preconfer, always.
pub(crate) fn schedule() -> Outcome<Arc<RotatingSchedule>> {
    Ok(Arc::new(RotatingSchedule::new(vec![preconfer()?.address()], UnixSeconds::new(0), WINDOW)?))
}

pub(crate) fn preconfer() -> Outcome<SigningKey> {
    Ok(SigningKey::from_bytes([1; 32])?)
}

/// A node of this chain that has published so many blocks, for others to catch up with.
pub(crate) async fn publisher(blocks: u64) -> Outcome<P2pClient> {
    let client = P2pClient::start(config(), schedule()?).await?;
    client.chain().l2_synced(BASE).await?;
    let mut chain = Chain::new()?;
    for _ in 0..blocks {
        let (signed, txlist) = chain.block();
        client.publisher().ready().await?;
        let _outcome = client.publisher().publish_block(signed, txlist).await?;
    }
    Ok(client)
}

/// Signs blocks, each on top of the one before.
pub(crate) struct Chain {
    key: SigningKey,
    number: u64,
    parent: B256,
}

impl Chain {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self { key: preconfer()?, number: BASE.number, parent: B256::ZERO })
    }

    /// The next block and its transaction list.
    pub(crate) fn block(&mut self) -> (SignedCommitment, Bytes) {
        let txlist = Bytes::from(format!("the compressed transactions of block {}", self.number + 1));
        let signed = self.sign(keccak256(&txlist));
        self.number += 1;
        self.parent = signed.preconf().hash();
        (signed, txlist)
    }

    /// Another block for the height of the next one.
    pub(crate) fn another_block(&self) -> (SignedCommitment, Bytes) {
        let txlist = Bytes::from_static(b"other transactions");
        (self.sign(keccak256(&txlist)), txlist)
    }

    fn sign(&self, raw_tx_list_hash: B256) -> SignedCommitment {
        let number = U256::from(self.number + 1);
        let preconf = Preconfirmation {
            block_number: number,
            timestamp: number,
            submission_window_end: U256::from(WINDOW.get() - 1),
            raw_tx_list_hash,
            parent_preconfirmation_hash: self.parent,
            ..Default::default()
        };
        PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&self.key, &SigningDomain::PLACEHOLDER)
    }
}
