//! Bare gossipsub, and gossipsub beside what else the protocol asks every node to speak; nothing of either is ours.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::{
    Swarm, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    noise, ping,
    swarm::{DialError, NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use preconfirmation_p2p::gossip_id;
use preconfirmation_types::{B256, Container as _, GetCommitmentsByNumber, GetHead, GetRawTxList};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Arrivals, CHAIN, DIALS, Mesh, NODES, PATIENCE, Side, TURN, arrived, gossip, name};
use crate::{
    signed,
    unasked::{Unasked, unasked},
};

/// What a node speaks.
pub(super) trait Stack: NetworkBehaviour<ToSwarm: Send> + Send {
    fn new(gossip: gossipsub::Behaviour, key: &Keypair) -> Self;
    fn gossip(&mut self) -> &mut gossipsub::Behaviour;
    fn heard(event: Self::ToSwarm) -> Option<gossipsub::Event>;
}

/// Gossipsub and nothing else.
impl Stack for gossipsub::Behaviour {
    fn new(gossip: gossipsub::Behaviour, _: &Keypair) -> Self {
        gossip
    }

    fn gossip(&mut self) -> &mut gossipsub::Behaviour {
        self
    }

    fn heard(event: gossipsub::Event) -> Option<gossipsub::Event> {
        Some(event)
    }
}

/// All of the protocol, by libp2p's own behaviours beside each other.
#[derive(NetworkBehaviour)]
pub(super) struct All {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    head: Unasked,
    commitments: Unasked,
    txlist: Unasked,
}

impl Stack for All {
    fn new(gossip: gossipsub::Behaviour, key: &Keypair) -> Self {
        Self {
            identify: identify::Behaviour::new(identify::Config::new("bench".to_owned(), key.public())),
            ping: ping::Behaviour::default(),
            gossip,
            head: unasked::<GetHead>(CHAIN),
            commitments: unasked::<GetCommitmentsByNumber>(CHAIN),
            txlist: unasked::<GetRawTxList>(CHAIN),
        }
    }

    fn gossip(&mut self) -> &mut gossipsub::Behaviour {
        &mut self.gossip
    }

    fn heard(event: AllEvent) -> Option<gossipsub::Event> {
        match event {
            AllEvent::Gossip(event) => Some(event),
            _ => None,
        }
    }
}

/// Nodes of libp2p's parts only; what arrives is forwarded at once.
pub(super) struct Raw {
    publishers: Vec<mpsc::Sender<Vec<u8>>>,
    arrivals: Arrivals,
    number: u64,
    running: Vec<JoinHandle<()>>,
}

impl Raw {
    pub(super) async fn start<S: Stack>() -> Self {
        let (report, arrivals) = mpsc::channel(NODES * TURN);
        let mut swarms: Vec<_> = (0..NODES).map(|_| swarm::<S>()).collect();
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
        sleep(2 * gossip().heartbeat).await;
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

fn swarm<S: Stack>() -> Swarm<S> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let config = gossip();
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
            Ok(S::new(behaviour, key))
        })
        .unwrap()
        .build()
}

fn topic() -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new("raw")
}

async fn run_raw<S: Stack>(
    mut swarm: Swarm<S>,
    mut messages: mpsc::Receiver<Vec<u8>>,
    report: mpsc::Sender<(B256, Instant)>,
    links: watch::Sender<usize>,
) {
    loop {
        let event = tokio::select! {
            Some(message) = messages.recv() => {
                swarm.behaviour_mut().gossip().publish(topic(), message).unwrap();
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        let event = match event {
            SwarmEvent::Behaviour(event) => event,
            // A dial from the listening port, which libp2p reuses, can fail.
            SwarmEvent::OutgoingConnectionError { error: DialError::Transport(failed), .. } => {
                failed.into_iter().for_each(|(address, _)| swarm.dial(address).unwrap());
                continue;
            }
            _ => continue,
        };
        match S::heard(event) {
            Some(gossipsub::Event::Message { message, .. }) => {
                let at = Instant::now();
                report.send((name(&message.data), at)).await.unwrap();
            }
            Some(gossipsub::Event::Subscribed { .. }) => {
                links.send_modify(|links| *links += 1);
            }
            _ => {}
        }
    }
}
