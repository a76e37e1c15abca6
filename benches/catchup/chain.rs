//! Chains to catch up with, and nodes that have them.

use std::{num::NonZeroUsize, sync::Arc};

use p2p_client::{Keypair, P2pClient, P2pClientConfig};
use p2p_storage::{CommitmentStore, Inserted, MemoryStorage, TxListStore};
use p2p_types::{
    Address, B256, Base, BlockNumber, Clock, PreconfCommitment, Preconfirmation, SignedCommitment,
    SigningKey, TxList, U256, UnixSeconds,
};
use p2p_validation::{
    Arrival, Facts, Parent, RotatingSchedule, ValidationConfig, ValidationOutcome, Validator,
};
use preconfirmation_benches::{DOMAIN, key};
use preconfirmation_types::MAX_TXLIST_BYTES;

use crate::Failed;

pub(crate) const CHAIN: u64 = 167_000;
pub(crate) const BASE: Base = Base::at(0);
const SLASHER: Address = Address::repeat_byte(0x51);
/// One preconfer, one window, a clock that stands still in it.
const WINDOW: u64 = 100_000;
const NOW: UnixSeconds = UnixSeconds::new(50_000);

/// How long a chain is and what its blocks hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Shape {
    pub(crate) blocks: u64,
    pub(crate) txlist_bytes: usize,
    /// All blocks have the same list, so that commitments are all there is to fetch.
    pub(crate) one_list: bool,
}

impl Shape {
    pub(crate) fn txlist(&self, block: BlockNumber) -> Result<TxList, Failed> {
        let block = if self.one_list { 0 } else { block };
        let mut bytes = vec![0x5a; self.txlist_bytes];
        bytes.iter_mut().zip(block.to_be_bytes()).for_each(|(byte, of_block)| *byte = of_block);
        Ok(TxList::new(bytes.into(), MAX_TXLIST_BYTES)?)
    }
}

pub(crate) fn schedule(signer: &SigningKey) -> Result<Arc<RotatingSchedule>, Failed> {
    let window = std::num::NonZeroU64::new(WINDOW).ok_or("no window")?;
    Ok(Arc::new(RotatingSchedule::new(vec![signer.address()], UnixSeconds::new(0), window)?))
}

pub(crate) fn validator() -> Result<Validator, Failed> {
    Ok(Validator::new(ValidationConfig::new(DOMAIN, SLASHER), schedule(&key()?)?))
}

/// The commitments of a chain, and its lists.
pub(crate) fn chain(shape: Shape) -> Result<Vec<(SignedCommitment, TxList)>, Failed> {
    let signer = key()?;
    let mut parent = B256::ZERO;
    let mut made = Vec::new();
    for block in BASE.number + 1..=BASE.number + shape.blocks {
        let txlist = shape.txlist(block)?;
        let preconf = Preconfirmation {
            block_number: U256::from(block),
            timestamp: U256::from(block),
            submission_window_end: U256::from(WINDOW - 1),
            raw_tx_list_hash: txlist.hash(),
            parent_preconfirmation_hash: parent,
            ..Default::default()
        };
        parent = preconf.hash();
        made.push((PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&signer, &DOMAIN), txlist));
    }
    Ok(made)
}

/// A store that holds a chain, each block judged as in a node.
pub(crate) fn stored(shape: Shape) -> Result<Arc<MemoryStorage>, Failed> {
    let (validator, store) = (validator()?, MemoryStorage::default());
    store.set_base(BASE)?;
    let mut before: Option<(BlockNumber, Preconfirmation)> = None;
    for (signed, txlist) in chain(shape)? {
        let preconf = signed.preconf().clone();
        let authenticated = validator.authenticate_signed(signed)?;
        let block = authenticated.block();
        let ValidationOutcome::Accept(elected) = validator.elect(authenticated, Arrival::History(NOW)) else {
            return Err("not elected".into());
        };
        let parent = before.as_ref().map(|(block, preconf)| Parent { block: *block, preconf });
        let facts = Facts { base: BASE, parent, before: None };
        let ValidationOutcome::Accept(linked) = validator.link(elected, &facts) else {
            return Err("not linked".into());
        };
        if !matches!(store.insert(linked)?, Inserted::New) {
            return Err("not a chain".into());
        }
        store.put(block, txlist)?;
        before = Some((block, preconf));
    }
    Ok(Arc::new(store))
}

/// A client that neither paces itself nor, beyond the defaults, limits whom it serves more than it must: what is
/// measured is how fast it goes, not how long it waits.
pub(crate) async fn node(storage: Arc<MemoryStorage>, paced: bool) -> Result<P2pClient, Failed> {
    let rules = ValidationConfig::new(DOMAIN, SLASHER);
    let mut config = P2pClientConfig::local(CHAIN, Keypair::generate_ed25519(), rules);
    config.clock = Arc::new(|| NOW) as Arc<dyn Clock>;
    if !paced {
        config.network.pacing.requests = NonZeroUsize::MAX;
        config.network.serving.requests = std::num::NonZeroU32::MAX;
        config.network.serving.bytes = NonZeroUsize::MAX;
    }
    Ok(P2pClient::start(config.with_storage(storage), schedule(&key()?)?).await?)
}
