//! The options of `run`, under the names that operators know from other rollup nodes.

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::Args;
use p2p_client::Publishing;
use p2p_types::{Address, B256, Base, PeerId};
use preconfirmation_p2p::{Bootnode, Multiaddr};
use url::Url;

use super::{
    error::{BaseError, PeerError, RateError, RunError},
    guard::GuardArgs,
    leniency::Leniency,
    list::List,
    log_args::LogArgs,
    lookahead::LookaheadSource,
    peers::PeerArgs,
    preset::NetworkSource,
    rpc::RpcArgs,
    signing::SigningArgs,
    slasher::Slasher,
};
use crate::domain::Domain;

/// Run a node: follow the network, keep what is valid, serve it to others
///
/// Every event is one JSON object a line on stdout, logs and progress go to stderr. Ctrl-C and SIGTERM shut the
/// node down in an orderly way, with exit code 0. So does a stdout that its reader has closed.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 after Ctrl-C, SIGTERM or a closed stdout, 1 if the node failed, 2 for a bad command line.

Examples:
  p2p-node run --network hoodi --domain placeholder --slasher none --l1.rpc wss://l1.example.org \\
      --l2.rpc http://127.0.0.1:8545 --p2p.static /ip4/10.0.0.7/tcp/9222/p2p/12D3… --datadir ./data --status.addr 127.0.0.1:8080
  p2p-node devnet --listen 127.0.0.1:9222 --hold 60     prints the command that joins it")]
pub(crate) struct RunArgs {
    /// A TOML file with options: the keys are their names without `--`
    ///
    /// The environment goes before it, and what the command line says before both. `p2p-node config sample` writes one. None
    /// is read unless it is named.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// The network: `mainnet`, `hoodi`, or a TOML file of the same form
    ///
    /// Says both chain ids, L1's slots, epochs and contracts, and where it has them domain, slasher and limits. What the
    /// command line says goes before it.
    #[arg(long, value_name = "NAME|PATH")]
    pub(super) network: Option<NetworkSource>,

    /// L2 chain id [default: the network's, else 167000]
    #[arg(long, value_name = "N")]
    pub(super) chain_id: Option<u64>,

    /// Chain id in topics and protocol ids [default: the network's, else that of L2]
    ///
    /// Deployed peers use 167000 on every network.
    #[arg(long = "p2p.chain-id", value_name = "N")]
    pub(super) p2p_chain_id: Option<u64>,

    /// The chain's signing domain, 32 bytes, under which commitments are signed; `placeholder` for chains without one
    #[arg(long, value_name = "HEX", required_unless_present = "network")]
    pub(super) domain: Option<Domain>,

    /// The chain's slasher contract, which every commitment has to name; `none` for chains without one
    #[arg(long, value_name = "ADDRESS", required_unless_present = "network")]
    pub(super) slasher: Option<Slasher>,

    /// An L1 endpoint, http, https, ws or wss; may be repeated, or separated by commas
    ///
    /// The first is used until it fails, then the next one. The schedule is learned from the contracts of --network.
    #[arg(long = "l1.rpc", value_name = "URL")]
    pub(super) l1_rpc: Vec<List<Url>>,

    /// Who may sign when: `l1`, `open`, `file:PATH` or `rotating:PATH` [default: l1 where there is --l1.rpc]
    ///
    /// `l1` learns it from L1's contracts, through --l1.rpc and --network.
    /// `file:PATH` is a JSON array of slots {"signer": "0x…", "start": 1, "end": 12}, in unix seconds, both of
    /// which belong to the window. `rotating:PATH` is {"genesis": 1, "window": 12, "operators": ["0x…", …]}, who
    /// take turns of `window` seconds from `genesis` on. `open` ACCEPTS ANY SIGNER: for laboratories only.
    #[arg(long, value_name = "SOURCE", required_unless_present = "l1_rpc")]
    pub(super) lookahead: Option<LookaheadSource>,

    /// An L2 execution node, http, https, ws or wss; may be repeated, or separated by commas
    ///
    /// Tells which blocks the contracts have settled, in place of --base: catching up starts once the node has reached the
    /// last one. Each settled block is compared with what was promised for it. The first is used until it fails, then the
    /// next one.
    #[arg(long = "l2.rpc", value_name = "URL", conflicts_with = "base")]
    pub(super) l2_rpc: Vec<List<Url>>,

    /// The L2 block that the contracts have settled: BLOCK, or BLOCK:HASH with its preconfirmation hash
    ///
    /// Catching up starts above it. Without it and --l2.rpc the node goes on from the base in its --datadir; where there is
    /// none either, it forwards what is authentic but stores and shows nothing.
    #[arg(long, value_name = "BLOCK[:HASH]")]
    pub(super) base: Option<BaseArg>,

    /// Directory for the store and the node's key; without it everything is in memory
    #[arg(long, value_name = "PATH")]
    pub(super) datadir: Option<PathBuf>,

    /// IP address to listen on; may be repeated, or separated by commas. Discovery uses the first
    #[arg(long = "p2p.listen.ip", value_name = "IP", default_value = "0.0.0.0")]
    pub(super) listen_ips: Vec<List<IpAddr>>,

    /// TCP port to listen on; 0 takes a free one, which the first line on stdout tells
    #[arg(long = "p2p.listen.tcp", value_name = "PORT", default_value_t = 9222)]
    pub(super) listen_tcp: u16,

    /// UDP port to listen on by QUIC, beside TCP and another than that of discovery; 0 takes a free one
    ///
    /// Where --p2p.advertise.ip says that others reach this node elsewhere, they reach this port there.
    #[arg(long = "p2p.listen.quic", value_name = "PORT")]
    pub(super) listen_quic: Option<u16>,

    /// IP address at which others reach this node, where it is another than it listens on; one of each IP version
    ///
    /// Goes into the node's record (ENR) and is all that peers are told of. Needed behind a router, in a container, and
    /// with --p2p.listen.ip 0.0.0.0, where otherwise enough peers have to tell the node its address first.
    #[arg(long = "p2p.advertise.ip", value_name = "IP")]
    pub(super) advertise_ips: Vec<List<IpAddr>>,

    /// TCP port at which others reach this node, where it is another than --p2p.listen.tcp
    #[arg(long = "p2p.advertise.tcp", value_name = "PORT", requires = "advertise_ips", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) advertise_tcp: Option<u16>,

    /// UDP port at which discovery reaches this node, where it is another than --p2p.listen.udp
    #[arg(long = "p2p.advertise.udp", value_name = "PORT", requires = "advertise_ips", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) advertise_udp: Option<u16>,

    /// File with the key that the node is known by; made where there is none
    ///
    /// 64 hexadecimal digits, a secp256k1 secret. Without it the key is `p2p.key` in --datadir, or a new one at each
    /// start.
    #[arg(long = "p2p.priv.path", value_name = "FILE")]
    pub(super) priv_path: Option<PathBuf>,

    /// A peer to stay connected to, /ip4/…/tcp/…/p2p/…; may be repeated, or separated by commas
    #[arg(long = "p2p.static", value_name = "MULTIADDR")]
    pub(super) static_peers: Vec<List<StaticPeer>>,

    /// Nodes to find others through, as enr:…, enode://… or multiaddr; may be repeated, or separated by commas
    ///
    /// Any turns discovery (discv5) on; without, and without --p2p.listen.udp, peers are dialled by address alone.
    #[arg(long = "p2p.bootnodes", value_name = "NODE")]
    pub(super) bootnodes: Vec<List<Bootnode>>,

    /// UDP port of discovery; 0 takes a free one; 9222 where there are bootnodes
    ///
    /// Turns discovery on: the first line on stdout tells the node's record (ENR), others' bootnode.
    #[arg(long = "p2p.listen.udp", value_name = "PORT")]
    pub(super) listen_udp: Option<u16>,

    /// Ask this peer up to N requests of a kind in S seconds; may be repeated, or separated by commas
    ///
    /// For peers whose operator allows it. Whoever else does not advertise more is asked 8 in 10 seconds at most:
    /// deployed peers ban for the ninth.
    #[arg(long = "p2p.rate-limit", value_name = "PEER=N/S")]
    pub(super) rate_limits: Vec<List<PeerRateLimit>>,

    #[command(flatten)]
    pub(super) peers: PeerArgs,

    /// Loosen a rule: `zero-parent` or `invalid-gossip`; may be repeated, or separated by commas
    ///
    /// `zero-parent`: a commitment with a zero parent hash follows whatever block is known at the height before it; there are
    /// sidecars that send zero. `invalid-gossip`: invalid gossip is ignored, not penalised, while peers still follow
    /// older rules. `/status` and the log show what is loosened.
    #[arg(long, value_name = "NAME")]
    pub(super) leniency: Vec<List<Leniency>>,

    /// Serve metrics for Prometheus on http://ADDR/metrics
    #[arg(long = "metrics.addr", value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,

    /// The preconfer that signs through this node: the metrics tell how long it is until its next turn
    #[arg(long = "metrics.signer", value_name = "ADDRESS", requires = "metrics")]
    pub(super) metrics_signer: Option<Address>,

    /// Serve a status page on http://ADDR/, the same as JSON on /status, and the probes /healthz and /readyz
    ///
    /// /healthz answers 200 as long as the process runs. /readyz answers 200 only while the node is live, has peers,
    /// knows whose turn it is, and has news from L1 and L2 if it follows them; else 503 with the reasons as JSON.
    #[arg(long = "status.addr", value_name = "ADDR:PORT")]
    pub(super) status: Option<SocketAddr>,

    /// Publish these blocks, in order: a JSON object a line, {"commitment": hex SSZ, "txlist": hex}
    ///
    /// A handover without a block has no `txlist`. What was published before is skipped. The first line that
    /// cannot be published ends the node with exit code 1.
    ///
    /// Needs --datadir, where what was published is remembered: a signer that contradicts itself after a restart loses
    /// its stake.
    #[arg(long, value_name = "FILE")]
    pub(super) publish: Option<PathBuf>,

    /// Without --datadir, where --publish, `preconfer` or JSON-RPC publishes: accept that a restart forgets what was published
    #[arg(long)]
    pub(super) forget_on_restart: bool,

    #[command(flatten)]
    pub(super) guard: GuardArgs,

    #[command(flatten)]
    pub(super) rpc: RpcArgs,

    #[command(flatten)]
    pub(super) log: LogArgs,

    /// What `preconfer` signs: no option of `run`.
    #[arg(skip)]
    pub(super) signing: Option<SigningArgs>,
}

impl RunArgs {
    /// Begins to log as the options say.
    ///
    /// # Errors
    /// [`RunError::Collector`].
    pub(crate) fn log(&self) -> Result<(), RunError> {
        // Spans cost something, so they are not looked at unless somebody may ask.
        self.log.start(self.rpc.debugs())
    }

    /// Whether the node publishes, and what its guard remembers.
    pub(super) fn publishing(&self) -> Publishing {
        match (self.publish.is_some() || self.signing.is_some(), self.rpc.publishes()) {
            (false, false) => Publishing::Disabled,
            _ if self.forget_on_restart => Publishing::GuardedUntilRestart,
            // Whoever only reads over JSON-RPC needs no directory.
            (false, true) if self.datadir.is_none() => Publishing::Disabled,
            _ => Publishing::Guarded,
        }
    }
}

/// The settled block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BaseArg(pub(super) Base);

impl FromStr for BaseArg {
    type Err = BaseError;

    fn from_str(text: &str) -> Result<Self, BaseError> {
        let (number, hash) = match text.split_once(':') {
            Some((number, hash)) => (number, Some(hash.parse::<B256>().map_err(BaseError::Hash)?)),
            None => (text, None),
        };
        Ok(Self(Base { number: number.parse().map_err(BaseError::Number)?, hash }))
    }
}

/// Where a static peer is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StaticPeer(pub(super) Multiaddr);

impl FromStr for StaticPeer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        let given = || text.into();
        if text.starts_with("enr:") || text.starts_with("enode:") {
            return Err(PeerError::Bootnode { given: given() });
        }
        let address: Multiaddr = text.parse().map_err(|_| PeerError::Multiaddr { given: given() })?;
        let is_dialled = address.protocol_stack().any(|part| matches!(part, "tcp" | "quic-v1"));
        if is_dialled { Ok(Self(address)) } else { Err(PeerError::Port { given: given() }) }
    }
}

/// How fast a peer may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PeerRateLimit {
    pub(super) peer: PeerId,
    pub(super) requests: NonZeroUsize,
    pub(super) window: Duration,
}

impl FromStr for PeerRateLimit {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError::Form { given: text.into() };
        let (peer, rate) = text.split_once('=').ok_or_else(wrong)?;
        let (requests, seconds) = rate.split_once('/').ok_or_else(wrong)?;
        let requests = requests.trim().parse().map_err(|_| wrong())?;
        let seconds: NonZeroU32 = seconds.trim().parse().map_err(|_| wrong())?;
        let peer = peer.trim().parse().map_err(|_| RateError::Peer { given: peer.trim().into() })?;
        Ok(Self { peer, requests, window: Duration::from_secs(seconds.get().into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_peer_is_an_address_that_can_be_dialled() {
        let peer = |text: &str| text.parse::<StaticPeer>();
        for good in ["/ip4/10.0.0.7/tcp/9222", "/dns4/a.example/tcp/1", "/ip6/::1/udp/1/quic-v1"] {
            assert_eq!(peer(good).unwrap().0.to_string(), good);
        }
        for (bad, words) in [
            ("10.0.0.7:9222", "`10.0.0.7:9222`"),
            ("/ip4/10.0.0.7", "no /tcp/"),
            ("/ip4/10.0.0.7/udp/9222", "no /tcp/"),
            ("enode://00@1.2.3.4:1", "--p2p.bootnodes"),
        ] {
            let error = peer(bad).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_rate_limit_names_a_peer_requests_and_seconds() {
        let peer = PeerId::random();
        let (requests, window) = (NonZeroUsize::new(100).unwrap(), Duration::from_secs(10));
        let read = |text: String| text.parse::<PeerRateLimit>();
        assert_eq!(read(format!("{peer}=100/10")).unwrap(), PeerRateLimit { peer, requests, window });
        for bad in [format!("{peer}"), format!("{peer}=100"), format!("{peer}=0/10"), format!("{peer}=1/0")] {
            assert!(matches!(read(bad), Err(RateError::Form { .. })));
        }
        assert!(matches!(read("peer=1/1".into()), Err(RateError::Peer { .. })));
    }

    #[test]
    fn a_base_is_a_number_and_maybe_a_hash() {
        assert_eq!("7".parse::<BaseArg>().unwrap().0, Base::at(7));
        let hash = B256::repeat_byte(3);
        assert_eq!(format!("7:{hash}").parse::<BaseArg>().unwrap().0, Base { number: 7, hash: Some(hash) });
        assert!(matches!("".parse::<BaseArg>(), Err(BaseError::Number(_))));
        assert!(matches!("-1".parse::<BaseArg>(), Err(BaseError::Number(_))));
        assert!(matches!("7:0x12".parse::<BaseArg>(), Err(BaseError::Hash(_))));
    }
}
