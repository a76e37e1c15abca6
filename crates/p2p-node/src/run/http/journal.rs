//! What has happened recently, for the status: blocks and when they came, who delivered them, evidence, and the head over
//! time. Each list has a bound, and the oldest entry gives way.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use p2p_client::{Lagged, Subscription};
use p2p_types::{
    Address, B256, BlockNumber, HeadSyncStatus, Misbehaviour, Origin, PeerId, Recovered, SdkEvent,
    UnixSeconds,
};
use schnellru::{ByLength, LruMap};
use serde::Serialize;

use crate::clock::now_ms;

/// Blocks and handovers that are remembered.
const BLOCKS: usize = 32;

/// Proofs of misbehaviour that are remembered; all are counted.
const PROOFS: usize = 16;

/// Peers whose deliveries are counted: those connected (192), and as many that may come back.
const PEERS: u32 = 384;

/// Seconds between two points of the history.
pub(super) const SAMPLE_SECONDS: u64 = 5;

/// Points of the history: 15 minutes.
const SAMPLES: usize = 180;

/// The recent past of a node.
pub(super) struct Journal {
    blocks: VecDeque<Arrival>,
    proofs: VecDeque<Proof>,
    proofs_found: u64,
    delivered: LruMap<PeerId, Delivered>,
    history: VecDeque<Sample>,
    missed: u64,
}

/// A block or a handover, and how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Arrival {
    block: BlockNumber,
    hash: B256,
    signer: Address,
    /// Whether the signer hands over without a block.
    handover: bool,
    /// Whether a reorg has taken it out of the chain.
    replaced: bool,
    /// `local`, `gossip` or `sync`.
    origin: &'static str,
    /// Who delivered it; null if this node published it.
    peer: Option<PeerId>,
    /// When this node had judged and stored its commitment, in unix milliseconds.
    at_ms: u64,
    /// From the second that its signer put into it until then. Null for what came by catching up.
    delay_ms: Option<i64>,
    /// From then until its transaction list was there, too; null while it is missing, and for a handover.
    list_ms: Option<u64>,
    /// Length of that list; null while that is not known.
    list_bytes: Option<usize>,
    #[serde(skip)]
    list: B256,
}

/// A proof that a preconfer has misbehaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Proof {
    kind: &'static str,
    signer: Address,
    block: BlockNumber,
    at: UnixSeconds,
}

/// What has come from a peer and was new.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Delivered {
    commitments: u64,
    txlists: u64,
}

/// A moment, the newest linked height and the height to reach.
type Sample = (UnixSeconds, Option<BlockNumber>, Option<BlockNumber>);

/// The journal in the status.
#[derive(Serialize)]
pub(super) struct Recent<'a> {
    /// Newest last.
    blocks: &'a VecDeque<Arrival>,
    evidence: Evidence<'a>,
    /// `[unix seconds, applied, height to reach]`, every five seconds, newest last.
    history: &'a VecDeque<Sample>,
}

#[derive(Serialize)]
struct Evidence<'a> {
    /// Since the start.
    found: u64,
    latest: &'a VecDeque<Proof>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            blocks: VecDeque::default(),
            proofs: VecDeque::default(),
            proofs_found: 0,
            delivered: LruMap::new(ByLength::new(PEERS)),
            history: VecDeque::default(),
            missed: 0,
        }
    }
}

impl Journal {
    pub(super) const fn recent(&self) -> Recent<'_> {
        let evidence = Evidence { found: self.proofs_found, latest: &self.proofs };
        Recent { blocks: &self.blocks, evidence, history: &self.history }
    }

    pub(super) fn delivered(&self, peer: &PeerId) -> Delivered {
        self.delivered.peek(peer).copied().unwrap_or_default()
    }

    /// Events that came faster than they were read.
    pub(super) const fn missed(&self) -> u64 {
        self.missed
    }

    /// Adds a point to the history.
    pub(super) fn sample(&mut self, now: UnixSeconds, applied: Option<BlockNumber>, sync: &HeadSyncStatus) {
        let target = match sync {
            HeadSyncStatus::Syncing { target, .. } | HeadSyncStatus::Stalled { target, .. } => Some(*target),
            _ => applied,
        };
        push(&mut self.history, SAMPLES, (now, applied, target));
    }

    /// Writes down what an event tells.
    pub(super) fn record(&mut self, event: &SdkEvent, now_ms: u64) {
        match event {
            SdkEvent::Commitment { block, commitment, origin } => {
                self.arrived(*block, commitment, origin, false, now_ms);
            }
            SdkEvent::Handover { block, commitment, origin } => {
                self.arrived(*block, commitment, origin, true, now_ms);
            }
            SdkEvent::TxList { hash, bytes, origin } => {
                self.count(origin, |delivered| &mut delivered.txlists);
                for block in self.blocks.iter_mut().filter(|block| !block.handover && block.list == *hash) {
                    block.list_bytes = Some(*bytes);
                }
            }
            SdkEvent::BlockReady { hash, .. } => {
                for block in self.blocks.iter_mut().filter(|block| !block.handover && block.hash == *hash) {
                    block.list_ms = block.list_ms.or(Some(now_ms.saturating_sub(block.at_ms)));
                }
            }
            SdkEvent::Reorg { dropped: gone, .. }
            | SdkEvent::L1Reorg { affected: gone, .. }
            | SdkEvent::ScheduleReorg { affected: gone, .. } => {
                for block in self.blocks.iter_mut().filter(|block| gone.contains(&block.hash)) {
                    block.replaced = true;
                }
            }
            SdkEvent::Evidence { kind, signer, block, .. } => {
                self.proofs_found = self.proofs_found.saturating_add(1);
                let kind = Misbehaviour::label(*kind);
                let at = UnixSeconds::new(now_ms / 1000);
                push(&mut self.proofs, PROOFS, Proof { kind, signer: *signer, block: *block, at });
            }
            _ => {}
        }
    }

    fn arrived(
        &mut self,
        block: BlockNumber,
        commitment: &Recovered,
        origin: &Origin,
        handover: bool,
        now_ms: u64,
    ) {
        self.count(origin, |delivered| &mut delivered.commitments);
        let preconfirmation = &commitment.signed().commitment.preconf;
        let promised_ms = preconfirmation.timestamp.saturating_to::<u64>().saturating_mul(1000);
        let delay_ms = (!matches!(origin, Origin::Sync(_))).then(|| {
            let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
            signed(now_ms).saturating_sub(signed(promised_ms))
        });
        let arrival = Arrival {
            block,
            hash: commitment.hash(),
            signer: commitment.signer(),
            handover,
            replaced: false,
            origin: origin.label(),
            peer: origin.peer(),
            at_ms: now_ms,
            delay_ms,
            list_ms: None,
            list_bytes: None,
            list: preconfirmation.raw_tx_list_hash,
        };
        // One that a reorg has brought back is there already.
        self.blocks.retain(|known| known.hash != arrival.hash);
        push(&mut self.blocks, BLOCKS, arrival);
    }

    fn count(&mut self, origin: &Origin, of: impl FnOnce(&mut Delivered) -> &mut u64) {
        if let Some(peer) = origin.peer()
            && let Some(delivered) = self.delivered.get_or_insert(peer, Delivered::default)
        {
            let count = of(delivered);
            *count = count.saturating_add(1);
        }
    }
}

/// Adds an entry; the oldest gives way.
fn push<T>(entries: &mut VecDeque<T>, limit: usize, entry: T) {
    if entries.len() >= limit {
        entries.pop_front();
    }
    entries.push_back(entry);
}

/// Keeps a journal until the client ends.
pub(super) async fn keep(mut events: Subscription, journal: &Mutex<Journal>) {
    loop {
        let event = events.next_event().await;
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Some(event)) => journal.record(&event, now_ms()),
            Ok(None) => return,
            Err(Lagged { missed }) => journal.missed = journal.missed.saturating_add(missed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use p2p_client::wire::Container as _;
    use p2p_fixtures::{Block, DOMAIN, key};

    use super::*;

    fn recovered(block: &Block) -> Arc<Recovered> {
        Arc::new(Recovered::from_ssz(&block.signed.to_ssz(), &DOMAIN).unwrap())
    }

    fn commitment(block: &Block, origin: Origin) -> SdkEvent {
        SdkEvent::Commitment { block: block.number(), commitment: recovered(block), origin }
    }

    #[test]
    fn a_block_tells_when_it_came_and_when_its_list_did() {
        let peer = PeerId::random();
        let block = Block::with(None, 0, 100, &key(1));
        let list = block.signed.preconf().raw_tx_list_hash;
        let mut journal = Journal::default();
        journal.record(&commitment(&block, Origin::Gossip(peer)), 100_340);
        let arrived = journal.blocks[0];
        assert_eq!((arrived.delay_ms, arrived.list_ms), (Some(340), None));
        journal.record(&SdkEvent::TxList { hash: list, bytes: 26, origin: Origin::Sync(peer) }, 100_350);
        let ready =
            SdkEvent::BlockReady { block: block.number(), hash: block.hash(), raw_tx_list_hash: list };
        journal.record(&ready, 100_352);
        journal.record(&ready, 100_900);
        let arrived = journal.blocks[0];
        assert_eq!((arrived.list_ms, arrived.list_bytes), (Some(12), Some(26)));
        assert_eq!((arrived.origin, arrived.peer), ("gossip", Some(peer)));
        assert_eq!(journal.delivered(&peer), Delivered { commitments: 1, txlists: 1 });
        assert_eq!(journal.delivered(&PeerId::random()), Delivered::default());
    }

    #[test]
    fn catch_up_has_no_delay_and_an_early_block_a_negative_one() {
        let block = Block::with(None, 0, 100, &key(1));
        let mut journal = Journal::default();
        journal.record(&commitment(&block, Origin::Sync(PeerId::random())), 900_000);
        assert_eq!(journal.blocks[0].delay_ms, None);
        journal.record(&commitment(&block, Origin::Local), 99_500);
        assert_eq!(journal.blocks.len(), 1, "the same block again");
        assert_eq!(journal.blocks[0].delay_ms, Some(-500));
    }

    #[test]
    fn a_reorg_marks_the_blocks_that_it_replaces() {
        let blocks = Block::chain(2);
        let mut journal = Journal::default();
        for block in &blocks {
            journal.record(&commitment(block, Origin::Local), 0);
        }
        journal.record(&SdkEvent::Reorg { dropped: vec![blocks[1].hash()], from: blocks[1].number() }, 1);
        assert_eq!(journal.blocks.iter().map(|block| block.replaced).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn the_journal_forgets_the_oldest_and_counts_all_evidence() {
        let mut journal = Journal::default();
        let blocks = Block::chain(BLOCKS + 3);
        for block in &blocks {
            journal.record(&commitment(block, Origin::Gossip(PeerId::random())), 0);
        }
        assert_eq!(journal.blocks.len(), BLOCKS);
        assert_eq!(journal.blocks[0].block, blocks[3].number());
        for number in 0..1_000_u64 {
            journal.record(&commitment(&blocks[0], Origin::Gossip(PeerId::random())), number);
            journal.sample(UnixSeconds::new(number), Some(number), &HeadSyncStatus::Idle);
        }
        assert_eq!(journal.delivered.len(), usize::try_from(PEERS).unwrap());
        assert_eq!((journal.history.len(), journal.history[0].0.get()), (SAMPLES, 1_000 - 180));
        let proof = recovered(&blocks[0]);
        let evidence = SdkEvent::Evidence {
            kind: Misbehaviour::Equivocation,
            signer: key(1).address(),
            block: 11,
            first: proof.clone(),
            second: proof,
        };
        for second in 0..100 {
            journal.record(&evidence, second * 1_000);
        }
        assert_eq!((journal.proofs.len(), journal.proofs_found), (PROOFS, 100));
        assert_eq!(journal.proofs[15].at.get(), 99);
        let bytes = serde_json::to_vec(&journal.recent()).unwrap().len();
        assert!(bytes < 32 * 1024, "{bytes} bytes in each status");
    }

    #[test]
    fn the_history_tells_the_height_to_reach() {
        let mut journal = Journal::default();
        let behind = HeadSyncStatus::Syncing {
            applied: 5,
            seen: 8,
            target: 9,
            commitments_per_second: 1,
            txlists_missing: 0,
            peers: 1,
        };
        journal.sample(UnixSeconds::new(1), Some(5), &behind);
        journal.sample(UnixSeconds::new(6), Some(9), &HeadSyncStatus::Live { head: None });
        assert_eq!(
            serde_json::to_value(journal.recent()).unwrap()["history"],
            serde_json::json!([[1, 5, 9], [6, 9, 9]])
        );
    }
}
