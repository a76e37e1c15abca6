//! The series of the guard; the table in the crate's documentation names them all.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use p2p_types::GuardError;

/// Tells the recorder what the series mean.
pub(crate) fn describe() {
    let count = Unit::Count;
    describe_counter!("p2p_guard_permits_total", count, "Questions to the signing guard, by answer");
    describe_histogram!("p2p_guard_permit_seconds", Unit::Seconds, "Time to an answer of the signing guard");
    describe_gauge!("p2p_guard_lease_is_leader", count, "1 while this node holds the lease");
    describe_gauge!("p2p_guard_lease_token", count, "The lease's token, which grows with each new leader");
    describe_counter!(
        "p2p_guard_lease_changes_total",
        count,
        "Times that this node's role changed, by reason"
    );
    describe_counter!(
        "p2p_guard_lease_failures_total",
        count,
        "Times that the lease's database did not answer"
    );
}

pub(crate) fn permit(answer: &Result<(), GuardError>, took: Duration) {
    let label = match answer {
        Ok(()) => "yes",
        Err(GuardError::Conflict(_)) => "conflict",
        Err(GuardError::NotLeader { .. }) => "not_leader",
        Err(GuardError::WindowOver { .. }) => "window_over",
        Err(_) => "unavailable",
    };
    counter!("p2p_guard_permits_total", "answer" => label).increment(1);
    histogram!("p2p_guard_permit_seconds").record(took.as_secs_f64());
}

#[expect(clippy::cast_precision_loss, reason = "tokens are below 2^53")]
pub(crate) fn lease(is_leader: bool, token: u64) {
    gauge!("p2p_guard_lease_is_leader").set(f64::from(u8::from(is_leader)));
    gauge!("p2p_guard_lease_token").set(token as f64);
}

pub(crate) fn lease_change(why: &'static str) {
    counter!("p2p_guard_lease_changes_total", "why" => why).increment(1);
}

pub(crate) fn lease_failure() {
    counter!("p2p_guard_lease_failures_total").increment(1);
}
