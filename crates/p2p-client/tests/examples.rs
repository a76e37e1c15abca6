//! The examples run to their end.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "`main` is not called here, and each example brings its own support; helpers of tests"
)]

use std::{future::Future, time::Duration};

#[path = "../examples/custom_lookahead.rs"]
mod custom_lookahead;
#[path = "../examples/custom_storage.rs"]
mod custom_storage;
#[path = "../examples/follower.rs"]
mod follower;
#[path = "../examples/metrics.rs"]
mod metrics_export;
#[path = "../examples/preconfer.rs"]
mod preconfer;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn ends(example: impl Future<Output = Outcome>) {
    tokio::time::timeout(Duration::from_secs(60), example).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_prints_blocks() {
    ends(follower::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preconfer_publishes_and_hands_over() {
    ends(preconfer::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookahead_learns() {
    ends(custom_lookahead::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_told_before() {
    ends(custom_storage::run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_exported() {
    ends(metrics_export::run()).await;
}
