//! The cursor on a store, without a client.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicBool, Ordering},
};

use p2p_storage::{
    MemoryStorage,
    fixtures::{Call, Intercepted},
};
use p2p_types::{Address, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, U256, UnixSeconds};
use p2p_validation::{
    Arrival, Facts, Parent, RotatingSchedule, ValidationConfig, ValidationOutcome, Validator,
};

use super::*;

const NOW: UnixSeconds = UnixSeconds::new(50_000);

fn list(fill: u8) -> TxList {
    TxList::new(vec![fill; 10].into(), 10).unwrap()
}

struct Rig {
    store: Arc<dyn SdkStorage>,
    cursor: Cursor,
    validator: Validator,
}

impl Rig {
    fn new(from: BlockNumber) -> Self {
        Self::with(Arc::new(MemoryStorage::default()), from)
    }

    fn with(store: Arc<dyn SdkStorage>, from: BlockNumber) -> Self {
        let key = SigningKey::from_bytes([1; 32]).unwrap();
        let schedule = RotatingSchedule::new(
            vec![key.address()],
            UnixSeconds::new(0),
            NonZeroU64::new(100_000).unwrap(),
        );
        let rules = ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::ZERO);
        store.set_base(Base::at(0)).unwrap();
        let validator = Validator::new(rules, Arc::new(schedule.unwrap()));
        Self { store, cursor: Cursor::new(from), validator }
    }

    /// Stores a block with the list `fill`, but not the list.
    fn block(&self, number: u64, parent: B256, fill: u8) -> B256 {
        self.block_of(number, parent, u64::from(fill), list(fill).hash())
    }

    /// Stores a block with any list.
    fn block_of(&self, number: u64, parent: B256, salt: u64, raw_tx_list_hash: B256) -> B256 {
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            // Of two blocks of a height, the one with the higher salt is later.
            timestamp: U256::from(number * 100 + salt),
            anchor_block_number: U256::from(number),
            submission_window_end: U256::from(99_999),
            raw_tx_list_hash,
            parent_preconfirmation_hash: parent,
            ..Default::default()
        };
        let hash = preconf.hash();
        let key = SigningKey::from_bytes([1; 32]).unwrap();
        let signed = PreconfCommitment { preconf, slasher_address: Address::ZERO }
            .sign(&key, &SigningDomain::PLACEHOLDER);
        let commitment = self.validator.authenticate_signed(signed).unwrap();
        let parent = self.store.by_hash(&parent).unwrap();
        let parent =
            parent.as_ref().map(|p| Parent { block: p.block, preconf: p.recovered.signed().preconf() });
        let facts = Facts { base: self.store.base().unwrap().unwrap(), parent, before: None };
        let linked = match self.validator.elect(commitment, Arrival::History(NOW)) {
            ValidationOutcome::Accept(elected) => self.validator.link(elected, &facts),
            other => panic!("{other:?}"),
        };
        let ValidationOutcome::Accept(linked) = linked else { panic!("{linked:?}") };
        drop(self.store.insert(linked).unwrap());
        hash
    }

    fn complete(&self, number: u64, parent: B256, fill: u8) -> B256 {
        self.store.put(number, list(fill)).unwrap();
        self.block(number, parent, fill)
    }

    fn chain(&self, heights: std::ops::RangeInclusive<u64>, mut parent: B256) -> Vec<B256> {
        heights
            .map(|number| {
                parent = self.complete(number, parent, u8::try_from(number).unwrap());
                parent
            })
            .collect()
    }

    fn next(&mut self) -> Option<BlockUpdate> {
        self.cursor.fill(&*self.store).unwrap();
        self.cursor.ready.pop_front()
    }

    /// Reads on until there is nothing: heights as they are, what is skipped or taken back as its bounds.
    fn all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next())
            .map(|update| match update {
                BlockUpdate::Block(block) => {
                    let preconf = block.commitment.signed().preconf();
                    assert_eq!(block.txlist.hash(), preconf.raw_tx_list_hash);
                    block.block.to_string()
                }
                BlockUpdate::Waiting { block, .. } => format!("{block}?"),
                BlockUpdate::Reorg { from, dropped } => format!("-{} from {from}", dropped.len()),
                BlockUpdate::Settled { from, through } => format!("{from}..{through}"),
            })
            .collect()
    }
}

#[test]
fn blocks_come_in_order_from_where_asked_and_on_as_the_store_grows() {
    let mut rig = Rig::new(3);
    let blocks = rig.chain(1..=5, B256::ZERO);
    assert_eq!(rig.all(), ["3", "4", "5"]);
    rig.chain(6..=7, blocks[4]);
    assert_eq!(rig.all(), ["6", "7"]);
    assert_eq!(rig.all(), [""; 0]);
}

#[test]
fn a_height_that_is_not_there_yet_is_waited_for() {
    let mut rig = Rig::new(9);
    let blocks = rig.chain(1..=8, B256::ZERO);
    assert_eq!(rig.all(), [""; 0]);
    rig.chain(9..=9, blocks[7]);
    assert_eq!(rig.all(), ["9"]);
}

#[test]
fn a_block_without_its_list_is_told_once_and_comes_complete() {
    let mut rig = Rig::new(1);
    let one = rig.complete(1, B256::ZERO, 1);
    let two = rig.block(2, one, 2);
    rig.complete(3, two, 3);
    assert_eq!(rig.all(), ["1", "2?"]);
    assert_eq!(rig.all(), [""; 0]);
    rig.store.put(2, list(2)).unwrap();
    assert_eq!(rig.all(), ["2", "3"]);
}

#[test]
fn a_reorg_takes_back_what_was_yielded_and_yields_what_stands_there_now() {
    let mut rig = Rig::new(1);
    let blocks = rig.chain(1..=3, B256::ZERO);
    assert_eq!(rig.all(), ["1", "2", "3"]);
    // Another third block, seen last.
    let other = rig.complete(3, blocks[1], 33);
    assert_eq!(rig.next(), Some(BlockUpdate::Reorg { from: 3, dropped: vec![blocks[2]] }));
    assert_eq!(rig.all(), ["3"]);
    // What was not yielded is not taken back.
    rig.complete(4, other, 4);
    rig.complete(4, other, 44);
    assert_eq!(rig.all(), ["4"]);
}

#[test]
fn a_head_that_falls_is_told_and_what_returns_is_yielded_again() {
    let mut rig = Rig::new(1);
    let blocks = rig.chain(1..=4, B256::ZERO);
    assert_eq!(rig.all(), ["1", "2", "3", "4"]);
    rig.store.withdraw(2).unwrap();
    assert_eq!(rig.next(), Some(BlockUpdate::Reorg { from: 2, dropped: blocks[1..].to_vec() }));
    assert_eq!(rig.all(), [""; 0]);
    rig.store.reinstate(2).unwrap();
    assert_eq!(rig.all(), ["2", "3", "4"]);
}

#[test]
fn a_reorg_that_was_undone_before_anybody_looked_did_not_happen() {
    let mut rig = Rig::new(1);
    rig.chain(1..=2, B256::ZERO);
    assert_eq!(rig.all(), ["1", "2"]);
    rig.store.withdraw(2).unwrap();
    rig.store.reinstate(2).unwrap();
    assert_eq!(rig.all(), [""; 0]);
}

#[test]
fn settled_heights_that_nobody_has_are_skipped_and_named() {
    let mut rig = Rig::new(1);
    let blocks = rig.chain(1..=9, B256::ZERO);
    rig.store.set_base(Base::at(7)).unwrap();
    rig.store.prune_below(5).unwrap();
    assert_eq!(rig.all(), ["1..4", "5", "6", "7", "8", "9"]);
    // The contracts settle beyond all that is known.
    rig.store.set_base(Base::at(20)).unwrap();
    assert_eq!(rig.all(), ["10..20"]);
    rig.complete(21, blocks[0], 21);
    assert_eq!(rig.all(), ["21"]);
}

#[test]
fn far_from_the_first_height_settled_ones_are_skipped_too() {
    let mut rig = Rig::new(101);
    rig.store.set_base(Base::at(100)).unwrap();
    rig.chain(101..=109, B256::ZERO);
    rig.store.set_base(Base::at(107)).unwrap();
    rig.store.prune_below(105).unwrap();
    assert_eq!(rig.all(), ["101..104", "105", "106", "107", "108", "109"]);
}

#[test]
fn what_was_yielded_is_not_taken_back_when_it_is_pruned() {
    let mut rig = Rig::new(1);
    let blocks = rig.chain(1..=6, B256::ZERO);
    rig.store.withdraw(4).unwrap();
    assert_eq!(rig.all(), ["1", "2", "3"]);
    rig.store.reinstate(4).unwrap();
    rig.store.set_base(Base { number: 5, hash: Some(blocks[4]) }).unwrap();
    rig.store.prune_below(5).unwrap();
    assert_eq!(rig.all(), ["4..4", "5", "6"]);
}

#[test]
fn a_read_takes_sixty_four_blocks_or_four_mebibytes() {
    let mut rig = Rig::new(1);
    let blocks = rig.chain(1..=70, B256::ZERO);
    let read = |rig: &mut Rig| {
        rig.cursor.fill(&*rig.store).unwrap();
        std::mem::take(&mut rig.cursor.ready).len()
    };
    assert_eq!([read(&mut rig), read(&mut rig), read(&mut rig)], [64, 6, 0]);
    let mut parent = blocks[69];
    for number in 71..=80 {
        let large = TxList::new(vec![number; 1024 * 1024].into(), 1024 * 1024).unwrap();
        let number = u64::from(number);
        rig.store.put(number, large.clone()).unwrap();
        parent = rig.block_of(number, parent, number, large.hash());
    }
    assert_eq!([read(&mut rig), read(&mut rig), read(&mut rig)], [4, 4, 2]);
}

#[test]
fn a_chain_that_changes_while_it_is_read_is_looked_at_again() {
    let inner = Arc::new(MemoryStorage::default());
    let other = Rig::with(inner.clone(), 1);
    let two = other.chain(1..=3, B256::ZERO)[1];
    let changes = Arc::new(AtomicBool::new(false));
    let changed = changes.clone();
    let store = Intercepted::new(inner, move |call| {
        // After the look at what was yielded, and before the next blocks are read.
        if call == Call::Range && changed.swap(false, Ordering::Relaxed) {
            let three = other.complete(3, two, 33);
            other.complete(4, three, 4);
        }
        Ok(())
    });
    let mut rig = Rig::with(Arc::new(store), 1);
    assert_eq!(rig.all(), ["1", "2", "3"]);
    changes.store(true, Ordering::Relaxed);
    assert_eq!(rig.all(), [""; 0]);
    assert_eq!(rig.all(), ["-1 from 3", "3", "4"]);
}

#[test]
fn a_block_that_settles_before_its_list_came_is_skipped() {
    let mut rig = Rig::new(1);
    let one = rig.block(1, B256::ZERO, 1);
    rig.complete(2, one, 2);
    assert_eq!(rig.all(), ["1?"]);
    rig.store.set_base(Base::at(1)).unwrap();
    assert_eq!(rig.all(), ["1..1", "2"]);
}

#[test]
fn what_is_settled_is_taken_back_only_if_another_block_was_settled() {
    let mut rig = Rig::new(1);
    let blocks = rig.chain(1..=3, B256::ZERO);
    assert_eq!(rig.all(), ["1", "2", "3"]);
    rig.store.set_base(Base::at(3)).unwrap();
    rig.store.prune_below(3).unwrap();
    assert_eq!(rig.all(), [""; 0]);
    rig.chain(4..=5, blocks[2]);
    assert_eq!(rig.all(), ["4", "5"]);
    rig.store.set_base(Base { number: 4, hash: Some(B256::repeat_byte(9)) }).unwrap();
    assert_eq!(rig.all(), ["-2 from 4", "4..4"]);
}

#[test]
fn without_a_base_there_is_nothing_to_yield() {
    let mut rig = Rig::new(1);
    rig.store = Arc::new(MemoryStorage::default());
    assert_eq!(rig.next(), None);
}

#[test]
fn a_base_that_was_another_block_than_the_one_shown_is_told_when_a_block_names_it() {
    let mut rig = Rig::new(1);
    rig.chain(1..=3, B256::ZERO);
    assert_eq!(rig.all(), ["1", "2", "3"]);
    // The contracts settle 3, of which the application knows the number only, and the next preconfer builds on the 3 that
    // the contracts have.
    rig.store.set_base(Base::at(3)).unwrap();
    let four = rig.complete(4, B256::repeat_byte(0xcc), 4);
    let five = rig.complete(5, four, 5);
    rig.store.set_base(Base::at(5)).unwrap();
    rig.complete(6, five, 6);
    assert_eq!(rig.all(), ["-1 from 3", "3..3", "4", "5", "6"]);
    // So is a reader that comes later, from below.
    rig.cursor = Cursor::new(1);
    assert_eq!(rig.all(), ["1", "2", "3", "-1 from 3", "3..3", "4", "5", "6"]);
}

#[cfg(feature = "disk")]
#[test]
fn a_list_that_cannot_be_read_is_waited_for_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let recommended = p2p_storage::DiskConfig::recommended(SigningDomain::PLACEHOLDER);
    let config = p2p_storage::DiskConfig { file_bytes: 1, ..recommended };
    let store = Arc::new(p2p_storage::DiskStorage::open(folder.path(), config).unwrap());
    let mut rig = Rig::with(store, 1);
    let one = rig.complete(1, B256::ZERO, 1);
    rig.complete(2, one, 2);
    let name = format!("{:x}", list(2).hash());
    std::fs::write(folder.path().join("txlists").join(&name[..1]).join(&name), [0; 10]).unwrap();
    assert_eq!(rig.all(), ["1", "2?"]);
    assert_eq!(rig.cursor.unreadable.take(), Some(list(2).hash()));
    // It has been fetched again.
    assert_eq!(rig.store.discard(&list(2).hash()), Ok(Some(2)));
    rig.store.put(2, list(2)).unwrap();
    assert_eq!(rig.all(), ["2"]);
}

/// Reads a chain that grows and is reorganized with reads that are given up wherever they have come to, until so many have
/// been.
async fn cancel_reads(store: Arc<dyn SdkStorage>, cancellations: u32) {
    let mut rng = fastrand::Rng::with_seed(1);
    let rig = Rig::with(store, 1);
    let (changed, changes) = watch::channel(0);
    let (commands, _inbox) = mpsc::channel(1);
    let mut feed = BlockFeed::new(Some(rig.store.clone()), changes, commands.downgrade(), 1);
    // The chain as it is, and as the reader knows it.
    let (mut chain, mut known) = (Vec::new(), Vec::new());
    let mut cancelled = 0;
    while cancelled < cancellations || known != chain {
        if cancelled < cancellations && rng.u8(0..50) == 0 {
            // A block is longer than what it replaces, or the same height with a higher fill.
            let reorg = if chain.is_empty() { 0 } else { rng.usize(0..=chain.len().min(3)) };
            let (kept, fill) = (chain.len() - reorg, rng.u8(1..90));
            let mut branch = chain[..kept].to_vec();
            for _ in 0..=reorg + rng.usize(0..2) {
                let number = branch.len() as u64 + 1;
                let parent = branch.last().copied().unwrap_or_default();
                branch.push(rig.complete(number, parent, fill));
            }
            chain = branch;
            changed.send_modify(|changes| *changes += 1);
        }
        let mut next = Box::pin(feed.next());
        let mut update = None;
        for _ in 0..rng.u8(1..6) {
            if let std::task::Poll::Ready(ready) = futures::poll!(&mut next) {
                update = Some(ready);
                break;
            }
            if rng.bool() {
                tokio::task::yield_now().await;
            }
        }
        drop(next);
        match update {
            Some(Ok(Some(BlockUpdate::Block(block)))) => {
                known.push(block.commitment.hash());
                assert_eq!(block.block, known.len() as u64, "none is left out, none comes twice");
            }
            Some(Ok(Some(BlockUpdate::Reorg { from, dropped }))) => {
                let stays = usize::try_from(from - 1).unwrap();
                assert_eq!(known.split_off(stays), dropped, "what it takes back is what was read");
            }
            Some(other) => panic!("{other:?}"),
            None => cancelled += 1,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_cancelled_reads_lose_and_repeat_nothing() {
    cancel_reads(Arc::new(MemoryStorage::default()), 10_000).await;
}

#[cfg(feature = "disk")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_cancelled_reads_of_a_disk_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let durability = p2p_storage::Durability::Relaxed;
    let recommended = p2p_storage::DiskConfig::recommended(SigningDomain::PLACEHOLDER);
    let config = p2p_storage::DiskConfig { durability, ..recommended };
    cancel_reads(Arc::new(p2p_storage::DiskStorage::open(folder.path(), config).unwrap()), 10_000).await;
}
