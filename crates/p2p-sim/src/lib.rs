//! Whole clients on a simulated network in virtual time: their validation, stores, catch-up and guard are the real ones; links,
//! clocks, L1 and disks are not, and adversaries are among their peers.
//!
//! A [`Scenario`] is drawn from a seed: who is there, whose turn it is when, and a list of [`Fault`]s. [`simulate`] plays it and
//! looks at everything each second; what does not hold is a [`Violation`] that says which [`Invariant`], where and when. The same
//! scenario gives the same run, frame by frame, so that a seed is enough to see a failure again, and [`shrink`] finds the fewest
//! faults that it takes.
//!
//! ```
//! let outcome = p2p_sim::simulate(&p2p_sim::Scenario::draw(1, 4))?;
//! assert!(outcome.published > 0);
//! # Ok::<(), p2p_sim::Violation>(())
//! ```
//!
//! # What is simulated, and what is not
//! - Links have a delay, jitter, loss, bandwidth, duplicates and disorder; partitions cut them. What
//!   [`preconfirmation_p2p::sim`] leaves out of the network is left out here.
//! - Three quarters of the stores are in memory that survives: each write is whole and durable when it returns. At a crash the write
//!   that was under way is stored or not, and nothing after it. The others are stores on disk, on a simulated disk: its power goes in
//!   the middle of a transaction, and what was written and not synced is there in part. What a client sends after its crash is not
//!   heard.
//! - L1 elects, settles and reorganises, which replaces elections, what was settled, or the anchors of blocks; each node hears of it
//!   at a moment of its own.
//! - Adversaries send less than they could, so that thousands of runs are affordable. The scenarios of one adversary at its worst are
//!   the test `byzantine` of this crate.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a test in the form of a library, so that a binary can run it by the thousand"
)]

pub mod actor;
mod cast;
mod crash;
pub mod elected;
pub mod hidden;
mod judge;
mod l1;
mod lines;
mod node;
mod rules;
mod scenario;
pub mod settings;
mod shrink;
pub mod stage;
pub mod unstaked;
mod villains;
mod violation;
mod world;

use p2p_client::InPlace;
use tokio::runtime::Builder;

pub use cast::Role;
pub use scenario::{Fault, Kind, Scenario};
pub use shrink::shrink;
pub use violation::{Invariant, Violation};
pub use world::{CONVERGES_WITHIN, Outcome};

/// Plays a scenario, on this thread alone.
///
/// # Errors
/// The first [`Violation`].
pub fn simulate(scenario: &Scenario) -> Result<Outcome, Violation> {
    let _in_place = InPlace::on_this_thread();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { world::World::new(scenario).await.run().await })
}
