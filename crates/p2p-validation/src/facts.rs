//! The facts that the caller brings to validation.

use p2p_types::{Base, BlockNumber, Preconfirmation, UnixSeconds};

/// When and how a commitment arrived, by the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// By gossip or from the application: it can be late.
    Live(UnixSeconds),
    /// In a page of catch-up.
    History(UnixSeconds),
}

impl Arrival {
    /// The moment, by the caller's clock.
    #[must_use]
    pub const fn now(self) -> UnixSeconds {
        let (Self::Live(now) | Self::History(now)) = self;
        now
    }
}

/// A block that a commitment may build on.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Its height.
    pub block: BlockNumber,
    /// Its parameters.
    pub preconf: &'a Preconfirmation,
}

/// What the caller knows of the chain around one commitment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The base.
    pub base: Base,
    /// The known commitment whose hash is the commitment's parent hash.
    pub parent: Option<Parent<'a>>,
    /// The canonical block at the height before, whatever its hash. [`ZeroParent::FollowsHeight`](crate::ZeroParent::FollowsHeight) looks at it, and
    /// so does the first block above a base whose hash is not known: where the chain has a block there, it must be that
    /// one.
    pub before: Option<Parent<'a>>,
}
