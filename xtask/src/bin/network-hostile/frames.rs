//! Encodes `/meshsub` frames by hand, valid and invalid ones.

use libp2p::{PeerId, identity::Keypair};

/// What is signed of a message is prefixed by this.
const SIGNING_PREFIX: &[u8] = b"libp2p-pubsub:";

/// Subscribes to topics and asks to be taken into their meshes.
pub(crate) fn join(topics: &[String]) -> Vec<u8> {
    let mut rpc = Vec::new();
    let mut control = Vec::new();
    for topic in topics {
        let mut subscription = vec![1 << 3, 1];
        field(&mut subscription, 2, topic.as_bytes());
        field(&mut rpc, 1, &subscription);
        let mut graft = Vec::new();
        field(&mut graft, 1, topic.as_bytes());
        field(&mut control, 3, &graft);
    }
    field(&mut rpc, 3, &control);
    frame(&rpc)
}

/// So many control messages of one kind, the number of its field, about one topic.
pub(crate) fn control(kind: u8, topic: &str, times: usize) -> Vec<u8> {
    let (mut rpc, mut control) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let mut one = Vec::new();
        field(&mut one, 1, topic.as_bytes());
        field(&mut control, kind, &one);
    }
    field(&mut rpc, 3, &control);
    frame(&rpc)
}

/// Says that it has messages of a topic (IHAVE).
pub(crate) fn ihave(topic: &str, ids: &[[u8; 20]]) -> Vec<u8> {
    let mut ihave = Vec::new();
    field(&mut ihave, 1, topic.as_bytes());
    ids.iter().for_each(|id| field(&mut ihave, 2, id));
    control_frame(1, &ihave)
}

/// Asks for messages (IWANT).
pub(crate) fn iwant(ids: &[[u8; 20]]) -> Vec<u8> {
    let mut iwant = Vec::new();
    ids.iter().for_each(|id| field(&mut iwant, 1, id));
    control_frame(2, &iwant)
}

fn control_frame(kind: u8, message: &[u8]) -> Vec<u8> {
    let (mut rpc, mut control) = (Vec::new(), Vec::new());
    field(&mut control, kind, message);
    field(&mut rpc, 3, &control);
    frame(&rpc)
}

/// Who a message says to come from, and who signs it.
pub(crate) enum Author<'a> {
    /// As it should be.
    Honest(&'a Keypair),
    /// Nobody, no signature.
    Nobody,
    /// Another than who signs.
    Forged(&'a Keypair, PeerId),
}

/// A message, published.
pub(crate) fn publish(author: &Author<'_>, topic: &str, sequence: u64, data: &[u8]) -> Vec<u8> {
    let (key, from) = match author {
        Author::Honest(key) => (Some(*key), Some(key.public().to_peer_id())),
        Author::Nobody => (None, None),
        Author::Forged(key, from) => (Some(*key), Some(*from)),
    };
    let mut message = Vec::new();
    if let Some(from) = from {
        field(&mut message, 1, &from.to_bytes());
    }
    field(&mut message, 2, data);
    if from.is_some() {
        field(&mut message, 3, &sequence.to_be_bytes());
    }
    field(&mut message, 4, topic.as_bytes());
    if let Some(key) = key
        && let Ok(signature) = key.sign(&[SIGNING_PREFIX, &message].concat())
    {
        field(&mut message, 5, &signature);
        field(&mut message, 6, &key.public().encode_protobuf());
    }
    let mut rpc = Vec::new();
    field(&mut rpc, 2, &message);
    frame(&rpc)
}

/// Bytes behind their length.
pub(crate) fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    varint(&mut frame, bytes.len());
    frame.extend_from_slice(bytes);
    frame
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
