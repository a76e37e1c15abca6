//! What is particular about this network's gossip (§2): message ids, parameters, form of the messages.

use std::collections::{HashMap, HashSet};

use libp2p::{
    gossipsub::{
        self, IdentTopic, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicHash,
        TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
    },
    identity::Keypair,
};
use preconfirmation_types::{
    Bytes, Container as _, DecodeError, DecodeErrorKind, MAX_GOSSIP_BYTES, Offence, RawTxListGossip,
    SIGNED_COMMITMENT_BYTES, SignedCommitment, TXLIST_HEADER_BYTES, Topic,
};
use sha2::{Digest as _, Sha256};

use crate::{
    config::{NetworkConfig, ScoreConfig, TopicScoreConfig},
    error::NetworkError,
    event::GossipMessage,
    filter::{Form, Gossipsub, Stack},
};

/// Most bytes around a message's data: author, number, topic, signature and key of the largest kinds, and their tags.
const ENVELOPE: usize = 1024;

/// A raw snappy block expands at most to this: a copy of 3 bytes stands for 64.
const MAX_SNAPPY_EXPANSION: usize = 64 / 3 + 1;

/// The message id that the deployed peers use: 20 bytes of `sha256(0x01000000 ‖ uncompressed)` where `data`
/// is a valid raw snappy block, of `sha256(0x00000000 ‖ data)` otherwise (§2). The topic is not part of it.
///
/// What a block claims to expand to is judged before anything is allocated: over [`MAX_GOSSIP_BYTES`], or
/// more than snappy can express in that many bytes, it is not a block.
#[must_use]
pub fn gossip_id(data: &[u8]) -> [u8; 20] {
    let mut hasher = Sha256::new();
    if let Some(uncompressed) = uncompressed(data) {
        hasher.update([1, 0, 0, 0]);
        hasher.update(&uncompressed);
    } else {
        hasher.update([0, 0, 0, 0]);
        hasher.update(data);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let mut id = [0; 20];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}

/// The id by which gossipsub knows a message: [`gossip_id`], but for what is on the commitments' topic and could be a
/// transaction list as well. 382 bytes can be both, and a copy on the other topic would suppress a genuine list. A genuine
/// commitment cannot: where a list has its offset, 36, it has the highest byte of a block number.
pub(crate) fn id_on(topic: Topic, data: &[u8]) -> [u8; 20] {
    let mut id = gossip_id(data);
    if topic == Topic::Commitments
        && data.get(32).is_some_and(|byte| usize::from(*byte) == TXLIST_HEADER_BYTES)
    {
        id.iter_mut().for_each(|byte| *byte = !*byte);
    }
    id
}

/// The low form of a commitment's bytes, if they are the high one (§4).
fn low_form(ssz: &Bytes) -> Option<Bytes> {
    let signed = SignedCommitment::from_ssz(ssz).ok()?;
    let signature = signed.signature;
    let low = signed.with_low_s();
    (low.signature != signature).then(|| low.to_ssz().into())
}

fn uncompressed(data: &[u8]) -> Option<Vec<u8>> {
    let claimed = snap::raw::decompress_len(data).ok()?;
    if claimed > MAX_GOSSIP_BYTES.min(data.len().saturating_mul(MAX_SNAPPY_EXPANSION)) {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(data).ok()
}

/// Judges the form of a message: size first, then the container. Costs the same for any length.
pub(crate) fn decode(topic: Topic, data: Bytes, max_txlist_bytes: usize) -> Result<GossipMessage, Malformed> {
    match topic {
        Topic::Commitments => match SignedCommitment::from_ssz(&data) {
            Ok(_) => Ok(GossipMessage::Commitment(data)),
            Err(error) => Err(Malformed { error, oversize: data.len() > SIGNED_COMMITMENT_BYTES }),
        },
        Topic::RawTxLists => {
            let (limit, actual) = (max_txlist_bytes, data.len().saturating_sub(TXLIST_HEADER_BYTES));
            if actual > limit {
                let error = DecodeError {
                    container: RawTxListGossip::NAME,
                    kind: DecodeErrorKind::ListTooLong { field: "txlist", limit, actual },
                };
                return Err(Malformed { error, oversize: true });
            }
            RawTxListGossip::from_ssz(&data)
                .map(GossipMessage::TxList)
                .map_err(|error| Malformed { error, oversize: false })
        }
    }
}

/// A message of a topic, and the id of the genuine one if it is the high-s twin of one: then it is in its low form (§4).
pub(crate) fn read(
    topic: Topic,
    data: Bytes,
    max_txlist_bytes: usize,
) -> Result<(GossipMessage, Option<MessageId>), Malformed> {
    let message = decode(topic, data, max_txlist_bytes)?;
    if let GossipMessage::Commitment(ssz) = &message
        && let Some(low) = low_form(ssz)
    {
        let genuine = MessageId::new(&id_on(topic, &low));
        return Ok((GossipMessage::Commitment(low), Some(genuine)));
    }
    Ok((message, None))
}

/// Bytes that are not the container of their topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Malformed {
    pub(crate) error: DecodeError,
    /// Whether they are too many.
    pub(crate) oversize: bool,
}

impl Malformed {
    pub(crate) const fn offence(&self) -> Offence {
        if self.oversize { Offence::Oversize } else { Offence::Malformed }
    }
}

/// Most bytes of a message on a topic.
pub(crate) const fn limit(topic: Topic, max_txlist_bytes: usize) -> usize {
    match topic {
        Topic::Commitments => SIGNED_COMMITMENT_BYTES,
        Topic::RawTxLists => TXLIST_HEADER_BYTES + max_txlist_bytes,
    }
}

/// The topics of a chain as gossipsub names them.
#[derive(Debug, Clone)]
pub(crate) struct Topics([(Topic, IdentTopic, TopicHash); 2]);

impl Topics {
    pub(crate) fn new(chain_id: u64) -> Self {
        Self(Topic::ALL.map(|topic| {
            let ident = IdentTopic::new(topic.on_chain(chain_id));
            let hash = ident.hash();
            (topic, ident, hash)
        }))
    }

    pub(crate) fn topic(&self, hash: &TopicHash) -> Option<Topic> {
        self.0.iter().find(|(_, _, of)| of == hash).map(|(topic, _, _)| *topic)
    }

    pub(crate) fn hash(&self, topic: Topic) -> TopicHash {
        let [(first, _, of_first), (_, _, of_second)] = &self.0;
        if *first == topic { of_first.clone() } else { of_second.clone() }
    }
}

/// Builds gossipsub, scores on and both topics subscribed.
pub(crate) fn behaviour(config: &NetworkConfig, topics: &Topics) -> Result<Gossipsub, NetworkError> {
    let hashes: HashSet<_> = topics.0.iter().map(|(_, _, hash)| hash.clone()).collect();
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
    for (_, topic, _) in &topics.0 {
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
        .fanout_ttl(config.fanout_ttl)
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
        topics: topics.0.iter().map(|(_, _, hash)| (hash.clone(), topic.clone())).collect::<HashMap<_, _>>(),
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
    use preconfirmation_types::B256;

    use super::*;

    fn hex(id: [u8; 20]) -> String {
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn ids_of_plain_messages() {
        // The first 20 bytes of sha256 over four zero bytes and the message.
        assert_eq!(hex(gossip_id(b"hello")), "44c0a0d0ddc9808a27834e778f82623f9c897072");
        // No bytes are no snappy block.
        assert_eq!(hex(gossip_id(b"")), "df3f619804a92fdb4057192dc43dd748ea778adc");
    }

    #[test]
    fn ids_of_snappy_blocks_are_of_what_they_expand_to() {
        // Length 5, a literal of 5 bytes.
        assert_eq!(hex(gossip_id(b"\x05\x10hello")), "79d62a59d0e47597aeb73cb85ba034c3f67f90e8");
        let block = snap::raw::Encoder::new().compress_vec(&[b'a'; 1000]).unwrap();
        assert!(block.len() < 100);
        assert_eq!(hex(gossip_id(&block)), "ace16c17d91c9916c200dbba4292a6b9cc820c14");
    }

    #[test]
    fn what_claims_too_much_is_hashed_as_it_is() {
        let plain = |data: &[u8]| {
            let digest = Sha256::new().chain_update([0; 4]).chain_update(data).finalize();
            <[u8; 20]>::try_from(&digest[..20]).unwrap()
        };
        // Over the frame limit: 10 MiB and one byte of zeros, well compressed.
        let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; MAX_GOSSIP_BYTES + 1]).unwrap();
        assert!(snap::raw::Decoder::new().decompress_vec(&bomb).is_ok());
        assert_eq!(gossip_id(&bomb), plain(&bomb));
        // A few bytes that claim 10 MiB, which no block of that size can mean.
        let claim = [0x80, 0x80, 0x80, 0x05, 0, 0];
        assert_eq!(snap::raw::decompress_len(&claim).unwrap(), MAX_GOSSIP_BYTES);
        assert_eq!(uncompressed(&claim), None);
        assert_eq!(gossip_id(&claim), plain(&claim));
    }

    #[test]
    fn the_best_compression_there_is_stays_within_the_expansion_bound() {
        for length in [1, 60, 1000, 64 * 1024, 1024 * 1024, MAX_GOSSIP_BYTES] {
            let block = snap::raw::Encoder::new().compress_vec(&vec![7; length]).unwrap();
            assert_eq!(uncompressed(&block).map(|data| data.len()), Some(length));
        }
    }

    #[test]
    fn size_is_judged_before_form() {
        let txlist = |bytes: usize| {
            let gossip = RawTxListGossip { raw_tx_list_hash: B256::ZERO, txlist: vec![0; bytes].into() };
            Bytes::from(gossip.to_ssz())
        };
        assert!(decode(Topic::RawTxLists, txlist(100), 100).is_ok());
        let malformed = decode(Topic::RawTxLists, txlist(101), 100).unwrap_err();
        assert_eq!(malformed.offence(), Offence::Oversize);
        // Too long *and* no container: still its size.
        let malformed = decode(Topic::RawTxLists, vec![0xff; 200].into(), 100).unwrap_err();
        assert_eq!(malformed.offence(), Offence::Oversize);
        for length in [0, 35, 100] {
            let malformed = decode(Topic::RawTxLists, vec![0xff; length].into(), 100).unwrap_err();
            assert_eq!(malformed.offence(), Offence::Malformed);
        }
        let malformed = decode(Topic::Commitments, vec![0; 383].into(), 100).unwrap_err();
        assert_eq!(malformed.offence(), Offence::Oversize);
        for bad in [vec![0; 381], vec![2; 382]] {
            let malformed = decode(Topic::Commitments, bad.into(), 100).unwrap_err();
            assert_eq!(malformed.offence(), Offence::Malformed);
        }
    }

    #[test]
    fn gossipsub_accepts_the_default_scores_and_refuses_no_part_of_them() {
        let topics = Topics::new(167_000);
        let config = NetworkConfig::new(167_000, Keypair::generate_ed25519());
        let behaviour = behaviour(&config, &topics).unwrap();
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
        assert!(parameters.validate_messages() && !parameters.flood_publish());
        assert!(parameters.allow_self_origin() && parameters.support_floodsub());
    }
}
