//! `p2p-node keygen`, `peer-id` and `enr`: the key that a node is known by, and what others are told of it.

use std::{
    error::Error as _,
    net::IpAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use clap::Args;
use preconfirmation_p2p::{
    DiscoveryConfig, DiscoveryError, Keypair, Multiaddr, NetworkConfig,
    identity::{self, IdentityError},
};

/// Make a key for --p2p.priv.path and show its peer id
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The file, which must not exist: 64 hexadecimal digits, readable by its owner only
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

/// Show the peer id of a key file
#[derive(Debug, Args)]
pub(crate) struct PeerIdArgs {
    /// The key file; `/dev/stdin` reads it from stdin
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

/// Show the record (ENR) of a key file's node at an address, for others' --p2p.bootnodes
///
/// Of a node that has run, `network/enr` in its --datadir is the record that it last had.
#[derive(Debug, Args)]
pub(crate) struct EnrArgs {
    /// The key file; `/dev/stdin` reads it from stdin
    #[arg(value_name = "FILE")]
    path: PathBuf,

    /// IP address at which others reach the node
    #[arg(long, value_name = "IP")]
    ip: IpAddr,

    /// UDP port of discovery there
    #[arg(long, value_name = "PORT", default_value = "9222")]
    udp: NonZeroU16,

    /// TCP port there
    #[arg(long, value_name = "PORT", default_value = "9222")]
    tcp: NonZeroU16,

    /// UDP port of QUIC there, if the node listens on one
    #[arg(long, value_name = "PORT")]
    quic: Option<NonZeroU16>,

    /// Chain id in the record, as the node's --p2p.chain-id
    #[arg(long = "p2p.chain-id", value_name = "N", default_value_t = p2p_client::MAINNET_CHAIN_ID)]
    chain_id: u64,
}

/// Makes a key file. What is there already stays.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn keygen(args: &KeygenArgs) -> Result<String, KeyError> {
    let made = identity::create(&args.path)?;
    let key = made.ok_or_else(|| KeyError::Exists { path: args.path.clone() })?;
    Ok(peer_id_of(&key))
}

/// The peer id of a key file.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn peer_id(args: &PeerIdArgs) -> Result<String, KeyError> {
    Ok(peer_id_of(&read(&args.path)?))
}

/// The record of a key file's node.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn enr(args: &EnrArgs) -> Result<String, KeyError> {
    if args.ip.is_unspecified() || args.ip.is_multicast() {
        return Err(KeyError::Ip { ip: args.ip });
    }
    let mut config = NetworkConfig::new(args.chain_id, read(&args.path)?);
    config.discovery = Some(DiscoveryConfig::new((args.ip, args.udp.get()).into()));
    let family = if args.ip.is_ipv4() { "ip4" } else { "ip6" };
    let quic = args.quic.map(|port| format!("/udp/{port}/quic-v1"));
    let ports = [Some(format!("/tcp/{}", args.tcp)), quic];
    let addresses = ports.iter().flatten().map(|port| format!("/{family}/{}{port}", args.ip));
    config.advertise = addresses.filter_map(|address| address.parse::<Multiaddr>().ok()).collect();
    Ok(preconfirmation_p2p::first_enr(&config)?)
}

fn read(path: &Path) -> Result<Keypair, KeyError> {
    identity::load(path)?.ok_or_else(|| KeyError::Missing { path: path.to_owned() })
}

fn peer_id_of(key: &Keypair) -> String {
    key.public().to_peer_id().to_string()
}

/// Why there is nothing to show of a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file cannot be read or made.
    #[error("{}", reasons(.0))]
    Identity(#[from] IdentityError),
    /// There is no file.
    #[error("there is no key file {}; `p2p-node keygen` makes one", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is a file.
    #[error("{} exists already and is kept: choose another path", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// An address that nobody can dial.
    #[error("--ip {ip}: nobody can dial this address; give the one at which others reach the node")]
    Ip {
        /// Its value.
        ip: IpAddr,
    },
    /// The key signs no records.
    #[error("{0}: discovery needs a secp256k1 key, not an ed25519 one")]
    Record(#[from] DiscoveryError),
}

fn reasons(error: &IdentityError) -> String {
    let source = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
