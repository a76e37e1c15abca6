//! The chain processor: commitments, lists, pages, publications, bases, reorgs of L1 and of the schedule, restarts, in any
//! order. After each step its store is sound, and subscribers have been told of just what is in it.

mod model;
mod node;
mod universe;

use std::time::Duration;

use p2p_types::{B256, Base, Origin};

use crate::input::Input;
use universe::{BASE, Universe};

pub(crate) use node::Node;
pub(crate) use universe::peer;

/// Most steps of a run.
const STEPS: usize = 64;

/// Any commands of a universe of 256 commitments.
pub fn chain(data: &[u8]) {
    let mut input = Input::new(data);
    let mut node = Node::with(input.byte());
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut node, &mut input);
        node.check();
    }
    node.restart();
    node.check();
}

fn step(node: &mut Node, input: &mut Input<'_>) {
    let universe = Universe::get();
    let (what, which) = (input.byte(), usize::from(input.byte()));
    let from = peer(what / 32);
    match what % 32 {
        0..10 => node.gossip(from, [which]),
        10 | 11 => node.gossip(from, universe.ancestors(which).into_iter().rev()),
        12 => node.gossip(from, which..(which + 8).min(universe.len())),
        13..16 => node.page(from, universe.ancestors(which)),
        16 => node.page(from, (which..(which + 4).min(universe.len())).collect()),
        17..20 => node.publish(which, input.bool()),
        20 | 21 => {
            let origin = if which % 2 == 0 { Origin::Gossip(from) } else { Origin::Sync(from) };
            if let Some(list) = universe.list(usize::from(input.byte())) {
                node.txlist(origin, list);
            }
        }
        22 => node.set_base(base(node, universe, which, input.byte())),
        23 => {
            let promised = (0..input.below(3)).map(|_| universe.hash(input.byte().into())).collect();
            node.settle_other(BASE + (which % 8) as u64, B256::repeat_byte(0xee), promised);
        }
        24 => node.l1_reorg(100 + (which % 16) as u64),
        25 => node.l1_restored(100 + (which % 16) as u64),
        26 => node.l1_head((which % 8 * 40) as u64),
        27 => node.change_schedule(input.byte()),
        28 => node.restart(),
        29 => node.set_reference(Some(BASE + (which % 32) as u64).filter(|_| which > 8)),
        30 => node.wait(Duration::from_secs((which % 64) as u64)),
        _ => node.enter(which as u64 % 5),
    }
}

/// A base: on a commitment, on a height, or where the chain is.
fn base(node: &Node, universe: &Universe, which: usize, how: u8) -> Base {
    let height = universe.height(which);
    match how % 4 {
        0 => Base::at(BASE + (which % 10) as u64),
        1 => Base { number: height, hash: Some(universe.hash(which)) },
        2 => Base { number: height, hash: Some(B256::repeat_byte(0xdd)) },
        _ => node.settled_in_chain(how / 4),
    }
}
