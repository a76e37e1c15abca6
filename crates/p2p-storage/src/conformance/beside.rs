//! Evidence, promises and the publish log, which outlive the chain.

use p2p_types::{Address, B256, Base, U256, UnixSeconds};

use super::{Make, based};
use crate::{
    PUBLISHED, Promise, StorageLimits,
    fixtures::{Judge, chain, equivocation},
};

pub(super) fn the_publish_log_keeps_what_was_recorded_last(make: Make<'_>) {
    let store = make(StorageLimits::default());
    let hash = |number: usize| B256::from(U256::from(number));
    assert!(!store.is_published(&hash(1)).unwrap());
    store.record_published(&[hash(1), hash(2)]).unwrap();
    assert!(store.is_published(&hash(1)).unwrap() && !store.is_published(&hash(3)).unwrap());
    let more: Vec<B256> = (3..PUBLISHED + 2).map(hash).collect();
    store.record_published(&more).unwrap();
    assert!(!store.is_published(&hash(1)).unwrap(), "the oldest is forgotten");
    assert!((2..PUBLISHED + 2).all(|number| store.is_published(&hash(number)).unwrap()));
}

pub(super) fn evidence_is_kept_once_for_signer_height_and_kind_and_can_be_verified_again(make: Make<'_>) {
    let store = based(make);
    let first = equivocation(1, 5, [1, 2]);
    assert!(store.put_evidence(&first).unwrap());
    assert!(!store.put_evidence(&equivocation(1, 5, [3, 4])).unwrap(), "the first one stays");
    assert!(store.put_evidence(&equivocation(1, 4, [1, 2])).unwrap());
    assert!(store.put_evidence(&equivocation(2, 5, [1, 2])).unwrap());
    let found = store.evidence().unwrap();
    let mut keys: Vec<_> = found.iter().map(|found| (found.signer, found.block)).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.is_sorted());
    keys.retain(|key| *key == (first.signer(), 5));
    assert_eq!(keys.len(), 1);
    let again = found.into_iter().find(|found| (found.signer, found.block) == (first.signer(), 5));
    assert_eq!(again.unwrap().record.verify(Judge::default().validator()), Ok(first));
}

pub(super) fn evidence_is_bounded_and_who_misbehaves_most_loses_first(make: Make<'_>) {
    let store = make(StorageLimits { evidence: 3, ..StorageLimits::default() });
    let rare = equivocation(1, 1, [1, 2]);
    assert!(store.put_evidence(&rare).unwrap());
    for number in 5..9 {
        assert!(store.put_evidence(&equivocation(2, number, [1, 2])).unwrap());
    }
    assert!(!store.put_evidence(&equivocation(2, 3, [1, 2])).unwrap(), "it is the first to go");
    let mut found: Vec<_> =
        store.evidence().unwrap().iter().map(|found| (found.signer == rare.signer(), found.block)).collect();
    found.sort_unstable();
    assert_eq!(found, [(false, 7), (false, 8), (true, 1)]);
    assert_eq!(store.stats().unwrap().evidence, 3);
    let none = make(StorageLimits { evidence: 0, ..StorageLimits::default() });
    assert!(!none.put_evidence(&rare).unwrap());
    assert_eq!(none.evidence().unwrap(), []);
}

pub(super) fn evidence_outlives_what_is_pruned_and_dropped(make: Make<'_>) {
    let store = based(make);
    chain(&*store, 4);
    assert!(store.put_evidence(&equivocation(1, 2, [1, 2])).unwrap());
    assert!(store.put_evidence(&equivocation(1, 4, [1, 2])).unwrap());
    assert!(!store.set_base(Base { number: 3, hash: Some(B256::repeat_byte(0xee)) }).unwrap().is_empty());
    assert_eq!(store.prune_below(u64::MAX).unwrap(), 2);
    assert_eq!(store.stats().unwrap().evidence, 2);
}

pub(super) fn promises_outlive_the_chain_until_their_window_is_pruned(make: Make<'_>) {
    let store = based(make);
    chain(&*store, 3);
    let promise = |window_end, signer, block, hash| Promise {
        window_end: UnixSeconds::new(window_end),
        signer: Address::repeat_byte(signer),
        block,
        hash: B256::repeat_byte(hash),
        eop: hash > 8,
        eop_only: hash == 9,
    };
    let (one, two, eop) = (promise(50, 1, 2, 1), promise(50, 1, 2, 2), promise(50, 1, 4, 9));
    let (other, next) = (promise(50, 2, 2, 1), promise(60, 1, 3, 10));
    for kept in [eop, two, one, one, other, next] {
        store.put_promise(kept).unwrap();
    }
    let of = |signer, window_end| {
        store.promises(&Address::repeat_byte(signer), UnixSeconds::new(window_end)).unwrap()
    };
    assert_eq!(of(1, 50), [one, two, eop]);
    assert_eq!((of(2, 50), of(1, 60), of(1, 55), of(3, 50)), (vec![other], vec![next], vec![], vec![]));
    store.set_base(Base { number: 2, hash: Some(B256::repeat_byte(0xee)) }).unwrap();
    store.prune_below(u64::MAX).unwrap();
    assert_eq!(of(1, 50), [one, two, eop], "neither a base nor pruning takes them");
    assert_eq!(store.prune_promises(UnixSeconds::new(50)).unwrap(), 0);
    assert_eq!(store.prune_promises(UnixSeconds::new(51)).unwrap(), 4);
    assert_eq!((of(1, 50), of(1, 60)), (vec![], vec![next]));
}
