//! Whole clients.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Instant,
};

use libp2p::Multiaddr;
use p2p_client::{Keypair, P2pClient, P2pClientConfig, Publishing};
use p2p_storage::{CommitmentStore, MemoryStorage, TxListStore};
use p2p_types::{Base, SdkEvent, UnixSeconds};
use p2p_validation::{RotatingSchedule, ValidationConfig};
use preconfirmation_types::{
    B256, Bytes, MAX_TXLIST_BYTES, PreconfCommitment, Preconfirmation, SignedCommitment, TxList, U256,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Arrivals, CHAIN, DIALS, Mesh, NODES, PATIENCE, Side, TURN, arrived, gossip};
use crate::{DOMAIN, key};

const BASE: u64 = 1_000;

/// Whole clients with memory storage. Every block has the same transaction list, which everybody has from the
/// start, so that a message is one commitment, as in the raw mesh. One signer signs them all.
pub(super) struct Ours {
    clients: Vec<P2pClient>,
    arrivals: Arrivals,
    parent: Option<SignedCommitment>,
    number: u64,
}

impl Ours {
    /// With tables of signers, as a client has them by default; or every signature is recovered.
    pub(super) async fn start(tables: bool) -> Self {
        let (report, arrivals) = mpsc::channel(NODES * TURN);
        let mut clients: Vec<P2pClient> = Vec::new();
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for _ in 0..NODES {
            let client = client(tables).await;
            addresses.extend(client.network().listen_addrs().await.unwrap().into_iter().next());
            tokio::spawn(watch_events(client.subscribe(), report.clone()));
            clients.push(client);
        }
        for (index, client) in clients.iter().enumerate() {
            for step in 1..=DIALS {
                client.network().dial(addresses[(index + step) % NODES].clone()).await.unwrap();
            }
        }
        for client in &clients {
            timeout(PATIENCE, client.network().wait_for_peers(2 * DIALS)).await.unwrap().unwrap();
            client.chain().l2_synced(Base::at(BASE)).await.unwrap();
        }
        sleep(2 * gossip().heartbeat).await;
        Self { clients, arrivals, parent: None, number: 0 }
    }

    pub(super) async fn end(self) {
        for client in self.clients {
            client.shutdown().await.unwrap();
        }
    }
}

impl Mesh for Ours {
    async fn one(&mut self, side: &mut Side) {
        self.number += 1;
        let parent = self.parent.as_ref().map(|parent| parent.preconf().hash()).unwrap_or_default();
        let signed = block(BASE + self.number, parent);
        let name = signed.preconf().hash();
        self.parent = Some(signed.clone());
        let author = &self.clients[usize::try_from(self.number).unwrap() % NODES];
        author.publisher().ready().await.unwrap();
        let since = Instant::now();
        let _sent = author.publisher().publish_commitment(signed).await.unwrap();
        arrived(&mut self.arrivals, name, since, side).await;
    }
}

fn txlist() -> TxList {
    TxList::new(Bytes::from_static(&[7; 300]), MAX_TXLIST_BYTES).unwrap()
}

fn block(number: u64, parent: B256) -> SignedCommitment {
    let preconf = Preconfirmation {
        block_number: U256::from(number),
        timestamp: U256::from(number),
        submission_window_end: U256::from(WINDOW.get() - 1),
        raw_tx_list_hash: txlist().hash(),
        parent_preconfirmation_hash: parent,
        ..Default::default()
    };
    let slasher_address = p2p_types::Address::repeat_byte(0x51);
    PreconfCommitment { preconf, slasher_address }.sign(&key().unwrap(), &DOMAIN)
}

const WINDOW: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();

async fn client(tables: bool) -> P2pClient {
    let rules = ValidationConfig::new(DOMAIN, p2p_types::Address::repeat_byte(0x51));
    let signer_tables = if tables { rules.signer_tables } else { 0 };
    let rules = ValidationConfig { signer_tables, ..rules };
    let mut config = P2pClientConfig::local(CHAIN, Keypair::generate_ed25519(), rules)
        .with_publishing(Publishing::GuardedUntilRestart);
    config.clock = Arc::new(|| UnixSeconds::new(500_000));
    config.network.gossip = gossip();
    config.queues.events = NonZeroUsize::new(16 * 1024).unwrap();
    let storage = MemoryStorage::default();
    storage.set_base(Base::at(BASE)).unwrap();
    storage.put(BASE + 1, txlist()).unwrap();
    let schedule =
        RotatingSchedule::new(vec![key().unwrap().address()], UnixSeconds::new(0), WINDOW).unwrap();
    P2pClient::start(config.with_storage(Arc::new(storage)), Arc::new(schedule)).await.unwrap()
}

async fn watch_events(mut events: p2p_client::Subscription, report: mpsc::Sender<(B256, Instant)>) {
    while let Some(event) = events.next_event().await.unwrap() {
        if let SdkEvent::Commitment { commitment, origin, .. } = event
            && origin.peer().is_some()
        {
            let at = Instant::now();
            // The run may be over.
            report.send((commitment.hash(), at)).await.ok();
        }
    }
}
