//! Whose claims count: what costs a peer its say, what does not, and how it comes back.

use p2p_catchup::{Failure, ImportVerdict, Input, Reply, Request};
use p2p_types::{HeadSyncStatus, Stall};
use p2p_validation::Authenticated;

use super::rig::{Ask, Rig};
use crate::chain::{SECOND, Signer, blocks, branch, head, head_of, peer, txlist};

fn page_asks(rig: &Rig) -> Vec<Ask> {
    rig.asks().into_iter().filter(|ask| matches!(ask.request, Request::Page { .. })).collect()
}

/// Answers every page request.
fn answer_pages(rig: &mut Rig, answer: impl Fn(u64) -> Vec<Authenticated>) -> usize {
    let asks = page_asks(rig);
    for ask in &asks {
        let ask = rig.expect_page(ask.range().0..);
        rig.reply(ask, Reply::Page(answer(ask.range().0)));
    }
    asks.len()
}

#[test]
fn a_peer_that_loses_pages_stays_trusted_while_it_delivers() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(40);
    for next in (1..=21).step_by(4) {
        let ask = rig.wait_page(next.., 40);
        rig.fail(ask);
        let ask = rig.wait_page(next.., 40);
        rig.deliver(ask, 40);
        rig.import(next..=next + 3);
        for ask in page_asks(&rig) {
            let ask = rig.expect_page(ask.range().0..);
            rig.fail(ask);
        }
        assert_eq!(rig.target(), 40, "after {next}");
    }
    rig.expect_no_reports();
}

#[test]
fn a_peer_that_delivers_the_winning_fork_stays_trusted() {
    let other = branch(11, 20);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(20);
    let ask = rig.expect_page(13..);
    rig.import_from(&other, ask, head(12), ImportVerdict::Unlinked { index: 0 });
    let ask = rig.expect_page(12..);
    rig.deliver_from(&other, ask);
    let (id, _, page) = rig.expect_import();
    rig.imported(id, Some(head_of(page.last().unwrap())), ImportVerdict::Linked);
    assert_eq!(rig.target(), 20);
    // It is asked on at once. The page from before is still on its way.
    rig.expect_page(17..);
    rig.expect_page(16..);
}

#[test]
fn a_fork_that_wins_with_its_last_page_is_followed_to_its_end() {
    let other = branch(10, 16);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(16);
    let mut ask = rig.expect_page(13..);
    for from in [12, 11] {
        rig.import_from(&other, ask, head(12), ImportVerdict::Unlinked { index: 0 });
        ask = rig.expect_page(from..);
    }
    // It links beside the chain, and does not win yet.
    rig.import_from(&other, ask, head(12), ImportVerdict::Linked);
    assert_eq!(rig.target(), 16);
    let ask = rig.expect_page(15..);
    rig.import_from(&other, ask, Some(head_of(&other[15])), ImportVerdict::Linked);
    rig.advance(SECOND);
    rig.all_claim(16);
    assert_eq!(rig.status(), HeadSyncStatus::Live { head: Some(head_of(&other[15])) });
    rig.expect_no_reports();
}

#[test]
fn a_page_beside_the_chain_is_followed_to_the_end_of_its_branch() {
    let other = branch(10, 20);
    let mut rig = Rig::live(12, &[peer(1), peer(2)]);
    let claimer = peer(1);
    let (mut asked, mut imported) = (0, std::collections::BTreeSet::new());
    rig.advance(13 * SECOND);
    for second in 0..60 {
        for _ in 0..4 {
            while rig.asks().iter().any(|ask| ask.request == Request::Head) {
                let ask = rig.expect_head();
                rig.claim(ask, if ask.to == claimer { 20 } else { 12 });
            }
            // What it stands on is known, but it does not win.
            while let [ask, ..] = page_asks(&rig)[..] {
                asked += 1;
                assert_eq!(ask.to, claimer);
                let ask = rig.expect_page(ask.range().0..);
                rig.deliver_from(&other, ask);
                while let Some((id, page)) = rig.import_out() {
                    imported.extend(page.iter().map(Authenticated::block));
                    rig.imported(id, head(12), ImportVerdict::Linked);
                }
            }
            rig.advance(SECOND / 4);
        }
        // All of it is here, and it has lost: it does not keep us from being live.
        assert!(second < 3 || rig.status().is_live(), "{second}: {}", rig.status());
    }
    assert_eq!(imported, (13..=20).collect());
    assert!(asked <= 24, "{asked}: bounded");
    rig.expect_no_reports();
}

#[test]
fn heads_one_too_high_do_not_end_live_for_long() {
    let peers = [1, 2, 3].map(peer);
    let mut rig = Rig::live(10, &peers);
    // The deployed peers count a handover in their head.
    let handover = |from| vec![Signer::new(7).handover(from, blocks(from - 1, from - 1)[0].hash())];
    rig.advance(13 * SECOND);
    rig.all_claim(11);
    rig.expect_syncing();
    let (mut asked, mut not_live) = (0, 0);
    for _ in 0..2_400 {
        asked += answer_pages(&mut rig, handover);
        rig.advance(SECOND / 4);
        rig.all_claim(11);
        not_live += usize::from(!rig.status().is_live());
    }
    assert!(not_live <= 12, "not live for {not_live} quarters of a second in ten minutes");
    assert!((3..=36).contains(&asked), "{asked} pages");
    rig.expect_no_reports();
    // When there is a block, it is fetched.
    rig.advance(12 * SECOND);
    rig.all_claim(12);
    let ask = rig.wait_page(11.., 12);
    rig.deliver(ask, 12);
    rig.import(11..=12);
    rig.wait_live(12);
}

#[test]
fn repeated_heads_one_too_high_do_not_count() {
    let mut rig = Rig::live(10, &[peer(1), peer(2)]);
    let mut not_live = Vec::new();
    for block in 11..=24 {
        rig.input(Input::Applied { head: head(block) });
        for _ in 0..60 {
            rig.advance(SECOND / 4);
            rig.all_claim(block + 1);
            // An empty page says the same.
            answer_pages(&mut rig, |_| Vec::new());
            if !rig.status().is_live() {
                not_live.push(block);
            }
        }
    }
    assert!(not_live.iter().all(|block| *block <= 16), "{not_live:?}");
    // More than that counts as ever.
    rig.advance(12 * SECOND);
    rig.all_claim(27);
    rig.expect_syncing();
    assert_eq!(rig.target(), 27);
}

#[test]
fn an_unusable_block_is_requested_with_growing_pauses() {
    let mut rig = Rig::at(4);
    rig.peer_up(peer(1));
    rig.all_claim(8);
    let hole = |from: u64| {
        let mut page: Vec<_> = blocks(from, 8);
        page.retain(|block| block.block() != 6);
        if from <= 6 {
            let at = page.iter().position(|block| block.block() > 6).unwrap();
            page.insert(at, Signer::new(7).handover(6, blocks(5, 5)[0].hash()));
        }
        page
    };
    let ask = rig.expect_page(5..);
    rig.reply(ask, Reply::Page(hole(5)));
    rig.import(5..=5);
    let mut asked = 0;
    for _ in 0..2_400 {
        rig.advance(SECOND / 4);
        rig.all_claim(8);
        for ask in page_asks(&rig).iter().filter(|ask| ask.range().0 > 6) {
            let ask = rig.expect_page(ask.range().0..);
            rig.deliver(ask, 8);
        }
        asked += answer_pages(&mut rig, hole);
        assert!(!rig.status().is_live());
    }
    assert!((4..=40).contains(&asked), "{asked}");
    rig.expect_no_reports();
    // It is never left out.
    rig.peer_up(peer(2));
    rig.all_claim(8);
    let ask = rig.wait_page(6.., 8);
    rig.deliver(ask, 8);
    let (id, ..) = rig.expect_import();
    rig.imported(id, head(8), ImportVerdict::Linked);
    rig.wait_live(8);
}

#[test]
fn a_deferred_page_costs_its_peer_nothing() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(4);
    let mut asked = 0;
    for _ in 0..1_200 {
        if let [ask, ..] = page_asks(&rig)[..] {
            asked += 1;
            let ask = rig.expect_page(ask.range().0..);
            rig.deliver(ask, 4);
            let (id, ..) = rig.expect_import();
            rig.imported(id, None, ImportVerdict::Deferred);
        }
        // It is our own failure: not that nobody delivers.
        rig.expect_syncing();
        assert_eq!(rig.target(), 4);
        rig.advance(SECOND / 4);
        rig.all_claim(4);
    }
    assert!((10..=40).contains(&asked), "{asked} in five minutes");
    // Nothing else of the peer is held back.
    rig.want(1, false);
    rig.expect_txlist(1);
    let ask = rig.wait_page(1.., 4);
    rig.deliver(ask, 4);
    rig.import(1..=4);
    rig.expect_no_reports();
}

#[test]
fn a_deferred_page_is_requested_from_another_peer() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.peer_up(peer(2));
    rig.all_claim(4);
    let ask = rig.expect_page(1..);
    rig.deliver(ask, 4);
    let (id, ..) = rig.expect_import();
    // What was stored of it before stays.
    rig.imported(id, head(1), ImportVerdict::Deferred);
    rig.expect_no_page();
    rig.advance(SECOND / 2);
    let other = rig.expect_page(2..);
    assert_ne!(other.to, ask.to);
    rig.deliver(other, 4);
    rig.import(2..=4);
    rig.wait_live(4);
}

#[test]
fn a_search_whose_page_is_deferred_costs_its_peer_nothing() {
    let other = branch(10, 16);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(16);
    for _ in 0..8 {
        let ask = rig.wait_page(13.., 16);
        rig.import_from(&other, ask, head(12), ImportVerdict::Unlinked { index: 0 });
        let ask = rig.expect_page(12..);
        rig.import_from(&other, ask, head(12), ImportVerdict::Deferred);
        assert_eq!(rig.target(), 16);
    }
    rig.expect_no_reports();
}

/// Anybody can sign blocks that nobody has elected them for, and serve them as a chain of their own.
#[test]
fn unusable_blocks_start_no_ancestor_search() {
    let forged = branch(12, 16);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(16);
    for _ in 0..3 {
        let ask = rig.wait_page(13.., 16);
        rig.import_from(&forged, ask, head(12), ImportVerdict::Unusable { index: 0 });
        rig.expect_no_page();
    }
    assert_eq!(rig.target(), 12, "its word counts no more");
    rig.expect_no_reports();
}

#[test]
fn our_own_failures_cost_no_peer_anything() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(4);
    let begun = rig.now;
    for n in 0..20 {
        let ask = rig.wait_page(1.., 4);
        // As does a reply of another kind, which is our mix-up.
        rig.reply(ask, if n % 2 == 0 { Reply::Failed(Failure::Local) } else { Reply::TxListNotFound });
        rig.expect_no_page();
        assert_eq!(rig.target(), 4);
    }
    assert!(rig.now - begun >= 4 * SECOND, "{:?}", rig.now - begun);
    rig.want(1, false);
    for _ in 0..20 {
        let ask = rig.wait_txlist(1, 4);
        rig.reply(ask, Reply::Failed(Failure::Local));
    }
    let ask = rig.wait_txlist(1, 4);
    rig.reply(ask, Reply::TxList(txlist(1)));
    rig.expect_stored_txlist(1);
    rig.expect_no_reports();
}

#[test]
fn waiting_for_another_search_costs_a_peer_nothing() {
    let other = branch(4, 16);
    let mut rig = Rig::live(12, &[peer(1), peer(2)]);
    rig.advance(13 * SECOND);
    rig.all_claim(16);
    let first = rig.expect_page(13..);
    rig.import_from(&other, first, head(12), ImportVerdict::Unlinked { index: 0 });
    // The first one's walk takes its time; the second one is on the same fork.
    let walk = rig.expect_page(12..);
    assert_eq!(walk.to, first.to);
    for _ in 0..10 {
        let second = rig.wait_page(13.., 16);
        assert_ne!(second.to, first.to);
        rig.import_from(&other, second, head(12), ImportVerdict::Unlinked { index: 0 });
        if page_asks(&rig).iter().any(|ask| ask.range().0 == 12) {
            break;
        }
    }
    // A walk that takes long makes way.
    let walk = rig.wait_page(12.., 16);
    assert_ne!(walk.to, first.to);
    assert_eq!(rig.target(), 16);
}

#[test]
fn a_node_whose_peers_tell_no_heads_is_not_stalled() {
    let mut rig = Rig::at(10);
    rig.peer_up(peer(1));
    for block in 11..=40 {
        rig.advance(12 * SECOND);
        while rig.asks().iter().any(|ask| ask.request == Request::Head) {
            let ask = rig.expect_head();
            rig.fail(ask);
        }
        rig.expect_syncing();
        rig.input(Input::Applied { head: head(block) });
        rig.expect_syncing();
    }
    // With something missing it is.
    rig.input(Input::NotStored { block: 50 });
    for _ in 0..40 {
        rig.advance(SECOND);
        while rig.asks().iter().any(|ask| ask.request == Request::Head) {
            let ask = rig.expect_head();
            rig.fail(ask);
        }
    }
    rig.expect_stalled(Stall::NothingDelivered);
}

/// The first peer claims `block`, the others 4.
fn claims(rig: &mut Rig, block: u64) {
    while rig.asks().iter().any(|ask| ask.request == Request::Head) {
        let ask = rig.expect_head();
        rig.claim(ask, if ask.to == peer(1) { block } else { 4 });
    }
}

#[test]
fn a_page_that_does_not_link_forgives_no_lost_pages() {
    let mut rig = Rig::live(4, &[peer(1), peer(2)]);
    rig.advance(13 * SECOND);
    let next = |rig: &mut Rig| {
        for _ in 0..80 {
            claims(rig, 8);
            if let [ask, ..] = page_asks(rig)[..] {
                return rig.expect_page(ask.range().0..);
            }
            rig.advance(SECOND / 4);
        }
        panic!("no page is requested: {}", rig.status());
    };
    for _ in 0..2 {
        let ask = next(&mut rig);
        rig.fail(ask);
    }
    let ask = next(&mut rig);
    rig.deliver(ask, 8);
    // Gossip brings blocks of the page while it is imported.
    let (id, ..) = rig.expect_import();
    rig.imported(id, head(6), ImportVerdict::Unlinked { index: 0 });
    assert_eq!(rig.target(), 8);
    let ask = next(&mut rig);
    rig.fail(ask);
    assert_eq!(rig.target(), 6);
}

#[test]
fn lost_pages_are_forgiven_with_time() {
    let mut rig = Rig::live(4, &[peer(1), peer(2)]);
    rig.advance(13 * SECOND);
    // One of them claims more, and three pages are lost.
    claims(&mut rig, 8);
    let mut lost = 0;
    for _ in 0..80 {
        if let [ask, ..] = page_asks(&rig)[..] {
            let ask = rig.expect_page(ask.range().0..);
            rig.fail(ask);
            lost += 1;
        }
        rig.advance(SECOND / 4);
        claims(&mut rig, 8);
    }
    assert!(lost >= 3, "{lost}");
    rig.expect_live(4);
    // Time goes by, in which it claims no more than there is.
    for _ in 0..2_000 {
        rig.advance(SECOND);
        claims(&mut rig, 4);
    }
    rig.expect_live(4);
    rig.advance(13 * SECOND);
    claims(&mut rig, 8);
    rig.expect_syncing();
    assert_eq!(rig.target(), 8);
}

#[test]
fn the_newest_list_after_its_commitment_does_not_end_live() {
    let mut rig = Rig::live(1, &[peer(1)]);
    for round in 0..20 {
        for block in 2..=40 {
            let back = round > 0 && block == 2;
            if back {
                rig.input(Input::Applied { head: head(1) });
                rig.advance(13 * SECOND);
                rig.all_claim(1);
            }
            rig.want(block, true);
            rig.input(Input::Applied { head: head(block) });
            rig.expect_live(block);
            rig.advance(SECOND / 10);
            rig.expect_live(block);
            rig.input(Input::TxListStored { hash: txlist(block).hash() });
            rig.expect_live(block);
            rig.advance(SECOND);
            rig.all_claim(block);
            rig.expect_live(block);
        }
    }
    rig.expect_quiet();
}

#[test]
fn a_list_missing_beyond_its_grace_ends_live() {
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, true);
    rig.advance(SECOND / 4);
    // Naming it again gives no more time.
    rig.want(3, true);
    rig.advance(SECOND / 4);
    rig.expect_syncing();
    rig.expect_txlist(3);
    // What a page brought has none.
    let mut rig = Rig::live(3, &[peer(1)]);
    rig.want(3, true);
    rig.expect_live(3);
    rig.want(3, false);
    rig.expect_syncing();
    rig.expect_txlist(3);
}

#[test]
fn an_l1_reorg_while_a_page_is_imported_makes_claims_doubtful() {
    let mut rig = Rig::live(6, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(10);
    let ask = rig.expect_page(7..);
    rig.deliver(ask, 10);
    let (id, ..) = rig.expect_import();
    rig.input(Input::Applied { head: head(3) });
    rig.imported(id, head(3), ImportVerdict::Unlinked { index: 0 });
    rig.expect_no_page();
    rig.advance(SECOND);
    rig.all_claim(10);
    rig.expect_page(4..);
    rig.expect_no_reports();
}

#[test]
fn a_search_that_gets_its_pages_does_not_yield() {
    // Ours and theirs part after 1: many pages below the head.
    let other = branch(1, 44);
    let mut rig = Rig::live(40, &[peer(1), peer(2)]);
    rig.advance(13 * SECOND);
    rig.all_claim(44);
    let mut descended = Vec::new();
    let mut walker = None;
    for _ in 0..60 {
        rig.advance(SECOND / 2);
        rig.all_claim(44);
        for ask in page_asks(&rig) {
            let ask = rig.expect_page(ask.range().0..);
            let from = ask.range().0;
            if from <= 40 {
                assert_eq!(*walker.get_or_insert(ask.to), ask.to);
                descended.push(from);
            }
            rig.deliver_from(&other, ask);
            while let Some((id, page)) = rig.import_out() {
                let links = page[0].block() <= 2;
                let (to, verdict) = if links {
                    (Some(head_of(page.last().unwrap())), ImportVerdict::Linked)
                } else {
                    (head(40), ImportVerdict::Unlinked { index: 0 })
                };
                rig.imported(id, to, verdict);
                if links {
                    assert_eq!(descended, [40, 39, 37, 33, 25, 9, 1]);
                    return;
                }
            }
        }
    }
    panic!("{descended:?}");
}

#[test]
fn a_peer_that_leaves_before_its_verdict_keeps_its_record() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.peer_up(peer(2));
    rig.all_claim(0);
    rig.expect_live(0);
    rig.advance(13 * SECOND);
    let claims = |rig: &mut Rig| {
        while rig.asks().iter().any(|ask| ask.request == Request::Head) {
            let ask = rig.expect_head();
            rig.claim(ask, if ask.to == peer(1) { 4 } else { 0 });
        }
    };
    claims(&mut rig);
    let ask = rig.expect_page(1..);
    rig.deliver(ask, 4);
    let (id, ..) = rig.expect_import();
    rig.input(Input::PeerDown(peer(1)));
    rig.imported(id, None, ImportVerdict::Unlinked { index: 0 });
    rig.peer_up(peer(1));
    for _ in 0..8 {
        rig.advance(SECOND / 4);
        claims(&mut rig);
    }
    rig.expect_live(0);
}

#[test]
fn a_node_can_be_stalled_after_a_page_that_was_deferred() {
    let mut rig = Rig::at(0);
    rig.peer_up(peer(1));
    rig.all_claim(4);
    let ask = rig.expect_page(1..);
    rig.deliver(ask, 4);
    let (id, ..) = rig.expect_import();
    rig.imported(id, None, ImportVerdict::Deferred);
    rig.advance(SECOND);
    let ask = rig.wait_page(1.., 4);
    rig.deliver(ask, 4);
    rig.import(1..=4);
    rig.wait_live(4);
    rig.input(Input::NotStored { block: 6 });
    for _ in 0..30 {
        rig.advance(SECOND);
        rig.all_claim(4);
    }
    rig.expect_stalled(Stall::NothingDelivered);
}

#[test]
fn a_search_steps_over_an_unusable_height() {
    let other = branch(5, 16);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(16);
    let ask = rig.expect_page(13..);
    rig.import_from(&other, ask, head(12), ImportVerdict::Unlinked { index: 0 });
    let ask = rig.expect_page(12..);
    rig.reply(ask, Reply::Page(vec![Signer::new(7).handover(12, blocks(11, 11)[0].hash())]));
    let ask = rig.expect_page(11..);
    rig.reply(ask, Reply::Page(other[12..14].to_vec()));
    rig.expect_page(9..);
    assert_eq!(rig.target(), 16);
    rig.expect_no_reports();
}

#[test]
fn a_branch_that_breaks_off_starts_no_search_below() {
    let other = branch(10, 24);
    let mut rig = Rig::live(12, &[peer(1)]);
    rig.advance(13 * SECOND);
    rig.all_claim(18);
    let first = rig.expect_page(13..);
    let rest = rig.expect_page(17..);
    rig.import_from(&other, first, head(12), ImportVerdict::Linked);
    rig.fail(rest);
    let ask = rig.wait_page(17.., 18);
    rig.import_from(&other, ask, head(12), ImportVerdict::Unlinked { index: 0 });
    rig.expect_no_page();
}
