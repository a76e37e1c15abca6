//! Whole clients: through the facade, as a sidecar meets them, over real TCP and over the simulated network, where time stands
//! still but for what the scenario waits for. What only a simulation can do to a network is in [`faults`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which wait with a deadline"
)]

mod both;
mod catchup;
mod examples;
mod faults;
mod guard;
mod l1;
mod l2;
mod mistakes;
mod network;
mod pages;
mod preconfer;
mod publishing;
mod relay;
mod serving;
mod settings;
mod sidecar;
mod slow;
mod world;
