//! Boot, postings, fallbacks and history of each generation of contracts.

use alloy_primitives::Address;
use p2p_lookahead::{Generation, L1Event, Source};
use p2p_validation::Admission;

use crate::node::{A, B, C, Follower, Node, addCall, blacklistCall, config, start, tail};

#[tokio::test]
async fn a_whitelist_is_followed_from_epoch_to_epoch() {
    let Some(node) = Node::start().await else { return };
    let whitelist = node.whitelist(&[A, B]).await;
    node.draw(whitelist, 2, B).await;
    let inbox = node.deploy("Inbox", whitelist).await;
    let mut follower = Follower::start(config(&[node.http()], Source::Inbox(inbox)));
    follower.reaches(node.head().await).await;
    assert_eq!(follower.told, [L1Event::Found { generation: Generation::Whitelist }]);
    assert_eq!(follower.who(start(0) + 100, tail(0)), [A]);
    assert_eq!(follower.ask(start(2), tail(2)), Admission::NotKnown);
    for epoch in 1..4 {
        follower.reaches(node.mine_to(start(epoch)).await).await;
        let operator = if epoch == 2 { B } else { A };
        assert_eq!(follower.who(start(epoch), tail(epoch)), [operator]);
        assert_eq!(follower.who(tail(epoch) + 1, tail(epoch)), [operator], "the last seconds");
        assert!(!follower.who(start(epoch + 1), tail(epoch + 1)).is_empty(), "the next is foretold");
    }
    // One that is added later signs like the others.
    node.send(whitelist, addCall { operator: C }).await;
    node.draw(whitelist, 5, C).await;
    for epoch in 4..6 {
        follower.reaches(node.mine_to(start(epoch)).await).await;
    }
    assert_eq!(follower.who(start(5) + 100, tail(5)), [C]);
    follower.stop().await;
}

#[tokio::test]
async fn an_operator_is_removed_in_the_middle_of_its_epoch() {
    let Some(node) = Node::start().await else { return };
    let (follower, removed) = Follower::of_a_removal(&node).await;
    assert_eq!(follower.who(removed.timestamp - 1, tail(1)), [A]);
    assert_eq!(follower.who(removed.timestamp, tail(1)), [B, A]);
    assert_eq!(follower.who(removed.timestamp + 12, tail(1)), [B]);
    assert!(follower.told.iter().any(|event| matches!(event, L1Event::Changed { .. })));
    follower.stop().await;
}

#[tokio::test]
async fn v1_slots_come_from_events_with_the_whitelist_where_nobody_is_elected() {
    let Some(node) = Node::start().await else { return };
    let whitelist = node.whitelist(&[A]).await;
    let store = node.deploy("StoreV1", whitelist).await;
    let inbox = node.deploy("Inbox", store).await;
    node.mine_to(start(1)).await;
    node.post(store, 1, &[(B, 4), (C, 8)]).await;
    node.mine_to(start(1) + 12).await;
    let mut follower = Follower::start(config(&[node.http()], Source::Inbox(inbox)));
    follower.reaches(node.head().await).await;
    assert_eq!(follower.told, [L1Event::Found { generation: Generation::StoreV1 }]);
    // The present epoch, posted before the boot; the next one, posted after it.
    assert_eq!(follower.who(start(1) + 48, start(1) + 48), [B]);
    assert_eq!(follower.who(start(1) + 49, start(1) + 96), [C]);
    assert_eq!(follower.who(start(1) + 97, tail(1)), [A]);
    node.post(store, 2, &[(B, 2)]).await;
    follower.reaches(node.mine_to(start(1) + 60).await).await;
    assert_eq!(follower.who(start(1) + 97, start(2) + 24), [B]);
    assert_eq!(follower.who(start(1) + 97, tail(1)), [Address::ZERO; 0]);
    // Blacklisted: the whitelist signs in the same window.
    node.send(store, blacklistCall { root: B.into_word(), listed: true }).await;
    let blacklisted = node.mine_to(start(1) + 72).await;
    follower.reaches(blacklisted).await;
    assert_eq!(follower.who(start(1) + 97, start(2) + 24), [A]);
    node.send(store, blacklistCall { root: B.into_word(), listed: false }).await;
    follower.reaches(node.mine_to(start(1) + 84).await).await;
    assert_eq!(follower.who(start(1) + 97, start(2) + 24), [B]);
    // Nothing is posted for epoch 3.
    follower.reaches(node.mine_to(start(3)).await).await;
    assert_eq!(follower.who(start(3) + 9, tail(3)), [A]);
    follower.stop().await;
}

#[tokio::test]
async fn v2_slots_come_from_the_calldata_of_a_proposal() {
    let Some(node) = Node::start().await else { return };
    let whitelist = node.whitelist(&[A]).await;
    let store = node.deploy("StoreV2", whitelist).await;
    let inbox = node.deploy("Inbox", store).await;
    node.mine_to(start(1)).await;
    node.propose(inbox, 2, &[(B, 4), (C, 8)]).await;
    node.mine_to(start(1) + 12).await;
    let mut follower = Follower::start(config(&[node.ws()], Source::Inbox(inbox)));
    follower.reaches(node.head().await).await;
    assert_eq!(follower.told, [L1Event::Found { generation: Generation::StoreV2 }]);
    assert_eq!(follower.who(start(1) + 99, tail(1)), [A]);
    follower.reaches(node.mine_to(start(2)).await).await;
    assert_eq!(follower.who(start(2), start(2) + 48), [B]);
    assert_eq!(follower.who(start(2) + 40, start(2) + 96), [C], "windows overlap");
    node.propose(inbox, 3, &[]).await;
    follower.reaches(node.mine_to(start(2) + 12).await).await;
    follower.reaches(node.mine_to(start(3)).await).await;
    assert_eq!(follower.who(start(3), tail(3)), [A], "posted, and empty");
    follower.stop().await;
}

#[tokio::test]
async fn three_epochs_of_history_are_learned_when_they_are_asked_for() {
    let Some(node) = Node::start().await else { return };
    let whitelist = node.whitelist(&[A, B]).await;
    node.draw(whitelist, 2, B).await;
    let store = node.deploy("StoreV1", whitelist).await;
    node.mine_to(start(2) + 24).await;
    node.post(store, 3, &[(C, 4)]).await;
    node.mine_to(start(6)).await;
    let mut follower = Follower::start(config(&[node.http()], Source::Contract(store)));
    follower.reaches(node.head().await).await;
    assert_eq!(follower.comes_to_know(start(3), start(3) + 48).await, [C]);
    assert_eq!(follower.comes_to_know(start(2), tail(2)).await, [B]);
    assert_eq!(follower.comes_to_know(start(4), tail(4)).await, [A]);
    assert_eq!(follower.lookahead.status().waiting, 0);
    follower.stop().await;
}
