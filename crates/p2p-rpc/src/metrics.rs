//! What the server records.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const REQUESTS: &str = "p2p_rpc_requests_total";
const LATENCY: &str = "p2p_rpc_latency_seconds";
const REFUSED: &str = "p2p_rpc_refused_total";
const SUBSCRIPTIONS: &str = "p2p_rpc_subscriptions";
const SLOW: &str = "p2p_rpc_slow_subscribers_total";

pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Calls answered, by how");
    describe_histogram!(LATENCY, "Seconds from a call to its result");
    describe_counter!(REFUSED, "Requests refused before they were read");
    describe_gauge!(SUBSCRIPTIONS, "Subscriptions that are open");
    describe_counter!(SLOW, "Subscriptions ended because nobody took their messages");
}

pub(crate) fn answered(method: &'static str, outcome: &'static str, took: Duration) {
    counter!(REQUESTS, "method" => method, "outcome" => outcome).increment(1);
    histogram!(LATENCY, "method" => method).record(took.as_secs_f64());
}

pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn slow_subscriber() {
    counter!(SLOW).increment(1);
}

/// Counts a subscription for as long as it is held.
#[derive(Debug)]
pub(crate) struct OpenSubscription(());

impl OpenSubscription {
    pub(crate) fn new() -> Self {
        gauge!(SUBSCRIPTIONS).increment(1);
        Self(())
    }
}

impl Drop for OpenSubscription {
    fn drop(&mut self) {
        gauge!(SUBSCRIPTIONS).decrement(1);
    }
}
