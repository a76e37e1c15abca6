//! What fork choice compares: blocks, the reach of their subtrees, and the rank of siblings.

use std::cmp::Reverse;

use p2p_types::{Address, B256, BlockNumber, U256};

use crate::StoredCommitment;

/// What fork choice knows of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) hash: B256,
    pub(crate) parent: B256,
    pub(crate) block: BlockNumber,
    pub(crate) signer: Address,
    /// The end of its submission window, in seconds.
    pub(crate) window: u64,
    /// Its time, in seconds.
    pub(crate) timestamp: u64,
    /// Its anchor on L1.
    pub(crate) anchor: BlockNumber,
    /// L1 has replaced its anchor: it is canonical only as an ancestor of a block without this flag.
    pub(crate) withdrawn: bool,
}

impl Node {
    pub(crate) fn new(stored: &StoredCommitment, withdrawn: bool) -> Self {
        let preconf = stored.recovered.signed().preconf();
        // Validation has checked that these fit 64 bits.
        let number = |value: U256| u64::try_from(value).unwrap_or(u64::MAX);
        Self {
            hash: stored.hash(),
            parent: stored.parent,
            block: stored.block,
            signer: stored.recovered.signer(),
            window: number(preconf.submission_window_end),
            timestamp: number(preconf.timestamp),
            anchor: number(preconf.anchor_block_number),
            withdrawn,
        }
    }
}

/// How far a subtree reaches: its deepest turn, counted from the base, and its highest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) turn: u64,
    pub(super) block: BlockNumber,
}

impl Reach {
    pub(super) fn max(self, other: Option<Self>) -> Self {
        other.map_or(self, |other| Self {
            turn: self.turn.max(other.turn),
            block: self.block.max(other.block),
        })
    }

    pub(super) fn union(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.map_or(other, |one| Some(one.max(other)))
    }
}

/// The order of siblings; the greatest is canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    turns: u64,
    window: u64,
    highest: BlockNumber,
    timestamp: u64,
    hash: Reverse<B256>,
}

impl Rank {
    pub(super) fn new(node: &Node, turn: u64, reach: Reach) -> Self {
        Self {
            turns: reach.turn.saturating_sub(turn).saturating_add(1),
            window: node.window,
            highest: reach.block,
            timestamp: node.timestamp,
            hash: Reverse(node.hash),
        }
    }
}

/// The reach of a block alone; none if it is withdrawn.
pub(super) fn own_reach(node: &Node, turn: u64) -> Option<Reach> {
    (!node.withdrawn).then_some(Reach { turn, block: node.block })
}
