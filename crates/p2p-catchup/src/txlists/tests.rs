//! Missing lists by themselves: what counts, in which order, and what is looked at.

#![allow(clippy::disallowed_methods, reason = "any moment will do")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::ops::RangeInclusive;

use super::*;
use crate::{CatchUpConfig, protocol_state::ProtocolState};

fn lists(blocks: &[BlockNumber]) -> (TxLists, Context, Instant) {
    let (mut ctx, now) = (Context::new(CatchUpConfig::recommended(), 1), Instant::now());
    let mut lists = TxLists::default();
    for block in blocks {
        lists.add(&mut ctx, now, *block, B256::ZERO, false);
    }
    (lists, ctx, now)
}

/// A request is sent for the one list.
fn requested(lists: &mut TxLists) -> RequestId {
    let id = RequestId(1);
    assert!(lists.update(&B256::ZERO, |list| list.stage = Stage::Requested(id)));
    id
}

#[test]
fn bytes_count_while_a_list_is_requested_or_being_stored() {
    let (mut lists, mut ctx, now) = lists(&[5]);
    assert_eq!(lists.bytes(1_000), 0);
    let id = requested(&mut lists);
    assert_eq!(lists.bytes(1_000), 1_000);
    assert!(lists.handed_out(id, &B256::ZERO, 7));
    assert_eq!((lists.bytes(1_000), lists.is_storing()), (7, true));
    lists.add(&mut ctx, now, 5, B256::ZERO, false);
    assert_eq!((lists.bytes(1_000), lists.is_storing()), (0, false), "it is missing again");
    requested(&mut lists);
    assert!(lists.stored(&B256::ZERO));
    assert_eq!((lists.bytes(1_000), lists.count()), (0, 0), "it came by another way");
    lists.add(&mut ctx, now, 5, B256::ZERO, false);
    let id = requested(&mut lists);
    assert!(lists.handed_out(id, &B256::ZERO, 7) && lists.stored(&B256::ZERO));
    assert_eq!((lists.bytes(1_000), lists.is_storing()), (0, false));
}

#[test]
fn a_shared_list_is_as_old_as_the_lowest_block_that_needs_it() {
    let (mut lists, ..) = lists(&[7, 5, 9]);
    assert_eq!(lists.lowest(), Some(5));
    lists.not_needed(9, B256::ZERO);
    assert_eq!(lists.lowest(), Some(5));
    lists.not_needed(5, B256::ZERO);
    assert_eq!((lists.lowest(), lists.order.len()), (Some(7), 1));
    lists.not_needed(7, B256::ZERO);
    assert_eq!((lists.lowest(), lists.count()), (None, 0));
}

fn id(n: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, n]).unwrap()
}

fn up(ctx: &mut Context, id: PeerId) -> bool {
    ctx.peers.up(id, Instant::now(), &ctx.config)
}

fn hash(block: BlockNumber) -> B256 {
    B256::left_padding_from(&block.to_be_bytes())
}

/// Plans until all has been looked at: how often that took.
fn plan(lists: &mut TxLists, ctx: &mut Context, now: Instant) -> usize {
    for plans in 1.. {
        let mut deadlines = Deadlines::new(now);
        if !lists.plan(ctx, &mut deadlines) {
            return plans;
        }
        assert_eq!(deadlines.next(), Some(now + CONTINUE_AFTER));
    }
    unreachable!()
}

fn protocol(ctx: &mut Context, n: u8) -> &mut ProtocolState {
    ctx.peers.get_mut(&id(n)).unwrap().protocol_mut(Protocol::TxList)
}

/// A peer is busy with something else.
fn occupy(ctx: &mut Context, now: Instant, n: u8) {
    let config = ctx.config.clone();
    (0..config.txlists_per_peer.get()).for_each(|_| protocol(ctx, n).sent(now, &config));
}

/// The first two peers have denied the lists of these blocks.
fn deny(lists: &mut TxLists, ctx: &mut Context, now: Instant, blocks: RangeInclusive<BlockNumber>) {
    for block in blocks {
        lists.add(ctx, now, block, hash(block), false);
        let denied = BTreeSet::from([id(1), id(2)]);
        lists.update(&hash(block), |list| (list.stage, list.denied) = (Stage::Ready, denied));
    }
}

#[test]
fn withheld_lists_are_looked_at_a_few_at_a_time_and_when_peers_have_changed() {
    const LISTS: usize = 10 * MAX_SKIPPED;
    let config = CatchUpConfig { rate_limit: None, ..CatchUpConfig::recommended() };
    let (mut ctx, now, mut lists) = (Context::new(config, 1), Instant::now(), TxLists::default());
    (1..=3).for_each(|n| assert!(up(&mut ctx, id(n))));
    deny(&mut lists, &mut ctx, now, 1..=LISTS as u64);
    occupy(&mut ctx, now, 3);
    assert_eq!(plan(&mut lists, &mut ctx, now), LISTS / MAX_SKIPPED);
    assert_eq!((lists.skipped.len(), lists.in_flight), (LISTS, 0));
    assert_eq!(plan(&mut lists, &mut ctx, now), 1, "nothing has changed");

    protocol(&mut ctx, 3).ended();
    plan(&mut lists, &mut ctx, now);
    assert!(matches!(lists.lists[&hash(1)].stage, Stage::Requested(_)), "the lowest first");
    assert_eq!((lists.skipped.len() + lists.ready.len(), lists.in_flight), (LISTS - 1, 1));

    // Nobody is left that may have them: they are asked again later, or when another peer comes.
    ctx.peers.down(&id(3), now, false);
    assert_eq!(plan(&mut lists, &mut ctx, now), LISTS / MAX_SKIPPED - 1);
    assert_eq!((lists.denied.len(), lists.skipped.len()), (LISTS - 1, 0));
    assert_eq!(plan(&mut lists, &mut ctx, now), 1);
    assert!(up(&mut ctx, id(4)));
    plan(&mut lists, &mut ctx, now);
    assert_eq!(lists.in_flight, 1 + ctx.config.txlists_per_peer.get());
    let asked = |list: &&MissingTxList| matches!(list.stage, Stage::Requested(_));
    let highest = lists.lists.values().filter(asked).map(MissingTxList::lowest).max();
    assert_eq!(highest, Some(lists.in_flight as u64), "the lowest first");

    let later = now + ctx.config.backoff.max;
    plan(&mut lists, &mut ctx, later);
    assert!(lists.in_flight > 1 + ctx.config.txlists_per_peer.get(), "all are asked again");
}

#[test]
fn what_was_skipped_is_looked_at_again_though_as_many_others_were_skipped_as_may_be() {
    let skipped = MAX_SKIPPED as u64;
    let config = CatchUpConfig { rate_limit: None, ..CatchUpConfig::recommended() };
    let (mut ctx, now, mut lists) = (Context::new(config, 1), Instant::now(), TxLists::default());
    (1..=3).for_each(|n| assert!(up(&mut ctx, id(n))));
    (2..=3).for_each(|n| occupy(&mut ctx, now, n));
    deny(&mut lists, &mut ctx, now, 1..=skipped + 8);
    assert_eq!(plan(&mut lists, &mut ctx, now), 2);
    deny(&mut lists, &mut ctx, now, skipped + 9..=2 * skipped + 8);
    protocol(&mut ctx, 2).ended();
    assert!(lists.plan(&mut ctx, &mut Deadlines::new(now)), "eight are left");
    plan(&mut lists, &mut ctx, now);
    assert_eq!((lists.skipped.len(), lists.look_again), (2 * MAX_SKIPPED + 8, false));
}
