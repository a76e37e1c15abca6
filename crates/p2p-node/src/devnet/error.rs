//! Why a devnet could not be run to its end.

use std::{io, net::SocketAddr, num::NonZeroU64};

use p2p_client::P2pClientError;
use p2p_validation::ScheduleError;
use preconfirmation_p2p::NetworkError;

/// Why a devnet could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevnetError {
    /// The turns are too short to make a block in.
    #[error("--window {window} is shorter than --block-time {block_time}")]
    Window {
        /// Seconds of a window.
        window: NonZeroU64,
        /// Seconds of a block.
        block_time: NonZeroU64,
    },
    /// An address that libp2p has no words for, such as one with an IPv6 zone.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address given.
        address: SocketAddr,
    },
    /// A derived key is not on the curve; another seed has others.
    #[error("the seed gives a key that is none; choose another --seed")]
    Key,
    /// A schedule that cannot be.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The schedule has no more windows.
    #[error("the schedule has no more windows")]
    EndOfTime,
    /// A transaction list could not be compressed.
    #[error("building a transaction list: {0}")]
    TxList(#[source] io::Error),
    /// A node failed.
    #[error(transparent)]
    Client(#[from] P2pClientError),
    /// The liar's network failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Nodes on loopback did not find each other.
    #[error("{node} found no peers")]
    Alone {
        /// Its name.
        node: String,
    },
    /// A task of this process died.
    #[error("an observer died")]
    Observer,
    /// The result could not be written.
    #[error("writing the result: {0}")]
    Output(#[source] io::Error),
}
