//! The honest preconfers: each builds and publishes blocks in its turn.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use indicatif::ProgressBar;
use p2p_client::PublishOutcome;
use p2p_types::{Address, B256, Bytes, Preconfirmation, SignedCommitment, SigningKey, U256, UnixSeconds};
use p2p_validation::Slot;
use preconfirmation_types::{PreconfCommitment, keccak256};
use tokio::time::sleep;

use super::{
    args::DevnetArgs,
    error::DevnetError,
    node::{Node, Published},
    plan::{Plan, Turn, blocks_per_window},
    txlist::TxListBuilder,
};

/// A block that was promised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    /// Hash of its transaction list.
    pub(crate) txlist: B256,
}

/// What the preconfers have promised, in order.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    /// Blocks.
    pub(crate) blocks: Vec<Block>,
    /// Handovers without a block.
    pub(crate) handovers: Vec<B256>,
    /// Messages that found no peer.
    pub(crate) queued: u64,
}

/// Drives the preconfers through the schedule, one window after the other.
pub(crate) struct Producer {
    args: DevnetArgs,
    plan: Arc<Plan>,
    published: Published,
    builders: Vec<TxListBuilder>,
    window: u64,
    promised: Promised,
}

impl Producer {
    pub(crate) fn new(args: DevnetArgs, plan: Arc<Plan>, published: Published) -> Self {
        let builder = |(index, key): (usize, &SigningKey)| {
            let seed = args.seed.wrapping_mul(1_000).wrapping_add(index as u64);
            TxListBuilder::new(key.clone(), args.chain_id, args.txlist_bytes(), seed)
        };
        let builders = plan.preconfers.iter().enumerate().map(builder).collect();
        Self { args, plan, published, builders, window: 0, promised: Promised::default() }
    }

    pub(crate) const fn promised(&self) -> &Promised {
        &self.promised
    }

    /// Goes on until there are `blocks` blocks.
    pub(crate) async fn until(
        &mut self,
        blocks: u64,
        nodes: &[Node],
        progress: &ProgressBar,
    ) -> Result<(), DevnetError> {
        while (self.promised.blocks.len() as u64) < blocks {
            let (slot, turn) = self.plan.window(self.window).ok_or(DevnetError::EndOfTime)?;
            match turn {
                Turn::Liar => progress.set_message("window of the liar"),
                Turn::Declines(preconfer) => {
                    progress.set_message(format!("node {preconfer} hands over without a block"));
                    self.decline(preconfer, slot, nodes).await?;
                }
                Turn::Blocks(preconfer) => {
                    progress.set_message(format!("node {preconfer} preconfirms"));
                    self.blocks(preconfer, slot, blocks, nodes, progress).await?;
                }
            }
            self.window += 1;
        }
        Ok(())
    }

    async fn decline(&mut self, preconfer: usize, slot: Slot, nodes: &[Node]) -> Result<(), DevnetError> {
        until(slot.window.start).await;
        let plan = self.plan.clone();
        let (Some(node), Some(key)) = (nodes.get(preconfer), plan.preconfers.get(preconfer)) else {
            return Ok(());
        };
        let preconf = self.next(slot, slot.window.start, true, B256::ZERO);
        let hash = preconf.hash();
        let signed = self.sign(preconf, key);
        self.note(hash);
        self.promised.handovers.push(hash);
        let sent = node.client.publisher().publish_when_ready(signed, None).await?;
        self.count(sent);
        Ok(())
    }

    async fn blocks(
        &mut self,
        preconfer: usize,
        slot: Slot,
        blocks: u64,
        nodes: &[Node],
        progress: &ProgressBar,
    ) -> Result<(), DevnetError> {
        let plan = self.plan.clone();
        let (Some(node), Some(key)) = (nodes.get(preconfer), plan.preconfers.get(preconfer)) else {
            return Ok(());
        };
        let turns = blocks_per_window(self.args.window, self.args.block_time);
        for turn in 0..turns {
            let step = Duration::from_secs(turn.saturating_mul(self.args.block_time.get()));
            let timestamp = slot.window.start.saturating_add(step);
            until(timestamp).await;
            let last = self.promised.blocks.len() as u64 + 1 == blocks;
            let txlist = self.txlist(preconfer).await?;
            let txlist_hash = keccak256(&txlist);
            let preconf = self.next(slot, timestamp, last || turn + 1 == turns, txlist_hash);
            let (number, hash) = (preconf.block_number, preconf.hash());
            let signed = self.sign(preconf, key);
            self.note(hash);
            // Noted first: publishing goes on where an interrupt ends the waiting for it.
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            self.promised.blocks.push(Block { number, hash, txlist: txlist_hash });
            let sent = node.client.publisher().publish_when_ready(signed, Some(txlist)).await?;
            self.count(sent);
            progress.inc(1);
            if last {
                break;
            }
        }
        Ok(())
    }

    /// Compressing megabytes takes a while: not on a thread that serves others.
    async fn txlist(&mut self, preconfer: usize) -> Result<Bytes, DevnetError> {
        let Some(builder) = self.builders.get_mut(preconfer) else { return Ok(Bytes::new()) };
        let list = tokio::task::block_in_place(|| builder.build());
        list.map_err(DevnetError::TxList)
    }

    /// What comes after the last block promised.
    fn next(&self, slot: Slot, timestamp: UnixSeconds, eop: bool, raw_tx_list_hash: B256) -> Preconfirmation {
        let base = &self.plan.base;
        let last = self.promised.blocks.last();
        let (number, parent) =
            last.map_or((base.number, base.hash.unwrap_or_default()), |block| (block.number, block.hash));
        Preconfirmation {
            eop,
            block_number: U256::from(number.saturating_add(1)),
            timestamp: U256::from(timestamp.get()),
            gas_limit: U256::from(240_000_000),
            coinbase: slot.signer,
            anchor_block_number: U256::from(20_000_000 + timestamp.get() / 12),
            raw_tx_list_hash,
            parent_preconfirmation_hash: parent,
            submission_window_end: U256::from(slot.window.end.get()),
            prover_auth: Address::ZERO,
            proposal_id: U256::from(self.window),
        }
    }

    fn sign(&self, preconf: Preconfirmation, key: &SigningKey) -> SignedCommitment {
        PreconfCommitment { preconf, slasher_address: self.plan.slasher }.sign(key, &self.plan.domain)
    }

    fn note(&self, hash: B256) {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, Instant::now());
    }

    fn count(&mut self, sent: PublishOutcome) {
        if sent == PublishOutcome::Queued {
            self.promised.queued += 1;
        }
    }
}

/// The wall clock.
pub(crate) fn unix_now() -> UnixSeconds {
    UnixSeconds::new(since_epoch().as_secs())
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Sleeps until a moment of the wall clock.
pub(crate) async fn until(moment: UnixSeconds) {
    sleep(Duration::from_secs(moment.get()).saturating_sub(since_epoch())).await;
}
