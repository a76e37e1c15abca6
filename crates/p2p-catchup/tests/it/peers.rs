//! Peers of all kinds, and the blocks that they have.

use std::sync::OnceLock;

use p2p_catchup::{Failure, Reply, Request};
use p2p_types::{B256, BlockNumber, Offence};
use p2p_validation::Authenticated;

use crate::chain::{self, Signer};

/// Who answers how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Honest,
    /// Claims more than there is and has nothing.
    EmptyPager,
    /// Claims the highest number there is.
    FarFuture,
    /// Has all commitments and no transaction list.
    Withholder,
    /// Gives one commitment a page.
    Truncator,
    /// Gives pages with bad signatures, and wrong transaction lists.
    Liar,
    /// Gives another chain, by somebody who was not elected.
    Unelected,
    /// Says its head and nothing else.
    SlowLoris,
    /// Comes and goes, claims much and gives little.
    Flapper,
    /// Honest, as deployed peers are: its head counts handovers, and its pages have gaps and handovers in place of blocks.
    Deployed,
    /// Gives the other side of a fork that an elected preconfer signed near the end.
    Equivocator,
}

pub(crate) const ADVERSARIES: [Kind; 10] = [
    Kind::EmptyPager,
    Kind::FarFuture,
    Kind::Withholder,
    Kind::Truncator,
    Kind::Liar,
    Kind::Unelected,
    Kind::SlowLoris,
    Kind::Flapper,
    Kind::Deployed,
    Kind::Equivocator,
];

/// Blocks of the true chain.
pub(crate) const LENGTH: usize = 40;

impl Kind {
    /// What it answers when there are so many blocks; none if it does not.
    pub(crate) fn answer(self, request: Request, blocks_made: usize) -> Option<Reply> {
        let height = blocks_made as u64;
        let truth = &blocks().truth[..blocks_made];
        Some(match (request, self) {
            (Request::Head, Self::FarFuture | Self::Flapper) => Reply::Head { block: u64::MAX },
            (Request::Head, Self::EmptyPager | Self::Liar | Self::Unelected | Self::SlowLoris) => {
                Reply::Head { block: height + 3 }
            }
            (Request::Head, Self::Deployed) => Reply::Head { block: height + 1 },
            (Request::Head, _) => Reply::Head { block: height },
            (_, Self::SlowLoris) => return None,
            (Request::Page { .. }, Self::EmptyPager | Self::FarFuture) => Reply::Page(Vec::new()),
            (Request::Page { from, .. }, Self::Truncator | Self::Flapper) => {
                Reply::Page(slice(truth, from, 1))
            }
            (Request::Page { .. }, Self::Liar) => Reply::Failed(Failure::Misbehaved(Offence::BadSignature)),
            (Request::Page { from, count }, Self::Unelected) => {
                Reply::Page(slice(&blocks().lies, from, count.get().into()))
            }
            (Request::Page { from, count }, Self::Equivocator) if height > 3 => {
                let fork = blocks_made - 3;
                let other = [&truth[..fork], &blocks().forks[fork]].concat();
                Reply::Page(slice(&other, from, count.get().into()))
            }
            (Request::Page { from, count }, Self::Deployed) => {
                Reply::Page(deployed(truth, from, count.get().into()))
            }
            (Request::Page { from, count }, _) => Reply::Page(slice(truth, from, count.get().into())),
            (
                Request::TxList { hash },
                Self::Honest | Self::Truncator | Self::Equivocator | Self::Deployed,
            ) => {
                let found = truth.iter().find(|block| block.txlist_hash() == Some(hash));
                found.map_or(Reply::TxListNotFound, |block| Reply::TxList(chain::txlist(block.block())))
            }
            (Request::TxList { .. }, Self::Liar) => Reply::TxList(chain::txlist(999)),
            (Request::TxList { .. }, _) => Reply::TxListNotFound,
        })
    }
}

/// What is and what is not true, made once.
pub(crate) struct Blocks {
    pub(crate) truth: Vec<Authenticated>,
    lies: Vec<Authenticated>,
    /// For each height a pair that leaves the truth there.
    pub(crate) forks: Vec<Vec<Authenticated>>,
    /// For each height a handover that declines it.
    handovers: Vec<Authenticated>,
}

pub(crate) fn blocks() -> &'static Blocks {
    static BLOCKS: OnceLock<Blocks> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let signer = Signer::new(7);
        let truth = chain::blocks(1, LENGTH as u64);
        let forks =
            truth.iter().map(|block| signer.chain(block.block(), block.block() + 1, block.parent_hash(), 1));
        Blocks {
            forks: forks.collect(),
            handovers: (0..=LENGTH as u64).map(|below| signer.handover(below + 1, B256::ZERO)).collect(),
            lies: Signer::new(8).chain(1, LENGTH as u64 + 10, B256::ZERO, 2),
            truth,
        }
    })
}

fn slice(blocks: &[Authenticated], from: BlockNumber, count: u64) -> Vec<Authenticated> {
    let end = from.saturating_add(count);
    blocks.iter().filter(|block| block.block() >= from && block.block() < end).cloned().collect()
}

/// As deployed peers answer: without every fifth block, with a handover in place of every seventh, and with one that comes
/// after the last.
fn deployed(truth: &[Authenticated], from: BlockNumber, count: u64) -> Vec<Authenticated> {
    let handovers = &blocks().handovers;
    let end = truth.len() as u64 + 1;
    let kept = (from..=end).filter(|block| block % 5 != 0 || *block == end);
    let items = kept.take(count as usize).filter_map(|block| {
        let index = block.checked_sub(1)? as usize;
        if block % 7 == 0 || block == end { handovers.get(index) } else { truth.get(index) }
    });
    items.cloned().collect()
}
