//! What all adversaries have: a place in the network, and a shelf from which they answer.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use p2p_client::NetworkConfig;
use p2p_storage::SdkStorage;
use p2p_types::{Address, B256, Base, Bytes, PeerId, SignedCommitment, SigningKey, Topic, U256};
use preconfirmation_p2p::{
    GossipMessage, InboundRequest, NetworkEvent, NetworkHandle, Published, Verdict, sim::SimNetwork,
};
use preconfirmation_types::{
    Container as _, GetCommitmentsByNumberResponse, GetRawTxListResponse, PreconfHead, RawTxListGossip,
    keccak256,
};

use crate::stage::{Block, CHAIN, Parent, WallClock, end_of, identity};

/// What adversaries see of it.
pub struct Scene<'a> {
    /// The right time.
    pub clock: WallClock,
    /// Who may sign, by window.
    pub signers: &'a [Address],
    /// The store of an honest node that they follow.
    pub store: &'a dyn SdkStorage,
    /// What L1 has settled.
    pub settled: Base,
    /// What they draw from.
    pub rng: RefCell<fastrand::Rng>,
}

impl Scene<'_> {
    /// What an adversary that follows an honest node knows to be the head.
    pub fn tip(&self) -> Parent {
        let head = self.store.head().unwrap();
        head.and_then(|head| self.at(head.number)).unwrap_or(Parent::BASE)
    }

    /// The block at a height.
    pub fn at(&self, number: u64) -> Option<Parent> {
        let stored = self.store.by_block(number).unwrap()?;
        let timestamp = stored.recovered.signed().preconf().timestamp.to();
        Some(Parent { number, hash: stored.hash(), timestamp })
    }

    /// A number of this range, as the seed has it.
    pub fn draw(&self, range: impl std::ops::RangeBounds<u64>) -> u64 {
        self.rng.borrow_mut().u64(range)
    }
}

/// Does its worst, once a second as long as the attack lasts.
#[async_trait(?Send)]
pub trait Adversary {
    /// A second of it.
    async fn act(&mut self, scene: &Scene<'_>);

    /// The attack is over: shows what it has kept to itself, where honest nodes could otherwise not be live.
    async fn relent(&mut self) {}
}

/// What it has of others and answers peers that ask: by height, the last that it was given.
#[derive(Debug, Default)]
struct Shelf {
    blocks: BTreeMap<u64, SignedCommitment>,
    lists: HashMap<B256, Bytes>,
    /// What it was told to answer with instead.
    lied: BTreeMap<u64, SignedCommitment>,
}

impl Shelf {
    fn at(&self, number: u64) -> Option<&SignedCommitment> {
        self.lied.get(&number).or_else(|| self.blocks.get(&number))
    }

    fn head(&self) -> PreconfHead {
        let number = self.lied.keys().chain(self.blocks.keys()).max().copied().unwrap_or_default();
        let window_end = self.at(number).map(|signed| signed.preconf().submission_window_end);
        PreconfHead {
            block_number: U256::from(number),
            submission_window_end: window_end.unwrap_or_default(),
        }
    }

    fn page(&self, from: u64, count: usize) -> Vec<SignedCommitment> {
        (from..).map_while(|number| self.at(number).cloned()).take(count.min(256)).collect()
    }
}

/// A peer that says what it is told to say, and relays and serves everything else like a deployed one.
pub struct Actor {
    network: NetworkHandle,
    shelf: Arc<Mutex<Shelf>>,
    /// Frames of gossip that adversaries have sent of their own accord.
    said: Arc<AtomicU64>,
}

impl Actor {
    /// Joins under the identity of this byte, and connects to these.
    pub async fn start(network: &SimNetwork, byte: u8, victims: &[PeerId], said: Arc<AtomicU64>) -> Self {
        let (handle, mut events, service) =
            network.join(NetworkConfig::local(CHAIN, identity(byte))).unwrap();
        tokio::spawn(service.run());
        let shelf = Arc::<Mutex<Shelf>>::default();
        let served = shelf.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                meet(&served, event);
            }
        });
        for victim in victims {
            network.connect(handle.local_peer_id(), *victim);
        }
        Self { network: handle, shelf, said }
    }

    /// Its name.
    pub fn id(&self) -> PeerId {
        self.network.local_peer_id()
    }

    /// Commitments that it has of others, by height.
    pub fn heard(&self) -> Vec<SignedCommitment> {
        self.shelf.lock().unwrap().blocks.values().cloned().collect()
    }

    /// A block with its list.
    pub async fn tell(&self, block: &Block) {
        self.list(&block.txlist).await;
        self.commit(block).await;
    }

    /// Without its list.
    pub async fn commit(&self, block: &Block) {
        self.say(Topic::Commitments, block.signed.to_ssz().into()).await;
    }

    /// The list alone.
    pub async fn list(&self, txlist: &Bytes) {
        let gossip = RawTxListGossip { raw_tx_list_hash: keccak256(txlist), txlist: txlist.clone() };
        self.say(Topic::RawTxLists, gossip.to_ssz().into()).await;
    }

    /// Whoever has banned it does not hear it.
    async fn say(&self, topic: Topic, ssz: Bytes) {
        if let Ok(Published::Sent { peers }) = self.network.publish(topic, ssz).await {
            self.said.fetch_add(peers as u64, Ordering::Relaxed);
        }
    }

    /// Answers with this block from now on, whatever it hears.
    pub fn serve(&self, block: &Block) {
        let mut shelf = self.shelf.lock().unwrap();
        shelf.lied.insert(block.number(), block.signed.clone());
        if !block.txlist.is_empty() {
            shelf.lists.insert(keccak256(&block.txlist), block.txlist.clone());
        }
    }
}

fn meet(shelf: &Mutex<Shelf>, event: NetworkEvent) {
    let mut shelf = shelf.lock().unwrap();
    match event {
        NetworkEvent::Gossip { message, verdict, .. } => {
            match message {
                GossipMessage::Commitment(ssz) => {
                    let signed = SignedCommitment::from_ssz(&ssz).unwrap();
                    if let Ok(number) = u64::try_from(signed.preconf().block_number) {
                        shelf.blocks.insert(number, signed);
                    }
                }
                GossipMessage::TxList(gossip) => {
                    drop(shelf.lists.insert(gossip.raw_tx_list_hash, gossip.txlist))
                }
            }
            verdict.settle(Verdict::Accept);
        }
        NetworkEvent::Request { request, .. } => match request {
            InboundRequest::Head(answer) => answer.send(shelf.head()),
            InboundRequest::Commitments(request, answer) => {
                let from = u64::try_from(request.start_block_number).unwrap_or(u64::MAX);
                let page = shelf.page(from, usize::try_from(request.max_count).unwrap());
                answer.send(GetCommitmentsByNumberResponse::new(page).unwrap());
            }
            InboundRequest::TxList(request, answer) => {
                let raw_tx_list_hash = request.raw_tx_list_hash;
                let txlist = shelf.lists.get(&raw_tx_list_hash).cloned().unwrap_or_default();
                answer.send(GetRawTxListResponse { raw_tx_list_hash, txlist });
            }
            _ => {}
        },
        _ => {}
    }
}

/// Where an adversary sits.
pub struct Seat {
    /// Two identities, each connected to other honest nodes, and the first to all where the seed says so.
    pub actors: [Actor; 2],
    /// Its key.
    pub signer: SigningKey,
    /// The number of its key.
    pub number: u64,
    /// Whether it signs in turns of its own; else in those of others.
    pub elected: bool,
    /// By how much it floods less than it could.
    pub throttle: u64,
    /// What all adversaries know of what they do together: the last block of their branch.
    pub plot: Arc<Mutex<Option<Parent>>>,
}

impl Seat {
    /// The identity that it uses first.
    pub fn actor(&self) -> &Actor {
        &self.actors[0]
    }

    /// How much of its rate it floods with.
    pub(crate) fn share(&self, rate: u64) -> u64 {
        (rate / self.throttle).max(1)
    }

    /// The end of the window that it signs for now: of its own turn, or, where it was never elected, of anybody's.
    pub fn turn(&self, scene: &Scene<'_>) -> Option<u64> {
        let window = scene.clock.window();
        let owner = scene.signers.get(window)?;
        (!self.elected || *owner == self.signer.address()).then_some(end_of(window))
    }
}
