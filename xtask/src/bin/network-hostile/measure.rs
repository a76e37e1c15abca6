//! Measurements behind settings of the network: the size of the mesh for large lists, how long the service
//! keeps its task while large lists come, and how fast lists are fetched within our own limits.

use std::{
    collections::HashMap,
    fs,
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all};
use libp2p::{
    Swarm, SwarmBuilder, gossipsub,
    identity::Keypair,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use preconfirmation_p2p::{
    GossipMessage, InboundRequest, Network, NetworkConfig, NetworkEvent, NetworkHandle, Verdict, gossip_id,
};
use preconfirmation_types::{
    B256, Container as _, GetRawTxList, GetRawTxListRequest, MAX_TXLIST_BYTES, RawTxListGossip, Topic, TxList,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

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
    const ANNOUNCED: usize = 1000;
    println!("| mesh | IDONTWANT | bytes | copies | p99 ms | lost |");
    println!("|---:|---|---:|---:|---:|---:|");
    for (bytes, messages, pause) in [(128 * 1024, 40, 250), (MAX_TXLIST_BYTES, 6, 4000)] {
        for (size, low, high, outbound_min, threshold) in [
            (3, 2, 5, 1, ANNOUNCED),
            (4, 3, 6, 1, ANNOUNCED),
            (4, 3, 6, 1, usize::MAX),
            (6, 4, 9, 2, ANNOUNCED),
            (8, 6, 12, 2, ANNOUNCED),
        ] {
            let came = Came::default();
            let mut nodes = Vec::new();
            for _ in 0..NODES {
                let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
                let mesh = &mut config.gossip.txlist_mesh;
                (mesh.size, mesh.low, mesh.high, mesh.outbound_min) = (size, low, high, outbound_min);
                config.gossip.idontwant_threshold = threshold;
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
            let announced = if threshold == ANNOUNCED { "yes" } else { "no" };
            println!("| {size} | {announced} | {bytes} | {copies:.2} | {} | {lost} |", p99.as_millis());
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

/// The longest poll of a task: on the clock, and in processor time, which neighbours do not lengthen.
#[derive(Clone, Copy, Default)]
struct Longest {
    clock: Duration,
    processor: Duration,
}

/// Notes the longest poll of a future.
struct Timed<F> {
    future: Pin<Box<F>>,
    longest: Arc<Mutex<Longest>>,
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (start, used) = (Instant::now(), processor());
        let output = self.future.as_mut().poll(cx);
        let (clock, processor) = (start.elapsed(), processor().saturating_sub(used));
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        longest.clock = longest.clock.max(clock);
        longest.processor = longest.processor.max(processor);
        drop(longest);
        output
    }
}

/// Processor time of this thread.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}

#[derive(NetworkBehaviour)]
struct Bare {
    gossip: gossipsub::Behaviour,
}

/// Gossipsub alone, with this network's message ids; accepts all.
async fn bare(address: libp2p::Multiaddr, heard: mpsc::Sender<()>) -> Result<(), Failure> {
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
            heard.try_send(())?;
        }
    }
}

/// How long the service keeps its task at a time while lists of 2 MiB come, beside gossipsub alone: the
/// longest poll for each list, both in turns.
pub(crate) async fn poll_gap() -> Result<(), Failure> {
    const ROUNDS: u64 = 10;
    const LISTS: u64 = 50;
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (ours, longest) in [false, true].into_iter().zip(&mut all) {
            longest.extend(longest_polls(ours, round * LISTS..(round + 1) * LISTS).await?);
        }
    }
    println!("| longest poll for a list of 2 MiB | p50 ms | p99 ms | p99 ms of processor |");
    println!("|---|---:|---:|---:|");
    for (who, longest) in ["gossipsub alone", "service"].into_iter().zip(&all) {
        let ms = |time: fn(&Longest) -> Duration, percent: usize| {
            let mut times: Vec<_> = longest.iter().map(time).collect();
            times.sort_unstable();
            times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        let (p50, p99) = (ms(|poll| poll.clock, 50), ms(|poll| poll.clock, 99));
        println!("| {who} | {p50:.2} | {p99:.2} | {:.2} |", ms(|poll| poll.processor, 99));
    }
    Ok(())
}

/// The longest poll for each of these lists.
async fn longest_polls(ours: bool, lists: Range<u64>) -> Result<Vec<Longest>, Failure> {
    let author = node(NetworkConfig::local(CHAIN, Keypair::generate_ed25519()), &Came::default())?;
    let address = author.listen_addrs().await?.remove(0);
    let longest = Arc::<Mutex<Longest>>::default();
    let (heard, mut hears) = mpsc::channel(16);
    let running = if ours {
        let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
        config.static_peers = vec![address];
        let (handle, mut events, service) = Network::new(config)?;
        let judging = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let NetworkEvent::Gossip { verdict, .. } = event {
                    verdict.settle(Verdict::Accept);
                    let _heard = heard.try_send(());
                }
            }
        });
        let timed = Timed { future: Box::pin(service.run()), longest: Arc::clone(&longest) };
        tokio::spawn(async move {
            drop(timed.await);
            drop((handle, judging));
        })
    } else {
        let timed = Timed { future: Box::pin(bare(address, heard)), longest: Arc::clone(&longest) };
        tokio::spawn(async move { drop(timed.await) })
    };
    while author.peers().await?.iter().all(|peer| peer.topics.len() < 2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The mesh forms.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let take = || std::mem::take(&mut *longest.lock().unwrap_or_else(PoisonError::into_inner));
    let mut longest = Vec::new();
    for number in lists {
        take();
        let _published = author.publish(Topic::RawTxLists, list(number, MAX_TXLIST_BYTES).into()).await?;
        tokio::time::timeout(PATIENCE, hears.recv()).await?.ok_or("nobody hears")?;
        longest.push(take());
    }
    running.abort();
    author.shutdown();
    Ok(longest)
}

/// How long a thousand lists of 10 KiB take from a node with default settings to another: asked for at once,
/// each verified.
pub(crate) async fn txlists() -> Result<(), Failure> {
    const LISTS: u64 = 1000;
    let list = |number: u64| {
        let mut list = vec![7; 10 * 1024];
        list.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
        TxList::new(list.into(), MAX_TXLIST_BYTES)
    };
    let lists: HashMap<_, _> =
        (0..LISTS).map(|number| list(number).map(|list| (list.hash(), list))).collect::<Result<_, _>>()?;
    let mut took = Vec::new();
    for _ in 0..5 {
        let (server, mut events, service) =
            Network::new(NetworkConfig::local(CHAIN, Keypair::generate_ed25519()))?;
        tokio::spawn(service.run());
        let asker = node(NetworkConfig::local(CHAIN, Keypair::generate_ed25519()), &Came::default())?;
        asker.dial(server.listen_addrs().await?.remove(0)).await?;
        let has = lists.clone();
        let serving = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let NetworkEvent::Request { request: InboundRequest::TxList(asked, responder), .. } = event
                    && let Some(list) = has.get(&asked.raw_tx_list_hash)
                {
                    responder.send(list.clone().into());
                }
            }
        });
        while !asker.peers().await?.iter().any(|peer| peer.ready) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let start = Instant::now();
        let peer = server.local_peer_id();
        let ask = |hash: &B256| {
            asker.request::<GetRawTxList>(peer, GetRawTxListRequest { raw_tx_list_hash: *hash })
        };
        for (answer, list) in join_all(lists.keys().map(ask)).await.into_iter().zip(lists.values()) {
            if answer?.verify(MAX_TXLIST_BYTES)?.as_ref() != Some(list) {
                return Err("another list".into());
            }
        }
        took.push(start.elapsed());
        serving.abort();
        asker.shutdown();
        server.shutdown();
    }
    took.sort_unstable();
    println!("{LISTS} lists of 10 KiB: {took:.2?}");
    Ok(())
}
