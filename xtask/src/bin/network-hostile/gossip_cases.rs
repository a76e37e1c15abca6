//! Adversaries of gossip: data in the wrong form for its topic, invalid data that a relay forwards in good faith, floods of
//! control messages and of stream resets.

use libp2p::identity::Keypair;
use preconfirmation_p2p::gossip_id;
use preconfirmation_types::{B256, Container as _, MAX_TXLIST_BYTES, RawTxListGossip, SigningKey, Topic};

use crate::{
    cases::{Case, Expected, FLOOD, join},
    frames::{self, Author},
    peer::{Plan, Script},
    rig::{CHAIN, Failure, commitment, preconfer},
};

const MIB: usize = 1024 * 1024;

/// What gossipsub's control messages ask for, as their field's number.
const GRAFT: u8 = 3;
const PRUNE: u8 = 4;

/// Frames of control messages in a second, of 15 KiB each.
const STORM: u32 = 50;

/// Genuine messages of which one adversary sends copies. After some it is not read any more.
const COPIES: u64 = 8;

pub(crate) static ALL: [Case; 8] = [
    Case::new("CrossTopic", Expected::Charged, |key, _| copies(key, &Topic::RawTxLists.on_chain(CHAIN)))
        .by(20),
    Case::new("UnknownTopic", Expected::Charged, |key, _| copies(key, "any other topic")).by(20),
    Case::new("LargeUnknown", Expected::Charged, |key, seconds| {
        let messages = (0..u64::from(seconds) * 10)
            .map(|number| frames::publish(&Author::Honest(key), "any", number, &vec![7; 5 * MIB / 2]));
        Ok(script(messages, 10))
    }),
    Case::new("HonestRelayOfBad", Expected::Untouched, |_, seconds| {
        // A thousand authors without a vote, whose messages are what the protocol of deployed peers wants.
        let topic = Topic::Commitments.on_chain(CHAIN);
        let stranger = SigningKey::from_bytes([0x33; 32])?;
        let authors: Vec<_> = (0..1000).map(|_| Keypair::generate_ed25519()).collect();
        let messages =
            (0..u64::from(seconds * RELAYED)).zip(authors.iter().cycle()).map(|(number, author)| {
                frames::publish(
                    &Author::Honest(author),
                    &topic,
                    number,
                    &commitment(number, &stranger).to_ssz(),
                )
            });
        Ok(script(messages, RELAYED))
    }),
    Case::new("GraftStorm", Expected::Untouched, |_, seconds| {
        let topic = Topic::Commitments.on_chain(CHAIN);
        let grafts = frames::control(GRAFT, &topic, 250);
        let storm = (0..seconds * 400).map(|_| grafts.clone());
        Ok(script(std::iter::once(frames::control(PRUNE, &topic, 1)).chain(storm), 400))
    }),
    Case::new("IwantStorm", Expected::Untouched, |key, seconds| {
        // A list of 2 MiB every four seconds, as gossipsub forgets one after six, and each asked for again and again.
        let topic = Topic::RawTxLists.on_chain(CHAIN);
        let frames = (0..seconds.div_ceil(4)).flat_map(|number| {
            let raw_tx_list_hash = B256::repeat_byte(number as u8);
            let list =
                RawTxListGossip { raw_tx_list_hash, txlist: vec![7; MAX_TXLIST_BYTES].into() }.to_ssz();
            let again = frames::iwant(&[gossip_id(&list); 700]);
            let list = frames::publish(&Author::Honest(key), &topic, number.into(), &list);
            std::iter::once(list).chain(std::iter::repeat_n(again, 4 * STORM as usize))
        });
        Ok(script(frames, STORM))
    })
    .beside_lists(),
    Case::new("IhaveStorm", Expected::Untouched, |_, seconds| {
        let topic = Topic::Commitments.on_chain(CHAIN);
        let frames = (0..seconds * STORM).map(|frame| {
            let ids: Vec<_> = (0..700_u32)
                .map(|place| {
                    let mut id = [0xad; 20];
                    id.iter_mut()
                        .zip(frame.to_le_bytes().into_iter().chain(place.to_le_bytes()))
                        .for_each(|(to, from)| *to = from);
                    id
                })
                .collect();
            frames::ihave(&topic, &ids)
        });
        Ok(script(frames, STORM))
    })
    .by(20),
    Case::new("ResetStreams", Expected::Disconnected, |_, _| {
        Ok(Plan { resets: true, ..script(std::iter::empty(), 0) })
    })
    // A stream whose reset has not come takes what its window has room for.
    .beside_lists(),
];

/// Commitments of others that a relay passes on in a second.
const RELAYED: u32 = FLOOD / 4;

/// Copies of genuine commitments, before they are published, on this topic.
fn copies(key: &Keypair, topic: &str) -> Result<Plan, Failure> {
    let preconfer = preconfer()?;
    let bytes = key.public().to_peer_id().to_bytes();
    let which = bytes.iter().rev().take(4).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    let messages = (0..COPIES).map(|number| {
        let block = which.wrapping_add(number * 13) % 4000 + 1;
        frames::publish(&Author::Honest(key), topic, number, &commitment(block, &preconfer).to_ssz())
    });
    Ok(script(messages, FLOOD))
}

/// Joins both topics, then writes these frames, so many a second.
fn script(frames: impl Iterator<Item = Vec<u8>>, per_second: u32) -> Plan {
    let frames = std::iter::once(join()).chain(frames).collect();
    Plan { gossip: Some(Script::new(frames, per_second)), ..Plan::default() }
}
