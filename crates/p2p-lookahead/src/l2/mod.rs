//! The settled base, from an execution node of L2, and what became of the promises for its blocks.

mod config;
mod follower;
#[cfg(feature = "test-utils")]
pub(crate) mod fuzz;
mod promise;
mod rpc;
mod tracker;
mod txlist;

#[cfg(test)]
mod fixtures;

pub use config::{AnchorCall, L2Config};
pub use follower::{L2Follower, L2Handle, L2Seen, L2Status, SettledSource};
pub use promise::compare;
