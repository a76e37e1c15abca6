//! The options of `run`, under the names that operators know from other rollup nodes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::Args;
use p2p_types::{Address, B256, Base, SigningDomain};
use preconfirmation_p2p::{Bootnode, Multiaddr};

use super::{error::BaseError, lookahead::LookaheadSource};
use crate::domain::Domain;

/// Run a node: follow the network, keep what is valid, serve it to others
///
/// Every event is one JSON object a line on stdout, logs and progress go to stderr. Ctrl-C and SIGTERM shut the
/// node down in an orderly way, with exit code 0. So does a stdout that its reader has closed.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 after Ctrl-C, SIGTERM or a closed stdout, 1 if the node failed, 2 for a bad command line.

Examples:
  p2p-node run --slasher 0x… --lookahead rotating:schedule.json --base 1000000 \\
      --p2p.static /ip4/10.0.0.7/tcp/9222/p2p/12D3… --datadir ./data --status.addr 127.0.0.1:8080
  p2p-node devnet --listen 127.0.0.1:9222 --hold 60     prints the command that joins it")]
pub(crate) struct RunArgs {
    /// L2 chain id: part of every topic and protocol id
    #[arg(long, value_name = "N", default_value_t = 167_000)]
    pub(super) chain_id: u64,

    /// The chain's signing domain, 32 bytes, under which commitments are signed
    #[arg(long, value_name = "HEX", default_value_t = Domain(SigningDomain::PLACEHOLDER))]
    pub(super) domain: Domain,

    /// The chain's slasher contract, which every commitment has to name
    #[arg(long, value_name = "ADDRESS")]
    pub(super) slasher: Address,

    /// Who may sign when: `open`, `file:PATH` or `rotating:PATH`
    ///
    /// `file:PATH` is a JSON array of slots {"signer": "0x…", "start": 1, "end": 12}, in unix seconds, both of
    /// which belong to the window. `rotating:PATH` is {"genesis": 1, "window": 12, "operators": ["0x…", …]}, who
    /// take turns of `window` seconds from `genesis` on. `open` ACCEPTS ANY SIGNER: for laboratories only.
    #[arg(long, value_name = "SOURCE")]
    pub(super) lookahead: LookaheadSource,

    /// The L2 block that the contracts have settled: BLOCK, or BLOCK:HASH with its preconfirmation hash
    ///
    /// Catching up starts above it. Without it the node goes on from the base in its --datadir; where there is
    /// none either, it forwards what is authentic but stores and shows nothing.
    #[arg(long, value_name = "BLOCK[:HASH]")]
    pub(super) base: Option<BaseArg>,

    /// Directory for the store and the node's key; without it everything is in memory
    #[arg(long, value_name = "PATH")]
    pub(super) datadir: Option<PathBuf>,

    /// IP address to listen on
    #[arg(long = "p2p.listen.ip", value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub(super) listen_ip: IpAddr,

    /// TCP port to listen on; 0 takes a free one, which the first line on stdout tells
    #[arg(long = "p2p.listen.tcp", value_name = "PORT", default_value_t = 9222)]
    pub(super) listen_tcp: u16,

    /// File with the key that the node is known by; made where there is none
    ///
    /// 64 hexadecimal digits, a secp256k1 secret. Without it the key is `p2p.key` in --datadir, or a new one at each
    /// start.
    #[arg(long = "p2p.priv.path", value_name = "FILE")]
    pub(super) priv_path: Option<PathBuf>,

    /// A peer to stay connected to, /ip4/…/tcp/…/p2p/…; may be repeated
    #[arg(long = "p2p.static", value_name = "MULTIADDR")]
    pub(super) static_peers: Vec<Multiaddr>,

    /// Nodes to find others through, as enr:…, enode://… or multiaddr; may be repeated, or separated by commas
    ///
    /// Any turns discovery (discv5) on; without, and without --p2p.listen.udp, peers are dialled by address alone.
    #[arg(long = "p2p.bootnodes", value_name = "NODE", value_delimiter = ',')]
    pub(super) bootnodes: Vec<Bootnode>,

    /// UDP port of discovery; 0 takes a free one; 9222 where there are bootnodes
    ///
    /// Turns discovery on: the first line on stdout tells the node's record (ENR), others' bootnode.
    #[arg(long = "p2p.listen.udp", value_name = "PORT")]
    pub(super) listen_udp: Option<u16>,

    /// Serve metrics for Prometheus on http://ADDR/metrics
    #[arg(long = "metrics.addr", value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,

    /// Serve the node's status as JSON on http://ADDR/status, and /healthz
    #[arg(long = "status.addr", value_name = "ADDR:PORT")]
    pub(super) status: Option<SocketAddr>,

    /// Publish these blocks, in order: a JSON object a line, {"commitment": hex SSZ, "txlist": hex}
    ///
    /// A handover without a block has no `txlist`. What was published before is skipped. The first line that
    /// cannot be published ends the node with exit code 1.
    #[arg(long, value_name = "FILE")]
    pub(super) publish: Option<PathBuf>,
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

#[cfg(test)]
mod tests {
    use super::*;

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
