//! Our network without a client: what arrives is accepted at once.

use std::time::Instant;

use p2p_client::Keypair;
use preconfirmation_p2p::{
    GossipMessage, Network, NetworkConfig, NetworkEvent, NetworkEvents, NetworkHandle, Verdict,
};
use preconfirmation_types::{B256, Container as _, Topic};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{Arrivals, CHAIN, DIALS, Mesh, NODES, PATIENCE, Side, TURN, arrived, gossip, name};
use crate::signed;

/// Nodes that speak all of the protocol and judge nothing.
pub(super) struct Networks {
    handles: Vec<NetworkHandle>,
    arrivals: Arrivals,
    number: u64,
}

impl Networks {
    pub(super) async fn start() -> Self {
        let (report, arrivals) = mpsc::channel(NODES * TURN);
        let (links, mut met) = watch::channel(0_usize);
        let (mut handles, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
            config.gossip = gossip();
            let (handle, events, service) = Network::new(config).unwrap();
            tokio::spawn(service.run());
            tokio::spawn(accept(events, report.clone(), links.clone()));
            addresses.push(handle.listen_addrs().await.unwrap().remove(0));
            handles.push(handle);
        }
        for (index, handle) in handles.iter().enumerate() {
            for step in 1..=DIALS {
                handle.dial(addresses[(index + step) % NODES].clone()).await.unwrap();
            }
        }
        timeout(PATIENCE, met.wait_for(|links| *links >= 2 * DIALS * NODES)).await.unwrap().unwrap();
        sleep(2 * gossip().heartbeat).await;
        Self { handles, arrivals, number: 0 }
    }
}

impl Mesh for Networks {
    async fn one(&mut self, side: &mut Side) {
        self.number += 1;
        let message = signed(self.number).unwrap().to_ssz();
        let name = name(&message);
        let author = &self.handles[usize::try_from(self.number).unwrap() % NODES];
        let since = Instant::now();
        let _sent = author.publish(Topic::Commitments, message.into()).await.unwrap();
        arrived(&mut self.arrivals, name, since, side).await;
    }
}

async fn accept(
    mut events: NetworkEvents,
    report: mpsc::Sender<(B256, Instant)>,
    links: watch::Sender<usize>,
) {
    while let Some(event) = events.next().await {
        match event {
            NetworkEvent::PeerConnected { .. } => links.send_modify(|links| *links += 1),
            NetworkEvent::Gossip { message: GossipMessage::Commitment(ssz), verdict, .. } => {
                let at = Instant::now();
                verdict.settle(Verdict::Accept);
                // The run may be over.
                report.send((name(&ssz), at)).await.ok();
            }
            _ => {}
        }
    }
}
