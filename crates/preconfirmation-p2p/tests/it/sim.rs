//! The simulated network by itself.

use std::{num::NonZeroU32, time::Duration};

use preconfirmation_p2p::{
    Bytes, GossipMessage, InboundRequest, Keypair, NetworkConfig, NetworkError, NetworkEvent, NetworkEvents,
    NetworkHandle, PeerId, PublishError, Published, RequestError, Verdict, VerdictToken,
    sim::{Link, SimCounts, SimNetwork},
};
use preconfirmation_types::{
    B256, Container as _, GetHead, GetHeadRequest, Offence, PreconfCommitment, PreconfHead, Preconfirmation,
    SignedCommitment, SigningDomain, SigningKey, Topic, U256,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

const CHAIN: u64 = 167_000;

fn message(block: u64) -> Bytes {
    let preconf = Preconfirmation {
        block_number: U256::from(block),
        raw_tx_list_hash: B256::repeat_byte(1),
        ..Preconfirmation::default()
    };
    let commitment = PreconfCommitment { preconf, ..PreconfCommitment::default() };
    commitment.sign(&SigningKey::from_bytes([7; 32]).unwrap(), &SigningDomain::PLACEHOLDER).to_ssz().into()
}

fn block(ssz: &[u8]) -> u64 {
    SignedCommitment::from_ssz(&Bytes::copy_from_slice(ssz)).unwrap().preconf().block_number.to()
}

struct Node {
    handle: NetworkHandle,
    events: NetworkEvents,
    running: JoinHandle<Result<(), NetworkError>>,
}

impl Node {
    fn join(network: &SimNetwork, key: u8) -> Self {
        let identity = Keypair::ed25519_from_bytes([key; 32]).unwrap();
        let (handle, events, service) = network.join(NetworkConfig::new(CHAIN, identity)).unwrap();
        Self { handle, events, running: tokio::spawn(service.run()) }
    }

    fn id(&self) -> PeerId {
        self.handle.local_peer_id()
    }

    async fn dial(&self, other: &Self) -> Result<(), NetworkError> {
        self.handle.dial(other.handle.listen_addrs().await.unwrap().remove(0)).await
    }

    async fn publish(&self, block: u64) -> Result<Published, PublishError> {
        self.handle.publish(Topic::Commitments, message(block)).await
    }

    /// What gossip brings within a minute.
    async fn gossip(&mut self) -> Option<(PeerId, u64, VerdictToken)> {
        let next = async {
            while let Some(event) = self.events.next().await {
                if let NetworkEvent::Gossip { from, message: GossipMessage::Commitment(ssz), verdict } = event
                {
                    return Some((from, block(&ssz), verdict));
                }
            }
            None
        };
        timeout(Duration::from_secs(60), next).await.ok().flatten()
    }
}

/// Three nodes in a row.
async fn row(network: &SimNetwork) -> [Node; 3] {
    let nodes = [1, 2, 3].map(|key| Node::join(network, key));
    nodes[0].dial(&nodes[1]).await.unwrap();
    nodes[2].dial(&nodes[1]).await.unwrap();
    nodes
}

#[tokio::test(start_paused = true)]
async fn only_what_is_accepted_is_forwarded_and_nothing_comes_back() {
    let network = SimNetwork::new(1);
    let [mut a, mut b, mut c] = row(&network).await;
    for (number, verdict) in
        [(1, Verdict::Ignore), (2, Verdict::Reject(Offence::BadSignature)), (3, Verdict::Accept)]
    {
        assert_eq!(a.publish(number).await, Ok(Published::Sent { peers: 1 }));
        assert_eq!(a.publish(number).await, Ok(Published::Duplicate));
        let (from, block, token) = b.gossip().await.unwrap();
        assert_eq!((from, block), (a.id(), number));
        token.settle(verdict);
    }
    let (from, block, _token) = c.gossip().await.unwrap();
    assert_eq!((from, block), (b.id(), 3));
    assert!(c.gossip().await.is_none());
    assert!(a.gossip().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_late_verdict_does_not_forward() {
    let network = SimNetwork::new(1);
    let [a, mut b, mut c] = row(&network).await;
    assert!(a.publish(1).await.is_ok());
    let (_, _, token) = b.gossip().await.unwrap();
    sleep(Duration::from_millis(6_001)).await;
    token.settle(Verdict::Accept);
    assert!(c.gossip().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_published_alone_is_sent_once_when_a_peer_comes() {
    let network = SimNetwork::new(1);
    let (a, mut b) = (Node::join(&network, 1), Node::join(&network, 2));
    assert_eq!(a.publish(1).await, Ok(Published::Queued));
    assert_eq!(a.publish(1).await, Ok(Published::Duplicate));
    b.dial(&a).await.unwrap();
    assert_eq!(b.gossip().await.unwrap().1, 1);
    assert_eq!(a.publish(1).await, Ok(Published::Duplicate));
    assert!(b.gossip().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lasting_offender_is_banned_for_an_hour() {
    let network = SimNetwork::new(1);
    let [a, b, _c] = row(&network).await;
    let mut number = 0;
    while b.handle.peers().await.unwrap().iter().any(|peer| peer.peer == a.id() && peer.banned_for.is_none())
    {
        number += 1;
        assert!(number < 100, "never banned");
        b.handle.report(a.id(), Offence::BadSignature);
        sleep(Duration::from_secs(1)).await;
    }
    // The connection is closed again as soon as the other side knows who it is.
    a.dial(&b).await.ok();
    sleep(Duration::from_secs(1)).await;
    assert!(a.handle.peers().await.unwrap().is_empty());
    sleep(Duration::from_secs(3_600)).await;
    a.dial(&b).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(a.handle.peers().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_or_time_out_or_break_off() {
    let network = SimNetwork::new(1);
    let [a, mut b, _c] = row(&network).await;
    let peer = b.id();
    let serving = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(event) = b.events.next().await {
            if let NetworkEvent::Request { request: InboundRequest::Head(responder), .. } = event {
                if kept.len() < 2 {
                    kept.push(responder);
                } else {
                    responder.send(PreconfHead { block_number: U256::from(42), ..Default::default() });
                }
            }
        }
        drop(b.handle);
    });
    let ask = || a.handle.request::<GetHead>(peer, GetHeadRequest {});
    // The application never answers the first two: one is answered without it, one loses its connection.
    let start = Instant::now();
    assert_eq!(ask().await.unwrap(), PreconfHead::default());
    assert!((5..6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let cut = async {
        sleep(Duration::from_secs(1)).await;
        network.partition([peer]);
    };
    assert!(matches!(tokio::join!(ask(), cut).0, Err(RequestError::Disconnected)));
    assert!(matches!(ask().await, Err(RequestError::NotConnected { .. })));
    network.heal();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ask().await.unwrap().block_number, U256::from(42));
    network.set_link(peer, a.id(), Link { loss: 1.0, ..Link::default() });
    assert!(matches!(ask().await, Err(RequestError::TimedOut)));
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_a_partition() {
    let network = SimNetwork::new(1);
    let [a, mut b, mut c] = row(&network).await;
    network.partition([c.id()]);
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(c.dial(&b).await, Err(NetworkError::Dial { .. })));
    assert!(a.publish(1).await.is_ok());
    b.gossip().await.unwrap().2.settle(Verdict::Accept);
    assert!(c.gossip().await.is_none());
    network.heal();
    sleep(Duration::from_secs(1)).await;
    assert!(a.publish(2).await.is_ok());
    b.gossip().await.unwrap().2.settle(Verdict::Accept);
    assert_eq!(c.gossip().await.unwrap().1, 2);
    let Node { handle, running, .. } = c;
    handle.shutdown();
    running.await.unwrap().unwrap();
    let own = b.handle.listen_addrs().await.unwrap().remove(0);
    assert!(matches!(handle.dial(own).await, Err(NetworkError::Closed)));
}

/// What arrives of a hundred messages over a bad link, in the order of arrival, and the trace.
async fn storm(seed: u64) -> (Vec<u64>, SimCounts, u64) {
    let network = SimNetwork::new(seed);
    let (a, mut b) = (Node::join(&network, 1), Node::join(&network, 2));
    b.dial(&a).await.unwrap();
    let jitter = Duration::from_millis(20);
    let bad = Link { jitter, loss: 0.2, duplicate: 0.2, reorder: 0.2, ..Link::default() };
    network.set_link(a.id(), b.id(), bad);
    for number in 0..100 {
        assert!(a.publish(number).await.is_ok());
        sleep(Duration::from_millis(3)).await;
    }
    let mut arrived = Vec::new();
    while let Some((_, number, token)) = b.gossip().await {
        token.settle(Verdict::Accept);
        arrived.push(number);
    }
    (arrived, network.counts(), network.trace())
}

#[tokio::test(start_paused = true)]
async fn a_seed_is_a_fate() {
    let (arrived, counts, trace) = storm(5).await;
    assert!(counts.lost > 5 && counts.duplicated > 5 && counts.reordered > 5, "{counts:?}");
    assert_eq!(arrived.len() as u64, 100 - counts.lost, "doubles are known");
    assert!(!arrived.is_sorted());
    assert_eq!(storm(5).await, (arrived.clone(), counts, trace));
    let other = storm(6).await;
    assert!(other.0 != arrived && other.2 != trace);
}

#[tokio::test(start_paused = true)]
async fn a_narrow_line_sends_one_frame_after_the_other() {
    let network = SimNetwork::new(1);
    let (a, mut b) = (Node::join(&network, 1), Node::join(&network, 2));
    b.dial(&a).await.unwrap();
    // As much as one commitment with its headers has.
    let rate = NonZeroU32::new(482);
    network.set_link(a.id(), b.id(), Link { bytes_per_second: rate, ..Link::default() });
    let started = Instant::now();
    for number in 0..3 {
        assert_eq!(a.publish(number).await.unwrap(), Published::Sent { peers: 1 });
    }
    for number in 0..3 {
        let (_, arrived, token) = b.gossip().await.unwrap();
        token.settle(Verdict::Ignore);
        let expected = Duration::from_millis(1_000 * (number + 1) + 5);
        assert_eq!((arrived, started.elapsed().as_millis()), (number, expected.as_millis()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_narrow_line_cannot_send_in_time_does_not_hold_up_the_rest() {
    let network = SimNetwork::new(1);
    let (a, mut b) = (Node::join(&network, 1), Node::join(&network, 2));
    b.dial(&a).await.unwrap();
    let rate = NonZeroU32::new(482);
    network.set_link(a.id(), b.id(), Link { bytes_per_second: rate, ..Link::default() });
    for number in 0..100 {
        assert_eq!(a.publish(number).await.unwrap(), Published::Sent { peers: 1 });
    }
    for sent in 0..10 {
        assert_eq!(b.gossip().await.map(|(_, number, _)| number), Some(sent));
    }
    assert_eq!(network.counts().overflowed, 90);
    network.set_link(a.id(), b.id(), Link::default());
    let started = Instant::now();
    assert_eq!(a.publish(100).await.unwrap(), Published::Sent { peers: 1 });
    assert_eq!(b.gossip().await.map(|(_, number, _)| number), Some(100));
    assert_eq!(started.elapsed(), Link::default().delay);
}

#[tokio::test(start_paused = true)]
async fn who_has_crashed_is_heard_no_more_and_may_come_back_under_its_name() {
    let network = SimNetwork::new(1);
    let (a, mut b) = (Node::join(&network, 1), Node::join(&network, 2));
    b.dial(&a).await.unwrap();
    network.crash(a.id());
    assert_eq!(a.publish(1).await.unwrap(), Published::Sent { peers: 1 }, "it does not know yet");
    a.handle.shutdown();
    a.running.await.unwrap().unwrap();
    assert!(b.gossip().await.is_none());
    let a = Node::join(&network, 1);
    assert!(network.connect(b.id(), a.id()));
    assert!(!network.connect(b.id(), PeerId::random()), "nobody is there");
    sleep(Duration::from_millis(10)).await;
    assert_eq!(a.publish(2).await.unwrap(), Published::Sent { peers: 1 });
    assert_eq!(b.gossip().await.map(|(from, number, _)| (from, number)), Some((a.id(), 2)));
}
