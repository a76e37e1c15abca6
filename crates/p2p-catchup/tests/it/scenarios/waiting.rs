//! Commitments that wait, blocks that could not be stored, and a base that moves.

use p2p_catchup::{CatchUpConfig, ImportVerdict, Input, Request};
use p2p_types::{B256, Head, HeadSyncStatus, Stall};

use super::rig::Rig;
use crate::chain::{SECOND, Signer, blocks, config, head, head_of, peer};

/// A parent that somebody has made up.
fn invented(n: u16) -> B256 {
    let mut hash = B256::repeat_byte(0xee);
    hash[..2].copy_from_slice(&n.to_be_bytes());
    hash
}

/// Page requests that came out; they are answered as honest peers do.
fn pages_asked(rig: &mut Rig, to: u64) -> usize {
    let pages: Vec<_> =
        rig.asks().into_iter().filter(|ask| matches!(ask.request, Request::Page { .. })).collect();
    for ask in &pages {
        let ask = rig.expect_page(ask.range().0..);
        rig.deliver(ask, to);
    }
    pages.len()
}

#[test]
fn ten_thousand_invented_siblings_cost_a_few_requests() {
    let peers: Vec<_> = (1..=8).map(peer).collect();
    let mut rig = Rig::live(10, &peers);
    let mut asked = 0;
    for n in 0..10_000 {
        rig.waits(5 + u64::from(n % 6), invented(n));
        if n % 100 == 0 {
            rig.advance(SECOND / 10);
            rig.all_claim(10);
            asked += pages_asked(&mut rig, 10);
        }
    }
    for _ in 0..20 {
        rig.advance(SECOND / 4);
        rig.all_claim(10);
        asked += pages_asked(&mut rig, 10);
    }
    assert!((1..=8).contains(&asked), "{asked} in fifteen seconds");
    rig.expect_live(10);
    rig.expect_no_reports();
}

#[test]
fn an_honest_orphan_is_found_while_a_liar_invents_others() {
    let other = Signer::new(7).chain(10, 11, blocks(9, 9)[0].hash(), 1);
    let mut rig = Rig::live(10, &[peer(1)]);
    for n in 0..1_000 {
        rig.waits_by(66, 5, invented(n));
    }
    // The liar has used up what it can look for.
    for _ in 0..24 {
        rig.advance(SECOND / 4);
        rig.all_claim(10);
        pages_asked(&mut rig, 10);
    }
    let before = rig.now;
    rig.waits_by(1, 11, other[0].hash());
    let ask = rig.wait_page(10.., 10);
    assert!(rig.now - before <= SECOND, "{:?}", rig.now - before);
    rig.reply(ask, p2p_catchup::Reply::Page(other.clone()));
    let (id, ..) = rig.expect_import();
    rig.imported(id, Some(head_of(&other[1])), ImportVerdict::Linked);
    rig.waits_no_more(other[0].hash());
    rig.wait_live(11);
}

#[test]
fn a_parent_that_two_signers_name_is_searched_for_by_either() {
    let other = Signer::new(7).chain(10, 11, blocks(9, 9)[0].hash(), 1);
    let mut rig = Rig::live(10, &[peer(1)]);
    for n in 0..8 {
        rig.waits_by(66, 5, invented(n));
    }
    for _ in 0..24 {
        rig.advance(SECOND / 4);
        rig.all_claim(10);
        pages_asked(&mut rig, 10);
    }
    // The liar names the honest parent first: it cannot wear that out.
    rig.waits_by(66, 11, other[0].hash());
    rig.waits_by(1, 11, other[0].hash());
    let before = rig.now;
    rig.wait_page(10.., 10);
    assert!(rig.now - before <= SECOND, "{:?}", rig.now - before);
}

#[test]
fn a_slow_search_yields_to_other_signers() {
    let mut rig = Rig::live(10, &[peer(1), peer(2)]);
    rig.waits_by(66, 6, invented(1));
    rig.advance(SECOND);
    rig.all_claim(10);
    let slow = rig.expect_page(5..);
    rig.waits_by(1, 9, invented(2));
    rig.advance(2 * SECOND);
    rig.all_claim(10);
    rig.expect_no_page();
    rig.advance(2 * SECOND);
    rig.all_claim(10);
    let ask = rig.expect_page(8..);
    rig.deliver(slow, 10);
    rig.deliver(ask, 10);
    rig.expect_no_reports();
}

#[test]
fn searches_of_a_signer_begin_at_once_again_after_a_find() {
    let mut rig = Rig::live(10, &[peer(1), peer(2), peer(3), peer(4), peer(5)]);
    // Three searches without a find use up the budget.
    for n in 0..3 {
        rig.waits(6, invented(n));
        rig.advance(SECOND);
        rig.all_claim(10);
        let ask = rig.expect_page(5..);
        rig.waits_no_more(invented(n));
        rig.deliver(ask, 10);
    }
    let other = Signer::new(7).chain(10, 10, blocks(9, 9)[0].hash(), 1);
    rig.waits(11, other[0].hash());
    let ask = rig.wait_page(10.., 10);
    rig.reply(ask, p2p_catchup::Reply::Page(other.clone()));
    let (id, ..) = rig.expect_import();
    // It links beside the chain.
    rig.imported(id, head(10), ImportVerdict::Linked);
    rig.waits_no_more(other[0].hash());
    rig.advance(SECOND);
    rig.all_claim(10);
    for n in 10..13 {
        rig.waits(6, invented(n));
        rig.advance(SECOND);
        rig.all_claim(10);
        let ask = rig.expect_page(5..);
        rig.waits_no_more(invented(n));
        rig.deliver(ask, 10);
    }
}

#[test]
fn an_invented_parent_delays_live_for_a_bounded_time() {
    let mut rig = Rig::live(10, &[peer(1), peer(2)]);
    rig.waits(21, invented(1));
    let begun = rig.now;
    rig.expect_live(10);
    rig.advance(SECOND);
    rig.expect_syncing();
    rig.wait_live(10);
    let took = rig.now - begun;
    assert!(took >= 4 * SECOND && took <= 6 * SECOND, "{took:?}");
    // It is told again and again, higher and higher.
    for n in 2..60 {
        rig.waits(20 + n, invented(n as u16));
        rig.advance(SECOND);
        rig.all_claim(10);
        rig.expect_live(10);
    }
    rig.expect_no_reports();
}

#[test]
fn an_invented_parent_does_not_begin_anew_when_the_base_moves() {
    let mut rig = Rig::live(40, &[peer(1)]);
    rig.waits(50, invented(1));
    rig.advance(SECOND);
    rig.wait_live(40);
    for base in 1..=30 {
        rig.input(Input::Settled { base });
        // The client judges all that waits again.
        rig.waits_no_more(invented(1));
        rig.waits(50, invented(1));
        rig.advance(12 * SECOND);
        rig.all_claim(40);
        rig.expect_live(40);
    }
}

#[test]
fn what_waits_and_is_claimed_by_a_peer_is_waited_for() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.waits(12, blocks(11, 11)[0].hash());
    rig.advance(SECOND);
    rig.all_claim(12);
    let ask = rig.expect_page(11..);
    rig.advance(8 * SECOND);
    rig.expect_syncing();
    rig.deliver(ask, 12);
    rig.import(11..=12);
    rig.waits_no_more(blocks(11, 11)[0].hash());
    rig.wait_live(12);
}

#[test]
fn nothing_expires_while_no_peer_answers() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.waits(12, blocks(11, 11)[0].hash());
    rig.advance(20 * SECOND);
    assert!(!rig.status().is_live(), "{}", rig.status());
    assert!(!rig.asks().is_empty());
}

#[test]
fn the_level_of_what_waits_replaces_the_one_before() {
    let mut rig = Rig::live(10, &[peer(1)]);
    let seen = |rig: &Rig| match rig.status() {
        HeadSyncStatus::Syncing { seen, target, .. } => (seen, target),
        other => panic!("{other}"),
    };
    rig.input(Input::Waiting { highest: Some(u64::MAX - 1) });
    rig.advance(SECOND);
    assert_eq!(seen(&rig), (u64::MAX - 1, u64::MAX - 1));
    rig.input(Input::Waiting { highest: Some(12) });
    assert_eq!(seen(&rig), (12, 12));
    rig.input(Input::Waiting { highest: None });
    rig.wait_live(10);
}

#[test]
fn a_handover_before_its_last_block_leaves_nothing_behind() {
    let mut rig = Rig::live(10, &[peer(1)]);
    let last = blocks(11, 11)[0].hash();
    // It declines 12 and links to 11, which comes a moment later.
    rig.input(Input::Orphan { block: 12, parent: last, signer: Default::default() });
    rig.input(Input::Waiting { highest: Some(11) });
    rig.expect_live(10);
    rig.input(Input::Applied { head: head(11) });
    rig.input(Input::Waiting { highest: None });
    for _ in 0..60 {
        rig.expect_live(11);
        rig.advance(SECOND);
        rig.all_claim(11);
    }
    rig.expect_no_page();
}

#[test]
fn a_level_that_sinks_does_not_invalidate_heads() {
    let mut rig = Rig::live(10, &[peer(1)]);
    for _ in 0..50 {
        rig.waits(12, blocks(11, 11)[0].hash());
        rig.advance(SECOND / 10);
        rig.expect_live(10);
        rig.waits_no_more(blocks(11, 11)[0].hash());
        rig.expect_live(10);
        rig.advance(SECOND / 10);
    }
    rig.advance(SECOND);
    rig.expect_live(10);
}

#[test]
fn a_block_not_stored_ends_live_until_it_is_reached() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.input(Input::NotStored { block: 12 });
    assert!(matches!(rig.status(), HeadSyncStatus::Syncing { seen: 12, target: 12, .. }), "{}", rig.status());
    // What waits has nothing to do with it.
    rig.input(Input::Waiting { highest: None });
    rig.expect_syncing();
    let ask = rig.wait_page(11.., 12);
    rig.deliver(ask, 12);
    rig.import(11..=12);
    rig.wait_live(12);
}

#[test]
fn a_block_not_stored_is_given_up_only_after_requests() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.input(Input::NotStored { block: 12 });
    for _ in 0..58 {
        rig.advance(SECOND);
        rig.all_claim(10);
        assert!(!rig.status().is_live());
    }
    rig.expect_stalled(Stall::NothingDelivered);
    rig.wait_live(10);

    let mut rig = Rig::live(10, &[peer(1)]);
    rig.input(Input::NotStored { block: 12 });
    rig.advance(300 * SECOND);
    rig.input(Input::PeerDown(peer(1)));
    rig.peer_up(peer(2));
    rig.advance(SECOND);
    assert!(!rig.status().is_live(), "nobody has answered");
}

#[test]
fn live_does_not_flap_while_the_base_moves_every_second() {
    let begun = std::time::Instant::now();
    let top = 100_000;
    let head = |number| Some(Head { number, hash: numbered(number) });
    let mut rig = Rig::new();
    rig.peer_up(peer(1));
    rig.input(Input::Start { base: 0, head: head(top) });
    rig.all_claim(top);
    assert!(rig.status().is_live());
    for second in 1..=3_600 {
        rig.input(Input::Settled { base: second });
        assert!(rig.status().is_live(), "{second}: {}", rig.status());
        // A block each second as well.
        rig.input(Input::Applied { head: head(top + second) });
        assert!(rig.status().is_live(), "{second}: {}", rig.status());
        rig.advance(SECOND);
        rig.all_claim(top + second);
        assert!(rig.status().is_live(), "{second}: {}", rig.status());
    }
    rig.expect_no_page();
    println!("an hour of a base that moves every second: {:?}", begun.elapsed());
}

fn numbered(number: u64) -> B256 {
    let mut hash = B256::repeat_byte(7);
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

#[test]
fn a_base_that_moves_throws_no_page_away_that_still_counts() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(20);
    let (first, second) = (rig.expect_page(1..), rig.expect_page(5..));
    rig.deliver(second, 20);
    rig.input(Input::Settled { base: 2 });
    rig.expect_quiet();
    rig.deliver(first, 20);
    rig.import(3..=4);
    rig.import(5..=8);
}

#[test]
fn a_base_above_the_head_is_where_it_goes_on() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.waits(5, blocks(4, 4)[0].hash());
    rig.input(Input::Settled { base: 9 });
    assert_eq!(rig.status(), HeadSyncStatus::Live { head: None });
    rig.advance(13 * SECOND);
    rig.all_claim(12);
    let ask = rig.expect_page(10..);
    rig.deliver(ask, 12);
    rig.import(10..=12);
    rig.wait_live(12);
}

#[test]
fn starting_again_is_settling() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.input(Input::Start { base: 5, head: head(10) });
    rig.expect_live(10);
    rig.input(Input::Start { base: 5, head: head(10) });
    rig.expect_live(10);
    rig.input(Input::Settled { base: 10 });
    assert_eq!(rig.status(), HeadSyncStatus::Live { head: None });
    rig.input(Input::Applied { head: None });
    assert_eq!(rig.status(), HeadSyncStatus::Live { head: None });
}

#[test]
fn a_base_before_the_start_starts_nothing() {
    let mut rig = Rig::new();
    rig.peer_up(peer(1));
    rig.input(Input::Settled { base: 5 });
    assert_eq!(rig.status(), HeadSyncStatus::WaitingForL2);
    rig.expect_quiet();
}

#[test]
fn nothing_at_or_below_the_base_is_looked_for() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.waits(6, invented(1));
    rig.waits(8, invented(2));
    rig.input(Input::Settled { base: 5 });
    rig.advance(SECOND);
    rig.all_claim(10);
    let ask = rig.expect_page(7..);
    rig.deliver(ask, 10);
    for _ in 0..60 {
        rig.advance(SECOND);
        rig.all_claim(10);
        rig.expect_no_page();
    }
}

#[test]
fn the_time_that_what_waits_keeps_from_live_can_be_set() {
    let mut rig = Rig::with(CatchUpConfig { waiting_ttl: 20 * SECOND, ..config() });
    rig.input(Input::Start { base: 0, head: head(10) });
    rig.peer_up(peer(1));
    rig.all_claim(10);
    rig.waits(6, invented(1));
    rig.waits(30, invented(2));
    for _ in 0..19 {
        rig.advance(SECOND);
        rig.all_claim(10);
        pages_asked(&mut rig, 10);
        assert!(!rig.status().is_live());
    }
    rig.advance(2 * SECOND);
    rig.all_claim(10);
    rig.expect_live(10);
}

fn head_asks(rig: &Rig) -> usize {
    rig.asks().iter().filter(|ask| ask.request == Request::Head).count()
}

#[test]
fn about_what_nobody_claims_heads_are_asked_again_soon() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.input(Input::NotStored { block: 12 });
    let mut rounds = 0;
    for _ in 0..24 {
        rig.advance(SECOND / 4);
        rounds += head_asks(&rig);
        rig.all_claim(10);
    }
    assert!((3..=8).contains(&rounds), "{rounds} in six seconds");
}

#[test]
fn about_a_missing_sibling_heads_are_asked_once() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.advance(SECOND);
    rig.waits(6, invented(1));
    rig.advance(SECOND / 4);
    assert_eq!(head_asks(&rig), 0, "gossip may bring it");
    rig.advance(SECOND);
    assert_eq!(head_asks(&rig), 1);
    rig.all_claim(10);
    rig.advance(3 * SECOND);
    assert_eq!(head_asks(&rig), 0);
}

#[test]
fn a_head_that_moves_ends_the_pause_after_rounds_that_brought_nothing() {
    let mut rig = Rig::live(10, &[peer(1)]);
    rig.input(Input::NotStored { block: 15 });
    let (mut rounds, mut quiet) = (0, 0);
    while quiet < 8 {
        rig.advance(SECOND / 4);
        quiet = if head_asks(&rig) > 0 { 0 } else { quiet + 1 };
        rounds += head_asks(&rig);
        rig.all_claim(10);
    }
    assert!(rounds > 2, "{rounds}");
    rig.input(Input::Applied { head: head(11) });
    assert_eq!(head_asks(&rig), 1);
}

#[test]
fn a_search_waits_until_a_peer_has_told_its_head() {
    let mut rig = Rig::at(10);
    rig.peer_up(peer(1));
    let ask = rig.expect_head();
    rig.waits(8, invented(1));
    rig.advance(SECOND);
    rig.expect_no_page();
    rig.claim(ask, 10);
    rig.expect_page(7..);
}
