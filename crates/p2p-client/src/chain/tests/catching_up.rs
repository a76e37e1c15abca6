//! Pages, and what a store from the time before brings along.

use super::*;

#[test]
fn a_page_is_linked_as_far_as_it_goes() {
    let mut rig = Rig::new();
    let signed: Vec<_> = chain(6).iter().map(|next| sign_by(&key(1), next)).collect();
    let (verdict, effects) = rig.import(&signed[..2]);
    assert_eq!((verdict, shown(&effects)), (ImportVerdict::Linked, vec![11, 12]));
    let wanted = Input::TxListMissing { block: 11, hash: list(1).hash(), live: false };
    assert!(effects.inputs.contains(&wanted));
    assert!(matches!(effects.inputs.last(), Some(Input::Imported { .. })), "after what it wants");
    assert_eq!(rig.import(&signed[3..5]).0, ImportVerdict::Unlinked { index: 0 });
    let with_a_lie = [signed[2].clone(), sign_by(&key(2), signed[3].preconf())];
    assert_eq!(rig.import(&with_a_lie).0, ImportVerdict::Unusable { index: 1 }, "its server cannot know");
    assert_eq!(rig.head(), Some(13), "what came before the lie is good");
    assert_eq!(rig.import(&signed[..5]).0, ImportVerdict::Linked, "what is known already does no harm");
    assert_eq!(rig.head(), Some(15));
}

#[test]
fn an_import_frees_what_waited_for_it() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    rig.gossip(&blocks[2]);
    let page: Vec<_> = blocks[..2].iter().map(|next| sign_by(&key(1), next)).collect();
    assert_eq!(shown(&rig.import(&page).1), [11, 12, 13]);
}

#[test]
fn what_the_store_holds_of_the_last_minutes_counts_as_seen() {
    let mut rig = Rig::new();
    let now = NOW.get();
    let old = Preconfirmation { timestamp: U256::from(now - 601), ..block(BASE + 1, B256::ZERO, 1) };
    let recent = Preconfirmation { timestamp: U256::from(now - 599), ..block(BASE + 2, old.hash(), 2) };
    let handover = Preconfirmation { timestamp: U256::from(now), ..block(BASE + 3, recent.hash(), 0) };
    for next in [&old, &recent, &handover] {
        rig.gossip(next);
    }
    rig.txlist(2);
    let id = |preconf| {
        MessageId::of_commitment(&preconfirmation_types::Container::to_ssz(&sign_by(&key(1), preconf)))
    };
    let seen = rig.restarted().process(vec![Command::WarmUp]).seen;
    assert_eq!(seen, [id(&recent), MessageId::of_txlist(&list(2)), id(&handover)]);
}

#[test]
fn a_base_alone_does_not_open_the_gate() {
    let mut rig = Rig::without_base(StorageLimits::default());
    let (reply, _done) = oneshot::channel();
    let effects = rig.process(vec![Command::SetBase { base: Base::at(BASE), open: false, reply }]);
    assert!(effects.inputs.is_empty());
    let effects = rig.set_base(Base::at(BASE));
    assert_eq!(effects.inputs, [Input::Start { base: BASE, head: None }]);
}

#[test]
fn a_page_brings_one_block_too_many_if_it_builds_on_that() {
    let mut rig = Rig::new();
    let sibling = |fill| block(BASE + 1, B256::ZERO, fill);
    for fill in 1..=3 {
        rig.gossip(&sibling(fill));
    }
    let child = block(BASE + 2, sibling(4).hash(), 5);
    let page = [&sibling(4), &child].map(|next| sign_by(&key(1), next));
    assert_eq!(rig.import(&page[..1]).0, ImportVerdict::Unconfirmed { index: 0 }, "a signer has three");
    assert_eq!(rig.import(&page).0, ImportVerdict::Linked);
    assert_eq!(rig.head(), Some(BASE + 2));
}
