//! What scenarios are played in, and who plays.

use std::{collections::HashSet, num::NonZeroU64, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use p2p_client::{Keypair, Multiaddr, NetworkConfig, P2pClient, P2pClientConfig, Publishing, Subscription};
use p2p_storage::{MemoryStorage, SdkStorage};
use p2p_types::{
    Address, B256, Base, Bytes, PeerId, Preconfirmation, SdkEvent, SignedCommitment, SigningDomain,
    SigningKey, U256, UnixSeconds,
};
use p2p_validation::{Lookahead, RotatingSchedule, ValidationConfig};
use preconfirmation_p2p::{Network, NetworkError, NetworkEvents, NetworkHandle, sim::SimNetwork};
use preconfirmation_types::{Container as _, PreconfCommitment, RawTxListGossip, Topic, keccak256};
use tokio::time::timeout;

pub(crate) const CHAIN: u64 = 167_000;
const SLASHER: Address = Address::repeat_byte(0x51);
const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
const WINDOW: u64 = 100_000;
pub(crate) const BASE: Base = Base::at(10);

/// A network, as [`P2pClientBuilder::network`](p2p_client::P2pClientBuilder::network) takes it.
pub(crate) type Parts = (NetworkHandle, NetworkEvents, BoxFuture<'static, Result<(), NetworkError>>);

/// Where networks come from.
pub(crate) trait World {
    /// How long anything may take: of the wall clock, or of a clock that is only as slow as the scenario.
    const DEADLINE: Duration;

    fn join(&self, config: NetworkConfig) -> Parts;
}

/// Loopback.
pub(crate) struct Tcp;

impl World for Tcp {
    const DEADLINE: Duration = Duration::from_secs(60);

    fn join(&self, config: NetworkConfig) -> Parts {
        let (handle, events, service) = Network::new(config).unwrap();
        (handle, events, Box::pin(service.run()))
    }
}

impl World for SimNetwork {
    const DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

    fn join(&self, config: NetworkConfig) -> Parts {
        let (handle, events, service) = Self::join(self, config).unwrap();
        (handle, events, Box::pin(service.run()))
    }
}

pub(crate) fn preconfer() -> SigningKey {
    SigningKey::from_bytes([1; 32]).unwrap()
}

pub(crate) fn identity(byte: u8) -> Keypair {
    Keypair::ed25519_from_bytes([byte; 32]).unwrap()
}

/// A block and its list, as the only preconfer of these worlds signs it.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) signed: SignedCommitment,
    pub(crate) txlist: Bytes,
}

impl Block {
    /// The block after `parent`, or after the base. Another `salt` makes another block.
    pub(crate) fn after(parent: Option<&Self>, salt: u8) -> Self {
        let number = parent.map_or(BASE.number, Self::number) + 1;
        Self::with(parent, salt, number, &preconfer())
    }

    /// The same, with a timestamp and a signer of choice.
    pub(crate) fn with(parent: Option<&Self>, salt: u8, timestamp: u64, signer: &SigningKey) -> Self {
        let number = parent.map_or(BASE.number, Self::number) + 1;
        let txlist = Bytes::from([number.to_be_bytes().as_slice(), &[salt; 200]].concat());
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp),
            submission_window_end: U256::from(WINDOW - 1),
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: parent.map_or(B256::ZERO, Self::hash),
            ..Default::default()
        };
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(signer, &DOMAIN);
        Self { signed, txlist }
    }

    /// A handover instead of the block after `parent`.
    pub(crate) fn handover(parent: Option<&Self>, signer: &SigningKey) -> Self {
        let mut block = Self::with(parent, 0, parent.map_or(BASE.number, Self::number) + 1, signer);
        let preconf = &mut block.signed.commitment.preconf;
        (preconf.eop, preconf.raw_tx_list_hash) = (true, B256::ZERO);
        let signed = block.signed.commitment.sign(signer, &DOMAIN);
        Self { signed, txlist: Bytes::new() }
    }

    /// So many blocks on top of each other.
    pub(crate) fn chain(length: usize) -> Vec<Self> {
        std::iter::successors(Some(Self::after(None, 0)), |last| Some(Self::after(Some(last), 0)))
            .take(length)
            .collect()
    }

    pub(crate) fn number(&self) -> u64 {
        self.signed.preconf().block_number.to()
    }

    pub(crate) fn hash(&self) -> B256 {
        self.signed.preconf().hash()
    }
}

/// The settings of a node of these worlds.
pub(crate) fn config(key: u8) -> P2pClientConfig {
    let rules = ValidationConfig::new(DOMAIN, SLASHER);
    P2pClientConfig::local(CHAIN, identity(key), rules)
        .with_publishing(Publishing::GuardedUntilRestart)
        .with_clock(|| UnixSeconds::new(50_000))
}

/// Who may sign in these worlds: the preconfer, always.
pub(crate) fn schedule() -> Arc<RotatingSchedule> {
    let window = NonZeroU64::new(WINDOW).unwrap();
    Arc::new(RotatingSchedule::new(vec![preconfer().address()], UnixSeconds::new(0), window).unwrap())
}

/// What a node leaves behind: its key and its store.
pub(crate) type Left = (u8, Arc<dyn SdkStorage>);

/// A client, its store, and what it has told.
pub(crate) struct Node {
    pub(crate) client: P2pClient,
    key: u8,
    storage: Arc<dyn SdkStorage>,
    events: Subscription,
    pub(super) deadline: Duration,
    /// Blocks that were complete.
    ready: HashSet<B256>,
}

impl Node {
    pub(crate) async fn start<W: World>(world: &W, key: u8) -> Self {
        Self::start_with(world, key, |_| ()).await
    }

    /// With other settings.
    pub(crate) async fn start_with<W: World>(
        world: &W,
        key: u8,
        change: impl FnOnce(&mut P2pClientConfig),
    ) -> Self {
        Self::with_storage(world, key, Arc::<MemoryStorage>::default(), change).await
    }

    pub(crate) async fn with_storage<W: World>(
        world: &W,
        key: u8,
        storage: Arc<dyn SdkStorage>,
        change: impl FnOnce(&mut P2pClientConfig),
    ) -> Self {
        let node = Self::without_l2(world, key, storage, change).await;
        node.client.chain().l2_synced(BASE).await.unwrap();
        node
    }

    /// One whose L2 has not been heard of.
    pub(crate) async fn start_unsynced<W: World>(world: &W, key: u8) -> Self {
        Self::without_l2(world, key, Arc::<MemoryStorage>::default(), |_| ()).await
    }

    /// One whose L2 has not been heard of, with another schedule.
    pub(crate) async fn electing<W: World>(world: &W, key: u8, schedule: Arc<dyn Lookahead>) -> Self {
        Self::with_schedule(world, key, Arc::<MemoryStorage>::default(), schedule, |_| ()).await
    }

    async fn without_l2<W: World>(
        world: &W,
        key: u8,
        storage: Arc<dyn SdkStorage>,
        change: impl FnOnce(&mut P2pClientConfig),
    ) -> Self {
        Self::with_schedule(world, key, storage, schedule(), change).await
    }

    pub(crate) async fn with_schedule<W: World>(
        world: &W,
        key: u8,
        storage: Arc<dyn SdkStorage>,
        schedule: Arc<dyn Lookahead>,
        change: impl FnOnce(&mut P2pClientConfig),
    ) -> Self {
        let mut config = config(key);
        change(&mut config);
        let (handle, events, service) = world.join(config.network.clone());
        let (client, events) = P2pClient::builder(config.with_storage(storage.clone()), schedule)
            .network(handle, events, service)
            .start_subscribed()
            .await
            .unwrap();
        Self { client, key, storage, events, deadline: W::DEADLINE, ready: HashSet::new() }
    }

    /// Stops, and gives what is left of it to [`Node::back`].
    pub(crate) async fn stop(self) -> Left {
        self.client.shutdown().await.unwrap();
        (self.key, self.storage)
    }

    /// Ends in the middle of whatever it does.
    pub(crate) async fn killed(self) -> Left {
        drop(self.client.shutdown().await);
        (self.key, self.storage)
    }

    /// Starts again from what a node has left.
    pub(crate) async fn back<W: World>(world: &W, (key, storage): Left) -> Self {
        Self::with_storage(world, key, storage, |_| ()).await
    }

    pub(crate) fn id(&self) -> PeerId {
        self.client.network().local_peer_id()
    }

    pub(crate) async fn address(&self) -> Multiaddr {
        self.client.network().listen_addrs().await.unwrap().remove(0)
    }

    pub(crate) async fn dial(&self, other: &Self) {
        self.client.network().dial(other.address().await).await.unwrap();
        timeout(self.deadline, self.client.network().wait_for_peers(1)).await.unwrap().unwrap();
        timeout(self.deadline, other.client.network().wait_for_peers(1)).await.unwrap().unwrap();
    }

    pub(crate) async fn publish(&self, block: &Block) {
        timeout(self.deadline, self.client.publisher().ready()).await.unwrap().unwrap();
        let _sent =
            self.client.publisher().publish_block(block.signed.clone(), block.txlist.clone()).await.unwrap();
    }

    /// Reads events until one gives a value.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(&SdkEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.next_event().await.unwrap().unwrap();
                if let SdkEvent::BlockReady { hash, .. } = &event {
                    self.ready.insert(*hash);
                }
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        timeout(self.deadline, search).await.unwrap_or_else(|_| panic!("{:?}", self.client))
    }

    /// Waits until all these blocks have been complete, then checks that they are the chain.
    pub(crate) async fn has(&mut self, chain: &[Block]) {
        let mut missing: HashSet<B256> = chain.iter().map(Block::hash).collect();
        missing.retain(|hash| !self.ready.contains(hash));
        if !missing.is_empty() {
            self.until(|event| {
                if let SdkEvent::BlockReady { hash, .. } = event {
                    missing.remove(hash);
                }
                missing.is_empty().then_some(())
            })
            .await;
        }
        for block in chain {
            let stored = self.client.chain().block(block.number()).await.unwrap().unwrap();
            assert_eq!(stored.hash(), block.hash(), "block {}", block.number());
            let txlist = self.client.chain().txlist(keccak256(&block.txlist)).await.unwrap().unwrap();
            assert_eq!(txlist.bytes(), &block.txlist);
        }
        let head = self.client.chain().head().unwrap();
        assert_eq!((head.number, head.hash), chain.last().map(|last| (last.number(), last.hash())).unwrap());
    }

    pub(crate) async fn live(&mut self) {
        // Told once, and not again while it lasts.
        if self.client.status().is_live() {
            return;
        }
        self.until(|event| matches!(event, SdkEvent::Status { status } if status.is_live()).then_some(()))
            .await;
    }
}

/// A peer that tells what it is told to tell, by the rules or not.
pub(crate) struct Voice {
    network: NetworkHandle,
    deadline: Duration,
}

impl Voice {
    /// Joins and dials these nodes.
    pub(crate) async fn start<W: World>(world: &W, key: u8, nodes: &[&Node]) -> Self {
        let mut addresses = Vec::new();
        for node in nodes {
            addresses.push(node.address().await);
        }
        Self::dialling(world, key, addresses).await
    }

    pub(crate) async fn dialling<W: World>(world: &W, key: u8, addresses: Vec<Multiaddr>) -> Self {
        let (network, mut events, service) = world.join(NetworkConfig::local(CHAIN, identity(key)));
        tokio::spawn(service);
        tokio::spawn(async move { while events.next().await.is_some() {} });
        for address in addresses {
            network.dial(address).await.unwrap();
        }
        Self { network, deadline: W::DEADLINE }
    }

    pub(crate) async fn tell(&self, block: &Block) {
        let txlist =
            RawTxListGossip { raw_tx_list_hash: keccak256(&block.txlist), txlist: block.txlist.clone() };
        self.publish(Topic::RawTxLists, txlist.to_ssz().into()).await;
        self.commit(block).await;
    }

    /// Without its list.
    pub(crate) async fn commit(&self, block: &Block) {
        self.publish(Topic::Commitments, block.signed.to_ssz().into()).await;
    }

    pub(crate) async fn publish(&self, topic: Topic, ssz: Bytes) {
        let sent = async {
            while self.network.publish(topic, ssz.clone()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(self.deadline, sent).await.unwrap();
    }
}
