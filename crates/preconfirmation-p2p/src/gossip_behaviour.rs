//! gossipsub as the protocol sets it up (§2, §7.1): parameters, peer scores, thresholds, both topics subscribed.

use std::collections::{HashMap, HashSet};

use libp2p::{
    gossipsub::{
        self, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicScoreParams,
        ValidationMode, WhitelistSubscriptionFilter,
    },
    identity::Keypair,
};
use preconfirmation_types::Topic;

use crate::{
    config::{NetworkConfig, ScoreConfig, TopicScoreConfig},
    error::NetworkError,
    filter::{Form, Gossipsub, Stack},
    gossip::{Topics, id_on, limit},
    iwant::MAX_IDS,
};

/// Most bytes around a message's data: author, number, topic, signature and key of the largest kinds, and their tags.
const ENVELOPE: usize = 1024;

/// Builds gossipsub, scores on and both topics subscribed.
pub(crate) fn build(config: &NetworkConfig, topics: &Topics) -> Result<Gossipsub, NetworkError> {
    let hashes: HashSet<_> = topics.hashes().collect();
    let form = Form::new(topics.clone(), config.max_txlist_bytes);
    let mut behaviour = Stack::new_with_subscription_filter_and_transform(
        MessageAuthenticity::Signed(Keypair::clone(&config.identity)),
        parameters(config, topics)?,
        WhitelistSubscriptionFilter(hashes),
        form.clone(),
    )
    .map_err(|error| NetworkError::Stack(error.into()))?;
    behaviour
        .with_peer_score(score_parameters(&config.score, topics), thresholds(&config.score))
        .map_err(|error| NetworkError::Stack(error.into()))?;
    for topic in topics.idents() {
        behaviour.subscribe(topic).map_err(|error| NetworkError::Stack(error.into()))?;
    }
    Ok(Gossipsub::new(behaviour, form))
}

fn parameters(network: &NetworkConfig, topics: &Topics) -> Result<gossipsub::Config, NetworkError> {
    let config = &network.gossip;
    let commitments = topics.hash(Topic::Commitments);
    let frame = |topic| limit(topic, network.max_txlist_bytes) + ENVELOPE;
    let mesh = &config.mesh;
    let txlists = &config.txlist_mesh;
    gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(move |message| {
            let topic = if message.topic == commitments { Topic::Commitments } else { Topic::RawTxLists };
            MessageId::new(&id_on(topic, &message.data))
        })
        // Over this, not even the signature is checked.
        .max_transmit_size_for_topic(frame(Topic::Commitments), topics.hash(Topic::Commitments))
        .max_transmit_size_for_topic(frame(Topic::RawTxLists), topics.hash(Topic::RawTxLists))
        .support_floodsub()
        .max_transmit_size(config.max_frame_bytes)
        .mesh_n(mesh.size)
        .mesh_n_low(mesh.low)
        .mesh_n_high(mesh.high)
        .mesh_outbound_min(mesh.outbound_min)
        .mesh_n_for_topic(txlists.size, topics.hash(Topic::RawTxLists))
        .mesh_n_low_for_topic(txlists.low, topics.hash(Topic::RawTxLists))
        .mesh_n_high_for_topic(txlists.high, topics.hash(Topic::RawTxLists))
        .mesh_outbound_min_for_topic(txlists.outbound_min, topics.hash(Topic::RawTxLists))
        .gossip_lazy(config.lazy)
        .idontwant_message_size_threshold(config.idontwant_threshold)
        .heartbeat_interval(config.heartbeat)
        // The mesh forms at the first heartbeat; before it nothing is forwarded.
        .heartbeat_initial_delay(std::time::Duration::ZERO)
        .history_length(config.history.get())
        .history_gossip(config.history_gossip)
        .max_control_messages_sent(MAX_IDS)
        .duplicate_cache_time(config.duplicate_cache)
        .connection_handler_queue_len(config.send_queue.get())
        .publish_queue_duration(config.queue_time)
        .forward_queue_duration(config.queue_time)
        // A peer that asks for a message twice pins it twice.
        .gossip_retransimission(1)
        .flood_publish(false)
        // Without this gossipsub itself punishes whoever brings back what we published before a restart.
        // Our own messages come through to the service instead, which ignores them.
        .allow_self_origin(true)
        .build()
        .map_err(|error| NetworkError::Stack(error.into()))
}

fn score_parameters(config: &ScoreConfig, topics: &Topics) -> PeerScoreParams {
    let topic = topic_parameters(&config.topic);
    PeerScoreParams {
        topics: topics.hashes().map(|hash| (hash, topic.clone())).collect::<HashMap<_, _>>(),
        // The parts have caps of their own.
        topic_score_cap: 0.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: 0.0,
        slow_peer_weight: 0.0,
        retain_score: config.retain,
        ..PeerScoreParams::default()
    }
}

fn topic_parameters(config: &TopicScoreConfig) -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: config.weight,
        time_in_mesh_weight: config.time_in_mesh,
        time_in_mesh_quantum: config.time_in_mesh_quantum,
        time_in_mesh_cap: config.time_in_mesh_cap,
        first_message_deliveries_weight: config.first_deliveries,
        first_message_deliveries_decay: config.first_deliveries_decay,
        first_message_deliveries_cap: config.first_deliveries_cap,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: config.invalid_deliveries,
        invalid_message_deliveries_decay: config.invalid_deliveries_decay,
        ..TopicScoreParams::default()
    }
}

fn thresholds(config: &ScoreConfig) -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: config.gossip_threshold,
        publish_threshold: config.publish_threshold,
        graylist_threshold: config.graylist_threshold,
        // Better peers are looked for when the median of a mesh is negative; the default of 20 is of another
        // scale and would do so at all times.
        opportunistic_graft_threshold: 0.0,
        ..PeerScoreThresholds::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::{
        Multiaddr, PeerId,
        core::ConnectedPoint,
        gossipsub::IdentTopic,
        swarm::{ConnectionId, FromSwarm, NetworkBehaviour as _, behaviour::ConnectionEstablished},
    };

    use super::*;
    use crate::config::{GossipConfig, MeshConfig};

    #[test]
    fn gossipsub_accepts_the_default_scores_and_refuses_no_part_of_them() {
        let topics = Topics::new(167_000);
        let config = NetworkConfig::new(167_000, Keypair::generate_ed25519());
        let behaviour = build(&config, &topics).unwrap();
        assert_eq!(behaviour.topics().count(), 2);
        for topic in Topic::ALL {
            let score = behaviour.get_topic_params(&IdentTopic::new(topic.on_chain(167_000))).unwrap();
            assert_eq!((score.topic_weight, score.invalid_message_deliveries_weight), (1.0, -2.0));
            assert_eq!(score.mesh_message_deliveries_weight, 0.0);
            assert_eq!(topics.topic(&topics.hash(topic)), Some(topic));
        }
        let score = score_parameters(&config.score, &topics);
        for off in [score.ip_colocation_factor_weight, score.behaviour_penalty_weight, score.slow_peer_weight]
        {
            assert_eq!(off, 0.0);
        }
        let parameters = parameters(&config, &topics).unwrap();
        assert_eq!(
            (
                parameters.mesh_n(),
                parameters.mesh_n_low(),
                parameters.mesh_n_high(),
                parameters.gossip_lazy()
            ),
            (8, 6, 12, 6)
        );
        assert_eq!((parameters.history_length(), parameters.history_gossip()), (12, 3));
        // An id is 20 bytes; with its tag and length it is 22. Around them are a topic and a few tags.
        let ihave = 22 * parameters.max_control_messages_sent() + 256;
        assert!(ihave < parameters.max_control_message_size() / 2, "peers end the stream of larger ones");
        assert!(parameters.validate_messages() && !parameters.flood_publish());
        assert!(parameters.allow_self_origin() && parameters.support_floodsub());
    }
    #[test]
    fn gossipsub_has_the_settings_of_gossip() {
        let (topics, seconds) = (Topics::new(1), Duration::from_secs);
        let mut network = NetworkConfig::new(1, Keypair::generate_ed25519());
        let mesh = |(size, low, high, outbound_min)| MeshConfig { size, low, high, outbound_min };
        let meshes = [(20, 15, 31, 7), (10, 9, 17, 3)];
        let gossip = GossipConfig {
            mesh: mesh(meshes[0]),
            txlist_mesh: mesh(meshes[1]),
            lazy: 11,
            idontwant_threshold: 77,
            heartbeat: seconds(3),
            history: 21.try_into().unwrap(),
            history_gossip: 13,
            duplicate_cache: seconds(456),
            max_frame_bytes: 5_555_555,
            send_queue: 66.try_into().unwrap(),
            queue_time: seconds(7),
            ..GossipConfig::default()
        };
        network.gossip = gossip;
        let built = parameters(&network, &topics).unwrap();
        for (topic, expected) in [Topic::Commitments, Topic::RawTxLists].into_iter().zip(meshes) {
            let hash = topics.hash(topic);
            let size = (built.mesh_n_for_topic(&hash), built.mesh_n_low_for_topic(&hash));
            let bounds = (built.mesh_n_high_for_topic(&hash), built.mesh_outbound_min_for_topic(&hash));
            assert_eq!((size.0, size.1, bounds.0, bounds.1), expected);
        }
        assert_eq!(built.gossip_lazy(), gossip.lazy);
        assert_eq!(built.idontwant_message_size_threshold(), gossip.idontwant_threshold);
        assert_eq!(built.heartbeat_interval(), gossip.heartbeat);
        assert_eq!(built.history_length(), gossip.history.get());
        assert_eq!(built.history_gossip(), gossip.history_gossip);
        assert_eq!(built.duplicate_cache_time(), gossip.duplicate_cache);
        assert_eq!(built.max_transmit_size(), gossip.max_frame_bytes);
        assert_eq!(built.connection_handler_queue_len(), gossip.send_queue.get());
        assert_eq!(built.publish_queue_duration(), gossip.queue_time);
        assert_eq!(built.forward_queue_duration(), gossip.queue_time);
    }

    #[test]
    fn gossipsub_has_the_settings_of_scores() {
        let topic = TopicScoreConfig {
            weight: 0.25,
            time_in_mesh: 0.5,
            time_in_mesh_quantum: Duration::from_secs(7),
            time_in_mesh_cap: 70.0,
            first_deliveries: 0.75,
            first_deliveries_decay: 0.125,
            first_deliveries_cap: 9.0,
            invalid_deliveries: -3.5,
            invalid_deliveries_decay: 0.375,
        };
        let score = ScoreConfig {
            gossip_threshold: -10.0,
            publish_threshold: -20.0,
            graylist_threshold: -30.0,
            retain: Duration::from_secs(77),
            topic,
            ..ScoreConfig::default()
        };
        let topics = Topics::new(1);
        let built = score_parameters(&score, &topics);
        assert_eq!((built.retain_score, built.topics.len()), (score.retain, 2));
        for built in built.topics.values() {
            assert_eq!(built.topic_weight, topic.weight);
            assert_eq!(built.time_in_mesh_weight, topic.time_in_mesh);
            assert_eq!(built.time_in_mesh_quantum, topic.time_in_mesh_quantum);
            assert_eq!(built.time_in_mesh_cap, topic.time_in_mesh_cap);
            assert_eq!(built.first_message_deliveries_weight, topic.first_deliveries);
            assert_eq!(built.first_message_deliveries_decay, topic.first_deliveries_decay);
            assert_eq!(built.first_message_deliveries_cap, topic.first_deliveries_cap);
            assert_eq!(built.invalid_message_deliveries_weight, topic.invalid_deliveries);
            assert_eq!(built.invalid_message_deliveries_decay, topic.invalid_deliveries_decay);
        }
        let built = thresholds(&score);
        let built = [built.gossip_threshold, built.publish_threshold, built.graylist_threshold];
        assert_eq!(built, [-10.0, -20.0, -30.0]);
    }

    #[tokio::test]
    async fn gossipsub_learns_no_address() {
        let (config, topics) = (NetworkConfig::local(1, Keypair::generate_ed25519()), Topics::new(1));
        let form = Form::new(topics.clone(), config.max_txlist_bytes);
        let mut stack = Stack::new_with_subscription_filter_and_transform(
            MessageAuthenticity::Signed(config.identity.clone()),
            parameters(&config, &topics).unwrap(),
            WhitelistSubscriptionFilter(topics.hashes().collect()),
            form.clone(),
        )
        .unwrap();
        // The score of peers that share an address shows what it knows of addresses.
        let mut score = score_parameters(&config.score, &topics);
        (score.ip_colocation_factor_weight, score.ip_colocation_factor_threshold) = (-1.0, 1.0);
        stack.with_peer_score(score, thresholds(&config.score)).unwrap();
        let mut gossipsub = Gossipsub::new(stack, form);
        let remote: Multiaddr = "/ip4/1.1.1.1/tcp/1".parse().unwrap();
        let endpoint =
            &ConnectedPoint::Listener { local_addr: remote.clone(), send_back_addr: remote.clone() };
        for connection in 0..3 {
            let (peer_id, connection_id) = (PeerId::random(), ConnectionId::new_unchecked(connection));
            let _handler = gossipsub
                .handle_established_inbound_connection(connection_id, peer_id, &remote, &remote)
                .unwrap();
            gossipsub.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
            assert_eq!(gossipsub.peer_score(&peer_id), Some(0.0), "peer {connection}");
        }
    }
}
