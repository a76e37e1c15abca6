//! The options of `devnet`.

use std::{net::SocketAddr, num::NonZeroU64, time::Duration};

use clap::{Args, ValueEnum};
use preconfirmation_p2p::{Keypair, NetworkConfig};

use super::error::DevnetError;

/// Runs a whole network in this process: full nodes on loopback that take turns as preconfers, one that joins
/// late, and one that lies, or more of these. Exits with 0 only if every honest node ends on the same head with every
/// commitment and transaction list, and nothing of a liar's was accepted.
#[derive(Debug, Clone, Args)]
pub(crate) struct DevnetArgs {
    /// Full nodes; the last of them joins when half of the blocks are there. The liar is one more.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=1000))]
    pub(crate) nodes: u64,

    /// How nodes are connected: over loopback, or by channels of this process, which need no descriptors and no ports.
    #[arg(long, value_enum, default_value_t = Transport::Tcp, conflicts_with = "listen")]
    pub(crate) transport: Transport,

    /// More liars beside the one that is elected.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1000))]
    pub(crate) hostile: u64,

    /// Silent peers around the node that joins late, four of them for each honest peer that it dials: they take everything
    /// and pass on nothing.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=32))]
    pub(crate) sybils: u64,

    /// Blocks to preconfirm.
    #[arg(long, default_value_t = NonZeroU64::new(20).unwrap_or(NonZeroU64::MIN))]
    pub(crate) blocks: NonZeroU64,

    /// Seconds from one block to the next (the slot): block times are whole seconds and must grow.
    #[arg(long, value_name = "SECONDS", default_value_t = NonZeroU64::MIN)]
    pub(crate) block_time: NonZeroU64,

    /// Seconds of a submission window, the turn of one preconfer.
    #[arg(long, value_name = "SECONDS", default_value_t = NonZeroU64::new(4).unwrap_or(NonZeroU64::MIN))]
    pub(crate) window: NonZeroU64,

    /// Bytes of a compressed transaction list, about.
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(512..=2_097_152))]
    pub(crate) txlist_bytes: u64,

    /// Seeds keys, transactions and choices.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// L2 chain id: part of every topic and protocol id.
    #[arg(long, default_value_t = 167_000)]
    pub(crate) chain_id: u64,

    /// Puts the first node on this address, so that a peer of another process can join; port 0 takes a free
    /// one. The line `join` is the command for it.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,

    /// Seconds to keep the network up after the last block.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) hold: u64,

    /// Ends with one JSON object on the last line of stdout instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How the nodes of a devnet are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP on loopback.
    Tcp,
    /// Channels.
    Memory,
}

impl Transport {
    /// The network of a node that connects to nobody by itself.
    pub(crate) fn network(self, chain_id: u64, identity: Keypair) -> NetworkConfig {
        match self {
            Self::Tcp => NetworkConfig::local(chain_id, identity),
            Self::Memory => NetworkConfig::in_memory(chain_id, identity),
        }
    }
}

impl DevnetArgs {
    /// How long the nodes may take to agree after the last block.
    pub(crate) const CONVERGENCE: Duration = Duration::from_secs(60);

    /// How long they may take to agree after an interrupt.
    pub(crate) const AFTER_INTERRUPT: Duration = Duration::from_secs(5);

    pub(crate) fn nodes(&self) -> usize {
        usize::try_from(self.nodes).unwrap_or(2)
    }

    pub(crate) fn txlist_bytes(&self) -> usize {
        usize::try_from(self.txlist_bytes).unwrap_or(512)
    }

    /// Whether the turns are long enough to make a block in.
    pub(crate) fn check(&self) -> Result<(), DevnetError> {
        if self.window < self.block_time {
            return Err(DevnetError::Window { window: self.window, block_time: self.block_time });
        }
        Ok(())
    }
}
