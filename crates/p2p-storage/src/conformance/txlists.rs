//! Transaction lists, alone and with their blocks.

use p2p_types::{B256, Base, Preconfirmation, TxList};

use super::{Make, based, head};
use crate::{
    Batch, Inserted, NewCommitment, StorageError, StorageLimits,
    fixtures::{Judge, block, txlist},
};

pub(super) fn txlists_are_bounded_by_bytes_and_settled_ones_go_first(make: Make<'_>) {
    let store =
        make(StorageLimits { commitments: 100, txlists: 100, txlist_bytes: 10, ..StorageLimits::default() });
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let list = txlist;
    assert!(store.put(1, list(1, 4)).unwrap());
    assert!(!store.put(1, list(1, 4)).unwrap());
    assert!(store.put(2, list(2, 6)).unwrap());
    assert_eq!(store.get(&list(2, 6).hash()).unwrap(), Some(list(2, 6)));
    let full = StorageError::Full { what: "bytes of transaction lists", used: 11, limit: 10 };
    assert_eq!(store.put(3, list(3, 1)).unwrap_err().to_string(), full.to_string());
    assert!(store.set_base(Base::at(1)).unwrap().is_empty());
    assert!(store.put(3, list(3, 1)).unwrap());
    assert!(!store.contains(&list(1, 4).hash()).unwrap());
    assert_eq!(store.stats().unwrap().txlist_bytes, 7);
}

pub(super) fn a_list_that_a_later_block_shares_stays_for_it(make: Make<'_>) {
    let store =
        make(StorageLimits { commitments: 100, txlists: 100, txlist_bytes: 10, ..StorageLimits::default() });
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let list = |fill: u8| txlist(fill, 5);
    assert!(store.put(1, list(1)).unwrap());
    assert!(store.put(2, list(2)).unwrap());
    assert!(!store.put(3, list(1)).unwrap());
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    assert!(store.put(4, list(4)).unwrap());
    assert!(store.contains(&list(1).hash()).unwrap(), "block 3 still needs it");
    assert!(!store.contains(&list(2).hash()).unwrap());
}

pub(super) fn a_renewed_list_stays_for_the_later_block(make: Make<'_>) {
    let limits = StorageLimits { txlist_bytes: 900_000, ..StorageLimits::default() };
    let store = make(limits);
    store.set_base(Base::at(0)).unwrap();
    // A large one and a small one, for stores that keep them apart.
    let lists = [txlist(1, 300_000), txlist(2, 10), txlist(3, 500_000), txlist(4, 300_000)];
    let [large, small, other, absent] = lists.each_ref().map(TxList::hash);
    for (block, list) in [(1, &lists[0]), (1, &lists[1]), (2, &lists[2])] {
        assert!(store.put(block, list.clone()).unwrap());
    }
    assert_eq!(store.renew(&[]), []);
    let renewed = store.renew(&[(3, large), (3, absent), (3, small), (0, other), (4, small)]);
    assert_eq!(renewed, [Ok(true), Ok(false), Ok(true), Ok(true), Ok(true)]);
    assert_eq!(store.stats().unwrap().txlists, 3);
    // What is settled goes first: of these the one that was not kept for a later block.
    store.set_base(Base::at(2)).unwrap();
    assert!(store.put(5, lists[3].clone()).unwrap());
    let left = [large, small, other, absent].map(|hash| store.contains(&hash).unwrap());
    assert_eq!(left, [true, true, false, true]);
    store.set_base(Base::at(3)).unwrap();
    assert!(store.put(6, lists[2].clone()).unwrap());
    let left = [large, small, other, absent].map(|hash| store.contains(&hash).unwrap());
    assert_eq!(left, [false, true, true, true]);
}

pub(super) fn txlists_are_bounded_by_count(make: Make<'_>) {
    let store =
        make(StorageLimits { commitments: 100, txlists: 2, txlist_bytes: 100, ..StorageLimits::default() });
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    assert!(store.put(1, txlist(1, 1)).unwrap() && store.put(2, txlist(2, 1)).unwrap());
    let full = store.put(3, txlist(3, 1)).unwrap_err();
    assert!(matches!(full, StorageError::Full { what: "transaction lists", used: 3, limit: 2 }));
    assert!(full.is_retryable());
    assert!(store.set_base(Base::at(1)).unwrap().is_empty());
    assert!(store.put(3, txlist(3, 1)).unwrap());
    assert!(!store.contains(&txlist(1, 1).hash()).unwrap());
}

pub(super) fn a_discarded_list_is_missing_and_can_be_put_again(make: Make<'_>) {
    let limits = StorageLimits { txlists: 2, txlist_bytes: 1_000_000, ..StorageLimits::default() };
    let store = make(limits);
    store.set_base(Base::at(0)).unwrap();
    // A small one and a large one, for stores that keep them apart.
    for list in [txlist(1, 100), txlist(2, 600_000)] {
        let hash = list.hash();
        assert_eq!(store.discard(&hash), Ok(None), "not there");
        assert!(store.put(5, list.clone()).unwrap());
        assert!(!store.put(6, list.clone()).unwrap() && !store.put(4, list.clone()).unwrap());
        assert_eq!(store.discard(&hash), Ok(Some(6)), "the highest of its blocks");
        assert!(!store.contains(&hash).unwrap());
        assert_eq!((store.get(&hash), store.stats().unwrap().txlist_bytes), (Ok(None), 0));
        assert_eq!(store.discard(&hash), Ok(None));
        assert!(store.put(7, list.clone()).unwrap(), "it is new again");
        assert_eq!(store.get(&hash).unwrap(), Some(list));
        assert_eq!(store.discard(&hash), Ok(Some(7)));
    }
    // What was discarded takes no room and no place in the order of eviction.
    for fill in 3..5 {
        assert!(store.put(u64::from(fill), txlist(fill, 100)).unwrap());
    }
    assert!(matches!(store.put(9, txlist(9, 100)), Err(StorageError::Full { .. })));
    store.set_base(Base::at(3)).unwrap();
    assert!(store.put(9, txlist(9, 100)).unwrap());
    assert!(
        !store.contains(&txlist(3, 100).hash()).unwrap() && store.contains(&txlist(4, 100).hash()).unwrap()
    );
}

pub(super) fn many_lists_at_once_are_put_in_order_and_each_is_answered(make: Make<'_>) {
    let limits = StorageLimits { txlists: 4, ..StorageLimits::default() };
    let (store, list) = (make(limits), |fill| txlist(fill, 100));
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let put = |fills: &[u8]| {
        let lists: Vec<_> = fills.iter().map(|fill| (u64::from(*fill), list(*fill))).collect();
        store.apply(lists.into()).txlists
    };
    let first_answers = put(&[1, 2, 1, 3, 4, 5, 2]);
    let first: Vec<_> =
        first_answers.into_iter().map(|answer| answer.map_err(|error| error.is_retryable())).collect();
    // What is there already is no news, and what has no room does not stop those after it.
    assert_eq!(first, [Ok(true), Ok(true), Ok(false), Ok(true), Ok(true), Err(true), Ok(false)]);
    assert!((1..=4).all(|fill| store.get(&list(fill).hash()).unwrap() == Some(list(fill))));
    assert!(!store.contains(&list(5).hash()).unwrap());
    // As soon as some are settled they make room.
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    let put = put(&[6, 7]);
    assert!(put.iter().all(|answer| matches!(answer, Ok(true))), "{put:?}");
    assert_eq!(store.stats().unwrap().txlists, 4);
}

/// A block that names a list.
fn naming(list: &TxList, block: Preconfirmation) -> Preconfirmation {
    Preconfirmation { raw_tx_list_hash: list.hash(), ..block }
}

pub(super) fn a_list_that_comes_with_its_block_is_kept_if_the_block_stands(make: Make<'_>) {
    let (judge, store, scratch) = (Judge::default(), based(make), based(make));
    // Two large ones, for stores that keep them apart.
    let lists = [txlist(1, 10), txlist(2, 300_000), txlist(3, 10), txlist(4, 300_000), txlist(5, 10)];
    let [one, loser, winner, side, other] = &lists;
    let first = naming(one, block(1, 1, B256::ZERO, 1));
    // One that the later one displaces in the same batch, one that never stands, and one with a list that is not its own.
    let second = naming(loser, block(2, 2, first.hash(), 1));
    let later = naming(winner, block(2, 9, first.hash(), 1));
    let early = naming(side, block(2, 3, first.hash(), 1));
    let third = naming(one, block(3, 10, later.hash(), 1));
    let with = [(&first, one), (&second, loser), (&later, winner), (&early, side), (&third, other)];
    let commitments = with.map(|(block, list)| {
        let linked = judge.linked(&*scratch, block.clone());
        assert!(scratch.insert(linked.clone()).is_ok());
        NewCommitment { linked, txlist: Some(list.clone()) }
    });
    let txlists = vec![(1, other.clone()), (3, one.clone())];
    let applied = store.apply(Batch { commitments: commitments.into(), txlists });
    let of_lists: Vec<_> = applied.commitments.iter().map(|applied| applied.txlist.clone()).collect();
    assert_eq!(of_lists, [Some(Ok(true)), None, Some(Ok(true)), None, None]);
    assert!(applied.commitments.iter().all(|applied| applied.inserted.is_ok()));
    assert_eq!(applied.txlists, [Ok(true), Ok(false)]);
    assert_eq!(head(&*store), Some((3, third.hash())));
    for (list, there) in lists.iter().zip([true, false, true, false, true]) {
        assert_eq!(store.get(&list.hash()).unwrap(), there.then(|| list.clone()));
        assert_eq!(store.contains(&list.hash()).unwrap(), there);
    }
    // What was refused for another branch's sake can be put later.
    assert!(store.put(2, side.clone()).unwrap());
}

pub(super) fn a_list_without_room_is_refused_and_its_block_is_not(make: Make<'_>) {
    for bytes in [100, 300_000] {
        let limits = StorageLimits { txlist_bytes: bytes + 50, ..StorageLimits::default() };
        let (judge, store) = (Judge::default(), make(limits));
        assert!(store.set_base(Base::at(0)).unwrap().is_empty());
        assert!(store.put(1, txlist(1, 100)).unwrap());
        let list = txlist(2, bytes);
        let next = naming(&list, block(1, 1, B256::ZERO, 1));
        let linked = judge.linked(&*store, next.clone());
        let applied = store.apply(Batch {
            commitments: vec![NewCommitment { linked: linked.clone(), txlist: Some(list.clone()) }],
            txlists: Vec::new(),
        });
        let [applied] = &applied.commitments[..] else { panic!() };
        assert_eq!(applied.inserted, Ok(Inserted::New));
        assert!(matches!(applied.txlist, Some(Err(StorageError::Full { .. }))));
        assert_eq!(head(&*store), Some((1, next.hash())));
        // It comes again with its block, when there is room.
        assert_eq!(store.discard(&txlist(1, 100).hash()), Ok(Some(1)));
        let again = vec![NewCommitment { linked, txlist: Some(list.clone()) }];
        let applied = store.apply(Batch { commitments: again, txlists: Vec::new() });
        let [applied] = &applied.commitments[..] else { panic!() };
        assert_eq!((&applied.inserted, &applied.txlist), (&Ok(Inserted::Known), &Some(Ok(true))));
        assert_eq!(store.get(&list.hash()).unwrap(), Some(list));
    }
}
