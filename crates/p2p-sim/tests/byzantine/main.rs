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

mod bounds;
mod node;
mod plan;
mod play;

use std::ops::Range;

use p2p_sim::{
    actor::{Adversary, Seat},
    elected, unstaked,
};
use plan::Plan;
use play::{FLOOD, HASTY, LATE_SCHEDULE, PLAIN, Shape, play};

/// How many adversaries there are, whether they are elected, and how many seeds are played.
#[derive(Debug, Clone, Copy)]
struct Company {
    adversaries: usize,
    elected: bool,
    seeds: u64,
}

const ALONE: Company = Company { adversaries: 1, elected: true, seeds: 2 };

/// Of ten nodes, three.
const THIRTY_PERCENT: Company = Company { adversaries: 3, ..ALONE };

const UNSTAKED: Company = Company { elected: false, ..ALONE };

const MANY_UNSTAKED: Company = Company { elected: false, ..THIRTY_PERCENT };

/// One that does what elected ones do, and is none.
const UNELECTED: Company = Company { seeds: 1, ..UNSTAKED };

fn seeds(few: u64) -> Range<u64> {
    let Ok(range) = std::env::var("BYZANTINE_SEEDS") else { return 0..few };
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
fn scenario<A: Adversary>(company: Company, shape: Shape, cast: impl Fn(Seat, &mut fastrand::Rng) -> A) {
    for seed in seeds(company.seeds) {
        let _told = Told(seed);
        play(&Plan::draw(seed, company.adversaries, company.elected, shape), &cast);
    }
}

macro_rules! scenarios {
    ($($name:ident: $cast:expr, $shape:expr, [$($case:ident($company:expr))*];)*) => {
        $(
            mod $name {
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        scenario($company, $shape, $cast);
                    }
                )*
            }
        )*
    };
}

scenarios! {
    windows_that_nobody_knows: unstaked::UnknownWindows::new, PLAIN, [
        alone(UNSTAKED) thirty_percent(MANY_UNSTAKED)
    ];
    absurd_heights: unstaked::AbsurdHeights::new, PLAIN, [
        alone(UNSTAKED) thirty_percent(MANY_UNSTAKED)
    ];
    invented_parents: unstaked::InventedParents::new, PLAIN, [
        alone(UNSTAKED) thirty_percent(MANY_UNSTAKED)
    ];
    junk_lists: unstaked::JunkLists::new, PLAIN, [
        alone(UNSTAKED) thirty_percent(MANY_UNSTAKED)
    ];
    crowded_windows: unstaked::Crowd::new, LATE_SCHEDULE, [
        alone(UNSTAKED) thirty_percent(MANY_UNSTAKED)
    ];
    rewriter: elected::Rewriter::new, PLAIN, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    splitter: elected::Splitter::new, PLAIN, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    splitter_with_long_branches: elected::Splitter::hasty, HASTY, [
        alone(ALONE)
    ];
    late_releaser: elected::LateReleaser::new, PLAIN, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    back_dater: elected::BackDater::new, PLAIN, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    handover_flooder: elected::HandoverFlooder::new, FLOOD, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    nonce_flooder: elected::NonceFlooder::new, FLOOD, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    orphan_maker: elected::OrphanMaker::new, PLAIN, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    sibling_flooder: elected::SiblingFlooder::new, PLAIN, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
    balancer: elected::Balancer::new, PLAIN, [
        alone(ALONE) thirty_percent(THIRTY_PERCENT) unelected(UNELECTED)
    ];
}
