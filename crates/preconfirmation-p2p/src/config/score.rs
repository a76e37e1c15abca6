//! Settings of peer scores (§7.1).

use std::{num::NonZeroUsize, time::Duration};

use super::size;

/// Peer scores (§7.1).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ScoreConfig {
    /// Most that offences of one peer cost within `offence_window`; at most 1000.
    pub offence_cap: f64,
    /// The sliding window of `offence_cap`.
    pub offence_window: Duration,
    /// What an accepted message earns.
    pub acceptance: f64,
    /// What is left of an application score after each `decay_interval`, of either sign.
    pub decay: f64,
    /// The time of `decay`.
    pub decay_interval: Duration,
    /// The application score stays within plus and minus this.
    pub clamp: f64,
    /// Below this total a peer is told of no messages and its announcements are ignored.
    pub gossip_threshold: f64,
    /// Below this total nothing is published to a peer.
    pub publish_threshold: f64,
    /// Below this total nothing on gossip is read from a peer.
    pub graylist_threshold: f64,
    /// An application score below this for longer than `ban_after` bans a peer: gossipsub's own counters silence it,
    /// and useful gossip buys nobody the right to lie.
    pub ban_threshold: f64,
    /// See `ban_threshold`.
    pub ban_after: Duration,
    /// How long a banned peer is refused.
    pub ban_for: Duration,
    /// Most bans remembered; the one that would end first makes room.
    pub max_bans: NonZeroUsize,
    /// Most application scores of disconnected peers remembered; the one closest to zero makes room.
    pub max_scores: NonZeroUsize,
    /// How long gossipsub remembers what it counted of a peer that has gone, unless it is positive. A kilobyte or two
    /// for each, and a hundred untrusted peers a second shake hands with a node: 60 * 100 * 2 KiB = 12 MiB. By then half of
    /// what was below zero would have decayed.
    pub retain: Duration,
    /// gossipsub's own score, the same for both topics.
    pub topic: TopicScoreConfig,
}

impl Default for ScoreConfig {
    fn default() -> Self {
        Self {
            offence_cap: 4.0,
            offence_window: Duration::from_secs(10),
            acceptance: 0.05,
            decay: 0.9,
            decay_interval: Duration::from_secs(10),
            clamp: 10.0,
            gossip_threshold: -1.0,
            publish_threshold: -2.0,
            graylist_threshold: -5.0,
            ban_threshold: -5.0,
            ban_after: Duration::from_secs(30),
            ban_for: Duration::from_secs(3600),
            max_bans: size(1024),
            max_scores: size(4096),
            retain: Duration::from_secs(60),
            topic: TopicScoreConfig::default(),
        }
    }
}

/// What gossipsub counts on each topic (§7.1). Decays are per second. Mesh deliveries, shared addresses,
/// slow peers and behaviour are not counted: that would punish quiet topics and operators who share a host.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TopicScoreConfig {
    /// The topic's part in the total.
    pub weight: f64,
    /// What each `time_in_mesh_quantum` in the mesh earns. 10/3600: the cap is worth 10 points, as much as
    /// `first_deliveries` at its cap, and does not outweigh a lasting offender.
    pub time_in_mesh: f64,
    /// The unit of `time_in_mesh`.
    pub time_in_mesh_quantum: Duration,
    /// Most units that count.
    pub time_in_mesh_cap: f64,
    /// What each first delivery earns.
    pub first_deliveries: f64,
    /// What is left of the number of first deliveries after a second.
    pub first_deliveries_decay: f64,
    /// Most first deliveries that count.
    pub first_deliveries_cap: f64,
    /// Times the *square* of the number of invalid deliveries; never positive.
    pub invalid_deliveries: f64,
    /// What is left of the number of invalid deliveries after a second.
    pub invalid_deliveries_decay: f64,
}

impl Default for TopicScoreConfig {
    fn default() -> Self {
        Self {
            weight: 1.0,
            time_in_mesh: 10.0 / 3600.0,
            time_in_mesh_quantum: Duration::from_secs(1),
            time_in_mesh_cap: 3600.0,
            first_deliveries: 0.5,
            first_deliveries_decay: 0.999,
            first_deliveries_cap: 20.0,
            invalid_deliveries: -2.0,
            invalid_deliveries_decay: 0.99,
        }
    }
}
