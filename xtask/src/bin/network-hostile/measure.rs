//! Two measurements behind settings of the network: the size of the mesh for large lists, and how long the
//! service keeps its task while large lists come.

use std::{
    collections::HashMap,
    fs,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Swarm, SwarmBuilder, gossipsub,
    identity::Keypair,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use preconfirmation_p2p::{
    GossipMessage, Network, NetworkConfig, NetworkEvent, NetworkHandle, Verdict, gossip_id,
};
use preconfirmation_types::{B256, Container as _, MAX_TXLIST_BYTES, RawTxListGossip, Topic};

use crate::rig::{CHAIN, Failure};

const PATIENCE: Duration = Duration::from_secs(60);

fn list(number: u64, bytes: usize) -> Vec<u8> {
    let mut txlist = vec![0; bytes];
    txlist.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    RawTxListGossip { raw_tx_list_hash: B256::repeat_byte(9), txlist: txlist.into() }.to_ssz()
}

fn number(message: &GossipMessage) -> Option<u64> {
    let GossipMessage::TxList(list) = message else {
        return None;
    };
    Some(u64::from_le_bytes(list.txlist.get(..8)?.try_into().ok()?))
}

type Came = Arc<Mutex<HashMap<u64, Vec<Instant>>>>;

/// A node that accepts all and notes when it came.
fn node(config: NetworkConfig, came: &Came) -> Result<NetworkHandle, Failure> {
    let (handle, mut events, service) = Network::new(config)?;
    tokio::spawn(service.run());
    let came = Arc::clone(came);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let NetworkEvent::Gossip { message, verdict, .. } = event {
                verdict.settle(Verdict::Accept);
                if let Some(number) = number(&message) {
                    let mut came = came.lock().unwrap_or_else(PoisonError::into_inner);
                    came.entry(number).or_default().push(Instant::now());
                }
            }
        }
    });
    Ok(handle)
}

/// Mesh sizes for lists: copies of a list that a node receives, and how long the slowest in a hundred take.
/// Copies are what the loopback interface carried, so nothing else should use it (`unshare --net`).
pub(crate) async fn mesh() -> Result<(), Failure> {
    const NODES: usize = 20;
    println!("| mesh | bytes | copies | p99 ms | lost |");
    println!("|---|---|---|---|---|");
    for (bytes, messages, pause) in [(128 * 1024, 40, 250), (MAX_TXLIST_BYTES, 6, 4000)] {
        for (size, low, high, outbound_min) in [(3, 2, 5, 1), (4, 3, 6, 1), (6, 4, 9, 2), (8, 6, 12, 2)] {
            let came = Came::default();
            let mut nodes = Vec::new();
            for _ in 0..NODES {
                let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
                let mesh = &mut config.gossip.txlist_mesh;
                (mesh.size, mesh.low, mesh.high, mesh.outbound_min) = (size, low, high, outbound_min);
                nodes.push(node(config, &came)?);
            }
            for (index, node) in nodes.iter().enumerate() {
                for step in [1, 3, 4, 7, 9] {
                    let address = nodes[(index + step) % NODES].listen_addrs().await?.remove(0);
                    node.dial(address).await?;
                }
            }
            // The meshes settle in some heartbeats.
            tokio::time::sleep(Duration::from_secs(5)).await;
            let before = loopback()?;
            let mut sent = HashMap::new();
            for number in 0..messages {
                sent.insert(number, Instant::now());
                let _published = nodes[0].publish(Topic::RawTxLists, list(number, bytes).into()).await?;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            let carried = loopback()? - before;
            let came = came.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut took: Vec<_> = came
                .iter()
                .flat_map(|(number, came)| came.iter().map(|came| came.duration_since(sent[number])))
                .collect();
            took.sort_unstable();
            let wanted = messages as usize * (NODES - 1);
            let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
            #[allow(clippy::cast_precision_loss, reason = "for the eye")]
            let copies = carried as f64 / (wanted * bytes) as f64;
            let lost = wanted - took.len();
            println!("| {size} | {bytes} | {copies:.2} | {} | {lost} |", p99.as_millis());
            nodes.iter().for_each(NetworkHandle::shutdown);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// Bytes that the loopback interface has carried.
fn loopback() -> Result<u64, Failure> {
    let all = fs::read_to_string("/proc/net/dev")?;
    let line = all.lines().find_map(|line| line.trim().strip_prefix("lo:")).ok_or("no loopback")?;
    Ok(line.split_whitespace().next().ok_or("no count")?.parse()?)
}

/// Notes how long each poll of a future takes.
struct Timed<F> {
    future: Pin<Box<F>>,
    polls: Arc<Mutex<Vec<Duration>>>,
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let start = Instant::now();
        let output = self.future.as_mut().poll(cx);
        let took = start.elapsed();
        self.polls.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        output
    }
}

#[derive(NetworkBehaviour)]
struct Bare {
    gossip: gossipsub::Behaviour,
}

/// Gossipsub alone, with this network's message ids; accepts all.
async fn bare(
    address: libp2p::Multiaddr,
    heard: tokio::sync::mpsc::UnboundedSender<()>,
) -> Result<(), Failure> {
    let mut swarm: Swarm<Bare> = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|identity| {
            let config = gossipsub::ConfigBuilder::default()
                .validate_messages()
                .max_transmit_size(10 * 1024 * 1024)
                .message_id_fn(|message| gossipsub::MessageId::new(&gossip_id(&message.data)))
                .build()?;
            let signed = gossipsub::MessageAuthenticity::Signed(identity.clone());
            let mut gossip = gossipsub::Behaviour::new(signed, config)?;
            for topic in Topic::ALL {
                gossip.subscribe(&gossipsub::IdentTopic::new(topic.on_chain(CHAIN)))?;
            }
            Ok(Bare { gossip })
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build();
    swarm.dial(address)?;
    loop {
        if let SwarmEvent::Behaviour(BareEvent::Gossip(gossipsub::Event::Message {
            propagation_source,
            message_id,
            ..
        })) = swarm.select_next_some().await
        {
            swarm.behaviour_mut().gossip.report_message_validation_result(
                &message_id,
                &propagation_source,
                gossipsub::MessageAcceptance::Accept,
            );
            heard.send(())?;
        }
    }
}

/// How long the service keeps its task at a time while lists of 2 MiB come, beside gossipsub alone.
pub(crate) async fn poll_gap() -> Result<(), Failure> {
    const LISTS: u64 = 200;
    println!("| who | polls | p50 ms | p99 ms | most ms |");
    println!("|---|---|---|---|---|");
    for round in 0..3 {
        for ours in [false, true] {
            let author = node(NetworkConfig::local(CHAIN, Keypair::generate_ed25519()), &Came::default())?;
            let address = author.listen_addrs().await?.remove(0);
            let polls = Arc::<Mutex<Vec<Duration>>>::default();
            let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
            let running = if ours {
                let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
                config.static_peers = vec![address];
                let (handle, mut events, service) = Network::new(config)?;
                let judging = tokio::spawn(async move {
                    while let Some(event) = events.next().await {
                        if let NetworkEvent::Gossip { verdict, .. } = event {
                            verdict.settle(Verdict::Accept);
                            let _heard = heard.send(());
                        }
                    }
                });
                let timed = Timed { future: Box::pin(service.run()), polls: Arc::clone(&polls) };
                tokio::spawn(async move {
                    drop(timed.await);
                    drop((handle, judging));
                })
            } else {
                let timed = Timed { future: Box::pin(bare(address, heard)), polls: Arc::clone(&polls) };
                tokio::spawn(async move { drop(timed.await) })
            };
            while author.peers().await?.iter().all(|peer| peer.topics.len() < 2) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            polls.lock().unwrap_or_else(PoisonError::into_inner).clear();
            for number in 0..LISTS {
                let list = list(round * LISTS * 2 + number, MAX_TXLIST_BYTES);
                let _published = author.publish(Topic::RawTxLists, list.into()).await?;
                let came = pin!(hears.recv());
                tokio::time::timeout(PATIENCE, came).await?.ok_or("nobody hears")?;
            }
            running.abort();
            author.shutdown();
            let mut polls = std::mem::take(&mut *polls.lock().unwrap_or_else(PoisonError::into_inner));
            polls.sort_unstable();
            let ms = |part: usize| {
                let at = (polls.len() * part / 1000).min(polls.len().saturating_sub(1));
                polls.get(at).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
            };
            let who = if ours { "service" } else { "gossipsub alone" };
            println!("| {who} | {} | {:.3} | {:.3} | {:.3} |", polls.len(), ms(500), ms(990), ms(1000));
        }
    }
    Ok(())
}
