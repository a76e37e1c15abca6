//! Nodes over real TCP on the loopback interface. Nothing here sleeps to let things settle: every wait is
//! for a condition, with a deadline.

#![allow(clippy::disallowed_methods, reason = "the tests measure real time")]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "this is how tests fail")]

mod admission;
#[cfg(feature = "test-utils")]
mod deployed;
mod finding;
mod forms;
mod gossip;
mod hostile;
mod limits;
mod lives;
mod requests;
mod rig;
#[cfg(feature = "test-utils")]
mod sim;
mod transports;
mod twins;
mod unread;
mod untrusted;
