//! What a thousand peers that come and go leave behind. Alone in its process, because it looks at all memory of it.
//! `cargo test --release -p preconfirmation-p2p --test churn -- --nocapture` prints the figures.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "the test measures real time")]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "this is how tests fail")]

#[path = "it/rig.rs"]
#[allow(dead_code, reason = "the other scenarios use the rest")]
mod rig;

use std::{fs, time::Duration};

use futures::{StreamExt as _, stream};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use preconfirmation_p2p::{Multiaddr, NetworkHandle};

use rig::{Node, config, eventually, soon};

const MIB: usize = 1024 * 1024;

/// Identities that come and go, and how many of them are there at a time.
const IDENTITIES: usize = 1000;
const AT_A_TIME: usize = 4;

/// After so many everything that is bounded has its size.
const WARM: usize = 400;

/// What the allocator may keep back of what was freed. Two kilobytes that each identity left behind would be more.
const SLACK: usize = MIB;

/// Comes with a rate limit that nobody can mean, and goes.
async fn pass(handle: &NetworkHandle, address: &Multiaddr) {
    let mut absurd = config();
    absurd.listen.clear();
    absurd.serving.requests = 1.try_into().unwrap();
    absurd.serving.requests_per = Duration::from_millis(u32::MAX.into());
    let passing = Node::start(absurd);
    soon(passing.handle.dial(address.clone())).await.unwrap();
    let peer = passing.id();
    eventually(|| async {
        let peers = handle.peers().await.unwrap();
        peers.iter().any(|status| status.peer == peer && status.ready).then_some(())
    })
    .await;
    passing.handle.shutdown();
    soon(passing.running).await.unwrap().unwrap();
}

/// All of them. How much memory the process had after the first ones, and after the last.
async fn pass_all(handle: &NetworkHandle, address: &Multiaddr) -> (usize, usize) {
    let (mut gone, mut warm) = (0, 0);
    let mut passing = stream::iter(0..IDENTITIES).map(|_| pass(handle, address)).buffer_unordered(AT_A_TIME);
    while passing.next().await.is_some() {
        gone += 1;
        if gone == WARM {
            warm = resident();
        }
    }
    (warm, resident())
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_thousand_passing_identities_leave_nothing_behind() {
    let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
    let _installed = metrics::set_default_local_recorder(recorder);
    let mut forgetful = config();
    // Else everything that is bounded has its size after a minute.
    forgetful.score.retain = Duration::from_secs(1);
    let mut node = Node::start(forgetful);
    let address = soon(node.handle.listen_addrs()).await.unwrap().remove(0);
    let handle = node.handle.clone();
    // Somebody reads what happens.
    let reading = tokio::spawn(async move { while node.events.next().await.is_some() {} });
    // The others are on a thread of their own: what they do is not measured.
    let (asked, to) = (handle.clone(), address.clone());
    let passing = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pass_all(&asked, &to))
    });
    let (warm, end) = passing.await.unwrap();
    eventually(|| async { handle.peers().await.unwrap().is_empty().then_some(()) }).await;
    let mut ticks = Vec::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        if let DebugValue::Histogram(values) = value
            && key.key().name() == "p2p_service_tick_seconds"
        {
            ticks.extend(values.into_iter().map(|seconds| Duration::from_secs_f64(seconds.into_inner())));
        }
    }
    ticks.sort_unstable();
    let (median, p99) = (ticks[ticks.len() / 2], ticks[ticks.len() * 99 / 100]);
    println!(
        "{IDENTITIES} identities: {} KiB resident after {WARM}, {} KiB at the end; {} ticks, median {median:?}, \
         99 of 100 within {p99:?}",
        warm / 1024,
        end / 1024,
        ticks.len(),
    );
    assert!(end < warm + SLACK, "{warm} bytes after {WARM}, {end} at the end");
    // On a busy machine some tick is interrupted; not most of them.
    assert!(median < Duration::from_millis(1), "{median:?}");
    handle.shutdown();
    soon(reading).await.unwrap();
}
