//! Whole clients among liars: seven honest nodes over the simulated network, whose bases move every L1 slot at different
//! moments, and adversaries with names, alone and as 30 % of the nodes. Whatever these do, honest nodes end on one chain,
//! are live soon after, charge no honest peer, keep their bounds, and tell their applications little more than on a quiet
//! day.
//!
//! Each scenario plays a few seeds; `BYZANTINE_SEEDS=100..200` plays those instead.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which wait with a deadline"
)]

mod actor;
mod bounds;
mod elected;
mod node;
mod play;
mod stage;
mod stranger;

use std::ops::Range;

use actor::{Adversary, Seat};
use play::{Shape, play};
use stage::Plan;

/// Of ten nodes, three.
const THIRTY_PERCENT: usize = 3;

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("BYZANTINE_SEEDS") else { return 0..2 };
    let (first, end) = range.split_once("..").unwrap();
    first.parse().unwrap()..end.parse().unwrap()
}

/// Says which seed it was.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0}: BYZANTINE_SEEDS={0}..{1} plays it again", self.0, self.0 + 1);
        }
    }
}

/// Plays a scenario with each seed.
fn scenario<A: Adversary>(
    adversaries: usize,
    elected: bool,
    shape: Shape,
    cast: impl Fn(Seat, &mut fastrand::Rng) -> A,
) {
    for seed in seeds() {
        let _told = Told(seed);
        let plan = Plan::draw(seed, adversaries, elected, shape);
        play(&plan, &cast);
    }
}

/// An adversary alone and as 30 % of the nodes: strangers, or elected and, as strangers who do the same, not.
macro_rules! scenarios {
    ($($name:ident: $cast:expr, $shape:expr, [$($case:ident($adversaries:expr, $elected:expr))*];)*) => {
        $(
            mod $name {
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        scenario($adversaries, $elected, $shape, $cast);
                    }
                )*
            }
        )*
    };
}

scenarios! {
    windows_that_nobody_knows: stranger::UnknownWindows::new, Shape::Plain, [
        alone(1, false) thirty_percent(THIRTY_PERCENT, false)
    ];
    rewriter: elected::Rewriter::new, Shape::Plain, [
        alone(1, true) thirty_percent(THIRTY_PERCENT, true) unelected(1, false)
    ];
}
