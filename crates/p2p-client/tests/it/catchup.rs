//! Catching up over real TCP while peers die and the node restarts: it goes on from what is stored and fetches
//! nothing twice.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::{Arc, Mutex},
    time::Duration,
};

use p2p_client::{P2pClient, P2pClientConfig, Subscription};
use p2p_storage::{MemoryStorage, TxListStore};
use p2p_types::{
    Address, B256, Base, Bytes, Clock, HeadSyncStatus, Preconfirmation, SdkEvent, SignedCommitment,
    SigningDomain, SigningKey, Stall, TxList, U256, UnixSeconds,
};
use p2p_validation::{RotatingSchedule, ValidationConfig};
use preconfirmation_p2p::{
    InboundRequest, Keypair, Multiaddr, Network, NetworkConfig, NetworkEvent, NetworkHandle,
};
use preconfirmation_types::{
    GetCommitmentsByNumberResponse, GetRawTxListResponse, MAX_TXLIST_BYTES, PreconfCommitment, PreconfHead,
};
use tokio::{task::JoinHandle, time::timeout};

const CHAIN: u64 = 167_000;
const SLASHER: Address = Address::repeat_byte(0x51);
const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
const WINDOW: u64 = 100_000;
const BASE: Base = Base::at(10);
const BLOCKS: u64 = 160;
const PAGE: u32 = 16;
/// Long enough for a busy machine, and never waited for where all is well.
const DEADLINE: Duration = Duration::from_secs(60);

fn key() -> SigningKey {
    SigningKey::from_bytes([1; 32]).unwrap()
}

fn txlist(block: u64) -> TxList {
    TxList::new(Bytes::from(block.to_be_bytes().repeat(100)), MAX_TXLIST_BYTES).unwrap()
}

/// Blocks 11 to 170 and their lists.
#[derive(Clone)]
struct Chain(Arc<(Vec<SignedCommitment>, BTreeMap<B256, TxList>)>);

impl Chain {
    fn new() -> Self {
        let (mut parent, mut blocks, mut lists) = (B256::ZERO, Vec::new(), BTreeMap::new());
        for number in BASE.next()..BASE.next() + BLOCKS {
            let list = txlist(number);
            let preconf = Preconfirmation {
                block_number: U256::from(number),
                timestamp: U256::from(number),
                submission_window_end: U256::from(WINDOW - 1),
                raw_tx_list_hash: list.hash(),
                parent_preconfirmation_hash: parent,
                ..Default::default()
            };
            parent = preconf.hash();
            blocks.push(PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(), &DOMAIN));
            lists.insert(list.hash(), list);
        }
        Self(Arc::new((blocks, lists)))
    }
}

/// What servers have answered, all together.
#[derive(Debug, Default)]
struct Answered {
    /// How often each block was part of a page.
    blocks: BTreeMap<u64, u32>,
    /// How often each list was given.
    lists: BTreeMap<B256, u32>,
}

/// What a server gives; to all else it keeps silent. Pages by their heights: requests may come in any order.
#[derive(Debug, Clone, Copy)]
struct Gives {
    /// Pages that begin at or below this height.
    up_to: u64,
    lists: usize,
}

const ALL: Gives = Gives { up_to: u64::MAX, lists: usize::MAX };

/// A peer with the whole chain.
struct Server {
    handle: NetworkHandle,
    address: Multiaddr,
    running: JoinHandle<()>,
}

impl Server {
    async fn start(chain: Chain, answered: Arc<Mutex<Answered>>, gives: Gives) -> Self {
        let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
        unlimited(&mut config);
        let (handle, mut events, service) = Network::new(config).unwrap();
        let service = tokio::spawn(service.run());
        let address = handle.listen_addrs().await.unwrap().remove(0);
        let running = tokio::spawn(async move {
            let (mut gives, mut kept) = (gives, Vec::new());
            while let Some(event) = events.next().await {
                if let NetworkEvent::Request { request, .. } = event
                    && let Some(silent) = answer(&chain, &answered, &mut gives, request)
                {
                    kept.push(silent);
                }
            }
            service.await.unwrap().unwrap();
        });
        Self { handle, address, running }
    }

    async fn kill(self) {
        self.handle.shutdown();
        timeout(DEADLINE, self.running).await.unwrap().unwrap();
    }
}

/// Answers, or gives the request back, to be kept without an answer.
fn answer(
    chain: &Chain,
    answered: &Mutex<Answered>,
    gives: &mut Gives,
    request: InboundRequest,
) -> Option<InboundRequest> {
    let (blocks, lists) = chain.0.as_ref();
    let mut answered = answered.lock().unwrap();
    match request {
        InboundRequest::Head(responder) => {
            let head = blocks.last().unwrap().preconf();
            responder.send(PreconfHead {
                block_number: head.block_number,
                submission_window_end: head.submission_window_end,
            });
        }
        InboundRequest::Commitments(asked, responder)
            if asked.start_block_number <= U256::from(gives.up_to) =>
        {
            let from = usize::try_from(asked.start_block_number.to::<u64>() - BASE.next()).unwrap();
            let to = (from + asked.max_count as usize).min(blocks.len());
            let page = blocks[from.min(to)..to].to_vec();
            for block in &page {
                *answered.blocks.entry(block.preconf().block_number.to()).or_default() += 1;
            }
            responder.send(GetCommitmentsByNumberResponse::new(page).unwrap());
        }
        InboundRequest::TxList(asked, responder) if gives.lists > 0 => {
            gives.lists -= 1;
            *answered.lists.entry(asked.raw_tx_list_hash).or_default() += 1;
            responder.send(GetRawTxListResponse::from(lists[&asked.raw_tx_list_hash].clone()));
        }
        silent => return Some(silent),
    }
    None
}

/// How many requests there may be is not what is tested here, and a busy machine is no reason to ask twice.
fn unlimited(config: &mut NetworkConfig) {
    config.pacing.requests = NonZeroUsize::MAX;
    config.pacing.least_timeout = DEADLINE;
    config.pacing.timeout = DEADLINE;
    config.serving.requests = NonZeroU32::MAX;
    config.serving.bytes = NonZeroUsize::MAX;
}

struct Node {
    client: P2pClient,
    events: Subscription,
}

impl Node {
    async fn start(storage: Arc<MemoryStorage>) -> Self {
        let rules = ValidationConfig::new(DOMAIN, SLASHER);
        let mut config = P2pClientConfig::local(CHAIN, Keypair::generate_ed25519(), rules);
        unlimited(&mut config.network);
        config.catchup.request_deadline = 2 * DEADLINE;
        config.catchup.page_size = NonZeroU32::new(PAGE).unwrap();
        config.clock = Arc::new(|| UnixSeconds::new(50_000)) as Arc<dyn Clock>;
        let window = NonZeroU64::new(WINDOW).unwrap();
        let schedule = RotatingSchedule::new(vec![key().address()], UnixSeconds::new(0), window).unwrap();
        let client = P2pClient::start(config.with_storage(storage), Arc::new(schedule)).await.unwrap();
        let events = client.subscribe();
        client.chain().l2_synced(BASE).await.unwrap();
        Self { client, events }
    }

    async fn dial(&self, server: &Server) {
        self.client.network().dial(server.address.clone()).await.unwrap();
    }

    /// Waits until so many lists have come since the start, and the head is this high.
    async fn reach(&mut self, lists: usize, head: u64) {
        let (mut got, mut at) = (0, 0);
        let search = async {
            while got < lists || at < head {
                match self.events.next_event().await.unwrap().expect("the client ended") {
                    SdkEvent::TxList { .. } => got += 1,
                    SdkEvent::Head { head } => at = head.map_or(0, |head| head.number),
                    _ => {}
                }
            }
        };
        timeout(DEADLINE, search).await.expect("it did not get there");
    }

    async fn status(&mut self, wanted: impl Fn(&HeadSyncStatus) -> bool) {
        let search = async {
            loop {
                let event = self.events.next_event().await.unwrap().expect("the client ended");
                if matches!(&event, SdkEvent::Status { status } if wanted(status)) {
                    return;
                }
            }
        };
        timeout(DEADLINE, search).await.expect("the status did not come");
    }
}

fn everything_came_once(answered: &Mutex<Answered>, storage: &MemoryStorage) {
    let answered = answered.lock().unwrap();
    let heights: Vec<_> = (BASE.next()..BASE.next() + BLOCKS).collect();
    assert_eq!(answered.blocks.keys().copied().collect::<Vec<_>>(), heights);
    assert!(answered.blocks.values().all(|&times| times == 1), "{:?}", answered.blocks);
    assert_eq!(answered.lists.len(), heights.len());
    assert!(answered.lists.values().all(|&times| times == 1), "{:?}", answered.lists);
    assert!(heights.iter().all(|&block| storage.contains(&txlist(block).hash()).unwrap()));
}

/// Gives five pages and fifty lists, and nothing after that.
const HALF: Gives = Gives { up_to: HALF_HEAD, lists: 50 };
const HALF_HEAD: u64 = BASE.number + 5 * PAGE as u64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dies_in_the_middle_is_replaced_and_nothing_is_fetched_twice() {
    let (chain, answered, storage) = (Chain::new(), Arc::default(), Arc::new(MemoryStorage::default()));
    let first = Server::start(chain.clone(), Arc::clone(&answered), HALF).await;
    let mut node = Node::start(storage.clone()).await;
    node.dial(&first).await;
    node.reach(HALF.lists, HALF_HEAD).await;
    first.kill().await;
    node.status(|status| matches!(status, HeadSyncStatus::Stalled { why: Stall::NoPeers, .. })).await;
    let second = Server::start(chain, Arc::clone(&answered), ALL).await;
    node.dial(&second).await;
    node.status(HeadSyncStatus::is_live).await;
    everything_came_once(&answered, &storage);
    node.client.shutdown().await.unwrap();
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_in_the_middle_goes_on_from_what_is_stored() {
    let (chain, answered, storage) = (Chain::new(), Arc::default(), Arc::new(MemoryStorage::default()));
    let first = Server::start(chain.clone(), Arc::clone(&answered), HALF).await;
    let mut node = Node::start(storage.clone()).await;
    node.dial(&first).await;
    node.reach(HALF.lists, HALF_HEAD).await;
    node.client.shutdown().await.unwrap();
    let mut node = Node::start(storage.clone()).await;
    let second = Server::start(chain, Arc::clone(&answered), ALL).await;
    node.dial(&second).await;
    node.status(HeadSyncStatus::is_live).await;
    everything_came_once(&answered, &storage);
    node.client.shutdown().await.unwrap();
    first.kill().await;
    second.kill().await;
}
