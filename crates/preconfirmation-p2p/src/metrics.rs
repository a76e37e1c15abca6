//! What is counted. Few labels with few values; no peer is ever a label.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use preconfirmation_types::{Offence, Topic};

use crate::peer_book::Source;

const GOSSIP_RECEIVED: &str = "p2p_gossip_received_total";
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
const TWINS: &str = "p2p_identity_used_twice_total";
const RECORDS: &str = "p2p_discovery_records_total";
const SCORE: &str = "p2p_peer_score_gauge";
const SUSPECTED: &str = "p2p_own_schedule_suspected";
const WAITING: &str = "p2p_queue_length";

/// Tells the recorder what the metrics mean.
pub(crate) fn describe() {
    let count = Unit::Count;
    describe_counter!(GOSSIP_RECEIVED, count, "Gossip messages received, by topic and what became of them");
    describe_counter!(GOSSIP_PUBLISH, count, "Gossip messages published, by topic and outcome");
    describe_counter!(REQUESTS, count, "Requests, by protocol, direction and outcome");
    describe_histogram!(LATENCY, Unit::Seconds, "From sending a request to its answer");
    describe_counter!(OFFENCES, count, "Offences that peers were charged with, by kind");
    describe_gauge!(PEERS, count, "Connected peers, by who opened the oldest connection");
    describe_counter!(DROPPED, count, "What a full queue dropped, by queue");
    describe_counter!(DIALS, count, "Dials, by where the address came from and what became of them");
    describe_counter!(PRUNED, count, "Peers disconnected because there were too many");
    describe_counter!(REFUSED, count, "Connections refused, by the limit that was reached");
    describe_histogram!(TICK, Unit::Seconds, "What the network's task does once a second");
    describe_counter!(TWINS, count, "Signs that two nodes use one key, by sign");
    describe_counter!(RECORDS, count, "Node records that discovery has seen, by what they are good for");
    describe_counter!(BANS, count, "Peers banned, by why");
    describe_gauge!(SCORE, count, "Least, mean and most total score of the connected peers");
    describe_gauge!(SUSPECTED, count, "1 while several authors offend alike and no commitment passes");
    describe_gauge!(WAITING, count, "What waits in a queue, by queue");
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

pub(crate) fn dialled(source: Source, outcome: &'static str) {
    counter!(DIALS, "source" => source.label(), "outcome" => outcome).increment(1);
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

pub(crate) fn twin(sign: &'static str) {
    counter!(TWINS, "sign" => sign).increment(1);
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
