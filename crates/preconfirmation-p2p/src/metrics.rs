//! The metrics of this crate. Labels have few values; no peer is ever a label.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use preconfirmation_types::{Offence, Topic};

const GOSSIP_RECEIVED: &str = "p2p_gossip_received_total";
const GOSSIP_COPIES: &str = "p2p_gossip_copies_total";
const GOSSIP_PUBLISH: &str = "p2p_gossip_publish_total";
const REQUESTS: &str = "p2p_reqresp_requests_total";
const LATENCY: &str = "p2p_reqresp_latency_seconds";
const OFFENCES: &str = "p2p_offences_total";
const BANS: &str = "p2p_bans_total";
const PEERS: &str = "p2p_peers";
const DROPPED: &str = "p2p_queue_dropped_total";
const DIALS: &str = "p2p_dials_total";
const PRUNED: &str = "p2p_peers_pruned_total";
const REFUSED: &str = "p2p_connections_refused_total";
const TICK: &str = "p2p_service_tick_seconds";
const DUPLICATE_IDENTITY: &str = "p2p_identity_used_twice_total";
const RECORDS: &str = "p2p_discovery_records_total";
const SCORE: &str = "p2p_peer_score_gauge";
const SUSPECTED: &str = "p2p_own_schedule_suspected";
const WAITING: &str = "p2p_queue_length";

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What a metric means.
struct Description {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: Unit::Count, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, unit: Unit::Count, labels, help }
}

const fn seconds(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { name, kind: Kind::Histogram, unit: Unit::Seconds, labels, help }
}

/// All metrics: the source of their descriptions. The table in the crate's documentation is checked against it.
const METRICS: &[Description] = &[
    counter(GOSSIP_RECEIVED, &["topic", "outcome"], "gossip messages received, by outcome"),
    counter(
        GOSSIP_COPIES,
        &["topic"],
        "copies of gossip messages that peers have sent, the first one included",
    ),
    counter(GOSSIP_PUBLISH, &["topic", "outcome"], "gossip messages published, by outcome"),
    counter(REQUESTS, &["protocol", "direction", "outcome"], "requests that have ended, by outcome"),
    seconds(LATENCY, &["protocol"], "time from sending a request to its answer"),
    gauge(SCORE, &["bound"], "total score of the connected peers"),
    counter(OFFENCES, &["offence"], "offences that peers were charged with"),
    counter(BANS, &["reason"], "peers banned"),
    gauge(SUSPECTED, &[], "1 while this node suspects its own lookahead or clock"),
    gauge(WAITING, &["queue"], "entries in a queue"),
    counter(DROPPED, &["queue"], "entries dropped from a full queue"),
    gauge(PEERS, &["direction"], "connected peers, by who opened the oldest connection"),
    counter(DIALS, &["source", "outcome"], "dials, by where the address came from and by outcome"),
    counter(REFUSED, &["limit"], "connections refused, by the limit that was reached"),
    seconds(TICK, &[], "time of the service's housekeeping, once a second"),
    counter(DUPLICATE_IDENTITY, &["sign"], "signs that two nodes use one identity key"),
    counter(PRUNED, &[], "peers disconnected because there were too many"),
    counter(RECORDS, &["outcome"], "node records (ENR) seen by discovery, by outcome"),
];

/// Describes all metrics to the recorder.
pub(crate) fn describe() {
    for Description { name, kind, unit, labels, help } in METRICS {
        let help =
            if labels.is_empty() { (*help).to_owned() } else { format!("{help} ({})", labels.join(", ")) };
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, help),
            Kind::Gauge => describe_gauge!(*name, *unit, help),
            Kind::Histogram => describe_histogram!(*name, *unit, help),
        }
    }
}

pub(crate) fn copied(topic: Topic) {
    counter!(GOSSIP_COPIES, "topic" => topic.label()).increment(1);
}

pub(crate) fn received(topic: Topic, outcome: &'static str) {
    counter!(GOSSIP_RECEIVED, "topic" => topic.label(), "outcome" => outcome).increment(1);
}

/// Messages that gossipsub was not shown; of no topic where we know none.
pub(crate) fn refused(topic: Option<Topic>, outcome: &'static str, messages: u32) {
    let topic = topic.map_or("unknown", Topic::label);
    counter!(GOSSIP_RECEIVED, "topic" => topic, "outcome" => outcome).increment(messages.into());
}

/// Whether we suspect ourselves.
pub(crate) fn suspected(suspected: bool) {
    gauge!(SUSPECTED).set(if suspected { 1.0 } else { 0.0 });
}

pub(crate) fn published(topic: Topic, outcome: &'static str) {
    counter!(GOSSIP_PUBLISH, "topic" => topic.label(), "outcome" => outcome).increment(1);
}

/// A request of ours has ended.
pub(crate) fn asked(protocol: &'static str, outcome: &'static str) {
    counter!(REQUESTS, "protocol" => protocol, "direction" => "outbound", "outcome" => outcome).increment(1);
}

/// A request of a peer has ended.
pub(crate) fn served(protocol: &'static str, outcome: &'static str) {
    counter!(REQUESTS, "protocol" => protocol, "direction" => "inbound", "outcome" => outcome).increment(1);
}

pub(crate) fn latency(protocol: &'static str, took: Duration) {
    histogram!(LATENCY, "protocol" => protocol).record(took.as_secs_f64());
}

pub(crate) fn offence(offence: Offence) {
    counter!(OFFENCES, "offence" => offence.label()).increment(1);
}

pub(crate) fn banned(reason: &'static str) {
    counter!(BANS, "reason" => reason).increment(1);
}

pub(crate) fn dialled(source: &'static str, outcome: &'static str) {
    counter!(DIALS, "source" => source, "outcome" => outcome).increment(1);
}

pub(crate) fn pruned() {
    counter!(PRUNED).increment(1);
}

pub(crate) fn connection_refused(limit: &'static str) {
    counter!(REFUSED, "limit" => limit).increment(1);
}

pub(crate) fn ticked(took: Duration) {
    histogram!(TICK).record(took.as_secs_f64());
}

pub(crate) fn duplicate_identity(sign: &'static str) {
    counter!(DUPLICATE_IDENTITY, "sign" => sign).increment(1);
}

pub(crate) fn record_seen(outcome: &'static str) {
    counter!(RECORDS, "outcome" => outcome).increment(1);
}

pub(crate) fn peers(inbound: usize, outbound: usize) {
    for (direction, connected) in [("inbound", inbound), ("outbound", outbound)] {
        gauge!(PEERS, "direction" => direction).set(u32::try_from(connected).unwrap_or(u32::MAX));
    }
}

pub(crate) fn waiting(queue: &'static str, length: usize) {
    gauge!(WAITING, "queue" => queue).set(u32::try_from(length).unwrap_or(u32::MAX));
}

/// The total scores of the connected peers.
pub(crate) fn scores(scores: &[f64]) {
    let least = scores.iter().copied().min_by(f64::total_cmp).unwrap_or_default();
    let most = scores.iter().copied().max_by(f64::total_cmp).unwrap_or_default();
    let count = f64::from(u32::try_from(scores.len().max(1)).unwrap_or(u32::MAX));
    let mean = scores.iter().sum::<f64>() / count;
    for (bound, score) in [("least", least), ("mean", mean), ("most", most)] {
        gauge!(SCORE, "bound" => bound).set(score);
    }
}

pub(crate) fn dropped(queue: &'static str) {
    counter!(DROPPED, "queue" => queue).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_each_metric_with_labels_and_help() {
        let rows: Vec<Vec<&str>> = include_str!("lib.rs")
            .lines()
            .filter(|line| line.starts_with("//! | `p2p_"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows.len(), METRICS.len());
        for (row, metric) in rows.iter().zip(METRICS) {
            assert_eq!(row[1], format!("`{}`", metric.name));
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            assert_eq!(row[2], labels.join(", "), "{}", metric.name);
            assert!(row[3].starts_with(metric.help), "{}: {}", metric.name, row[3]);
        }
    }
}
