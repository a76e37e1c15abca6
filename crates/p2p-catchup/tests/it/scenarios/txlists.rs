//! Missing transaction lists.

use std::num::NonZeroUsize;

use p2p_catchup::{CatchUpConfig, Failure, Input, RateLimit, Reply};
use p2p_types::{HeadSyncStatus, Offence, Stall};

use super::rig::Rig;
use crate::chain::{SECOND, config, peer, txlist};

#[test]
fn a_missing_txlist_is_asked_for_and_live_waits_for_it() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, false);
    assert!(matches!(rig.status(), HeadSyncStatus::Syncing { txlists_missing: 1, .. }));
    let ask = rig.expect_txlist(3);
    rig.reply(ask, Reply::TxList(txlist(3)));
    rig.expect_stored_txlist(3);
    rig.expect_syncing();
    rig.input(Input::TxListStored { hash: txlist(3).hash() });
    rig.expect_live(3);
}

#[test]
fn a_live_block_leaves_gossip_a_moment() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, true);
    rig.expect_live(3);
    rig.advance(SECOND / 4);
    rig.expect_live(3);
    rig.expect_quiet();
    rig.input(Input::TxListStored { hash: txlist(3).hash() });
    rig.expect_live(3);
    rig.want(2, true);
    rig.advance(SECOND);
    rig.expect_txlist(2);
    assert!(matches!(rig.status(), HeadSyncStatus::Syncing { txlists_missing: 1, .. }), "{}", rig.status());
}

#[test]
fn oldest_first_and_bounded_per_peer_and_in_all() {
    let mut settings = config();
    settings.txlists_in_flight = 5.try_into().unwrap();
    settings.txlists_per_peer = 3.try_into().unwrap();
    let mut rig = Rig::with(settings);
    (1..=3).for_each(|n| rig.peer_up(peer(n)));
    for block in (1..=9).rev() {
        rig.want(block, false);
    }
    rig.input(Input::Start { base: 0, head: None });
    rig.all_claim(0);
    for block in 1..=5 {
        rig.expect_txlist(block);
    }
    rig.expect_quiet();

    let mut rig = Rig::live(9, &[peer(1)]);
    (1..=10).for_each(|block| rig.want(block, false));
    assert_eq!(rig.asks().len(), 8, "per peer");
}

#[test]
fn not_found_moves_on_to_another_peer_and_costs_nobody() {
    let mut rig = Rig::live(3, &[peer(1), peer(2)]);
    rig.want(3, false);
    let first = rig.expect_txlist(3);
    rig.reply(first, Reply::TxListNotFound);
    let second = rig.expect_txlist(3);
    assert_ne!(first.to, second.to);
    rig.reply(second, Reply::TxListNotFound);
    rig.expect_quiet();
    rig.expect_stalled(Stall::WaitingForData { lowest: 3, txlists: 1 });
    // A peer that comes is asked at once, whatever the pause.
    rig.peer_up(peer(3));
    rig.all_claim(3);
    let third = rig.expect_txlist(3);
    assert_eq!(third.to, peer(3));
    rig.reply(third, Reply::TxListNotFound);
    let mut asked = 0;
    for _ in 0..300 {
        rig.advance(SECOND);
        rig.all_claim(3);
        while let Some(&ask) = rig.asks().first() {
            asked += 1;
            let ask = rig.expect_txlist(3).id.eq(&ask.id).then_some(ask).unwrap();
            rig.reply(ask, Reply::TxListNotFound);
        }
        assert!(!rig.status().is_live());
    }
    assert!((30..100).contains(&asked), "{asked}: retried, with longer and longer pauses");
    rig.expect_no_reports();
}

#[test]
fn a_failed_request_is_repeated_until_the_list_is_here() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, false);
    for _ in 0..20 {
        let ask = rig.wait_txlist(3, 3);
        rig.fail(ask);
        assert!(!rig.status().is_live());
    }
    let ask = rig.wait_txlist(3, 3);
    assert!(!rig.status().is_live());
    rig.reply(ask, Reply::TxList(txlist(3)));
    rig.input(Input::TxListStored { hash: txlist(3).hash() });
    rig.wait_live(3);
    rig.expect_no_reports();
}

#[test]
fn a_list_that_came_otherwise_cancels() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, false);
    let ask = rig.expect_txlist(3);
    rig.input(Input::TxListStored { hash: txlist(3).hash() });
    rig.expect_live(3);
    rig.reply(ask, Reply::TxList(txlist(3)));
    rig.expect_quiet();
    // Missing again: the old request counts for nothing.
    rig.want(3, false);
    let again = rig.expect_txlist(3);
    rig.reply(ask, Reply::TxListNotFound);
    rig.reply(again, Reply::TxList(txlist(3)));
    rig.expect_stored_txlist(3);
}

#[test]
fn a_list_is_wanted_while_any_block_wants_it() {
    let mut rig = Rig::live(3, &[peer(1)]);
    let hash = txlist(3).hash();
    rig.input(Input::TxListMissing { block: 2, hash, live: true });
    rig.input(Input::TxListMissing { block: 3, hash, live: true });
    rig.input(Input::TxListNotNeeded { block: 2, hash });
    rig.input(Input::TxListNotNeeded { block: 2, hash });
    rig.advance(SECOND);
    rig.expect_txlist(3);
    rig.expect_syncing();
    rig.input(Input::TxListNotNeeded { block: 3, hash });
    rig.expect_live(3);
    rig.advance(SECOND);
    rig.expect_quiet();
}

#[test]
fn a_list_of_another_hash_is_charged() {
    let mut rig = Rig::live(3, &[peer(1), peer(2)]);
    rig.want(3, false);
    let ask = rig.expect_txlist(3);
    rig.reply(ask, Reply::TxList(txlist(2)));
    rig.expect_report(ask.to, Offence::WrongAnswer);
    let other = rig.expect_txlist(3);
    assert_ne!(other.to, ask.to);
    rig.reply(other, Reply::Failed(Failure::Misbehaved(Offence::HashMismatch)));
    rig.expect_report(other.to, Offence::HashMismatch);
    rig.expect_no_reports();
    assert!(!rig.status().is_live());
}

#[test]
fn a_list_that_cannot_be_stored_is_fetched_again_after_a_pause() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, false);
    let ask = rig.expect_txlist(3);
    rig.reply(ask, Reply::TxList(txlist(3)));
    rig.expect_stored_txlist(3);
    rig.want(3, false);
    rig.expect_quiet();
    rig.expect_syncing();
    let again = rig.wait_txlist(3, 3);
    rig.reply(again, Reply::TxList(txlist(3)));
    rig.input(Input::TxListStored { hash: txlist(3).hash() });
    rig.wait_live(3);
}

#[test]
fn a_list_being_stored_is_not_requested_for_another_block() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, false);
    let ask = rig.expect_txlist(3);
    rig.reply(ask, Reply::TxList(txlist(3)));
    rig.expect_stored_txlist(3);
    let hash = txlist(3).hash();
    rig.input(Input::TxListMissing { block: 2, hash, live: false });
    rig.advance(2 * SECOND);
    rig.all_claim(3);
    rig.expect_quiet();
    rig.input(Input::TxListStored { hash });
    rig.expect_live(3);
}

#[test]
fn bytes_on_their_way_and_being_stored_are_bounded() {
    const MIB: usize = 1024 * 1024;
    let mut settings = config();
    // Two pages in flight, one of a walk, one that is imported: four blocks each, 2 KiB a block.
    let pages = (2 + 2) * 4 * 2048;
    settings.max_txlist_bytes = NonZeroUsize::new(MIB).unwrap();
    settings.buffer_bytes = NonZeroUsize::new(pages + 4 * MIB).unwrap();
    let mut rig = Rig::with(settings);
    rig.peer_up(peer(1));
    rig.input(Input::Start { base: 0, head: crate::chain::head(20) });
    rig.all_claim(20);
    (1..=9).for_each(|block| rig.want(block, false));
    // Nobody knows how large they are: four of the largest fit.
    let first = rig.expect_txlist(1);
    for block in 2..=4 {
        rig.expect_txlist(block);
    }
    rig.expect_quiet();
    // It was small, but while it is being stored, the fifth could be one byte too many.
    rig.reply(first, Reply::TxList(txlist(1)));
    rig.expect_stored_txlist(1);
    rig.expect_quiet();
    rig.input(Input::TxListStored { hash: txlist(1).hash() });
    rig.expect_txlist(5);
    rig.expect_quiet();
}

/// Two requests in ten seconds, and the peers given.
fn paced(peers: &[u8]) -> Rig {
    let rate_limit = Some(RateLimit { requests: 2.try_into().unwrap(), window: 10 * SECOND });
    let mut rig = Rig::with(CatchUpConfig { rate_limit, ..config() });
    rig.input(Input::Start { base: 0, head: crate::chain::head(9) });
    peers.iter().for_each(|&n| rig.peer_up(peer(n)));
    rig.all_claim(9);
    rig
}

#[test]
fn a_peer_at_its_rate_limit_gets_no_request() {
    let mut rig = paced(&[1, 2]);
    (1..=9).for_each(|block| rig.want(block, false));
    for block in 1..=4 {
        let ask = rig.expect_txlist(block);
        rig.reply(ask, Reply::TxList(txlist(block)));
        rig.expect_stored_txlist(block);
        rig.input(Input::TxListStored { hash: txlist(block).hash() });
    }
    rig.advance(9 * SECOND);
    rig.all_claim(9);
    rig.expect_quiet();
    rig.expect_syncing();
    // One that is free is asked at once.
    rig.peer_up(peer(3));
    rig.all_claim(9);
    assert_eq!((rig.expect_txlist(5).to, rig.expect_txlist(6).to), (peer(3), peer(3)));
    rig.expect_quiet();
    // The others when their window is over.
    rig.advance(SECOND);
    (7..=9).for_each(|block| assert_ne!(rig.expect_txlist(block).to, peer(3)));
    rig.expect_no_reports();
}

#[test]
fn a_peer_that_takes_more_is_asked_more() {
    let mut rig = paced(&[1]);
    (1..=9).for_each(|block| rig.want(block, false));
    assert_eq!(rig.asks().len(), 2);
    let rate_limit = RateLimit { requests: 5.try_into().unwrap(), window: 10 * SECOND };
    rig.input(Input::RateLimit { peer: peer(1), limit: rate_limit });
    assert_eq!(rig.asks().len(), 5);
}

#[test]
fn a_list_is_requested_from_a_peer_that_claims_its_block() {
    for claims in [[20, 19], [19, 20]] {
        let mut rig = Rig::at(20);
        (1..=2).for_each(|n| rig.peer_up(peer(n)));
        for _ in 0..2 {
            let ask = rig.expect_head();
            rig.claim(ask, claims[usize::from(ask.to == peer(2))]);
        }
        rig.want(20, false);
        assert_eq!(rig.expect_txlist(20).to, peer(if claims[0] == 20 { 1 } else { 2 }));
    }
}
