//! `opp2p_*`: peers, under the names and in the shapes that the clients of op-node know.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr, sync::Arc};

use jsonrpsee::core::RegisterMethodError;
use p2p_client::{
    PeerId, PeerInfo, UnixSeconds,
    network::{Blocked, IpRange, Multiaddr, StaticPeerInfo, StaticPeerState},
    wire::Topic,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    failure::{Code, Failure},
    method::{About, One, Registry},
    node::Node,
};

/// Registers all methods.
pub(crate) fn register(registry: &mut Registry) -> Result<(), RegisterMethodError> {
    let about = |name, summary| About { name, summary, errors: &[] };
    let with = |name, summary, errors| About { name, summary, errors };
    registry.method(about("opp2p_self", "This node."), this)?;
    registry.method(about("opp2p_peers", "The peers; with true only those that are connected."), peers)?;
    registry.method(about("opp2p_peerStats", "How many peers."), peer_stats)?;
    registry.method(
        with(
            "opp2p_discoveryTable",
            "The records (ENR) of the nodes in the routing table of discovery.",
            &[Code::Peer],
        ),
        discovery_table,
    )?;
    registry.method(
        with(
            "opp2p_connectPeer",
            "Connects to a multiaddr; answers when the connection stands.",
            &[Code::Peer],
        ),
        connect_peer,
    )?;
    registry.method(
        with(
            "opp2p_disconnectPeer",
            "Disconnects a peer as soon as no request of either side is in flight. A static peer is dialled again.",
            &[Code::Peer],
        ),
        disconnect_peer,
    )?;
    registry.method(
        with("opp2p_blockPeer", "Refuses a peer until it is unblocked or the node restarts.", &[Code::Busy]),
        block_peer,
    )?;
    registry
        .method(about("opp2p_unblockPeer", "Refuses a peer no more, and lifts its ban."), unblock_peer)?;
    registry.method(about("opp2p_listBlockedPeers", "The peers that are blocked."), list_blocked_peers)?;
    registry.method(with("opp2p_blockAddr", "Refuses an IP address.", &[Code::Busy]), block_addr)?;
    registry.method(about("opp2p_unblockAddr", "Refuses an IP address no more."), unblock_addr)?;
    registry
        .method(about("opp2p_listBlockedAddrs", "The IP addresses that are blocked."), list_blocked_addrs)?;
    registry.method(
        with("opp2p_blockSubnet", "Refuses a subnet, such as 10.0.0.0/8.", &[Code::Busy]),
        block_subnet,
    )?;
    registry.method(about("opp2p_unblockSubnet", "Refuses a subnet no more."), unblock_subnet)?;
    registry
        .method(about("opp2p_listBlockedSubnets", "The subnets that are blocked."), list_blocked_subnets)?;
    registry.method(
        with("opp2p_protectPeer", "Keeps a peer from being pruned and banned.", &[Code::Busy]),
        protect_peer,
    )?;
    registry.method(about("opp2p_unprotectPeer", "Ends that. A static peer stays protected."), unprotect_peer)
}

/// A peer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peer {
    #[serde(rename = "peerID")]
    peer_id: String,
    /// Empty: the identities of this network are those of libp2p.
    #[serde(rename = "nodeID")]
    node_id: String,
    /// What it calls itself. Text from an untrusted peer.
    user_agent: String,
    protocol_version: String,
    /// The node's record; empty where it is not known.
    #[serde(rename = "ENR")]
    enr: String,
    /// Multiaddrs.
    addresses: Vec<String>,
    protocols: Vec<String>,
    /// 0 not connected, 1 connected.
    connectedness: u8,
    /// 0 unknown, 1 inbound, 2 outbound.
    direction: u8,
    /// Whether it is neither pruned nor banned.
    protected: bool,
    /// The chain whose network it is in, if it speaks its protocols; else 0.
    #[serde(rename = "chainID")]
    chain_id: u64,
    /// The last ping, in nanoseconds; 0 where there was none.
    latency: u64,
    /// Whether it subscribes to commitments.
    gossip_blocks: bool,
    scores: Scores,
}

/// Scores: gossipsub's total and the application's part of it in the places where op-node has such; the rest is zero, as it is
/// not told apart here.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scores {
    gossip: GossipScores,
    req_resp: ReqRespScores,
}

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GossipScores {
    total: f64,
    blocks: TopicScores,
    #[serde(rename = "IPColocationFactor")]
    ip_colocation_factor: f64,
    /// What the rules of this network count of its offences and deliveries.
    behavioral_penalty: f64,
}

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicScores {
    time_in_mesh: f64,
    first_message_deliveries: f64,
    mesh_message_deliveries: f64,
    invalid_message_deliveries: f64,
}

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReqRespScores {
    valid_responses: f64,
    error_responses: f64,
    rejected_payloads: f64,
}

impl Peer {
    fn new(info: PeerInfo, chain_id: u64) -> Self {
        let is_connected = info.banned_for.is_none();
        let direction = match (is_connected, info.inbound) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => 2,
        };
        let gossip = GossipScores {
            total: info.score,
            behavioral_penalty: info.application_score,
            ..GossipScores::default()
        };
        Self {
            peer_id: info.peer.to_string(),
            node_id: String::new(),
            user_agent: info.agent.unwrap_or_default(),
            protocol_version: String::new(),
            enr: String::new(),
            addresses: info.addresses.iter().map(ToString::to_string).collect(),
            protocols: info.protocols,
            connectedness: u8::from(is_connected),
            direction,
            protected: info.protected,
            chain_id: if info.ready { chain_id } else { 0 },
            latency: info.round_trip.map_or(0, |ping| u64::try_from(ping.as_nanos()).unwrap_or(u64::MAX)),
            gossip_blocks: info.topics.contains(&Topic::Commitments),
            scores: Scores { gossip, ..Scores::default() },
        }
    }
}

async fn this(node: Arc<Node>, (): ()) -> Result<Peer, Failure> {
    let network = node.client.network();
    Ok(Peer {
        peer_id: network.local_peer_id().to_string(),
        node_id: String::new(),
        user_agent: node.version.clone(),
        protocol_version: String::new(),
        enr: network.local_enr().await.unwrap_or_default(),
        addresses: network.listen_addrs().await?.iter().map(ToString::to_string).collect(),
        protocols: Vec::new(),
        connectedness: 0,
        direction: 0,
        protected: false,
        chain_id: node.client.chain_id(),
        latency: 0,
        gossip_blocks: true,
        scores: Scores::default(),
    })
}

/// All peers.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerDump {
    total_connected: usize,
    /// By peer id.
    peers: BTreeMap<String, Peer>,
    /// Blocked by the operator, or banned for their offences.
    banned_peers: Vec<String>,
    #[serde(rename = "bannedIPS")]
    banned_ips: Vec<String>,
    banned_subnets: Vec<String>,
    /// The peers of the configuration, whether they are connected or not. op-node has no such field.
    configured_peers: Vec<ConfiguredPeer>,
}

/// A peer of the configuration.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfiguredPeer {
    /// Null while nobody has answered at an address without a peer id.
    #[serde(rename = "peerID")]
    peer_id: Option<String>,
    addresses: Vec<String>,
    /// `connected`, `dialling`, `waiting` for the next dial, or `local`: it is this node itself.
    #[schemars(with = "String")]
    state: StaticPeerState,
    /// Since when it has been connected, or lost, in unix seconds.
    since: u64,
    /// Times that it has been lost or not reached since it was connected last.
    attempts: u32,
    /// Why the last dial failed; null while it is connected.
    last_error: Option<String>,
}

impl ConfiguredPeer {
    fn new(info: StaticPeerInfo, now: UnixSeconds) -> Self {
        Self {
            peer_id: info.peer.map(|peer| peer.to_string()),
            addresses: info.addresses.iter().map(ToString::to_string).collect(),
            state: info.state,
            since: now.get().saturating_sub(info.connected_or_lost_for.as_secs()),
            attempts: info.attempts,
            last_error: info.last_error,
        }
    }
}

async fn peers(node: Arc<Node>, One(connected): One<bool>) -> Result<PeerDump, Failure> {
    let (network, chain_id) = (node.client.network(), node.client.chain_id());
    let (all, blocked) = (network.peers().await?, network.blocked().await?);
    let (configured, now) = (network.static_peers().await?, node.client.now());
    let banned = all.iter().filter(|peer| peer.banned_for.is_some()).map(|peer| peer.peer.to_string());
    let mut banned_peers: Vec<_> = banned.chain(blocked.iter().filter_map(peer_of)).collect();
    banned_peers.sort();
    banned_peers.dedup();
    let listed = all.into_iter().filter(|peer| !connected || peer.banned_for.is_none());
    let peers: BTreeMap<_, _> =
        listed.map(|info| (info.peer.to_string(), Peer::new(info, chain_id))).collect();
    Ok(PeerDump {
        total_connected: peers.values().filter(|peer| peer.connectedness == 1).count(),
        peers,
        banned_peers,
        banned_ips: blocked.iter().filter_map(address_of).collect(),
        banned_subnets: blocked.iter().filter_map(subnet_of).collect(),
        configured_peers: configured.into_iter().map(|info| ConfiguredPeer::new(info, now)).collect(),
    })
}

/// How many peers.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerStats {
    connected: usize,
    /// Of those, the peers that speak the protocols of this chain.
    table: usize,
    /// Of those, the peers that subscribe to commitments.
    blocks_topic: usize,
    /// Blocked by the operator, or banned for their offences.
    banned: usize,
    /// Connected or banned.
    known: usize,
}

async fn peer_stats(node: Arc<Node>, (): ()) -> Result<PeerStats, Failure> {
    let (network, PeerDump { total_connected, peers, banned_peers, .. }) =
        (node.client.network(), self::peers(node.clone(), One(false)).await?);
    Ok(PeerStats {
        connected: total_connected,
        table: network.ready_peers().len(),
        blocks_topic: peers.values().filter(|peer| peer.gossip_blocks).count(),
        banned: banned_peers.len(),
        known: peers.len(),
    })
}

async fn discovery_table(node: Arc<Node>, (): ()) -> Result<Vec<String>, Failure> {
    let table = node.client.network().discovery_table().await?;
    table.ok_or_else(|| Failure::new(Code::Peer, "discovery is off, or does not run at the moment"))
}

/// Reads a parameter, which callers give as text.
fn parse<T: FromStr>(text: &str, what: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::new(Code::InvalidParams, format_args!("`{text}` is no {what}")))
}

async fn connect_peer(node: Arc<Node>, One(address): One<String>) -> Result<(), Failure> {
    let address: Multiaddr = parse(&address, "multiaddr, such as /ip4/10.0.0.7/tcp/9222/p2p/12D3…")?;
    node.client.network().dial(address).await.map_err(|error| Failure::new(Code::Peer, error))
}

async fn disconnect_peer(node: Arc<Node>, One(peer): One<String>) -> Result<(), Failure> {
    let peer: PeerId = parse(&peer, "peer id")?;
    if node.client.network().disconnect(peer).await? {
        return Ok(());
    }
    Err(Failure::new(Code::Peer, format_args!("{peer} is not connected")))
}

/// Blocks an entry, or says that there are too many.
async fn block(node: &Node, entry: Blocked) -> Result<(), Failure> {
    if node.client.network().block(entry).await? {
        return Ok(());
    }
    Err(Failure::new(Code::Busy, "too much is blocked already"))
}

async fn block_peer(node: Arc<Node>, One(peer): One<String>) -> Result<(), Failure> {
    block(&node, Blocked::Peer(parse(&peer, "peer id")?)).await
}

async fn unblock_peer(node: Arc<Node>, One(peer): One<String>) -> Result<(), Failure> {
    let (peer, network) = (parse(&peer, "peer id")?, node.client.network());
    let (_blocked, _banned) = (network.unblock(Blocked::Peer(peer)).await?, network.unban(peer).await?);
    Ok(())
}

async fn list_blocked_peers(node: Arc<Node>, (): ()) -> Result<Vec<String>, Failure> {
    Ok(node.client.network().blocked().await?.iter().filter_map(peer_of).collect())
}

fn address(text: &str) -> Result<Blocked, Failure> {
    Ok(Blocked::Subnet(IpRange::of(parse(text, "IP address")?)))
}

async fn block_addr(node: Arc<Node>, One(ip): One<String>) -> Result<(), Failure> {
    block(&node, address(&ip)?).await
}

async fn unblock_addr(node: Arc<Node>, One(ip): One<String>) -> Result<(), Failure> {
    let _blocked = node.client.network().unblock(address(&ip)?).await?;
    Ok(())
}

async fn list_blocked_addrs(node: Arc<Node>, (): ()) -> Result<Vec<String>, Failure> {
    Ok(node.client.network().blocked().await?.iter().filter_map(address_of).collect())
}

fn subnet(text: &str) -> Result<Blocked, Failure> {
    let range = text
        .split_once('/')
        .and_then(|(ip, bits)| IpRange::new(ip.parse::<IpAddr>().ok()?, bits.parse().ok()?));
    let range = range.ok_or_else(|| {
        Failure::new(Code::InvalidParams, format_args!("`{text}` is no subnet, such as 10.0.0.0/8"))
    })?;
    Ok(Blocked::Subnet(range))
}

async fn block_subnet(node: Arc<Node>, One(text): One<String>) -> Result<(), Failure> {
    block(&node, subnet(&text)?).await
}

async fn unblock_subnet(node: Arc<Node>, One(text): One<String>) -> Result<(), Failure> {
    let _blocked = node.client.network().unblock(subnet(&text)?).await?;
    Ok(())
}

async fn list_blocked_subnets(node: Arc<Node>, (): ()) -> Result<Vec<String>, Failure> {
    Ok(node.client.network().blocked().await?.iter().filter_map(subnet_of).collect())
}

async fn protect_peer(node: Arc<Node>, One(peer): One<String>) -> Result<(), Failure> {
    if node.client.network().protect(parse(&peer, "peer id")?).await? {
        return Ok(());
    }
    Err(Failure::new(Code::Busy, "too many peers are protected already"))
}

async fn unprotect_peer(node: Arc<Node>, One(peer): One<String>) -> Result<(), Failure> {
    let _trusted = node.client.network().unprotect(parse(&peer, "peer id")?).await?;
    Ok(())
}

fn peer_of(entry: &Blocked) -> Option<String> {
    match entry {
        Blocked::Peer(peer) => Some(peer.to_string()),
        Blocked::Subnet(_) => None,
    }
}

fn address_of(entry: &Blocked) -> Option<String> {
    match entry {
        Blocked::Subnet(range) if range.is_single() => Some(range.ip().to_string()),
        _ => None,
    }
}

fn subnet_of(entry: &Blocked) -> Option<String> {
    match entry {
        Blocked::Subnet(range) if !range.is_single() => Some(format!("{}/{}", range.ip(), range.bits())),
        _ => None,
    }
}
