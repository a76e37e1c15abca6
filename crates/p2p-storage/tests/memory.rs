//! The semantics of a store, on the one in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{num::NonZeroU64, sync::Arc};

use p2p_storage::{
    CommitmentStore, Inserted, MemoryLimits, MemoryStorage, SdkStorage, StorageError, TxListStore,
};
use p2p_types::{
    Address, B256, Base, Head, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, TxList, U256,
    UnixSeconds,
};
use p2p_validation::{
    Arrival, Facts, Linked, Parent, RotatingSchedule, ValidationConfig, ValidationOutcome, Validator,
};

const SLASHER: Address = Address::repeat_byte(0x51);
const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
/// One preconfer with one endless window: these tests are about branches, not about elections.
const WINDOW: u64 = 1_000_000;

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

/// A block, or a handover where `salt` is 0. Its time is `timestamp`; the salt makes it differ from others.
fn block(number: u64, timestamp: u64, parent: B256, salt: u8) -> Preconfirmation {
    Preconfirmation {
        eop: salt == 0,
        block_number: U256::from(number),
        timestamp: U256::from(timestamp),
        submission_window_end: U256::from(WINDOW - 1),
        raw_tx_list_hash: B256::repeat_byte(salt),
        parent_preconfirmation_hash: parent,
        ..Default::default()
    }
}

/// Judges a block against what the store holds, as the client does.
fn judge(store: &MemoryStorage, preconf: Preconfirmation) -> ValidationOutcome<Linked> {
    let schedule =
        RotatingSchedule::new(vec![key().address()], UnixSeconds::new(0), NonZeroU64::new(WINDOW).unwrap());
    let validator = Validator::new(ValidationConfig::new(DOMAIN, SLASHER), Arc::new(schedule.unwrap()));
    let parent = store.by_hash(&preconf.parent_preconfirmation_hash).unwrap();
    let facts = Facts {
        base: store.base().unwrap().unwrap(),
        parent: parent.as_ref().map(|p| Parent { block: p.block, preconf: p.recovered.signed().preconf() }),
        before: None,
    };
    let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(), &DOMAIN);
    let commitment = validator.authenticate_signed(signed).unwrap();
    validator
        .elect(commitment, Arrival::History(UnixSeconds::new(WINDOW)))
        .and_then(|elected| validator.link(elected, &facts))
}

fn insert(store: &MemoryStorage, preconf: Preconfirmation) -> Result<Inserted, StorageError> {
    match judge(store, preconf) {
        ValidationOutcome::Accept(linked) => store.insert(linked),
        other => panic!("not linked: {other:?}"),
    }
}

fn store() -> MemoryStorage {
    let store = MemoryStorage::default();
    store.set_base(Base::at(0)).unwrap();
    store
}

/// Blocks 1..=n, one second apart.
fn chain(store: &MemoryStorage, n: u64) -> Vec<Preconfirmation> {
    let mut parent = B256::ZERO;
    (1..=n)
        .map(|number| {
            let next = block(number, number, parent, 1);
            parent = next.hash();
            assert_eq!(insert(store, next.clone()).unwrap(), Inserted::New);
            next
        })
        .collect()
}

fn head(store: &MemoryStorage) -> Option<(u64, B256)> {
    store.head().unwrap().map(|Head { number, hash }| (number, hash))
}

#[test]
fn a_chain_is_found_by_number_by_hash_by_range_and_by_parent() {
    let store = store();
    assert_eq!(head(&store), None);
    let blocks = chain(&store, 5);
    assert_eq!(head(&store), Some((5, blocks[4].hash())));
    assert_eq!(store.by_block(3).unwrap().unwrap().hash(), blocks[2].hash());
    assert_eq!(store.by_hash(&blocks[2].hash()).unwrap().unwrap().block, 3);
    assert_eq!(store.children(&blocks[2].hash()).unwrap(), [blocks[3].hash()]);
    let numbers =
        |from, limit| store.range(from, limit).unwrap().iter().map(|stored| stored.block).collect::<Vec<_>>();
    assert_eq!(numbers(2, 3), [2, 3, 4]);
    assert_eq!(numbers(4, 256), [4, 5]);
    assert_eq!(numbers(6, 256), [0; 0]);
    assert_eq!(numbers(u64::MAX, 256), [0; 0]);
    assert_eq!(numbers(0, 256), [0; 0], "a range that cannot begin where asked is empty");
    assert_eq!(insert(&store, blocks[2].clone()).unwrap(), Inserted::Known);
}

#[test]
fn without_a_base_nothing_is_stored() {
    let (with, without) = (store(), MemoryStorage::default());
    let ValidationOutcome::Accept(linked) = judge(&with, block(1, 1, B256::ZERO, 1)) else { panic!() };
    assert!(matches!(without.insert(linked), Err(StorageError::NoBase)));
}

#[test]
fn of_two_leaves_the_latest_seen_stands_and_the_other_is_kept() {
    let store = store();
    let blocks = chain(&store, 2);
    let rival = block(2, 2, blocks[0].hash(), 9);
    let Inserted::Superseded { previous, dropped, adopted } = insert(&store, rival.clone()).unwrap() else {
        panic!()
    };
    assert_eq!((previous, dropped), (blocks[1].hash(), vec![blocks[1].hash()]));
    assert_eq!(adopted.iter().map(|b| b.hash()).collect::<Vec<_>>(), [rival.hash()]);
    assert_eq!(head(&store), Some((2, rival.hash())));
    assert!(store.by_hash(&blocks[1].hash()).unwrap().is_some(), "history");
    assert_eq!(insert(&store, blocks[1].clone()).unwrap(), Inserted::Known);
    assert_eq!(head(&store), Some((2, rival.hash())), "an old acquaintance does not switch back");
}

#[test]
fn the_block_that_was_built_on_stands_against_a_latecomer() {
    let store = store();
    let blocks = chain(&store, 3);
    assert_eq!(insert(&store, block(2, 2, blocks[0].hash(), 9)).unwrap(), Inserted::Side);
    assert_eq!(head(&store), Some((3, blocks[2].hash())));
}

#[test]
fn a_block_that_builds_on_the_loser_brings_it_back() {
    let store = store();
    let blocks = chain(&store, 2);
    let rival = block(2, 2, blocks[0].hash(), 9);
    assert!(matches!(insert(&store, rival.clone()).unwrap(), Inserted::Superseded { .. }));
    let child = block(3, 3, blocks[1].hash(), 1);
    let Inserted::Superseded { previous, dropped, adopted } = insert(&store, child.clone()).unwrap() else {
        panic!()
    };
    assert_eq!((previous, dropped), (rival.hash(), vec![rival.hash()]));
    assert_eq!(adopted.iter().map(|b| b.hash()).collect::<Vec<_>>(), [blocks[1].hash(), child.hash()]);
    assert_eq!(head(&store), Some((3, child.hash())));
}

#[test]
fn the_branch_with_the_later_last_block_wins_in_any_order_and_the_head_may_fall() {
    // 1 ─ 2 ─ 3 ─ 4 (time 4) and 1 ─ 2' ─ 3' (time 5).
    let parent = block(1, 1, B256::ZERO, 1);
    let long: Vec<_> = [2, 3, 4]
        .iter()
        .scan(parent.hash(), |parent, &n| {
            let next = block(n, n, *parent, 1);
            *parent = next.hash();
            Some(next)
        })
        .collect();
    let rival = block(2, 2, parent.hash(), 9);
    let later = block(3, 5, rival.hash(), 9);
    let orders: [&[&Preconfirmation]; 4] = [
        &[&long[0], &long[1], &long[2], &rival, &later],
        &[&rival, &later, &long[0], &long[1], &long[2]],
        &[&long[0], &rival, &long[1], &later, &long[2]],
        &[&rival, &long[0], &later, &long[1], &long[2]],
    ];
    for order in orders {
        let store = store();
        assert_eq!(insert(&store, parent.clone()).unwrap(), Inserted::New);
        let mut highest = 0;
        for next in order {
            assert_ne!(insert(&store, (*next).clone()).unwrap(), Inserted::Known);
            highest = highest.max(head(&store).unwrap().0);
        }
        assert_eq!(head(&store), Some((3, later.hash())));
        assert_eq!(store.range(1, 9).unwrap().len(), 3);
        let reached = if std::ptr::eq(order[2], &raw const long[2]) { 4 } else { 3 };
        assert_eq!(highest, reached, "the first order had reached block 4 and fell");
    }
}

#[test]
fn handovers_are_kept_beside_the_chain_and_never_become_it() {
    let store = store();
    let blocks = chain(&store, 2);
    let handover = block(3, 3, blocks[1].hash(), 0);
    assert_eq!(insert(&store, handover.clone()).unwrap(), Inserted::New);
    assert_eq!(insert(&store, handover.clone()).unwrap(), Inserted::Known);
    assert_eq!(head(&store), Some((2, blocks[1].hash())));
    assert!(store.by_block(3).unwrap().is_none());
    assert_eq!(store.handovers(3).unwrap().len(), 1);
    let next = block(3, 4, blocks[1].hash(), 1);
    assert_eq!(insert(&store, next.clone()).unwrap(), Inserted::New, "the height is still free");
    assert_eq!(store.handovers(3).unwrap().len(), 1);
    assert_eq!(head(&store), Some((3, next.hash())));
}

#[test]
fn a_newer_base_keeps_the_chain_above_it() {
    let store = store();
    let blocks = chain(&store, 4);
    let base = Base { number: 2, hash: Some(blocks[1].hash()) };
    assert!(store.set_base(base).unwrap().is_empty());
    assert_eq!(head(&store), Some((4, blocks[3].hash())));
    assert!(store.set_base(Base::at(4)).unwrap().is_empty());
    assert_eq!(head(&store), None, "nothing stands above the base");
}

#[test]
fn a_base_that_contradicts_the_chain_removes_what_stood_on_the_wrong_block() {
    let store = store();
    let blocks = chain(&store, 4);
    let side = block(3, 9, blocks[1].hash(), 9);
    assert!(matches!(insert(&store, side.clone()).unwrap(), Inserted::Side));
    let base = Base { number: 2, hash: Some(B256::repeat_byte(0xee)) };
    let dropped: Vec<_> = store.set_base(base).unwrap().iter().map(|block| block.hash()).collect();
    assert_eq!(dropped, blocks[1..].iter().map(Preconfirmation::hash).collect::<Vec<_>>());
    assert_eq!(head(&store), None);
    assert!(store.by_hash(&side.hash()).unwrap().is_none(), "nothing may link to it any more");
}

#[test]
fn a_base_below_the_chain_with_a_gap_removes_what_is_no_longer_linked() {
    let store = MemoryStorage::default();
    store.set_base(Base::at(10)).unwrap();
    let first = block(11, 1, B256::ZERO, 1);
    assert_eq!(insert(&store, first.clone()).unwrap(), Inserted::New);
    let dropped = store.set_base(Base::at(8)).unwrap();
    assert_eq!(
        dropped.iter().map(|block| block.head()).collect::<Vec<_>>(),
        [Head { number: 11, hash: first.hash() }]
    );
    assert_eq!(head(&store), None);
}

#[test]
fn pruning_takes_what_is_settled_and_nothing_else() {
    let store = store();
    let blocks = chain(&store, 6);
    store.set_base(Base::at(4)).unwrap();
    assert_eq!(store.prune_below(3).unwrap(), 2);
    assert_eq!(store.prune_below(u64::MAX).unwrap(), 1, "up to the base, which stays");
    assert!(store.by_block(3).unwrap().is_none() && store.by_hash(&blocks[2].hash()).unwrap().is_none());
    assert_eq!(store.range(4, 9).unwrap().len(), 3);
    assert_eq!(store.stats().unwrap().commitments, 3);
}

#[test]
fn a_full_store_evicts_what_is_settled_first_and_then_says_full() {
    let store = MemoryStorage::new(MemoryLimits { commitments: 3, txlist_bytes: 10 });
    store.set_base(Base::at(0)).unwrap();
    let blocks = chain(&store, 3);
    let next = block(4, 4, blocks[2].hash(), 1);
    assert!(matches!(
        insert(&store, next.clone()),
        Err(StorageError::Full { what: "commitments", used: 4, limit: 3 })
    ));
    assert_eq!(head(&store), Some((3, blocks[2].hash())), "nothing was changed");
    store.set_base(Base::at(2)).unwrap();
    assert_eq!(insert(&store, next.clone()).unwrap(), Inserted::New);
    assert!(store.by_block(1).unwrap().is_none());
    assert_eq!(head(&store), Some((4, next.hash())));
}

#[test]
fn txlists_are_bounded_by_bytes_and_settled_ones_go_first() {
    let store = MemoryStorage::new(MemoryLimits { commitments: 100, txlist_bytes: 10 });
    store.set_base(Base::at(0)).unwrap();
    let list = |fill: u8, len: usize| TxList::new(vec![fill; len].into(), 10).unwrap();
    assert!(store.put(1, list(1, 4)).unwrap());
    assert!(!store.put(1, list(1, 4)).unwrap());
    assert!(store.put(2, list(2, 6)).unwrap());
    assert_eq!(store.get(&list(2, 6).hash()).unwrap(), Some(list(2, 6)));
    let full = StorageError::Full { what: "transaction lists", used: 11, limit: 10 };
    assert_eq!(store.put(3, list(3, 1)).unwrap_err().to_string(), full.to_string());
    store.set_base(Base::at(1)).unwrap();
    assert!(store.put(3, list(3, 1)).unwrap());
    assert!(!store.contains(&list(1, 4).hash()).unwrap());
    assert_eq!(store.stats().unwrap().txlist_bytes, 7);
}

#[test]
fn a_list_that_a_later_block_shares_stays_for_it() {
    let store = MemoryStorage::new(MemoryLimits { commitments: 100, txlist_bytes: 10 });
    store.set_base(Base::at(0)).unwrap();
    let list = |fill: u8| TxList::new(vec![fill; 5].into(), 10).unwrap();
    assert!(store.put(1, list(1)).unwrap());
    assert!(store.put(2, list(2)).unwrap());
    assert!(!store.put(3, list(1)).unwrap());
    store.set_base(Base::at(2)).unwrap();
    assert!(store.put(4, list(4)).unwrap());
    assert!(store.contains(&list(1).hash()).unwrap(), "block 3 still needs it");
    assert!(!store.contains(&list(2).hash()).unwrap());
}
