//! A deployed peer between our nodes: it accepts, forwards, stores and serves whatever signature recovers, in either form, elected
//! or not; and somebody without a key who makes use of that.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use p2p_client::{Multiaddr, NetworkConfig};
use p2p_types::{B256, Bytes, PeerId, SignedCommitment, SigningKey, Topic, U256};
use preconfirmation_p2p::{GossipMessage, InboundRequest, NetworkEvent, NetworkHandle, Verdict};
use preconfirmation_types::{
    Container as _, GetCommitmentsByNumberResponse, GetRawTxListResponse, PreconfHead,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::world::{Block, CHAIN, Node, Voice, World, identity};

/// The same promise with s in the other half: whoever sees one can make the other.
fn twin(signed: &SignedCommitment) -> SignedCommitment {
    const ORDER: &str = "115792089237316195423570985008687907852837564279074904382605163141518161494337";
    let mut twin = signed.clone();
    let s = U256::from_be_slice(&twin.signature[32..64]);
    let mirrored = ORDER.parse::<U256>().unwrap() - s;
    twin.signature[32..64].copy_from_slice(&mirrored.to_be_bytes::<32>());
    twin.signature[64] ^= 1;
    twin
}

/// What it serves: by height, the last that it was given.
#[derive(Default)]
struct Stored {
    commitments: BTreeMap<u64, SignedCommitment>,
    txlists: HashMap<B256, Bytes>,
}

impl Stored {
    /// Whatever is at or above a height; each fourth one is lost.
    fn page(&self, from: u64, count: usize) -> Vec<SignedCommitment> {
        let kept = self.commitments.range(from..).filter(|(number, _)| !number.is_multiple_of(4));
        kept.take(count.min(256)).map(|(_, signed)| signed.clone()).collect()
    }
}

struct Relay {
    network: NetworkHandle,
    stored: Arc<watch::Sender<Stored>>,
}

impl Relay {
    async fn start<W: World>(world: &W, key: u8) -> Self {
        let (network, mut events, service) = world.join(NetworkConfig::local(CHAIN, identity(key)));
        tokio::spawn(service);
        let stored = Arc::<watch::Sender<Stored>>::default();
        let (serving, publishing) = (Arc::clone(&stored), network.clone());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                meet(&publishing, &serving, event).await;
            }
        });
        Self { network, stored }
    }

    fn id(&self) -> PeerId {
        self.network.local_peer_id()
    }

    async fn address(&self) -> Multiaddr {
        self.network.listen_addrs().await.unwrap().remove(0)
    }

    /// Waits until this is what it was given last at its height.
    async fn has(&self, block: &Block, deadline: Duration) {
        let mut stored = self.stored.subscribe();
        let has = stored.wait_for(|stored| {
            let kept = stored.commitments.get(&block.number());
            kept.is_some_and(|kept| kept.commitment == block.signed.commitment)
        });
        drop(timeout(deadline, has).await.unwrap().unwrap());
    }
}

async fn meet(network: &NetworkHandle, stored: &watch::Sender<Stored>, event: NetworkEvent) {
    match event {
        NetworkEvent::Gossip { message, verdict, .. } => {
            match message {
                GossipMessage::Commitment(ssz) => {
                    // Somebody was faster with the twin, so that it goes on and is stored before the genuine message.
                    let twin = twin(&SignedCommitment::from_ssz(&ssz).unwrap());
                    let _published = network.publish(Topic::Commitments, twin.to_ssz().into()).await;
                    let number = u64::try_from(twin.preconf().block_number).unwrap();
                    stored.send_modify(|stored| {
                        stored.commitments.insert(number, twin);
                    });
                }
                GossipMessage::TxList(list) => {
                    stored.send_modify(|stored| {
                        drop(stored.txlists.insert(list.raw_tx_list_hash, list.txlist))
                    });
                }
            }
            verdict.settle(Verdict::Accept);
        }
        NetworkEvent::Request { request, .. } => {
            let stored = stored.borrow();
            match request {
                // A handover counts, so that the head may be one too high.
                InboundRequest::Head(answer) => {
                    let last = stored.commitments.last_key_value();
                    answer.send(last.map_or_else(PreconfHead::default, |(_, last)| PreconfHead {
                        block_number: last.preconf().block_number,
                        submission_window_end: last.preconf().submission_window_end,
                    }));
                }
                InboundRequest::Commitments(request, answer) => {
                    let from = u64::try_from(request.start_block_number).unwrap_or(u64::MAX);
                    let page = stored.page(from, usize::try_from(request.max_count).unwrap());
                    answer.send(GetCommitmentsByNumberResponse::new(page).unwrap());
                }
                InboundRequest::TxList(request, answer) => {
                    let raw_tx_list_hash = request.raw_tx_list_hash;
                    let txlist = stored.txlists.get(&raw_tx_list_hash).cloned().unwrap_or_default();
                    answer.send(GetRawTxListResponse { raw_tx_list_hash, txlist });
                }
                _ => {}
            }
        }
        _ => {}
    }
}

/// Whether a node has been told something that it did not take.
fn has_noticed(node: &Node) -> bool {
    let counts = node.client.counts();
    counts.rejected + counts.ignored > 0
}

/// Sends one handover of the unelected after the other until this node has been told of something like that.
async fn attack_until_noticed(attacker: &Voice, last: Option<&Block>, node: &Node) {
    for signer in 100..200 {
        if has_noticed(node) {
            return;
        }
        let nobody = SigningKey::from_bytes([signer; 32]).unwrap();
        attacker.commit(&Block::handover(last, &nobody)).await;
        sleep(Duration::from_millis(200)).await;
    }
    panic!("an attack that nobody notices tests nothing");
}

async fn is_uncharged(node: &Node, relay: PeerId) {
    let peers = node.client.network().peers().await.unwrap();
    let status = peers.iter().find(|status| status.peer == relay).unwrap();
    assert!(status.application_score >= 0.0 && status.score >= 0.0, "{status:?}");
    assert_eq!(status.banned_for, None);
}

/// The two know each other only through the relay. What reaches them there is a twin of each promise, blocks of somebody whom
/// nobody has elected, and a handover of theirs as the newest. One that comes later knows another node as well.
pub(super) async fn a_relay_of_twins_and_of_the_unelected_stops_nobody(world: &impl World) {
    let (a, mut b) = (Node::start(world, 1).await, Node::start(world, 2).await);
    let relay = Relay::start(world, 50).await;
    for node in [&a, &b] {
        node.client.network().dial(relay.address().await).await.unwrap();
        node.client.network().wait_for_peers(1).await.unwrap();
    }
    let attacker = Voice::dialling(world, 51, vec![relay.address().await]).await;
    let nobody = SigningKey::from_bytes([66; 32]).unwrap();
    let chain = Block::chain(12);
    for (index, block) in chain.iter().enumerate() {
        a.publish(block).await;
        b.has(&chain[..=index]).await;
        // In its place, where the relay keeps one for each height.
        if block.number() % 2 == 1 {
            let parent = index.checked_sub(1).map(|parent| &chain[parent]);
            let unelected = Block::with(parent, 9, block.number(), &nobody);
            attacker.commit(&unelected).await;
            relay.has(&unelected, a.deadline).await;
        }
    }
    let handover = Block::handover(chain.last(), &nobody);
    attacker.commit(&handover).await;
    relay.has(&handover, a.deadline).await;

    let mut c = Node::start(world, 3).await;
    c.client.network().dial(relay.address().await).await.unwrap();
    c.client.network().dial(b.address().await).await.unwrap();
    c.has(&chain).await;
    for mut node in [a, b, c] {
        // One that came late may have learned all of it from another node.
        attack_until_noticed(&attacker, chain.last(), &node).await;
        node.live().await;
        is_uncharged(&node, relay.id()).await;
        node.stop().await;
    }
}
