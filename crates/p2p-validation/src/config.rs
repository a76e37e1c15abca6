//! What the rules take from the chain's configuration, and what an operator may loosen.

use std::{fmt, time::Duration};

use p2p_types::{Address, SigningDomain};

/// What to do with a commitment that names no parent at all. The protocol links every block by its parent's
/// hash; some deployed sidecars send zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZeroParent {
    /// It waits for a parent that cannot come, like any other with an unknown parent.
    #[default]
    Unknown,
    /// It follows whatever block is known at the height before: order by height, without linkage. An
    /// operator's explicit choice, shown in the status.
    FollowsHeight,
}

/// A rule that the operator has loosened. There is no way to do so that does not show here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Leniency {
    /// [`ZeroParent::FollowsHeight`].
    ZeroParentFollowsHeight,
    /// A lookahead that [elects anyone](crate::Lookahead::elects_anyone).
    AnySigner,
    /// Invalid gossip is ignored instead of penalised (`gossipsub_validation_soft_fail`). The client's to
    /// loosen: the rules judge as ever.
    InvalidGossipIgnored,
}

impl fmt::Display for Leniency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroParentFollowsHeight => "a zero parent hash follows the height, without linkage",
            Self::AnySigner => "ANY SIGNER IS ACCEPTED: for laboratories only",
            Self::InvalidGossipIgnored => "invalid gossip is ignored, not penalised",
        })
    }
}

/// What the rules take from the chain's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidationConfig {
    /// Under which commitments are signed.
    pub domain: SigningDomain,
    /// The chain's slasher.
    pub slasher: Address,
    /// How long after its window's end a commitment may still arrive live (`executor_slot_grace`), in whole
    /// seconds.
    pub executor_slot_grace: Duration,
    /// How far a block's time may be ahead of our clock, in whole seconds. Keeps an elected preconfer from
    /// filling its future windows today.
    pub clock_drift: Duration,
    /// An L1 slot, in whole seconds: a block that is ahead by less than this beyond the drift waits until it is due, one
    /// that is further ahead is ignored.
    pub slot: Duration,
    /// How far the end of a window may be ahead of our clock while its schedule is not known, in whole seconds; what is
    /// further ahead is ignored, as no schedule can be expected to tell.
    pub horizon: Duration,
    /// What a zero parent hash means.
    pub zero_parent: ZeroParent,
    /// Bytes that the tables of elected signers may take: their signatures are verified against these, several times faster
    /// than they are recovered, with the same outcome. A table takes 256 KiB; below that, and without the feature
    /// `known-signers`, every signature is recovered.
    pub signer_tables: usize,
}

impl ValidationConfig {
    /// The rules of the protocol for a chain, with 4 s of grace, 2 s of drift, slots of 12 s, a horizon of two epochs of 32
    /// slots (the end of the next epoch is never further away), and room for the tables of 64 signers.
    #[must_use]
    pub const fn new(domain: SigningDomain, slasher: Address) -> Self {
        Self {
            domain,
            slasher,
            executor_slot_grace: Duration::from_secs(4),
            clock_drift: Duration::from_secs(2),
            slot: Duration::from_secs(12),
            horizon: Duration::from_secs(2 * 32 * 12),
            zero_parent: ZeroParent::Unknown,
            signer_tables: 16 << 20,
        }
    }
}
