//! Why a node cannot start or go on. Each message names the option, its value and what to do.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    num::ParseIntError,
    path::PathBuf,
};

use alloy_primitives::hex::FromHexError;
use p2p_client::P2pClientError;
use p2p_storage::StorageError;
use p2p_validation::{ScheduleError, ScheduleFileError};
use preconfirmation_p2p::identity::IdentityError;
use preconfirmation_types::DecodeError;

use crate::hexadecimal::HexError;

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The schedule cannot be read.
    #[error("--lookahead {kind}:{}: {source}", path.display())]
    Lookahead {
        /// `file` or `rotating`.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ScheduleFileError,
    },
    /// The store cannot be opened.
    #[error("--datadir {}: {source}; choose another directory, or repair this one", path.display())]
    Datadir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StorageError,
    },
    /// An address that libp2p has no words for.
    #[error("--p2p.listen.ip {ip}: cannot listen there; choose an address of this host, or 0.0.0.0 for all")]
    Listen {
        /// Its value.
        ip: IpAddr,
    },
    /// The node's key cannot be read or made.
    #[error("--p2p.priv.path: {source}{}", .source.source().map(|why| format!(": {why}")).unwrap_or_default())]
    Identity {
        /// Why, and which file.
        source: IdentityError,
    },
    /// The endpoint's address cannot be bound.
    #[error("{option} {address}: {source}; choose another address or port")]
    Bind {
        /// The option.
        option: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An endpoint has died.
    #[error("{option}: the endpoint has ended: {source}")]
    Endpoint {
        /// The option.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
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
    /// The client failed.
    #[error(transparent)]
    Client(#[from] P2pClientError),
    /// The system cannot tell of signals.
    #[error("waiting for signals: {0}")]
    Signals(#[source] io::Error),
    /// stdout failed, other than by being closed.
    #[error("writing stdout: {0}")]
    Output(#[source] io::Error),
    /// A task of this process died.
    #[error("a part of the node died: {0}")]
    Died(&'static str),
}

/// Why a line was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
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
#[error("must be `open`, `file:PATH` or `rotating:PATH`")]
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

/// What is wrong with a rotation.
pub(super) fn schedule(error: ScheduleError) -> ScheduleFileError {
    ScheduleFileError::Schedule(error)
}
