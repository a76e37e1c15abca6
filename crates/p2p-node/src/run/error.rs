//! Errors of `run`. Each message names the option, its value and what to do.

use std::{error::Error, io, net::IpAddr, num::ParseIntError, path::PathBuf, time::Duration};

use alloy_primitives::hex::FromHexError;
use p2p_client::{P2pClientError, preconfer::ProposeError};
use p2p_lookahead::L1Error;
use p2p_storage::StorageError;
use p2p_types::{HeadSyncStatus, UnixSeconds};
use p2p_validation::ScheduleFileError;
use preconfirmation_p2p::identity::IdentityError;
use preconfirmation_types::DecodeError;

use super::{blocks::BlockFileError, guard::GuardError, preset::PresetError, signing::KeystoreError};
use crate::hexadecimal::HexError;

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The file of a network cannot be read.
    #[error("--network {network}: {source}")]
    Network {
        /// Its name.
        network: String,
        /// Why.
        source: PresetError,
    },
    /// What has no value unless somebody says so.
    #[error(
        "--network {network} has no {}: give it with {option}, or {option} {placeholder} if its peers use none",
        option.trim_start_matches('-')
    )]
    Unnamed {
        /// The network.
        network: String,
        /// The option.
        option: &'static str,
        /// The value that says so.
        placeholder: &'static str,
    },
    /// L1 without its contracts.
    #[error("--lookahead l1: needs --network, which says where L1's contracts are")]
    NoNetwork,
    /// L1 for nothing.
    #[error(
        "--l1.rpc: --lookahead {lookahead} does not come from L1; give --lookahead l1 or leave out --l1.rpc"
    )]
    NotFromL1 {
        /// The schedule's source.
        lookahead: String,
    },
    /// There is no signing guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// L1 cannot be followed.
    #[error("--l1.rpc: {0}")]
    L1Config(#[source] p2p_lookahead::ConfigError),
    /// L2 cannot be followed.
    #[error("--l2.rpc: {0}")]
    L2Config(#[source] p2p_lookahead::ConfigError),
    /// L1 tells no schedule.
    #[error("--network: {0}; check the chain and the contract in it")]
    L1(#[source] L1Error),
    /// The schedule cannot be read.
    #[error("--lookahead {kind}:{}: {source}{}", path.display(), unreadable(.source))]
    Lookahead {
        /// `file` or `rotating`.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ScheduleFileError,
    },
    /// The schedule's times are of another unit.
    #[error(
        "--lookahead {kind}:{}: {field} is {value}, which looks like milliseconds; write it in unix seconds",
        path.display()
    )]
    NotSeconds {
        /// `file` or `rotating`.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// Where in it.
        field: String,
        /// What it says.
        value: UnixSeconds,
    },
    /// A restart would forget what was published.
    #[error(
        "--publish: without --datadir a restart forgets what was published, and a signer that contradicts itself loses its stake; set --datadir, or accept it with --forget-on-restart"
    )]
    Forgetful,
    /// A file cannot be read in time.
    #[error(
        "{option}: cannot be read within {} s; if it is a pipe, nobody writes into it or keeps it open",
        limit.as_secs()
    )]
    TimedOut {
        /// The option.
        option: &'static str,
        /// How long reading may take.
        limit: Duration,
    },
    /// The store cannot be opened.
    #[error("--datadir {}: {source}; {}", path.display(), repair(.source))]
    Datadir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StorageError,
    },
    /// The network's files cannot be kept there.
    #[error("{option} {}: {source}; {}", path.display(), advice(.source))]
    NetworkDir {
        /// The option that names it.
        option: &'static str,
        /// The directory in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node's key cannot be read or made.
    #[error("{option}: {}", reasons(.source))]
    Identity {
        /// The option that names the file.
        option: &'static str,
        /// Why, and which file.
        source: IdentityError,
    },
    /// Discovery signs with keys of one kind.
    #[error(
        "{option}: the key is ed25519, and discovery needs a secp256k1 key; choose another file, or run without --p2p.bootnodes and --p2p.listen.udp"
    )]
    KeyType {
        /// The option that names the file.
        option: &'static str,
    },
    /// A setting of the network that cannot work, in the words of its option.
    #[error("{0}")]
    Setting(String),
    /// An address cannot be bound.
    #[error("{option} {value}: {source}; {}", advice(.source))]
    Bind {
        /// The option.
        option: &'static str,
        /// Its value, and what else says where.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// An advertised address without a port.
    #[error(
        "--p2p.advertise.ip {ip}: with --p2p.listen.tcp 0 the port is not known; give --p2p.advertise.tcp as well"
    )]
    AdvertisedPort {
        /// Its value.
        ip: IpAddr,
    },
    /// An advertised address that nobody can dial.
    #[error(
        "--p2p.advertise.ip {ip}: nobody can dial this address; give the one at which others reach this node"
    )]
    AdvertisedIp {
        /// Its value.
        ip: IpAddr,
    },
    /// The secret of callers of JSON-RPC cannot be read or made.
    #[error("--rpc.jwt-secret: {}", reasons(.0))]
    JwtSecret(#[source] p2p_rpc::SecretError),
    /// JSON-RPC cannot be served.
    #[error("--rpc.addr: {0}: --rpc.jwt-secret FILE, or --datadir for a secret in it")]
    Rpc(#[source] p2p_rpc::RpcError),
    /// Spans cannot be sent.
    #[error("--otlp.endpoint: {0}")]
    Collector(String),
    /// Metrics cannot be recorded, because something else records them.
    #[error("--metrics.addr: another recorder is installed in this process")]
    Recorder,
    /// Blocks cannot be published.
    #[error("--publish {}{}: {source}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Publish {
        /// The file.
        path: PathBuf,
        /// The line, from 1, if the file could be opened.
        line: Option<u64>,
        /// Why.
        source: Box<PublishError>,
    },
    /// There is no key to sign with.
    #[error("{}", reasons(.0))]
    Keystore(#[from] KeystoreError),
    /// A block cannot be read.
    #[error("--blocks {}: {source}", path.display())]
    Block {
        /// The file, or the directory.
        path: PathBuf,
        /// Why.
        source: BlockFileError,
    },
    /// A block cannot be published.
    #[error("--blocks {}: {source}", path.display())]
    Proposal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<ProposeError>,
    },
    /// The client failed.
    #[error("{}", reasons(.0))]
    Client(#[from] P2pClientError),
    /// stdout failed, other than by being closed.
    #[error("writing stdout: {0}")]
    Output(#[source] io::Error),
    /// Two signals: whoever sent them does not wait.
    #[error("stopped by a second signal before the shutdown was over; what was acknowledged is stored")]
    Forced,
    /// A signal came before the node had caught up.
    #[error("stopped before it had caught up: {status}")]
    NotSynced {
        /// Where it stood.
        status: HeadSyncStatus,
    },
    /// What is caught up on has to be kept.
    #[error("sync needs --datadir, where what is caught up on is kept")]
    SyncInMemory,
    /// What is signed has to be remembered.
    #[error(
        "preconfer needs --datadir, where what was signed is remembered: a signer that contradicts itself after a restart loses its stake; or accept that with --forget-on-restart"
    )]
    PreconferInMemory,
    /// A task of this process died.
    #[error("a part of the node died: {0}")]
    Died(&'static str),
}

/// An error with all that caused it, as far as it does not say so itself.
fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

/// What to do about what the system says of an address or a file.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "something listens there already: stop it, or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "this is no address of this host: choose one that is, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not: choose a port from 1024 on or a file of its own, or grant it the right"
        }
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::StorageFull => "make room, or choose another directory",
        _ => "choose another",
    }
}

/// What to do about a schedule that cannot be read.
fn unreadable(error: &ScheduleFileError) -> &'static str {
    match error {
        ScheduleFileError::Read(error) => match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; let this user read it (chmod, chown, or the group of the mount)"
            }
            io::ErrorKind::IsADirectory => "; name the file in it",
            _ => "; check the path",
        },
        _ => "",
    }
}

/// What to do about a store that cannot be opened.
const fn repair(error: &StorageError) -> &'static str {
    match error {
        StorageError::Locked { .. } => "stop that node, or choose another directory",
        StorageError::OtherDomain { .. } => "choose another directory, or give that --domain",
        StorageError::UnknownSchema { .. } => "run that version, or choose another directory",
        StorageError::Corrupt { .. } => "move it away and catch up anew; `db verify` tells what is wrong",
        StorageError::NoSpace => "make room, or choose another directory",
        _ => "let this user write there, or choose another directory",
    }
}

/// Why a line was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The file cannot be read.
    #[error("cannot read it: {reason}; {}", advice(.0), reason = .0)]
    Read(#[from] io::Error),
    /// Longer than the largest block there is.
    #[error("more than {limit} characters, longer than any block")]
    TooLong {
        /// Most characters.
        limit: usize,
    },
    /// Not the object that a line is.
    #[error("not {{\"commitment\": hex, \"txlist\": hex}}: {0}")]
    Json(#[from] serde_json::Error),
    /// A field is not hex.
    #[error("{field}: {source}")]
    Hex {
        /// The field.
        field: &'static str,
        /// Why.
        source: HexError,
    },
    /// The commitment does not decode.
    #[error("commitment: {0}")]
    Commitment(#[from] DecodeError),
    /// The client refuses it, or failed.
    #[error(transparent)]
    Client(#[from] P2pClientError),
}

/// Why an option names no lookahead.
#[derive(Debug, thiserror::Error)]
#[error("must be `l1`, `open`, `file:PATH` or `rotating:PATH`")]
pub(crate) struct LookaheadError;

/// Why an option names no base.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// The number.
    #[error("the block must be a decimal number: {0}")]
    Number(#[source] ParseIntError),
    /// The hash.
    #[error("the hash behind the colon must be 32 bytes of hex: {0}")]
    Hash(#[source] FromHexError),
}

/// Why an option names no peer to dial.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// It cannot be parsed.
    #[error("`{given}` is no multiaddr, such as /ip4/10.0.0.7/tcp/9222/p2p/12D3…")]
    Multiaddr {
        /// The text.
        given: Box<str>,
    },
    /// Nothing says where to connect to.
    #[error("`{given}` has no /tcp/PORT and no /udp/PORT/quic-v1 to dial")]
    Port {
        /// The text.
        given: Box<str>,
    },
    /// What only discovery understands.
    #[error("`{given}` is for --p2p.bootnodes; a static peer is a multiaddr, /ip4/…/tcp/…/p2p/…")]
    Bootnode {
        /// The text.
        given: Box<str>,
    },
}

/// Why an option names no rate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RateError {
    /// Another form.
    #[error("`{given}` is not PEER=N/S: N requests in S seconds, both above zero, such as 12D3…=100/10")]
    Form {
        /// The text.
        given: Box<str>,
    },
    /// The peer.
    #[error("`{given}` is no peer id, such as 12D3… or 16Uiu2…")]
    Peer {
        /// The text.
        given: Box<str>,
    },
}
