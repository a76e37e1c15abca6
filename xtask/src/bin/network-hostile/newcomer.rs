//! Whether somebody new is served, or found, in the middle of an attack.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use libp2p::multiaddr::Protocol;
use preconfirmation_p2p::{Keypair, Multiaddr, NetworkConfig, NetworkHandle, PeerId};
use preconfirmation_types::{
    B256, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetHead, GetHeadRequest, GetRawTxList,
    GetRawTxListRequest, U256,
};

use crate::rig::{Failure, Node};

/// How long a newcomer tries.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Has a new node connect to another and ask for its head, a page and a list, again where it fails. How long that takes, at
/// most [`PATIENCE`].
pub(crate) async fn joins(known: NetworkHandle) -> Result<Duration, Failure> {
    let newcomer = Node::start()?;
    let (peer, start) = (known.local_peer_id(), Instant::now());
    let address = known.listen_addrs().await?.remove(0);
    let served = async {
        loop {
            if newcomer.handle.dial(address.clone()).await.is_ok() && asks(&newcomer.handle, peer).await {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // Whoever is not served has waited for so long.
    drop(tokio::time::timeout(PATIENCE, served).await);
    Ok(start.elapsed())
}

async fn asks(newcomer: &NetworkHandle, peer: PeerId) -> bool {
    let page = GetCommitmentsByNumberRequest { start_block_number: U256::from(1), max_count: 8 };
    let list = GetRawTxListRequest { raw_tx_list_hash: B256::repeat_byte(9) };
    newcomer.request::<GetHead>(peer, GetHeadRequest {}).await.is_ok()
        && newcomer.request::<GetCommitmentsByNumber>(peer, page).await.is_ok()
        && newcomer.request::<GetRawTxList>(peer, list).await.is_ok()
}

/// Where somebody new will be: a name and an address that others know before it is there, on a host of its own.
#[derive(Clone)]
pub(crate) struct Announced {
    identity: Keypair,
    address: Multiaddr,
}

impl Announced {
    pub(crate) fn free() -> Result<Self, Failure> {
        const HOST: Ipv4Addr = Ipv4Addr::new(127, 88, 0, 1);
        let port = TcpListener::bind((HOST, 0))?.local_addr()?.port();
        let address = Multiaddr::from(HOST).with(Protocol::Tcp(port));
        Ok(Self { identity: Keypair::generate_ed25519(), address })
    }

    /// As others name it.
    pub(crate) fn named(&self) -> Multiaddr {
        self.address.clone().with(Protocol::P2p(self.identity.public().to_peer_id()))
    }

    /// Has a new node come up here and wait until another has dialled it and answers it. How long that takes, at most
    /// [`PATIENCE`].
    pub(crate) async fn is_found(&self, by: PeerId) -> Result<(Node, Duration), Failure> {
        let start = Instant::now();
        // The node that was here before may not have gone yet.
        let newcomer = loop {
            let here = |config: &mut NetworkConfig| {
                config.identity = self.identity.clone();
                config.listen = vec![self.address.clone()];
            };
            match Node::with(here) {
                Ok(node) => break node,
                Err(error) if start.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let served = async {
            while !asks(&newcomer.handle, by).await {
                tokio::time::sleep(PAUSE).await;
            }
        };
        drop(tokio::time::timeout(PATIENCE, served).await);
        Ok((newcomer, start.elapsed()))
    }
}
