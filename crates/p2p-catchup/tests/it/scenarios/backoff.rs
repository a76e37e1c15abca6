//! Each peer has pauses and a budget of its own; nothing stops everybody.

use p2p_catchup::{Backoff, CatchUpConfig, Input, Reply};
use p2p_types::{BlockNumber, PeerId};

use super::rig::Rig;
use crate::chain::{self, SECOND, head, peer, txlist};

const BACKOFF: Backoff = Backoff {
    budget: std::num::NonZeroU32::new(3).unwrap(),
    window: std::time::Duration::from_secs(30),
    jitter: 0,
    ..Backoff::recommended()
};

/// Live at 9, with one peer.
fn rig() -> Rig {
    let mut rig = Rig::with(CatchUpConfig { backoff: BACKOFF, ..chain::config() });
    rig.input(Input::Start { base: 0, head: head(9) });
    rig.peer_up(peer(1));
    rig.all_claim(9);
    rig.expect_live(9);
    rig
}

/// Asks for the list of a block, and fails.
fn fail(rig: &mut Rig, block: BlockNumber) -> PeerId {
    let ask = rig.wait_txlist(block, 9);
    rig.fail(ask);
    ask.to
}

/// Asks for the list of a block, and gets it.
fn fetch(rig: &mut Rig, block: BlockNumber) -> PeerId {
    let ask = rig.wait_txlist(block, 9);
    rig.reply(ask, Reply::TxList(txlist(block)));
    rig.expect_stored_txlist(block);
    rig.input(Input::TxListStored { hash: txlist(block).hash() });
    ask.to
}

#[test]
fn a_peer_that_fails_too_often_pauses_while_others_go_on() {
    let mut rig = rig();
    let begun = rig.now;
    for block in 1..=2 {
        rig.want(block, false);
        fail(&mut rig, block);
        fetch(&mut rig, block);
    }
    rig.want(3, false);
    fail(&mut rig, 3);
    rig.advance(15 * SECOND);
    rig.expect_quiet();
    // Another one is asked at once, and is not held back by what the first has spent.
    rig.peer_up(peer(2));
    for block in 3..=6 {
        rig.want(block, false);
        assert_eq!(fetch(&mut rig, block), peer(2));
    }
    assert!(rig.now < begun + BACKOFF.window, "all this while the first rests");
    rig.expect_no_reports();
}

#[test]
fn a_peer_is_asked_again_when_its_pause_is_over() {
    let mut rig = rig();
    let begun = rig.now;
    rig.want(1, false);
    for _ in 0..3 {
        fail(&mut rig, 1);
    }
    assert!(rig.now < begun + 3 * SECOND, "the pauses themselves are short");
    assert!(!rig.status().is_live());
    assert_eq!(fetch(&mut rig, 1), peer(1));
    let rested = rig.now - begun;
    assert!(rested >= BACKOFF.window && rested < BACKOFF.window + 5 * SECOND, "{rested:?}");
    rig.wait_live(9);
}

#[test]
fn a_reconnect_does_not_end_a_rest() {
    let mut rig = rig();
    for block in 1..=2 {
        rig.want(block, false);
        fail(&mut rig, block);
        fetch(&mut rig, block);
    }
    rig.want(3, false);
    fail(&mut rig, 3);
    rig.input(Input::PeerDown(peer(1)));
    rig.peer_up(peer(1));
    rig.advance(15 * SECOND);
    rig.expect_quiet();
}
