//! Each state, and the event that leaves it.

use std::time::Instant;

use p2p_catchup::{CatchUp, CatchUpConfig, CatchUpConfigError, Input, Output, Reply, Request};
use p2p_types::{HeadSyncStatus, Stall, UnixSeconds};

use super::rig::Rig;
use crate::chain::{SECOND, blocks, config, head, peer};

#[test]
fn settings_that_do_not_go_together_make_no_machine() {
    let config = CatchUpConfig { page_size: 257.try_into().unwrap(), ..Default::default() };
    assert_eq!(
        CatchUp::new(config, 0).unwrap_err(),
        CatchUpConfigError::PageSize { limit: 256, actual: 257 }
    );
}

#[test]
fn a_status_is_told_once_for_each_change() {
    let (mut machine, now) = (CatchUp::new(config(), 1).unwrap(), Instant::now());
    assert!(machine.poll_output().is_none());
    for told in [HeadSyncStatus::WaitingForL2].map(Some).into_iter().chain([None, None]) {
        machine.handle(now, Input::Tick);
        let status = machine.poll_output().map(|output| match output {
            Output::Status(status) => status,
            other => panic!("{other:?}"),
        });
        assert_eq!(status, told);
        assert!(machine.poll_output().is_none());
    }
}

#[test]
fn a_peer_that_is_up_already_is_not_asked_again() {
    let mut rig = Rig::live(5, &[peer(1)]);
    rig.peer_up(peer(1));
    rig.expect_quiet();
    rig.peer_up(peer(2));
    assert_eq!(rig.expect_head().to, peer(2));
    rig.expect_quiet();
}

#[test]
fn nothing_is_asked_before_the_l2_execution_reached_the_tip() {
    let mut rig = Rig::new();
    assert_eq!(rig.status(), HeadSyncStatus::Idle);
    rig.peer_up(peer(1));
    assert_eq!(rig.status(), HeadSyncStatus::WaitingForL2);
    rig.input(Input::NotStored { block: 9 });
    rig.want(3, false);
    rig.advance(60 * SECOND);
    rig.expect_quiet();
    rig.input(Input::Start { base: 0, head: None });
    rig.expect_head();
    rig.expect_txlist(3);
    rig.expect_syncing();
}

#[test]
fn a_node_without_peers_is_not_live() {
    let mut rig = Rig::at(3);
    rig.expect_stalled(Stall::NoPeers);
    rig.peer_up(peer(1));
    rig.expect_syncing();
    rig.all_claim(3);
    rig.expect_live(3);
}

#[test]
fn the_base_alone_can_be_live() {
    let rig = Rig::live(0, &[peer(1)]);
    assert_eq!(rig.status(), HeadSyncStatus::Live { head: None });
}

#[test]
fn heads_are_asked_from_several_peers_but_not_from_all() {
    let mut rig = Rig::new();
    (1..=9).for_each(|n| rig.peer_up(peer(n)));
    rig.input(Input::Start { base: 0, head: None });
    assert_eq!(rig.asks().len(), 3);
}

#[test]
fn live_waits_for_the_whole_round() {
    let mut rig = Rig::new();
    (1..=3).for_each(|n| rig.peer_up(peer(n)));
    rig.input(Input::Start { base: 0, head: head(3) });
    let (a, b, c) = (rig.expect_head(), rig.expect_head(), rig.expect_head());
    rig.claim(a, 3);
    rig.fail(b);
    rig.expect_syncing();
    rig.claim(c, 8);
    rig.expect_syncing();
    rig.expect_page(4..);
}

#[test]
fn from_a_gap_to_live_heads_are_asked_again_at_the_end() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(6);
    let (first, second) = (rig.expect_page(1..), rig.expect_page(5..));
    assert_eq!((Rig::count(first), Rig::count(second)), (4, 2));
    rig.deliver(first, 6);
    rig.import(1..=4);
    rig.deliver(second, 6);
    rig.import(5..=6);
    rig.expect_syncing();
    rig.advance(SECOND);
    rig.all_claim(7);
    let more = rig.expect_page(7..);
    rig.deliver(more, 7);
    rig.import(7..=7);
    rig.advance(SECOND);
    rig.all_claim(7);
    rig.expect_live(7);
    rig.expect_no_reports();
}

#[test]
fn a_live_node_asks_for_heads_regularly_and_finds_a_silent_gap() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.advance(11 * SECOND);
    rig.expect_quiet();
    rig.advance(2 * SECOND);
    rig.all_claim(5);
    rig.expect_syncing();
    rig.expect_page(4..);
}

#[test]
fn heads_that_nobody_repeats_get_stale() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.input(Input::PeerDown(peer(1)));
    rig.expect_live(3);
    rig.advance(37 * SECOND);
    rig.expect_stalled(Stall::NoPeers);
}

#[test]
fn heads_are_requested_when_a_gap_outlasts_its_grace() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.advance(SECOND);
    rig.waits(5, blocks(4, 4)[0].hash());
    rig.expect_live(3);
    rig.expect_quiet();
    rig.advance(SECOND);
    assert!(
        matches!(rig.status(), HeadSyncStatus::Syncing { applied: 3, seen: 5, target: 5, .. }),
        "{}",
        rig.status()
    );
    rig.all_claim(5);
    let page = rig.expect_page(4..);
    rig.deliver(page, 5);
    rig.import(4..=5);
    rig.advance(SECOND);
    rig.all_claim(5);
    rig.expect_live(5);
}

#[test]
fn a_gap_that_gossip_closes_costs_no_request_and_no_status() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.waits(5, blocks(4, 4)[0].hash());
    rig.expect_live(3);
    rig.advance(SECOND / 4);
    rig.input(Input::Applied { head: head(4) });
    rig.expect_live(4);
    rig.input(Input::Applied { head: head(5) });
    rig.waits_no_more(blocks(4, 4)[0].hash());
    rig.expect_live(5);
    rig.advance(2 * SECOND);
    rig.expect_quiet();
}

#[test]
fn a_block_not_stored_stalls_until_no_peer_had_it_for_long() {
    let not_stored_ttl = 600 * SECOND;
    let mut rig = Rig::with(CatchUpConfig { not_stored_ttl, ..config() });
    rig.input(Input::Start { base: 0, head: head(3) });
    (1..=2).for_each(|n| rig.peer_up(peer(n)));
    rig.all_claim(3);
    rig.expect_live(3);
    rig.input(Input::NotStored { block: 5 });
    let mut rounds = 0;
    for _ in 0..598 {
        rig.advance(SECOND);
        rounds += usize::from(!rig.asks().is_empty());
        rig.all_claim(3);
        rig.expect_no_page();
    }
    rig.expect_stalled(Stall::NothingDelivered);
    assert!((20..80).contains(&rounds), "{rounds}: neither silent nor hot");
    rig.advance(40 * SECOND);
    rig.wait_live(3);
    rig.expect_no_reports();
}

#[test]
fn a_reorg_makes_every_claim_doubtful() {
    let mut rig = Rig::live(6, &[peer(1)]);
    rig.advance(SECOND);
    rig.input(Input::Applied { head: head(4) });
    rig.expect_syncing();
    rig.all_claim(4);
    rig.expect_live(4);
}

#[test]
fn a_peer_that_leaves_with_more_invalidates_heads() {
    let mut rig = Rig::live(3, &[peer(1), peer(2)]);
    rig.peer_up(peer(3));
    rig.all_claim(9);
    let page = rig.expect_page(4..);
    rig.expect_page(8..);
    assert_eq!(page.to, peer(3));
    rig.input(Input::PeerDown(peer(3)));
    rig.expect_syncing();
    rig.advance(SECOND);
    rig.all_claim(3);
    rig.expect_live(3);
}

#[test]
fn late_foreign_unknown_and_mixed_up_replies_change_nothing() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.peer_up(peer(2));
    rig.all_claim(4);
    let page = rig.expect_page(1..);
    let other = if page.to == peer(1) { peer(2) } else { peer(1) };
    rig.input(Input::Reply { id: page.id, from: other, reply: Reply::Page(blocks(1, 4)) });
    rig.expect_quiet();
    rig.advance(21 * SECOND);
    rig.reply(page, Reply::Page(blocks(1, 4)));
    rig.all_claim(4);
    let again = rig.expect_page(1..);
    assert_eq!(again.to, other, "the one that kept silent is in a pause");
    rig.deliver(again, 4);
    rig.reply(again, Reply::Page(blocks(1, 4)));
    rig.import(1..=4);
    let (id, ..) = (again.id, 0);
    rig.input(Input::Imported { id, head: head(2), verdict: p2p_catchup::ImportVerdict::Linked });
    assert!(
        matches!(rig.status(), HeadSyncStatus::Syncing { applied: 4, .. }),
        "a second verdict counts for nothing"
    );
    rig.advance(SECOND);
    let heads = rig.expect_head();
    rig.reply(heads, Reply::TxListNotFound);
    rig.expect_no_reports();
}

#[test]
fn the_highest_number_overflows_nothing() {
    let mut rig = Rig::new();
    rig.peer_up(peer(1));
    rig.input(Input::Start { base: u64::MAX - 2, head: None });
    rig.all_claim(u64::MAX);
    let page = rig.expect_page(u64::MAX - 1..);
    assert_eq!(Rig::count(page), 2);
    rig.input(Input::NotStored { block: u64::MAX });
    rig.waits(u64::MAX, blocks(1, 1)[0].hash());
    rig.reply(page, Reply::Page(Vec::new()));
    rig.input(Input::Start { base: u64::MAX, head: None });
    rig.wait_live(u64::MAX);
    assert!(!rig.asks().iter().any(|ask| matches!(ask.request, Request::Page { .. })));
}

#[test]
fn heads_older_than_their_invalidation_do_not_confirm() {
    let mut rig = Rig::at(6);
    rig.peer_up(peer(1));
    let old = rig.expect_head();
    rig.input(Input::Applied { head: head(5) });
    rig.claim(old, 5);
    rig.expect_syncing();
    rig.advance(SECOND);
    rig.all_claim(5);
    rig.expect_live(5);
}

#[test]
fn no_head_counts_for_more_than_the_schedule_allows() {
    let mut rig = Rig::at(3);
    rig.peer_up(peer(1));
    rig.input(Input::Ceiling { block: 9 });
    rig.all_claim(u64::MAX);
    assert!(matches!(rig.status(), HeadSyncStatus::Syncing { target: 9, .. }), "{}", rig.status());
    rig.expect_page(4..);
    let last = rig.expect_page(8..);
    assert_eq!(last.range(), (8, 9));
    rig.input(Input::Ceiling { block: 10 });
    assert!(matches!(rig.status(), HeadSyncStatus::Syncing { target: 10, .. }), "{}", rig.status());
}

#[test]
fn the_status_says_how_fast_it_goes() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(20);
    let ask = rig.expect_page(1..);
    rig.advance(SECOND);
    rig.deliver(ask, 20);
    rig.import(1..=4);
    let speed = |rig: &Rig| match rig.status() {
        HeadSyncStatus::Syncing { commitments_per_second, .. } => commitments_per_second,
        other => panic!("{other}"),
    };
    assert_eq!(speed(&rig), 4);
    rig.advance(5 * SECOND);
    assert_eq!(speed(&rig), 4, "over the time until the head moved last");
    rig.advance(6 * SECOND);
    assert_eq!(speed(&rig), 0);
}

#[test]
fn the_status_says_since_when_it_is_stalled() {
    let mut rig = Rig::new();
    rig.machine.set_wall_clock(rig.now, UnixSeconds::new(1_000));
    rig.input(Input::Start { base: 0, head: head(3) });
    let since = |rig: &Rig| match rig.status() {
        HeadSyncStatus::Stalled { since, .. } => since.get(),
        other => panic!("{other}"),
    };
    assert_eq!(since(&rig), 1_000);
    rig.advance(50 * SECOND);
    assert_eq!(since(&rig), 1_000);
    rig.peer_up(peer(1));
    rig.all_claim(3);
    rig.expect_live(3);
    rig.input(Input::PeerDown(peer(1)));
    rig.advance(36 * SECOND);
    assert_eq!(since(&rig), 1_086);
}

#[test]
fn an_l1_reorg_of_everything_starts_again_from_the_base() {
    let mut rig = Rig::live(6, &[peer(1)]);
    rig.peer_up(peer(2));
    rig.all_claim(9);
    let above = rig.expect_page(7..);
    rig.want(6, false);
    rig.expect_txlist(6);
    rig.input(Input::TxListNotNeeded { block: 6, hash: crate::chain::txlist(6).hash() });
    rig.input(Input::Applied { head: None });
    // What is above a head that is gone is of no use.
    rig.deliver(above, 9);
    rig.expect_syncing();
    rig.advance(SECOND);
    rig.all_claim(9);
    let page = rig.expect_page(1..);
    rig.deliver(page, 9);
    rig.import(1..=4);
    rig.expect_no_reports();
}

#[test]
fn a_base_that_falls_back_is_started_from() {
    let mut rig = Rig::new();
    rig.peer_up(peer(1));
    rig.input(Input::Start { base: 8, head: None });
    rig.all_claim(8);
    rig.expect_live(0);
    rig.input(Input::Start { base: 4, head: None });
    rig.expect_syncing();
    rig.advance(SECOND);
    rig.all_claim(8);
    rig.expect_page(5..);
}

#[test]
fn all_peers_cut_off_for_a_minute_cost_nothing_but_the_minute() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.peer_up(peer(2));
    rig.all_claim(12);
    let (first, second) = (rig.expect_page(1..), rig.expect_page(5..));
    rig.deliver(first, 12);
    rig.import(1..=4);
    rig.deliver(second, 12);
    let (importing, ..) = rig.expect_import();
    rig.expect_page(9..);
    rig.want(3, false);
    rig.want(4, false);
    let (third, fourth) = (rig.expect_txlist(3), rig.expect_txlist(4));
    rig.reply(third, Reply::TxList(crate::chain::txlist(3)));
    rig.expect_stored_txlist(3);
    for n in 1..=2 {
        rig.input(Input::PeerDown(peer(n)));
    }
    rig.expect_stalled(Stall::NoPeers);
    // What had come is judged and stored all the same.
    rig.imported(importing, head(8), p2p_catchup::ImportVerdict::Linked);
    rig.input(Input::TxListStored { hash: crate::chain::txlist(3).hash() });
    rig.advance(60 * SECOND);
    rig.expect_quiet();
    for n in 1..=2 {
        rig.peer_up(peer(n));
    }
    rig.all_claim(12);
    let ask = rig.wait_page(9.., 12);
    let again = rig.expect_txlist(4);
    assert_ne!(again.id, fourth.id);
    rig.expect_quiet();
    rig.deliver(ask, 12);
    rig.import(9..=12);
    rig.reply(again, Reply::TxList(crate::chain::txlist(4)));
    rig.input(Input::TxListStored { hash: crate::chain::txlist(4).hash() });
    rig.wait_live(12);
    rig.expect_no_reports();
}

#[test]
fn a_node_that_gets_neither_blocks_nor_lists_is_not_stalled_for_lists_alone() {
    let mut rig = Rig::at(4);
    rig.peer_up(peer(1));
    rig.all_claim(20);
    rig.want(3, false);
    let ask = rig.expect_txlist(3);
    rig.reply(ask, Reply::TxListNotFound);
    for from in [5, 9] {
        let ask = rig.expect_page(from..);
        rig.fail(ask);
    }
    rig.expect_stalled(Stall::NothingDelivered);
}
