//! Stores from outside: the conformance suite on what it must pass and what it must fail, the store on disk as a file, and the
//! choice between branches in both.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[cfg(feature = "disk")]
mod bounds;
mod conformance;
#[cfg(feature = "disk")]
mod disk;
mod fork_choice;
