//! The series of the lookahead; the table in the crate's documentation names them all.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Tells the recorder what the series mean.
pub(crate) fn describe() {
    let count = Unit::Count;
    describe_counter!("p2p_lookahead_calls_total", count, "Questions to endpoints, by chain and method");
    describe_counter!("p2p_lookahead_failures_total", count, "Failures of endpoints, by chain");
    describe_counter!("p2p_lookahead_reorgs_total", count, "Reorgs of L1");
    describe_counter!("p2p_lookahead_unasked_total", count, "Past epochs that found no room to wait");
    describe_gauge!("p2p_lookahead_l1_head", count, "Height of L1's head");
    describe_gauge!("p2p_lookahead_l2_settled", count, "Height of L2's last settled block");
    describe_counter!("p2p_lookahead_l2_reorgs_total", count, "Times that L2 took settled blocks back");
    describe_gauge!("p2p_lookahead_epochs", count, "Epochs that are known");
    describe_gauge!("p2p_lookahead_generation", count, "1 for the contracts that tell the schedule");
    describe_gauge!("p2p_lookahead_endpoint_in_use", count, "1 for the endpoint that is asked, 0 for others");
}

pub(crate) fn call(chain: &'static str, method: &'static str) {
    counter!("p2p_lookahead_calls_total", "chain" => chain, "method" => method).increment(1);
}

pub(crate) fn failure(chain: &'static str) {
    counter!("p2p_lookahead_failures_total", "chain" => chain).increment(1);
}

pub(crate) fn reorg() {
    counter!("p2p_lookahead_reorgs_total").increment(1);
}

pub(crate) fn unasked() {
    counter!("p2p_lookahead_unasked_total").increment(1);
}

pub(crate) fn l2_reorg() {
    counter!("p2p_lookahead_l2_reorgs_total").increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "heights are below 2^53")]
pub(crate) fn l2_settled(number: u64) {
    gauge!("p2p_lookahead_l2_settled").set(number as f64);
}

/// Which contracts tell the schedule.
pub(crate) fn generation(label: &'static str) {
    gauge!("p2p_lookahead_generation", "generation" => label).set(1.0);
}

/// Whether an endpoint is the one in use.
pub(crate) fn endpoint(chain: &'static str, name: String, in_use: bool) {
    gauge!("p2p_lookahead_endpoint_in_use", "chain" => chain, "endpoint" => name)
        .set(f64::from(u8::from(in_use)));
}

#[expect(clippy::cast_precision_loss, reason = "heights and counts are below 2^53")]
pub(crate) fn known(head: u64, epochs: usize) {
    gauge!("p2p_lookahead_l1_head").set(head as f64);
    gauge!("p2p_lookahead_epochs").set(epochs as f64);
}
