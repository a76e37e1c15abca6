//! What the validator accepts, and what it does with the rest, through its public API.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the pending pool takes a moment, any moment")]

mod evidence;
mod handover;
mod overlap;
mod page;
mod properties;
mod rules;
#[cfg(feature = "known-signers")]
mod signers;
mod table;
mod world;
