//! Chains that part below the head, and commitments that wait for a parent.

use p2p_catchup::ImportVerdict;
use p2p_types::{HeadSyncStatus, Stall};
use p2p_validation::Authenticated;

use super::rig::{Ask, Rig};
use crate::chain::{SECOND, blocks, branch, head, head_of, peer};

/// Delivers a page of a walk that does not link, and says so.
fn does_not_link(rig: &mut Rig, chain: &[Authenticated], ask: Ask, applied: u64) {
    rig.import_from(chain, ask, head(applied), ImportVerdict::Unlinked { index: 0 });
}

#[test]
fn an_unlinked_page_leads_to_the_fork_in_doubling_steps() {
    let other = branch(2, 14);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(14);
    let mut ask = rig.expect_page(13..);
    for from in [12, 11, 9, 5] {
        does_not_link(&mut rig, &other, ask, 12);
        ask = rig.expect_page(from..);
    }
    does_not_link(&mut rig, &other, ask, 12);
    // The base is at 0: never at or below it.
    let ask = rig.expect_page(1..);
    rig.deliver_from(&other, ask);
    let (id, _, page) = rig.expect_import();
    assert_eq!(page.len(), 4);
    rig.imported(id, Some(head_of(&other[3])), ImportVerdict::Linked);
    // The head fell to the fork's side and goes up again.
    assert!(matches!(rig.status(), HeadSyncStatus::Syncing { applied: 4, .. }));
    let (a, b) = (rig.expect_page(5..), rig.expect_page(9..));
    rig.deliver_from(&other, a);
    rig.deliver_from(&other, b);
    for last in [8, 12] {
        let (id, ..) = rig.expect_import();
        rig.imported(id, Some(head_of(&other[last - 1])), ImportVerdict::Linked);
    }
    let rest = rig.expect_page(13..);
    rig.import_from(&other, rest, Some(head_of(&other[13])), ImportVerdict::Linked);
    rig.advance(SECOND);
    rig.all_claim(14);
    assert_eq!(rig.status(), HeadSyncStatus::Live { head: Some(head_of(&other[13])) });
    rig.expect_no_reports();
}

#[test]
fn a_search_that_links_steps_forward_to_the_fork() {
    // Ours and theirs part after 10; the walk lands at 7 where both agree.
    let other = branch(10, 14);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(14);
    let mut ask = rig.expect_page(13..);
    for from in [12, 11, 9] {
        does_not_link(&mut rig, &other, ask, 12);
        ask = rig.expect_page(from..);
        if from == 9 {
            break;
        }
    }
    rig.import_from(&other, ask, Some(head_of(&other[11])), ImportVerdict::Linked);
    rig.expect_page(13..);
    rig.expect_no_reports();
}

#[test]
fn a_peer_whose_chain_never_meets_ours_holds_up_nobody() {
    let other = branch(0, 9);
    let mut rig = Rig::live(5, &[peer(1), peer(2)]);
    rig.peer_up(peer(3));
    rig.all_claim(9);
    let ask = rig.expect_page(6..);
    assert_eq!(ask.to, peer(3));
    let mut ask = ask;
    for from in [5, 4, 2, 1] {
        does_not_link(&mut rig, &other, ask, 5);
        ask = rig.expect_page(from..);
        assert_eq!(ask.to, peer(3), "the walk is its own");
    }
    // While it went down, an honest peer came.
    rig.peer_up(peer(4));
    rig.all_claim(9);
    let honest = rig.expect_page(6..);
    assert_eq!(honest.to, peer(4), "a walk holds up nobody");
    does_not_link(&mut rig, &other, ask, 5);
    rig.deliver(honest, 9);
    rig.import(6..=9);
    rig.advance(SECOND);
    rig.all_claim(9);
    rig.expect_live(9);
    rig.expect_no_reports();
}

#[test]
fn a_page_that_does_not_meet_the_base_starts_no_search() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(4);
    let ask = rig.expect_page(1..);
    rig.deliver(ask, 4);
    let (id, ..) = rig.expect_import();
    rig.imported(id, None, ImportVerdict::Unlinked { index: 0 });
    rig.expect_no_page();
    rig.advance(SECOND);
    rig.all_claim(4);
    rig.expect_stalled(Stall::NothingDelivered);
    rig.expect_no_reports();
}

#[test]
fn an_orphan_above_the_head_is_a_gap() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.waits(6, blocks(5, 5)[0].hash());
    rig.expect_live(3);
    rig.advance(SECOND);
    rig.expect_syncing();
    rig.advance(SECOND);
    rig.all_claim(6);
    let ask = rig.expect_page(4..);
    rig.deliver(ask, 6);
    rig.import(4..=6);
    rig.advance(SECOND);
    rig.all_claim(6);
    rig.expect_live(6);
}

#[test]
fn a_missing_sibling_is_fetched_from_who_has_it() {
    let other = branch(4, 6);
    let mut rig = Rig::live(5, &[peer(1), peer(2)]);
    rig.waits(6, other[4].hash());
    rig.advance(SECOND);
    rig.all_claim(5);
    // Peer by peer, until one has the parent.
    let ask = rig.expect_page(5..);
    rig.deliver(ask, 5);
    let second = rig.expect_page(5..);
    assert_ne!(second.to, ask.to);
    rig.import_from(&other, second, Some(head_of(&other[5])), ImportVerdict::Linked);
    rig.advance(SECOND);
    rig.all_claim(6);
    assert_eq!(rig.status(), HeadSyncStatus::Live { head: Some(head_of(&other[5])) });
    rig.expect_no_reports();
}

#[test]
fn a_sibling_that_no_peer_has_delays_live_for_a_bounded_time() {
    let other = branch(3, 5);
    let mut rig = Rig::live(5, &[peer(1)]);
    rig.waits(5, other[3].hash());
    rig.advance(SECOND);
    rig.all_claim(5);
    let ask = rig.expect_page(4..);
    rig.fail(ask);
    rig.advance(2 * SECOND);
    let ask = rig.expect_page(4..);
    rig.deliver(ask, 5);
    rig.expect_live(5);
    rig.expect_no_reports();
}
