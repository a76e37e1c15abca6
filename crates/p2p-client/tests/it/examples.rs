//! The examples run to their end.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "`main` is not called here, and each example brings its own support"
)]

use std::{future::Future, time::Duration};

#[path = "../../examples/bootnodes.rs"]
mod bootnodes;
#[path = "../../examples/custom_lookahead.rs"]
mod custom_lookahead;
#[path = "../../examples/custom_network.rs"]
mod custom_network;
#[path = "../../examples/custom_storage.rs"]
mod custom_storage;
#[path = "../../examples/disk_store.rs"]
mod disk_store;
#[path = "../../examples/evidence.rs"]
mod evidence;
#[path = "../../examples/follower.rs"]
mod follower;
#[path = "../../examples/handler.rs"]
mod handler;
#[path = "../../examples/metrics.rs"]
mod metrics_export;
#[path = "../../examples/preconfer.rs"]
mod preconfer;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn ends(example: impl Future<Output = Outcome>) {
    tokio::time::timeout(Duration::from_secs(60), example).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_finds_a_peer_from_a_bootnode() {
    ends(bootnodes::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookahead_learns_while_the_client_runs() {
    ends(custom_lookahead::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_run_over_a_simulated_network() {
    ends(custom_network::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_store_is_asked_first() {
    ends(custom_storage::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_disk_survives_a_restart() {
    ends(disk_store::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reads_evidence() {
    ends(evidence::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_resumes_after_a_restart() {
    ends(follower::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_gets_every_event() {
    ends(handler::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_exported() {
    ends(metrics_export::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preconfer_publishes_and_hands_over() {
    ends(preconfer::run()).await;
}
