//! The options of `db`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use preconfirmation_types::{Address, SigningDomain};

use crate::domain::Domain;

/// Look after a store on disk: count, check, copy, prune
///
/// The store must not be in use: a node that has it open is named in the error. `stats`, `verify` and `export` change
/// nothing, be the store left behind by a crash, or on a read-only file system. Nothing is
/// evicted, whatever limits the node has.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 if all is well, 1 if something is wrong with the store or a line, 2 for a bad command line.

Examples:
  p2p-node db verify data/chain
  p2p-node db export data/chain > chain.jsonl
  p2p-node db import data/copy < chain.jsonl
  p2p-node db prune data/chain --below 120000 && p2p-node db compact data/chain")]
pub(crate) struct DbArgs {
    #[command(subcommand)]
    pub(super) command: DbCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// How much it holds, and where it stands
    Stats(Store),
    /// Read everything and compute it anew: hashes, signatures, links, indexes, counts
    Verify(Store),
    /// Write everything to stdout, one JSON object a line
    Export(Store),
    /// Fill a new store from the lines of an export on stdin
    ///
    /// Every commitment passes the rules that need no schedule: ranges, EOP, signature, slasher, parent, height
    /// and block rules. Who was elected is not known offline and not checked. Lists are checked against their
    /// hash, evidence is verified anew.
    Import(Import),
    /// Remove settled commitments
    Prune(Prune),
    /// Make the database file smaller and remove what a crash has left
    Compact(Store),
}

impl DbCommand {
    /// Which store.
    pub(super) const fn store(&self) -> &Store {
        match self {
            Self::Stats(store) | Self::Verify(store) | Self::Export(store) | Self::Compact(store) => store,
            Self::Import(import) => &import.store,
            Self::Prune(prune) => &prune.store,
        }
    }
}

/// Which store, and how the answer looks.
#[derive(Debug, Args)]
pub(super) struct Store {
    /// The folder of the store
    pub(super) folder: PathBuf,

    /// The chain's signing domain, 32 bytes
    #[arg(long, value_name = "HEX", default_value_t = Domain(SigningDomain::PLACEHOLDER))]
    pub(super) domain: Domain,

    /// Answer with one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    pub(super) store: Store,

    /// The chain's slasher; without, the one that the first commitment names
    #[arg(long, value_name = "ADDRESS")]
    pub(super) slasher: Option<Address>,

    /// Let a commitment that names no parent follow the block before it
    #[arg(long)]
    pub(super) zero_parent_follows_height: bool,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    #[command(flatten)]
    pub(super) store: Store,

    /// Commitments below this height go, as far as they are settled
    #[arg(long, value_name = "BLOCK")]
    pub(super) below: u64,
}
