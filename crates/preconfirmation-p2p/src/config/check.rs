//! What the settings may be, checked once: each in its range, and those that depend on each other.

use std::time::Duration;

use libp2p::Multiaddr;
use preconfirmation_types::{MAX_TXLIST_BYTES, TXLIST_HEADER_BYTES};

use super::{HANDSHAKE, NetworkConfig};
use crate::{bootnode::Bootnode, error::ConfigError, identity::enr_key, ip::ip_of};

/// Shortest duration that can be set where there must be some: what is due more often keeps the node busy with it.
const MILLISECOND: Duration = Duration::from_millis(1);

/// Longest duration that can be set. The timers of the libraries below panic for one that no clock can express.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Longest time between two queries. discv5's timers take up to two years, and neighbours are pinged every six queries.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest queue that can be set, a million entries. Those of the runtime panic for more than they can count.
const MANY: usize = 1 << 20;

/// Most heartbeats in the message cache, which has a list for each from the beginning.
const MOST_HISTORY: usize = 1 << 16;

/// Most points that offences of a peer may cost in a window. Each charge is remembered for so long.
const MOST_OFFENCES: f64 = 1000.0;

/// Longest time of `serving.requests_per`: it is advertised in milliseconds, as a u32.
const MOST_ADVERTISED: Duration = Duration::from_millis(u32::MAX as u64);

/// Longest time of `gossip.send_stall`. A stream on which nobody answers is given up by the stack after 10 s, and with it
/// what was seen.
const MOST_STALL: Duration = Duration::from_secs(9);

impl NetworkConfig {
    /// Says whether the settings can work. [`Network::new`](crate::Network::new) asks this first.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_durations()?;
        self.check_sizes()?;
        self.check_pairs()?;
        self.gossip.mesh.check()?;
        self.gossip.txlist_mesh.check()?;
        self.check_scores()?;
        self.check_addresses()
    }

    fn check_durations(&self) -> Result<(), ConfigError> {
        let Self { connections, gossip, score, pacing, serving, peers, redial, .. } = self;
        let named = self.rate_limits.values().map(|limit| ("rate_limits", limit.window, TEN_YEARS));
        let discovery = self.discovery.map(|of| ("discovery.interval", of.interval, DAY));
        let some = [
            ("connections.first_bytes", connections.first_bytes, HANDSHAKE),
            ("connections.idle_timeout", connections.idle_timeout, TEN_YEARS),
            ("connections.ping_interval", connections.ping_interval, TEN_YEARS),
            ("gossip.heartbeat", gossip.heartbeat, TEN_YEARS),
            ("gossip.duplicate_cache", gossip.duplicate_cache, TEN_YEARS),
            ("gossip.send_stall", gossip.send_stall, MOST_STALL),
            ("gossip.frame_time", gossip.frame_time, TEN_YEARS),
            ("gossip.queue_time", gossip.queue_time, TEN_YEARS),
            ("gossip.publish_queue.stale_after", gossip.publish_queue.stale_after, TEN_YEARS),
            ("score.offence_window", score.offence_window, TEN_YEARS),
            ("score.decay_interval", score.decay_interval, TEN_YEARS),
            ("score.topic.time_in_mesh_quantum", score.topic.time_in_mesh_quantum, TEN_YEARS),
            ("pacing.window", pacing.window, TEN_YEARS),
            ("pacing.timeout", pacing.timeout, TEN_YEARS),
            ("pacing.least_timeout", pacing.least_timeout, TEN_YEARS),
            ("serving.requests_per", serving.requests_per, MOST_ADVERTISED),
            ("serving.bytes_per", serving.bytes_per, TEN_YEARS),
            ("peers.retry", peers.retry, TEN_YEARS),
            ("peers.max_retry", peers.max_retry, TEN_YEARS),
            ("redial.min_delay", redial.min_delay, TEN_YEARS),
            ("redial.max_delay", redial.max_delay, TEN_YEARS),
        ];
        let some_or_none = [
            ("connections.handshake_interval", connections.handshake_interval),
            ("score.ban_after", score.ban_after),
            ("score.ban_for", score.ban_for),
            ("score.retain", score.retain),
            ("pacing.cooldown", pacing.cooldown),
            ("peers.grace", peers.grace),
            ("peers.save_after", peers.save_after),
            ("redial.stable_after", redial.stable_after),
        ];
        for (setting, duration, most) in some.into_iter().chain(named).chain(discovery) {
            if duration.is_zero() {
                return Err(ConfigError::ZeroDuration { setting });
            }
            within(setting, duration.as_secs_f64(), MILLISECOND.as_secs_f64(), most.as_secs_f64())?;
        }
        for (setting, duration) in some_or_none {
            within(setting, duration.as_secs_f64(), 0.0, TEN_YEARS.as_secs_f64())?;
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        let Self { connections, gossip, serving, queues, .. } = self;
        // Whatever the largest list is sent or kept in has room for it.
        let list = self.max_txlist_bytes.saturating_add(TXLIST_HEADER_BYTES);
        let quorum = self.discovery.map(|of| ("discovery.quorum", of.quorum, 2, usize::MAX));
        let sizes = [
            ("max_txlist_bytes", self.max_txlist_bytes, 1, MAX_TXLIST_BYTES),
            ("connections.max_per_peer", connections.max_per_peer as usize, 1, usize::MAX),
            ("connections.max_pending", connections.max_pending as usize, 1, usize::MAX),
            ("gossip.history", gossip.history.get(), 1, MOST_HISTORY),
            ("gossip.max_frame_bytes", gossip.max_frame_bytes, list.saturating_add(1024), u32::MAX as usize),
            ("gossip.send_queue_bytes", gossip.send_queue_bytes.get(), list, usize::MAX),
            ("gossip.publish_queue.bytes", gossip.publish_queue.bytes.get(), list, usize::MAX),
            // Half of them are for lists.
            ("serving.in_flight", serving.in_flight.get(), 2, MANY),
            ("queues.request_events", queues.request_events.get(), 1, MANY),
            ("queues.open_verdicts", queues.open_verdicts.get(), 1, MANY),
            ("queues.commands", queues.commands.get(), 1, MANY),
            ("queues.reports", queues.reports.get(), 1, MANY),
        ];
        for (setting, size, least, most) in sizes.into_iter().chain(quorum) {
            within(setting, shown(size), shown(least), shown(most))?;
        }
        Ok(())
    }

    /// What must not be above something else.
    fn check_pairs(&self) -> Result<(), ConfigError> {
        let Self { connections, gossip, peers, redial, .. } = self;
        let (remembered, gossiped) = (gossip.history.get(), gossip.history_gossip);
        if gossiped > remembered {
            return Err(ConfigError::History { remembered, gossiped });
        }
        let low = ("peers.low", shown(peers.low));
        let seconds = Duration::as_secs_f64;
        for ((setting, value), limit_setting, limit) in [
            (low, "peers.high", shown(peers.high)),
            // So many are dialled, if nobody else comes, and remembered while they are connected.
            (low, "connections.max_outbound", connections.max_outbound.into()),
            (low, "peers.known", shown(peers.known.get())),
            (("peers.retry", seconds(&peers.retry)), "peers.max_retry", seconds(&peers.max_retry)),
            (
                ("redial.min_delay", seconds(&redial.min_delay)),
                "redial.max_delay",
                seconds(&redial.max_delay),
            ),
        ] {
            if value > limit {
                return Err(ConfigError::Above { setting, value, limit_setting, limit });
            }
        }
        Ok(())
    }

    fn check_scores(&self) -> Result<(), ConfigError> {
        let score = &self.score;
        let (gossip, publish, graylist, ban) =
            (score.gossip_threshold, score.publish_threshold, score.graylist_threshold, score.ban_threshold);
        // Written so that a NaN anywhere fails.
        if !(0.0 >= gossip && gossip >= publish && publish >= graylist && graylist >= ban) {
            return Err(ConfigError::Thresholds { gossip, publish, graylist, ban });
        }
        let topic = &score.topic;
        let (above_zero, below_one) = (f64::MIN_POSITIVE, 1.0 - f64::EPSILON);
        for (setting, value, least, most) in [
            ("score.offence_cap", score.offence_cap, 0.0, MOST_OFFENCES),
            ("score.acceptance", score.acceptance, 0.0, f64::MAX),
            ("score.decay", score.decay, 0.0, 1.0),
            ("score.clamp", score.clamp, 0.0, f64::MAX),
            ("score.topic.weight", topic.weight, 0.0, f64::MAX),
            ("score.topic.time_in_mesh", topic.time_in_mesh, 0.0, f64::MAX),
            ("score.topic.time_in_mesh_cap", topic.time_in_mesh_cap, above_zero, f64::MAX),
            ("score.topic.first_deliveries", topic.first_deliveries, 0.0, f64::MAX),
            ("score.topic.first_deliveries_decay", topic.first_deliveries_decay, above_zero, below_one),
            ("score.topic.first_deliveries_cap", topic.first_deliveries_cap, above_zero, f64::MAX),
            // A positive weight of a penalty makes gossipsub refuse the whole parameter set.
            ("score.topic.invalid_deliveries", topic.invalid_deliveries, f64::MIN, 0.0),
            ("score.topic.invalid_deliveries_decay", topic.invalid_deliveries_decay, above_zero, below_one),
        ] {
            within(setting, value, least, most)?;
        }
        Ok(())
    }

    /// Where this node is reached, and by whom it is found.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        let unspecified = |address: &Multiaddr| ip_of(address).is_some_and(|ip| ip.is_unspecified());
        if let Some(index) = self.advertise.iter().position(unspecified) {
            return Err(ConfigError::Advertise { index });
        }
        let Some(discovery) = self.discovery else {
            let unused = self.bootnodes.iter().position(Bootnode::needs_discovery);
            return unused.map_or(Ok(()), |index| Err(ConfigError::BootnodeNeedsDiscovery { index }));
        };
        if discovery.advertise_ip.is_some_and(|ip| ip.is_unspecified()) {
            return Err(ConfigError::AdvertiseIp);
        }
        if enr_key(&self.identity).is_none() {
            return Err(ConfigError::DiscoveryIdentity);
        }
        Ok(())
    }
}

/// A NaN is within nothing.
fn within(setting: &'static str, value: f64, least: f64, most: f64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { setting, value }) }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "compared with bounds far from each other, and shown to a human"
)]
const fn shown(size: usize) -> f64 {
    size as f64
}
