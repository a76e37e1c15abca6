//! One host: a node with static links, which accepts what is as it should be and says when it came. It is told on stdin what to
//! publish, and tells on stdout; both in lines.

use std::{
    fmt,
    str::{FromStr, SplitWhitespace},
    time::Duration,
};

use clap::Args;
use preconfirmation_p2p::{GossipMessage, Keypair, Multiaddr, Network, NetworkConfig, NetworkEvent, Verdict};
use preconfirmation_types::{
    B256, Bytes, Container as _, MAX_TXLIST_BYTES, PreconfCommitment, Preconfirmation, RawTxListGossip,
    SignedCommitment, SigningDomain, SigningKey, Topic, TxList, U256, keccak256,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use crate::{Failure, namespaces::address};

const PORT: u16 = 9000;

/// How far from a host, in a circle, the hosts are that it dials: with those that dial it, four links.
const STEPS: [u8; 2] = [1, 3];

/// Which host it is, and how it sends.
#[derive(Debug, Args)]
pub(crate) struct Host {
    #[arg(long)]
    pub(crate) index: u8,
    #[arg(long)]
    pub(crate) hosts: u8,
    #[arg(long)]
    pub(crate) large_sends: usize,
}

/// What a host is told to publish.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// A list with this number, of so many bytes.
    List { number: u64, bytes: usize },
    /// The commitment of this block.
    Commitment { block: u64 },
}

/// What a host tells, with the time in nanoseconds of a clock that all hosts share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It has all its links.
    Linked,
    Sent(Item, u64),
    Received(Item, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    List(u64),
    Commitment(u64),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List { number, bytes } => write!(f, "list {number} {bytes}"),
            Self::Commitment { block } => write!(f, "commitment {block}"),
        }
    }
}

impl FromStr for Order {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("list") => Ok(Self::List { number: number(&mut words)?, bytes: number(&mut words)? }),
            Some("commitment") => Ok(Self::Commitment { block: number(&mut words)? }),
            _ => Err(format!("no order: {line}").into()),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, item, at) = match self {
            Self::Linked => return f.write_str("linked"),
            Self::Sent(item, at) => ("sent", item, at),
            Self::Received(item, at) => ("received", item, at),
        };
        match item {
            Item::List(number) => write!(f, "{verb} list {number} {at}"),
            Item::Commitment(block) => write!(f, "{verb} commitment {block} {at}"),
        }
    }
}

impl FromStr for Told {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let mut words = line.split_whitespace();
        let verb = words.next();
        if verb == Some("linked") {
            return Ok(Self::Linked);
        }
        let item = match words.next() {
            Some("list") => Item::List(number(&mut words)?),
            Some("commitment") => Item::Commitment(number(&mut words)?),
            _ => return Err(format!("not told by a host: {line}").into()),
        };
        let at = number(&mut words)?;
        Ok(if verb == Some("sent") { Self::Sent(item, at) } else { Self::Received(item, at) })
    }
}

fn number<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    words: &mut SplitWhitespace<'_>,
) -> Result<T, Failure> {
    Ok(words.next().ok_or("a number is missing")?.parse()?)
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(Duration::try_from(now).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn identity(index: u8) -> Result<Keypair, Failure> {
    Ok(Keypair::ed25519_from_bytes([index + 1; 32])?)
}

fn config(host: &Host) -> Result<NetworkConfig, Failure> {
    let mut config = NetworkConfig::local(1, identity(host.index)?);
    config.listen = vec![format!("/ip4/{}/tcp/{PORT}", address(host.index)).parse()?];
    for step in STEPS {
        let other = (host.index + step) % host.hosts;
        let peer = identity(other)?.public().to_peer_id();
        let at: Multiaddr = format!("/ip4/{}/tcp/{PORT}/p2p/{peer}", address(other)).parse()?;
        config.static_peers.push(at);
    }
    config.gossip.large_sends = host.large_sends;
    Ok(config)
}

/// Runs a host until stdin ends.
pub(crate) async fn run(host: &Host) -> Result<(), Failure> {
    let (handle, mut events, service) = Network::new(config(host)?)?;
    let service = tokio::spawn(service.run());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let NetworkEvent::Gossip { message, verdict, .. } = event {
                let received = received(&message);
                verdict.settle(if received.is_some() { Verdict::Accept } else { Verdict::Ignore });
                if let Some(item) = received {
                    println!("{}", Told::Received(item, now()));
                }
            }
        }
    });
    let links = 2 * STEPS.len();
    while handle.peers().await?.iter().filter(|peer| peer.topics.len() == 2).count() < links {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{}", Told::Linked);
    let (sender, mut orders) = mpsc::channel::<String>(1);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line))
    });
    while let Some(order) = orders.recv().await {
        let (topic, ssz, item) = match order.parse()? {
            Order::List { number, bytes } => (Topic::RawTxLists, list(number, bytes), Item::List(number)),
            Order::Commitment { block } => {
                (Topic::Commitments, commitment(block)?.to_ssz(), Item::Commitment(block))
            }
        };
        println!("{}", Told::Sent(item, now()));
        let _published = handle.publish(topic, ssz.into()).await?;
    }
    handle.shutdown();
    Ok(service.await??)
}

/// A list with bytes that no compression makes fewer, after its number.
fn list(number: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut txlist = vec![0; bytes];
    random.fill(&mut txlist);
    txlist.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    RawTxListGossip { raw_tx_list_hash: keccak256(&txlist), txlist: txlist.into() }.to_ssz()
}

fn commitment(block: u64) -> Result<SignedCommitment, Failure> {
    let preconf = Preconfirmation {
        block_number: U256::from(block),
        raw_tx_list_hash: B256::repeat_byte(1),
        ..Preconfirmation::default()
    };
    let key = SigningKey::from_bytes([7; 32])?;
    Ok(PreconfCommitment { preconf, ..PreconfCommitment::default() }.sign(&key, &SigningDomain::PLACEHOLDER))
}

/// What has come, if it is as it should be.
fn received(message: &GossipMessage) -> Option<Item> {
    match message {
        GossipMessage::TxList(list) => {
            let bytes = Bytes::copy_from_slice(&list.txlist);
            let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
            TxList::verify(list.raw_tx_list_hash, bytes, MAX_TXLIST_BYTES).ok()?;
            Some(Item::List(number))
        }
        GossipMessage::Commitment(ssz) => {
            let signed = SignedCommitment::from_ssz(ssz).ok()?;
            Some(Item::Commitment(signed.preconf().block_number.saturating_to()))
        }
    }
}
