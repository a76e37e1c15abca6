//! Scenarios with a rig, named adversaries, and a seeded simulation.

// Rigs and worlds are tests as a whole: what is wrong in them may panic. Any moment will do as a beginning.
#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod adversaries;
mod bounds;
mod chain;
mod peers;
mod rate_limited;
mod simulation;
mod world;

/// In which order the caller tells of what an import has done. The client tells of the head first; the machine is right
/// in either order, so the scenarios run in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AppliedFirst,
    ImportedFirst,
}

/// The scenarios, with the order that the modules find in `super::ORDER`.
macro_rules! scenarios {
    ($name:ident, $order:expr) => {
        #[path = "scenarios"]
        #[allow(clippy::duplicate_mod, reason = "the same scenarios, in either order")]
        mod $name {
            const ORDER: super::Order = $order;

            #[path = "backoff.rs"]
            mod backoff;
            #[path = "branches.rs"]
            mod branches;
            #[path = "forks.rs"]
            mod forks;
            #[path = "pages.rs"]
            mod pages;
            #[path = "rig.rs"]
            mod rig;
            #[path = "states.rs"]
            mod states;
            #[path = "trust.rs"]
            mod trust;
            #[path = "txlists.rs"]
            mod txlists;
            #[path = "waiting.rs"]
            mod waiting;
        }
    };
}

scenarios!(applied_first, super::Order::AppliedFirst);
scenarios!(imported_first, super::Order::ImportedFirst);
