//! Each setting with its bounds, and with the test that fails where the setting is ignored. A new one does not compile
//! until it is in the second table.

use std::{collections::HashMap, fs, num::NonZeroU32, path::Path, time::Duration};

use preconfirmation_types::TXLIST_HEADER_BYTES;

use super::*;
use crate::error::ConfigError;

const NONE: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const LIST: usize = MAX_TXLIST_BYTES + TXLIST_HEADER_BYTES;
const MANY: usize = 1 << 20;
const ANY: usize = usize::MAX;

/// A setting, how it is set, and what it is at least and at most.
type Row<T> = (&'static str, fn(&mut NetworkConfig, T), T, T);

const DURATIONS: &[Row<Duration>] = &[
    ("connections.first_bytes", |of, to| of.connections.first_bytes = to, MS, Duration::from_secs(10)),
    ("connections.handshake_interval", |of, to| of.connections.handshake_interval = to, NONE, YEARS),
    ("connections.idle_timeout", |of, to| of.connections.idle_timeout = to, MS, YEARS),
    ("connections.ping_interval", |of, to| of.connections.ping_interval = to, MS, YEARS),
    ("gossip.heartbeat", |of, to| of.gossip.heartbeat = to, MS, YEARS),
    ("gossip.duplicate_cache", |of, to| of.gossip.duplicate_cache = to, MS, YEARS),
    ("gossip.send_stall", |of, to| of.gossip.send_stall = to, MS, Duration::from_secs(9)),
    ("gossip.frame_time", |of, to| of.gossip.frame_time = to, MS, YEARS),
    ("gossip.queue_time", |of, to| of.gossip.queue_time = to, MS, YEARS),
    ("gossip.publish_queue.stale_after", |of, to| of.gossip.publish_queue.stale_after = to, MS, YEARS),
    ("score.offence_window", |of, to| of.score.offence_window = to, MS, YEARS),
    ("score.decay_interval", |of, to| of.score.decay_interval = to, MS, YEARS),
    ("score.ban_after", |of, to| of.score.ban_after = to, NONE, YEARS),
    ("score.ban_for", |of, to| of.score.ban_for = to, NONE, YEARS),
    ("score.retain", |of, to| of.score.retain = to, NONE, YEARS),
    ("score.topic.time_in_mesh_quantum", |of, to| of.score.topic.time_in_mesh_quantum = to, MS, YEARS),
    ("pacing.window", |of, to| of.pacing.window = to, MS, YEARS),
    ("pacing.cooldown", |of, to| of.pacing.cooldown = to, NONE, YEARS),
    ("pacing.timeout", |of, to| of.pacing.timeout = to, MS, YEARS),
    ("pacing.least_timeout", |of, to| of.pacing.least_timeout = to, MS, YEARS),
    ("serving.requests_per", |of, to| of.serving.requests_per = to, MS, Duration::from_millis(0xffff_ffff)),
    ("serving.bytes_per", |of, to| of.serving.bytes_per = to, MS, YEARS),
    ("peers.grace", |of, to| of.peers.grace = to, NONE, YEARS),
    ("peers.retry", |of, to| of.peers.retry = to, MS, YEARS),
    ("peers.max_retry", |of, to| of.peers.max_retry = to, MS, YEARS),
    ("peers.save_after", |of, to| of.peers.save_after = to, NONE, YEARS),
    ("redial.min_delay", |of, to| of.redial.min_delay = to, MS, YEARS),
    ("redial.max_delay", |of, to| of.redial.max_delay = to, MS, YEARS),
    ("redial.stable_after", |of, to| of.redial.stable_after = to, NONE, YEARS),
    ("rate_limits", |of, to| named(of, to), MS, YEARS),
    ("discovery.interval", |of, to| of.discovery.as_mut().unwrap().interval = to, MS, DAY),
];

/// Where the type allows no zero, one stands in for it.
const SIZES: &[Row<usize>] = &[
    ("max_txlist_bytes", |of, to| of.max_txlist_bytes = to, 1, MAX_TXLIST_BYTES),
    ("connections.max_inbound", |of, to| of.connections.max_inbound = small(to), 0, ANY),
    ("connections.max_inbound_per_ip", |of, to| of.connections.max_inbound_per_ip = some(to), 0, ANY),
    ("connections.max_inbound_per_subnet", |of, to| of.connections.max_inbound_per_subnet = some(to), 0, ANY),
    ("connections.max_outbound", |of, to| of.connections.max_outbound = small(to), 0, ANY),
    ("connections.max_per_peer", |of, to| of.connections.max_per_peer = small(to), 1, ANY),
    ("connections.max_pending", |of, to| of.connections.max_pending = small(to), 1, ANY),
    ("connections.max_pending_per_ip", |of, to| of.connections.max_pending_per_ip = some(to), 0, ANY),
    ("connections.bans_per_ip", |of, to| of.connections.bans_per_ip = some(to), 0, ANY),
    ("gossip.lazy", |of, to| of.gossip.lazy = to, 0, ANY),
    ("gossip.idontwant_threshold", |of, to| of.gossip.idontwant_threshold = to, 0, ANY),
    ("gossip.history", |of, to| of.gossip.history = some(to), 0, 1 << 16),
    ("gossip.max_frame_bytes", |of, to| of.gossip.max_frame_bytes = to, LIST + 1024, 0xffff_ffff),
    ("gossip.send_queue", |of, to| of.gossip.send_queue = some(to), 0, ANY),
    ("gossip.send_queue_bytes", |of, to| of.gossip.send_queue_bytes = some(to), LIST, ANY),
    ("gossip.large_sends", |of, to| of.gossip.large_sends = to, 0, ANY),
    ("gossip.publish_queue.messages", |of, to| of.gossip.publish_queue.messages = some(to), 0, ANY),
    ("gossip.publish_queue.bytes", |of, to| of.gossip.publish_queue.bytes = some(to), LIST, ANY),
    ("gossip.unelected_per_minute", |of, to| of.gossip.unelected_per_minute = small(to), 0, ANY),
    ("score.max_bans", |of, to| of.score.max_bans = some(to), 0, ANY),
    ("score.max_scores", |of, to| of.score.max_scores = some(to), 0, ANY),
    ("pacing.requests", |of, to| of.pacing.requests = some(to), 0, ANY),
    ("pacing.most_requests", |of, to| of.pacing.most_requests = some(to), 0, ANY),
    ("pacing.most_per_second", |of, to| of.pacing.most_per_second = some(to), 0, ANY),
    ("pacing.in_flight", |of, to| of.pacing.in_flight = some(to), 0, ANY),
    ("pacing.waiting", |of, to| of.pacing.waiting = some(to), 0, ANY),
    ("serving.requests", |of, to| of.serving.requests = few(to), 0, ANY),
    ("serving.bytes", |of, to| of.serving.bytes = some(to), 0, ANY),
    ("serving.item_bytes", |of, to| of.serving.item_bytes = to, 0, ANY),
    ("serving.peers_per_host", |of, to| of.serving.peers_per_host = few(to), 0, ANY),
    ("serving.peers_in_all", |of, to| of.serving.peers_in_all = few(to), 0, ANY),
    ("serving.write_bytes_per_peer", |of, to| of.serving.write_bytes_per_peer = some(to), 0, ANY),
    ("serving.in_flight_per_peer", |of, to| of.serving.in_flight_per_peer = some(to), 0, ANY),
    ("serving.in_flight", |of, to| of.serving.in_flight = some(to), 2, MANY),
    ("peers.high", |of, to| of.peers.high = to, 0, ANY),
    ("peers.outbound_per_subnet", |of, to| of.peers.outbound_per_subnet = some(to), 0, ANY),
    ("peers.dials", |of, to| of.peers.dials = some(to), 0, ANY),
    ("peers.known", |of, to| of.peers.known = some(to), 0, ANY),
    ("peers.known_per_ip", |of, to| of.peers.known_per_ip = some(to), 0, ANY),
    ("peers.known_per_subnet", |of, to| of.peers.known_per_subnet = some(to), 0, ANY),
    ("queues.request_events", |of, to| of.queues.request_events = some(to), 0, MANY),
    ("queues.open_verdicts", |of, to| of.queues.open_verdicts = some(to), 0, MANY),
    ("queues.open_verdict_bytes", |of, to| of.queues.open_verdict_bytes = some(to), 0, ANY),
    ("queues.commands", |of, to| of.queues.commands = some(to), 0, MANY),
    ("queues.reports", |of, to| of.queues.reports = some(to), 0, MANY),
    ("discovery.quorum", |of, to| of.discovery.as_mut().unwrap().quorum = to, 2, ANY),
];

const SOME: f64 = f64::MIN_POSITIVE;
const BELOW_ONE: f64 = 1.0 - f64::EPSILON;

const NUMBERS: &[Row<f64>] = &[
    ("score.offence_cap", |of, to| of.score.offence_cap = to, 0.0, 1000.0),
    ("score.acceptance", |of, to| of.score.acceptance = to, 0.0, f64::MAX),
    ("score.decay", |of, to| of.score.decay = to, 0.0, 1.0),
    ("score.clamp", |of, to| of.score.clamp = to, 0.0, f64::MAX),
    ("score.topic.weight", |of, to| of.score.topic.weight = to, 0.0, f64::MAX),
    ("score.topic.time_in_mesh", |of, to| of.score.topic.time_in_mesh = to, 0.0, f64::MAX),
    ("score.topic.time_in_mesh_cap", |of, to| of.score.topic.time_in_mesh_cap = to, SOME, f64::MAX),
    ("score.topic.first_deliveries", |of, to| of.score.topic.first_deliveries = to, 0.0, f64::MAX),
    (
        "score.topic.first_deliveries_decay",
        |of, to| of.score.topic.first_deliveries_decay = to,
        SOME,
        BELOW_ONE,
    ),
    ("score.topic.first_deliveries_cap", |of, to| of.score.topic.first_deliveries_cap = to, SOME, f64::MAX),
    ("score.topic.invalid_deliveries", |of, to| of.score.topic.invalid_deliveries = to, f64::MIN, 0.0),
    (
        "score.topic.invalid_deliveries_decay",
        |of, to| of.score.topic.invalid_deliveries_decay = to,
        SOME,
        BELOW_ONE,
    ),
];

fn named(config: &mut NetworkConfig, window: Duration) {
    config.rate_limits = HashMap::from([(PeerId::random(), RateLimit { window, ..RateLimit::DEPLOYED })]);
}

fn some(value: usize) -> NonZeroUsize {
    size(value)
}

fn small(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn few(value: usize) -> NonZeroU32 {
    NonZeroU32::new(small(value)).unwrap_or(NonZeroU32::MIN)
}

fn with_discovery() -> NetworkConfig {
    let mut config = NetworkConfig::local(1, Keypair::generate_secp256k1());
    config.discovery = Some(DiscoveryConfig::local());
    config
}

/// Each setting has its most.
pub(crate) fn longest() -> NetworkConfig {
    let mut config = with_discovery();
    DURATIONS.iter().for_each(|(_, set, _, most)| set(&mut config, *most));
    SIZES.iter().for_each(|(_, set, _, most)| set(&mut config, *most));
    NUMBERS.iter().for_each(|(_, set, _, most)| set(&mut config, *most));
    config.gossip.history_gossip = config.gossip.history.get();
    config
}

/// Each setting has its least.
pub(crate) fn shortest() -> NetworkConfig {
    let mut config = with_discovery();
    DURATIONS.iter().for_each(|(_, set, least, _)| set(&mut config, *least));
    SIZES.iter().for_each(|(_, set, least, _)| set(&mut config, *least));
    NUMBERS.iter().for_each(|(_, set, least, _)| set(&mut config, *least));
    config.gossip.history_gossip = 0;
    config
}

#[track_caller]
fn refuses(change: impl FnOnce(&mut NetworkConfig), expected: &str) -> ConfigError {
    let mut config = with_discovery();
    change(&mut config);
    let error = config.check().unwrap_err();
    assert!(error.to_string().starts_with(&format!("{expected} ")), "{error}, not {expected}");
    error
}

#[test]
fn the_bounds_of_settings_are_accepted() {
    for config in [with_discovery(), longest(), shortest()] {
        assert_eq!(config.check(), Ok(()), "{config:?}");
    }
}

#[test]
fn a_setting_beyond_its_bounds_is_refused_by_name() {
    for (setting, set, least, most) in DURATIONS {
        let below = least.checked_sub(Duration::from_nanos(1));
        for out in [*most * 2, Duration::MAX].into_iter().chain(below) {
            refuses(|config| set(config, out), setting);
        }
        if !least.is_zero() {
            let error = refuses(|config| set(config, NONE), setting);
            assert!(matches!(error, ConfigError::ZeroDuration { .. }), "{error}");
        }
    }
    for (setting, set, least, most) in SIZES {
        for out in least.checked_sub(1).into_iter().chain(most.checked_add(1)) {
            refuses(|config| set(config, out), setting);
        }
    }
    for (setting, set, least, most) in NUMBERS {
        for out in [least.next_down(), most.next_up(), f64::NAN] {
            refuses(|config| set(config, out), setting);
        }
    }
}

#[test]
fn a_setting_above_the_one_that_bounds_it_is_refused() {
    for (setting, change) in [
        ("peers.low", (|of| (of.peers.low, of.peers.high) = (31, 30)) as fn(&mut NetworkConfig)),
        ("peers.low", |of| (of.peers.low, of.connections.max_outbound) = (20, 19)),
        ("peers.low", |of| (of.peers.low, of.peers.known) = (20, size(19))),
        ("peers.retry", |of| (of.peers.retry, of.peers.max_retry) = (2 * MS, MS)),
        ("redial.min_delay", |of| (of.redial.min_delay, of.redial.max_delay) = (2 * MS, MS)),
    ] {
        let error = refuses(change, setting);
        assert!(matches!(error, ConfigError::Above { .. }), "{error}");
    }
    let mut config = with_discovery();
    config.gossip.history = size(2);
    let error = config.check().unwrap_err();
    assert_eq!(error, ConfigError::History { remembered: 2, gossiped: 3 });
}

/// The settings of each part, and for each the file and the name of the test.
macro_rules! shown {
    ($($of:ident { $($field:ident: $file:literal $test:ident,)* })*) => {
        const SHOWN: &[(&str, &str, &str)] =
            &[$($((concat!(stringify!($of), ".", stringify!($field)), $file, stringify!($test)),)*)*];
        $(const _: fn($of) = |$of { $($field: _,)* }: $of| ();)*
    };
}

shown! {
    NetworkConfig {
        chain_id: "tests/it/lives.rs" peers_of_another_chain_are_not_announced,
        identity: "tests/it/finding.rs" a_killed_node_finds_its_peers_again_without_bootnodes_and_has_the_same_record,
        listen: "tests/it/transports.rs" tcp_and_quic_between_the_same_two_do_no_harm,
        advertise: "tests/it/finding.rs" advertised_addresses_are_what_peers_and_the_record_are_told,
        static_peers: "tests/it/lives.rs" static_peers_are_dialled_and_status_tells_about_them,
        trusted_peers: "tests/it/finding.rs" static_and_trusted_peers_are_not_banned,
        restrict_to: "src/admission.rs" whoever_is_outside_the_ranges_is_neither_taken_nor_dialled,
        bootnodes: "tests/it/finding.rs" a_bootnode_that_is_an_address_is_dialled_without_discovery,
        data_dir: "src/service/files.rs" a_change_is_saved_after_the_time_set,
        peers: "tests/it/finding.rs" above_the_high_mark_the_worst_peer_goes_but_no_trusted_one,
        redial: "src/peer_manager/mod.rs" static_peers_are_redialled_as_is_set,
        discovery: "src/service/discovery.rs" a_node_goes_on_without_discovery_and_restarts_it,
        seed: "src/peer_manager/store.rs" the_same_seed_chooses_the_same,
        max_txlist_bytes: "tests/it/hostile.rs" a_txlist_over_the_chains_cap_is_an_offence_of_its_own,
        connections: "tests/it/limits.rs" more_peers_than_allowed_are_refused,
        gossip: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        pacing: "tests/it/requests.rs" requests_wait_for_their_turn,
        rate_limits: "tests/it/requests.rs" an_operator_names_a_peer_that_answers_more,
        serving: "tests/it/limits.rs" what_finds_no_place_waits_for_one,
        score: "tests/it/limits.rs" a_lasting_offender_is_banned_and_forgiven_when_its_time_is_up,
        queues: "src/service/mod.rs" queues_are_as_long_as_is_set,
    }
    ConnectionConfig {
        max_inbound: "src/admission.rs" protected_peers_come_whatever_is_full_and_take_no_place,
        max_inbound_per_ip: "src/admission.rs" many_keys_of_one_host_get_the_places_of_one_host,
        max_inbound_per_subnet: "src/admission.rs" a_subnet_gets_its_share_and_no_more,
        max_outbound: "src/admission.rs" protected_peers_come_whatever_is_full_and_take_no_place,
        max_per_peer: "src/admission.rs" a_peer_has_no_more_connections_than_are_set,
        max_pending: "src/half_open.rs" when_all_places_are_taken_the_host_with_most_loses_its_oldest,
        max_pending_per_ip: "src/half_open.rs" a_host_with_its_share_loses_its_oldest_to_its_next,
        first_bytes: "src/transport.rs" a_silent_connection_ends_in_time_and_takes_no_turn,
        limit_private: "src/admission.rs" private_addresses_are_told_apart_only_when_asked_for,
        bans_per_ip: "tests/it/admission.rs" several_bans_of_one_address_ban_the_address,
        handshake_interval: "src/transport.rs" a_silent_connection_ends_in_time_and_takes_no_turn,
        idle_timeout: "tests/it/lives.rs" a_connection_that_nothing_uses_ends_after_the_time_set,
        ping_interval: "tests/it/lives.rs" peers_are_pinged_as_often_as_is_set,
        max_process_bytes: "tests/it/transports.rs" a_process_over_its_memory_limit_takes_no_connections,
    }
    GossipConfig {
        mesh: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        txlist_mesh: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        lazy: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        idontwant_threshold: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        heartbeat: "src/verdicts.rs" a_verdict_and_a_twin_last_as_long_as_gossip_remembers,
        history: "src/verdicts.rs" a_verdict_and_a_twin_last_as_long_as_gossip_remembers,
        history_gossip: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        duplicate_cache: "src/verdicts.rs" a_verdict_and_a_twin_last_as_long_as_gossip_remembers,
        max_frame_bytes: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        send_queue: "src/slow_reader.rs" a_peer_has_room_for_half_of_its_queue_since_it_had_nothing_to_read,
        send_queue_bytes: "src/slow_reader.rs" what_may_wait_behind_a_message_is_bounded_by_bytes,
        send_stall: "src/slow_reader.rs" a_message_that_is_not_read_in_time_is_enough,
        frame_time: "src/slow_reader.rs" a_frame_that_is_not_ended_in_time_is_enough,
        queue_time: "src/slow_reader.rs" what_may_wait_behind_a_message_is_bounded_by_bytes,
        large_sends: "src/send_turns.rs" so_many_large_messages_are_written_at_once_as_is_set,
        publish_queue: "tests/it/gossip.rs" publishing_says_what_became_of_the_message,
        unelected_per_minute: "src/peer_manager/mod.rs" a_relay_budget_is_for_a_minute_and_for_each_peer,
    }
    MeshConfig {
        size: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        low: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        high: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
        outbound_min: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_gossip,
    }
    PublishQueueConfig {
        messages: "src/publish_queue.rs" what_does_not_fit_is_refused_and_what_was_kept_stays,
        bytes: "src/publish_queue.rs" what_does_not_fit_is_refused_and_what_was_kept_stays,
        stale_after: "tests/it/gossip.rs" what_finds_no_peer_in_time_is_dropped_and_counted,
    }
    ScoreConfig {
        offence_cap: "src/peer_manager/score.rs" offences_cost_as_much_in_a_window_as_is_set,
        offence_window: "src/peer_manager/score.rs" offences_cost_as_much_in_a_window_as_is_set,
        acceptance: "src/peer_manager/score.rs" a_score_grows_decays_and_ends_as_is_set,
        decay: "src/peer_manager/score.rs" a_score_grows_decays_and_ends_as_is_set,
        decay_interval: "src/peer_manager/score.rs" a_score_grows_decays_and_ends_as_is_set,
        clamp: "src/peer_manager/score.rs" a_score_grows_decays_and_ends_as_is_set,
        gossip_threshold: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        publish_threshold: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        graylist_threshold: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        ban_threshold: "src/peer_manager/score.rs" a_ban_comes_after_the_time_and_below_the_score_set,
        ban_after: "src/peer_manager/score.rs" a_ban_comes_after_the_time_and_below_the_score_set,
        ban_for: "src/peer_manager/score.rs" a_ban_comes_after_the_time_and_below_the_score_set,
        max_bans: "src/peer_manager/mod.rs" a_full_list_gives_up_the_ban_that_ends_first,
        max_scores: "src/peer_manager/score.rs" a_full_map_keeps_those_who_offended_most,
        retain: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        topic: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
    }
    TopicScoreConfig {
        weight: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        time_in_mesh: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        time_in_mesh_quantum: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        time_in_mesh_cap: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        first_deliveries: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        first_deliveries_decay: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        first_deliveries_cap: "src/gossip_behaviour.rs" gossipsub_has_the_settings_of_scores,
        invalid_deliveries: "src/peer_manager/score.rs" an_authors_fault_costs_what_gossipsub_would_take,
        invalid_deliveries_decay: "src/peer_manager/score.rs" an_authors_fault_costs_what_gossipsub_would_take,
    }
    PacingConfig {
        requests: "src/peer_manager/outbound.rs" as_many_leave_in_a_window_as_are_set,
        window: "src/peer_manager/outbound.rs" as_many_leave_in_a_window_as_are_set,
        most_requests: "src/config/requests.rs" an_advertised_limit_is_used_as_far_as_is_set,
        most_per_second: "src/config/requests.rs" an_advertised_limit_is_used_as_far_as_is_set,
        cooldown: "src/peer_manager/outbound.rs" a_limit_is_believed_again_after_the_cooldown_set,
        in_flight: "src/peer_manager/outbound.rs" what_is_without_an_answer_is_bounded,
        waiting: "src/peer_manager/outbound.rs" a_full_queue_gives_the_request_back,
        timeout: "src/peer_manager/outbound.rs" a_timeout_stays_within_what_is_set,
        least_timeout: "src/peer_manager/outbound.rs" a_timeout_stays_within_what_is_set,
    }
    ServingConfig {
        advertise: "src/config/requests.rs" a_server_advertises_its_limit_unless_it_is_told_not_to,
        requests: "src/serving.rs" budgets_are_as_large_and_refill_as_fast_as_is_set,
        requests_per: "src/serving.rs" budgets_are_as_large_and_refill_as_fast_as_is_set,
        bytes: "src/serving.rs" budgets_are_as_large_and_refill_as_fast_as_is_set,
        bytes_per: "src/serving.rs" budgets_are_as_large_and_refill_as_fast_as_is_set,
        item_bytes: "src/serving.rs" an_item_costs_what_is_set,
        peers_per_host: "src/serving.rs" many_names_of_one_host_have_no_more_than_some_peers,
        peers_in_all: "src/serving.rs" many_names_of_one_host_have_no_more_than_some_peers,
        write_bytes_per_peer: "src/serving.rs" answers_that_do_not_fit_beside_those_being_written_wait,
        in_flight_per_peer: "src/inbound.rs" what_finds_no_place_is_served_when_there_is_one,
        in_flight: "src/inbound.rs" lists_leave_heads_and_pages_their_places,
    }
    PeersConfig {
        low: "src/peer_manager/prune.rs" half_of_the_low_mark_is_dialled_however_many_have_come,
        high: "src/peer_manager/prune.rs" only_what_is_above_the_high_mark_goes_and_the_worst_first,
        outbound_per_subnet: "src/peer_manager/store.rs" an_address_and_a_subnet_have_the_places_that_are_set,
        grace: "src/peer_manager/prune.rs" a_newcomer_has_the_grace_that_is_set,
        dials: "src/service/dials.rs" as_many_known_peers_are_dialled_at_a_time_as_are_set,
        known: "src/peer_manager/store.rs" hearsay_never_pushes_out_who_was_met,
        known_per_ip: "src/peer_manager/store.rs" an_address_and_a_subnet_have_the_places_that_are_set,
        known_per_subnet: "src/peer_manager/store.rs" an_address_and_a_subnet_have_the_places_that_are_set,
        dial_private: "src/service/discovery.rs" private_addresses_are_dialled_where_that_is_set,
        retry: "src/peer_manager/store.rs" pauses_double_from_the_shortest_to_the_longest_set,
        max_retry: "src/peer_manager/store.rs" pauses_double_from_the_shortest_to_the_longest_set,
        save_after: "src/service/files.rs" a_change_is_saved_after_the_time_set,
    }
    RedialConfig {
        min_delay: "src/peer_manager/mod.rs" static_peers_are_redialled_as_is_set,
        max_delay: "src/peer_manager/mod.rs" static_peers_are_redialled_as_is_set,
        stable_after: "src/peer_manager/mod.rs" static_peers_are_redialled_as_is_set,
    }
    DiscoveryConfig {
        listen: "tests/it/finding.rs" a_node_that_listens_everywhere_learns_its_address_from_two_others,
        interval: "src/discovery/mod.rs" queries_are_as_far_apart_as_is_set,
        limit_subnets: "src/discovery/mod.rs" discv5_has_the_settings_of_discovery,
        limit_packets: "src/discovery/mod.rs" discv5_has_the_settings_of_discovery,
        packets_per_ip: "src/discovery/mod.rs" discv5_has_the_settings_of_discovery,
        packets: "src/discovery/mod.rs" discv5_has_the_settings_of_discovery,
        advertise_ip: "src/discovery/record.rs" what_is_configured_for_the_record_comes_first,
        advertise_port: "src/discovery/record.rs" what_is_configured_for_the_record_comes_first,
        quorum: "src/discovery/mod.rs" discv5_has_the_settings_of_discovery,
    }
    QueueConfig {
        request_events: "src/service/mod.rs" queues_are_as_long_as_is_set,
        open_verdicts: "src/verdicts.rs" whoever_holds_most_gives_up_its_newest_and_is_refused_itself,
        open_verdict_bytes: "src/verdicts.rs" bytes_are_shared_as_the_count_is,
        commands: "src/service/mod.rs" queues_are_as_long_as_is_set,
        reports: "src/service/mod.rs" queues_are_as_long_as_is_set,
    }
}

#[test]
fn each_setting_names_a_test_of_its_effect() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (setting, file, test) in SHOWN {
        let source = fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(source.contains(&format!("fn {test}(")), "{setting}: no test {test} in {file}");
    }
}
