//! What the node itself tells Prometheus, beside what its crates do.

use std::{convert::Infallible, path::Path, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use p2p_types::{Address, UnixSeconds};
use p2p_validation::Lookahead;
use tokio::{task::spawn_blocking, time::interval};

use super::http::Node;
use crate::clock::now;

/// Between two looks at readiness and schedule.
const SECOND: Duration = Duration::from_secs(1);

/// Between two looks at the disk.
const DISK: Duration = Duration::from_secs(15);

/// Turns of others that are looked at for the next one of a signer: those of two epochs of L1, with time to spare.
const TURNS: usize = 256;

/// Tells the recorder what the series mean.
fn describe() {
    describe_gauge!("p2p_node_info", Unit::Count, "1, with the version of the node");
    describe_gauge!("p2p_node_ready", Unit::Count, "1 while /readyz answers 200, 0 otherwise");
    describe_gauge!(
        "p2p_node_turn_seconds",
        Unit::Seconds,
        "Time until the next turn of --metrics.signer, 0 in it, infinite where none is known"
    );
    describe_gauge!("p2p_node_datadir_free_bytes", Unit::Bytes, "Free on the disk of --datadir");
    describe_counter!(
        "p2p_log_lines_left_out_total",
        Unit::Count,
        "Lines that the limit of the log left out"
    );
}

/// Measures the node indefinitely.
pub(super) async fn measure(node: &Node, datadir: Option<&Path>, signer: Option<Address>) -> Infallible {
    describe();
    gauge!("p2p_node_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    // From the start on, so that the first line left out is seen as an increase.
    counter!("p2p_log_lines_left_out_total").absolute(0);
    tokio::select! {
        never = readiness(node, signer) => never,
        never = disk(datadir) => never,
    }
}

async fn readiness(node: &Node, signer: Option<Address>) -> Infallible {
    let mut period = interval(SECOND);
    loop {
        period.tick().await;
        gauge!("p2p_node_ready").set(f64::from(u8::from(node.is_ready())));
        if let Some(signer) = signer {
            let left = until_turn(node.lookahead(), signer, now());
            gauge!("p2p_node_turn_seconds").set(left.map_or(f64::INFINITY, seconds));
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are f64; a turn is less than 2^53 s away")]
const fn seconds(seconds: u64) -> f64 {
    seconds as f64
}

/// Seconds until a signer's next turn, 0 in it, as far as the schedule tells.
fn until_turn(lookahead: &dyn Lookahead, signer: Address, now: UnixSeconds) -> Option<u64> {
    let mut at = now;
    for _ in 0..TURNS {
        let slot = lookahead.turn(at).ok()??;
        if slot.signer == signer {
            return Some(slot.window.start.get().saturating_sub(now.get()));
        }
        at = UnixSeconds::new(slot.window.end.get().checked_add(1)?);
    }
    None
}

/// How much is free on the disk of a folder. A disk that does not answer holds up only this.
async fn disk(folder: Option<&Path>) -> Infallible {
    let Some(folder) = folder else { return std::future::pending().await };
    let mut period = interval(DISK);
    loop {
        period.tick().await;
        let folder = folder.to_owned();
        if let Ok(Some(bytes)) = spawn_blocking(move || free(&folder)).await {
            gauge!("p2p_node_datadir_free_bytes").set(bytes);
        }
    }
}

/// Bytes that this user may still write there.
#[cfg(unix)]
#[allow(clippy::cast_precision_loss, reason = "a gauge is f64")]
fn free(folder: &Path) -> Option<f64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail as f64 * disk.f_frsize as f64)
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use p2p_validation::{Slot, StaticSchedule, Window};

    use super::*;

    fn address(of: u8) -> Address {
        Address::repeat_byte(of)
    }

    #[test]
    fn a_turn_is_now_later_or_unknown() {
        let slot = |signer, start, end| Slot {
            signer: address(signer),
            window: Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) },
        };
        let schedule = StaticSchedule::new(vec![slot(1, 100, 109), slot(2, 110, 119), slot(1, 130, 139)]);
        let schedule = schedule.unwrap();
        let until = |signer, now| until_turn(&schedule, address(signer), UnixSeconds::new(now));
        assert_eq!(until(1, 105), Some(0));
        assert_eq!(until(2, 105), Some(5));
        assert_eq!(until(1, 110), Some(20), "over a gap");
        assert_eq!(until(2, 120), None);
        assert_eq!(until(3, 100), None);
    }
}
