//! Bare gossipsub.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::{
    Swarm, SwarmBuilder, gossipsub, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use preconfirmation_p2p::{GossipConfig, gossip_id};
use preconfirmation_types::{B256, Container as _};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Arrivals, DIALS, Mesh, NODES, PATIENCE, Side, TURN, arrived, name};
use crate::signed;

/// Gossipsub and nothing else; what arrives is forwarded at once.
pub(super) struct Raw {
    publishers: Vec<mpsc::Sender<Vec<u8>>>,
    arrivals: Arrivals,
    number: u64,
    running: Vec<JoinHandle<()>>,
}

impl Raw {
    pub(super) async fn start() -> Self {
        let (report, arrivals) = mpsc::channel(NODES * TURN);
        let mut swarms: Vec<_> = (0..NODES).map(|_| swarm()).collect();
        let mut addresses = Vec::new();
        for swarm in &mut swarms {
            swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            };
            addresses.push(address);
        }
        let (meshed, _) = watch::channel(0_usize);
        let mut raw = Self { publishers: Vec::new(), arrivals, number: 0, running: Vec::new() };
        for (index, mut swarm) in swarms.into_iter().enumerate() {
            for step in 1..=DIALS {
                swarm.dial(addresses[(index + step) % NODES].clone()).unwrap();
            }
            let (publisher, messages) = mpsc::channel(1);
            raw.publishers.push(publisher);
            raw.running.push(tokio::spawn(run_raw(swarm, messages, report.clone(), meshed.clone())));
        }
        let mut links = meshed.subscribe();
        timeout(PATIENCE, links.wait_for(|links| *links >= 2 * DIALS * NODES)).await.unwrap().unwrap();
        // Grafting takes a heartbeat.
        sleep(2 * GossipConfig::default().heartbeat).await;
        raw
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

impl Mesh for Raw {
    async fn one(&mut self, side: &mut Side) {
        self.number += 1;
        // As long as a commitment, and like one in that no two are the same.
        let message = signed(self.number).unwrap().to_ssz();
        let name = name(&message);
        let author = &self.publishers[usize::try_from(self.number).unwrap() % NODES];
        let since = Instant::now();
        author.send(message).await.unwrap();
        arrived(&mut self.arrivals, name, since, side).await;
    }
}

fn swarm() -> Swarm<gossipsub::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let config = GossipConfig::default();
            let parameters = gossipsub::ConfigBuilder::default()
                .validation_mode(gossipsub::ValidationMode::Strict)
                .message_id_fn(|message| gossipsub::MessageId::new(&gossip_id(&message.data)))
                .mesh_n(config.mesh.size)
                .mesh_n_low(config.mesh.low)
                .mesh_n_high(config.mesh.high)
                .mesh_outbound_min(config.mesh.outbound_min)
                .gossip_lazy(config.lazy)
                .heartbeat_interval(config.heartbeat)
                .heartbeat_initial_delay(Duration::ZERO)
                .history_length(config.history.get())
                .history_gossip(config.history_gossip)
                .flood_publish(false)
                .build()
                .unwrap();
            let authenticity = gossipsub::MessageAuthenticity::Signed(key.clone());
            let mut behaviour = gossipsub::Behaviour::new(authenticity, parameters)?;
            behaviour.subscribe(&topic())?;
            Ok(behaviour)
        })
        .unwrap()
        .build()
}

fn topic() -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new("raw")
}

async fn run_raw(
    mut swarm: Swarm<gossipsub::Behaviour>,
    mut messages: mpsc::Receiver<Vec<u8>>,
    report: mpsc::Sender<(B256, Instant)>,
    links: watch::Sender<usize>,
) {
    type Event = SwarmEvent<<gossipsub::Behaviour as NetworkBehaviour>::ToSwarm>;
    loop {
        let event: Event = tokio::select! {
            Some(message) = messages.recv() => {
                swarm.behaviour_mut().publish(topic(), message).unwrap();
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) => {
                let at = Instant::now();
                report.send((name(&message.data), at)).await.unwrap();
            }
            SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }) => {
                links.send_modify(|links| *links += 1);
            }
            _ => {}
        }
    }
}
