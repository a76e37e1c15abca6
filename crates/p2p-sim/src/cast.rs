//! Adversaries by name.

use fastrand::Rng;
use serde::Serialize;

use crate::{
    actor::{Adversary, Seat},
    elected, hidden, unstaked,
};

/// What an adversary does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Role {
    UnknownWindows,
    AbsurdHeights,
    InventedParents,
    JunkLists,
    Crowd,
    Mirror,
    Rewriter,
    Splitter,
    HastySplitter,
    LateReleaser,
    BackDater,
    HandoverFlooder,
    NonceFlooder,
    OrphanMaker,
    SiblingFlooder,
    Balancer,
    ListWithholder,
    AfterEop,
    HalfTeller,
    LastSecond,
    HighS,
    Undoer,
}

impl Role {
    /// Those that need no stake.
    pub const UNSTAKED: [Self; 6] = [
        Self::UnknownWindows,
        Self::AbsurdHeights,
        Self::InventedParents,
        Self::JunkLists,
        Self::Crowd,
        Self::Mirror,
    ];

    /// Those of preconfers.
    pub const ELECTED: [Self; 16] = [
        Self::Rewriter,
        Self::Splitter,
        Self::HastySplitter,
        Self::LateReleaser,
        Self::BackDater,
        Self::HandoverFlooder,
        Self::NonceFlooder,
        Self::OrphanMaker,
        Self::SiblingFlooder,
        Self::Balancer,
        Self::ListWithholder,
        Self::AfterEop,
        Self::HalfTeller,
        Self::LastSecond,
        Self::HighS,
        Self::Undoer,
    ];

    /// Whether it is of a preconfer.
    pub fn is_elected(self) -> bool {
        Self::ELECTED.contains(&self)
    }

    pub(crate) fn seated(self, seat: Seat, rng: &mut Rng) -> Box<dyn Adversary> {
        match self {
            Self::UnknownWindows => Box::new(unstaked::UnknownWindows::new(seat, rng)),
            Self::AbsurdHeights => Box::new(unstaked::AbsurdHeights::new(seat, rng)),
            Self::InventedParents => Box::new(unstaked::InventedParents::new(seat, rng)),
            Self::JunkLists => Box::new(unstaked::JunkLists::new(seat, rng)),
            Self::Crowd => Box::new(unstaked::Crowd::new(seat, rng)),
            Self::Mirror => Box::new(unstaked::Mirror::new(seat, rng)),
            Self::Rewriter => Box::new(elected::Rewriter::new(seat, rng)),
            Self::Splitter => Box::new(elected::Splitter::new(seat, rng)),
            Self::HastySplitter => Box::new(elected::Splitter::hasty(seat, rng)),
            Self::LateReleaser => Box::new(elected::LateReleaser::new(seat, rng)),
            Self::BackDater => Box::new(elected::BackDater::new(seat, rng)),
            Self::HandoverFlooder => Box::new(elected::HandoverFlooder::new(seat, rng)),
            Self::NonceFlooder => Box::new(elected::NonceFlooder::new(seat, rng)),
            Self::OrphanMaker => Box::new(elected::OrphanMaker::new(seat, rng)),
            Self::SiblingFlooder => Box::new(elected::SiblingFlooder::new(seat, rng)),
            Self::Balancer => Box::new(elected::Balancer::new(seat, rng)),
            Self::ListWithholder => Box::new(hidden::ListWithholder::new(seat, rng)),
            Self::AfterEop => Box::new(hidden::AfterEop::new(seat, rng)),
            Self::HalfTeller => Box::new(hidden::HalfTeller::new(seat, rng)),
            Self::LastSecond => Box::new(hidden::LastSecond::new(seat, rng)),
            Self::HighS => Box::new(hidden::HighS::new(seat, rng)),
            Self::Undoer => Box::new(hidden::Undoer::new(seat, rng)),
        }
    }
}
