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
mod backoff;
mod chain;
mod forks;
mod paced;
mod pages;
mod rig;
mod simulation;
mod states;
mod txlists;
mod world;
