//! What comes from a peer: frames of requests and of gossip, gossip payloads, and what of these reaches a client's chain.

use std::cell::OnceCell;

use p2p_types::Origin;
use preconfirmation_p2p::fuzz::{Frames, Gossip, Read, Received, request, response};
use preconfirmation_p2p::{GossipMessage, gossip_id};
use preconfirmation_types::{
    Bytes, Container, GetCommitmentsByNumber, GetHead, GetRawTxList, Rpc, SignedCommitment, frame,
};

use crate::{
    chain::{Node, peer},
    input::Input,
};

const CHAIN: u64 = 167_000;
const MAX_TXLIST_BYTES: usize = 1_024;

/// A frame of a request or a response: read from memory and from a stream, in whatever pieces, it says the same.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, step) = (input.byte() % 6, input.byte());
    let bytes = input.rest();
    match kind {
        0 => framed(bytes, GetHead::REQUEST_CAP, |step| request::<GetHead>(bytes, step), step),
        1 => framed(bytes, GetHead::RESPONSE_CAP, |step| response::<GetHead>(bytes, step), step),
        2 => {
            let cap = GetCommitmentsByNumber::REQUEST_CAP;
            framed(bytes, cap, |step| request::<GetCommitmentsByNumber>(bytes, step), step);
        }
        3 => {
            let cap = GetCommitmentsByNumber::RESPONSE_CAP;
            framed(bytes, cap, |step| response::<GetCommitmentsByNumber>(bytes, step), step);
        }
        4 => framed(bytes, GetRawTxList::REQUEST_CAP, |step| request::<GetRawTxList>(bytes, step), step),
        _ => framed(bytes, GetRawTxList::RESPONSE_CAP, |step| response::<GetRawTxList>(bytes, step), step),
    }
}

fn framed<C: Container>(bytes: &[u8], cap: usize, read: impl Fn(usize) -> Read<C>, step: u8) {
    if let Ok(Some((announced, prefix))) = frame::read_prefix(bytes, cap) {
        assert!(announced <= cap && (1..=frame::MAX_PREFIX_BYTES).contains(&prefix));
    }
    let whole = frame::read::<C>(&Bytes::copy_from_slice(bytes), cap);
    let told = |read: &Read<C>| match read {
        Read::Container(container, taken) => (Some((container.to_ssz(), *taken)), None, false),
        Read::Malformed(error) => (None, Some(*error), false),
        Read::Ended => (None, None, true),
    };
    let streamed = told(&read(usize::MAX));
    assert!(told(&read(usize::from(step) + 1)) == streamed, "another answer in other pieces");
    match (&whole, &streamed) {
        (Ok(container), (Some((ssz, taken)), ..)) => {
            assert_eq!((&container.to_ssz(), bytes.len()), (ssz, *taken));
            assert_eq!(frame::write(container), bytes);
        }
        (Ok(_), _) => panic!("a whole frame is not read from a stream"),
        // The stream goes on behind its frame.
        (Err(_), (Some((_, taken)), ..)) => {
            let frame = Bytes::copy_from_slice(&bytes[..*taken]);
            assert!(*taken < bytes.len() && frame::read::<C>(&frame, cap).is_ok());
        }
        (Err(_), _) => {}
    }
}

/// A gossip stream: where its frames begin and end does not depend on the pieces in which it comes.
pub fn gossip_stream(data: &[u8]) {
    let mut input = Input::new(data);
    let (flags, piece) = (input.byte(), usize::from(input.byte()) + 1);
    let mut bytes = Vec::new();
    if flags & 1 == 1 {
        bytes.extend_from_slice(b"\x13/multistream/1.0.0\n\x0f/meshsub/1.2.0\n");
    }
    bytes.extend_from_slice(input.rest());
    let (mut whole, mut pieces) = (Frames::default(), Frames::default());
    let unfinished = whole.read(&bytes);
    let mut last = false;
    let mut controls = Vec::new();
    for part in bytes.chunks(piece) {
        last = pieces.read(part);
        controls.extend(pieces.state().0);
    }
    let (all, between) = whole.state();
    assert_eq!(all, controls, "other control frames in other pieces");
    assert_eq!(between, pieces.state().1);
    assert_eq!(unfinished, last);
    assert!(!(between && unfinished), "a message cannot be begun and not");
    assert!(all.iter().all(|control| control.len() <= 4_096 && control.first() == Some(&0x1a)));
}

thread_local! {
    static FILTER: OnceCell<(Gossip, [String; 2])> = const { OnceCell::new() };
}

/// What the filter in front of gossipsub lets pass of a payload.
fn receive(topic: u8, payload: &[u8]) -> Option<Received> {
    FILTER.with(|filter| {
        let (filter, topics) =
            filter.get_or_init(|| (Gossip::new(CHAIN, MAX_TXLIST_BYTES), Gossip::topics(CHAIN)));
        match topics.get(usize::from(topic % 3)) {
            Some(topic) => filter.receive(topic, payload.to_vec()),
            None => {
                assert!(filter.receive("/taiko/1/preconfirmationCommitments", payload.to_vec()).is_none());
                None
            }
        }
    })
}

/// A gossip payload on any topic: what passes is the container of its topic, as it came or in its low form.
pub fn gossip(data: &[u8]) {
    let Some((topic, payload)) = data.split_first() else { return };
    let id = gossip_id(payload);
    let Some(received) = receive(*topic, payload) else { return };
    match &received.message {
        GossipMessage::Commitment(ssz) => {
            let signed = SignedCommitment::from_ssz(&Bytes::copy_from_slice(payload)).unwrap();
            assert_eq!(signed.clone().with_low_s().to_ssz(), *ssz, "told in its low form");
            assert_eq!(received.genuine.is_some(), *ssz != payload, "a twin has a genuine message");
        }
        GossipMessage::TxList(list) => {
            assert_eq!(list.to_ssz(), payload);
            assert!(list.txlist.len() <= MAX_TXLIST_BYTES && received.genuine.is_none());
        }
    }
    let inverted = id.map(|byte| !byte);
    assert!(received.id == id || (*topic % 3 == 0 && received.id == inverted), "its own id");
}

/// Gossip payloads through the filter into a client's chain: it stays sound, whatever comes.
pub fn intake(data: &[u8]) {
    let mut input = Input::new(data);
    let mut node = Node::new();
    while !input.is_empty() {
        let (topic, from, len) = (input.byte(), input.byte(), usize::from(input.u16() % 512));
        let payload = node.payload(input.bytes(len), topic / 3);
        let sender = peer(from % 3);
        match receive(topic, &payload).map(|received| received.message) {
            Some(GossipMessage::Commitment(ssz)) => node.gossip_bytes(sender, ssz),
            Some(GossipMessage::TxList(list)) => {
                if let Ok(list) = list.verify(MAX_TXLIST_BYTES) {
                    node.txlist(Origin::Gossip(sender), list);
                }
            }
            None => {}
        }
        node.check();
    }
}
