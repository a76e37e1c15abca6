//! Reorgs and restarts.

use p2p_lookahead::{L1Event, Source};

use crate::node::{A, B, Follower, Node, config, start, tail};

#[tokio::test]
async fn reorgs_of_one_to_five_blocks_change_the_schedule_with_them() {
    let Some(node) = Node::start().await else { return };
    let whitelist = node.whitelist(&[A]).await;
    let store = node.deploy("StoreV1", whitelist).await;
    let endpoint = |depth: u64| if depth.is_multiple_of(2) { node.http() } else { node.ws() };
    for depth in 1..=5 {
        let epoch = 2 * depth;
        let mut follower = Follower::start(config(&[endpoint(depth)], Source::Contract(store)));
        follower.reaches(node.mine_to(start(epoch)).await).await;
        node.post(store, epoch + 1, &[(B, 4)]).await;
        let posted = node.mine_to(start(epoch) + 12).await;
        for block in 1..depth {
            node.mine_to(start(epoch) + 12 + 12 * block).await;
        }
        follower.reaches(node.head().await).await;
        assert_eq!(follower.who(tail(epoch) + 2, start(epoch + 1) + 48), [B], "depth {depth}");
        node.reorg(depth).await;
        follower.reaches(node.mine_to(start(epoch) + 240).await).await;
        let lowest = posted.number;
        assert!(follower.told.contains(&L1Event::Reorg { lowest }), "{depth}: {:?}", follower.told);
        assert!(follower.told.iter().any(|event| matches!(event, L1Event::Changed { .. })));
        // The posting is gone; then it comes again, later.
        assert_eq!(follower.who(start(epoch) + 240, tail(epoch)), [A]);
        node.post(store, epoch + 1, &[(B, 5)]).await;
        follower.reaches(node.mine_to(start(epoch) + 252).await).await;
        follower.reaches(node.mine_to(start(epoch + 1)).await).await;
        assert_eq!(follower.who(start(epoch + 1), start(epoch + 1) + 60), [B]);
        follower.stop().await;
    }
}

#[tokio::test]
async fn a_removal_that_l1_takes_back_has_not_happened() {
    let Some(node) = Node::start().await else { return };
    let (mut follower, removed) = Follower::of_a_removal(&node).await;
    assert_eq!(follower.who(start(1) + 99, tail(1)), [B]);
    node.reorg(1).await;
    follower.reaches(node.mine_to(start(1) + 96).await).await;
    assert!(follower.told.contains(&L1Event::Reorg { lowest: removed.number }));
    assert_eq!(follower.who(start(1) + 99, tail(1)), [A]);
    follower.stop().await;
}

#[tokio::test]
async fn what_was_learned_survives_a_restart_and_is_checked() {
    let Some(node) = Node::start().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let whitelist = node.whitelist(&[A]).await;
    let store = node.deploy("StoreV1", whitelist).await;
    let mut config = config(&[node.http()], Source::Contract(store));
    config.data_dir = Some(dir.path().to_owned());
    node.mine_to(start(1) + 12).await;
    node.post(store, 2, &[(B, 4)]).await;
    node.mine_to(start(2) + 60).await;
    let mut follower = Follower::start(config.clone());
    follower.reaches(node.head().await).await;
    follower.reaches(node.mine_to(start(2) + 72).await).await;
    let cold = follower.lookahead.status().calls;
    follower.stop().await;

    // With a transaction, so that the block that replaces it is another one.
    node.draw(whitelist, 9, A).await;
    let head = node.mine_to(start(2) + 84).await;
    let mut again = Follower::start(config.clone());
    again.reaches(head).await;
    let warm = again.lookahead.status().calls;
    assert_eq!(again.who(start(2), start(2) + 48), [B]);
    assert!(2 * warm < cold, "{warm} and {cold} questions");
    // What a head tells is saved before the next one is read.
    again.reaches(node.mine_to(start(2) + 96).await).await;
    again.stop().await;

    // In the meantime L1 drops the blocks that were saved last.
    node.reorg(2).await;
    let head = node.mine_to(start(2) + 240).await;
    let mut after = Follower::start(config);
    after.reaches(head).await;
    assert!(after.told.iter().any(|event| matches!(event, L1Event::Reorg { .. })), "{:?}", after.told);
    assert_eq!(after.who(start(2), start(2) + 48), [B], "what lies below is still true");
    after.stop().await;
}
