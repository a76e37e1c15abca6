//! Ancestor search below the head: for the point where a peer's chain forks from ours, and for the parent of a waiting
//! commitment.
//!
//! A search uses one peer. It steps back, with steps that double, until a page links or the base is reached; then it steps
//! forward, page by page, until the head moves or the peer has served all that it claims. Meanwhile other peers are asked for
//! pages above the head, and a search that takes long yields to another one that waits.

use std::{num::NonZeroU32, time::Instant};

use p2p_types::{Address, B256, BlockNumber, PeerId};
use p2p_validation::Authenticated;

use crate::{
    CatchUpConfig, Request, RequestId,
    chain::Chain,
    context::{Context, Purpose},
    deadlines::{Deadlines, after},
    dismissed::FailedSearches,
    orphans::{OrphanId, Orphans},
    pages::{Page, Prefix},
    protocol_state::Protocol,
};

/// The state of a search's next page.
#[derive(Debug)]
enum Stage {
    AwaitingRequest,
    Requested(RequestId),
    Received(Page),
    Importing,
}

#[derive(Debug)]
struct Search {
    peer: PeerId,
    begun: Instant,
    /// When its last page was requested.
    requested: Instant,
    from: BlockNumber,
    step: BlockNumber,
    /// No page has been received.
    first: bool,
    /// A page has linked: the search steps forward.
    forward: bool,
    /// The orphan whose parent is searched for; none for the fork point of a peer's chain.
    orphan: Option<OrphanId>,
    /// The page that it began with, if that was one above the head that did not link.
    start: Option<Start>,
    /// Whether its peer's claim counted when it began.
    counts: bool,
    stage: Stage,
}

/// A page above the head that does not link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The signer of its first block.
    pub(crate) signer: Address,
    /// The highest block that its peer has served, there or during the search.
    pub(crate) tip: (BlockNumber, B256),
}

impl Search {
    fn new(begun: Instant, peer: PeerId) -> Self {
        Self {
            peer,
            begun,
            requested: begun,
            from: 0,
            step: 1,
            first: true,
            forward: false,
            orphan: None,
            start: None,
            counts: false,
            stage: Stage::AwaitingRequest,
        }
    }

    /// Whether it yields to another search that waits: its page takes long, or it has taken long in all. The latter is far
    /// longer, as a deep fork takes many pages and others may take as long before this one begins again.
    fn yields(&self, config: &CatchUpConfig, deadlines: &mut Deadlines) -> bool {
        let page = after(self.requested, config.hedge_after.saturating_mul(2));
        let all = after(self.begun, config.hedge_after.saturating_mul(30));
        matches!(self.stage, Stage::Requested(_)) && deadlines.due(page) || deadlines.due(all)
    }

    /// To an earlier page. Not if the base is reached, or if it steps forward already.
    fn step_back(&mut self, chain: &Chain) -> bool {
        let bottom = chain.base.saturating_add(1);
        let further = !self.forward && self.from > bottom;
        self.first = false;
        if further {
            self.from = self.from.saturating_sub(self.step).max(bottom);
            self.step = self.step.saturating_mul(2);
            self.stage = Stage::AwaitingRequest;
        }
        further
    }
}

/// What follows from a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The search continues, or has ended without a consequence for its peer.
    None,
    /// It has ended: all that the peer claims is stored, and it is not the chain.
    Lost,
    /// It has ended: what the peer serves does not link, down to the base, or breaks off above pages that link.
    Unlinked(Option<Start>),
}

/// At most one search, and the orphans that wait for one.
#[derive(Debug, Default)]
pub(crate) struct AncestorSearch {
    search: Option<Search>,
    pub(crate) orphans: Orphans,
    pub(crate) failures: FailedSearches,
}

impl AncestorSearch {
    /// The base has moved: nothing at or below it is searched for.
    pub(crate) fn settle(&mut self, base: BlockNumber) {
        self.orphans.settle(base);
        if let Some(search) = &mut self.search
            && matches!(search.stage, Stage::AwaitingRequest)
        {
            search.from = search.from.max(base.saturating_add(1));
        }
    }

    /// Ends the search: the chain has changed.
    pub(crate) fn stop(&mut self) {
        self.search = None;
    }

    /// Ends the search if it uses this peer, which has disconnected.
    pub(crate) fn stop_peer(&mut self, peer: &PeerId) {
        if self.search.as_ref().is_some_and(|search| search.peer == *peer) {
            self.search = None;
        }
    }

    /// These blocks are linked. If the parent that is searched for is among them, its signer did not invent it.
    pub(crate) fn linked(&mut self, items: &[B256]) {
        if items.is_empty() {
            return;
        }
        if let Some((signer, parent)) = self.search.as_ref().and_then(|search| search.orphan)
            && items.contains(&parent)
        {
            self.orphans.found(&signer);
        }
        items.iter().for_each(|hash| self.orphans.remove(hash));
    }

    /// The first height of the next page.
    pub(crate) fn from(&self) -> Option<BlockNumber> {
        self.search.as_ref().map(|search| search.from)
    }

    /// The peer whose chain forks from ours, while the fork point is searched for.
    pub(crate) fn forked_peer(&self) -> Option<PeerId> {
        self.search.as_ref().filter(|search| search.orphan.is_none()).map(|search| search.peer)
    }

    /// The page that the search began with, if that did not link.
    pub(crate) fn start(&self) -> Option<Start> {
        self.search.as_ref().and_then(|search| search.start)
    }

    /// Whether the search is for a claim that counts: it may find what the node lacks.
    pub(crate) fn keeps_from_live(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.orphan.is_none() && search.counts)
    }

    /// The peer's page above the head did not link: begins a search. False if another one for a fork point is running and does
    /// not yield.
    pub(crate) fn search(
        &mut self,
        config: &CatchUpConfig,
        now: Instant,
        chain: &Chain,
        (peer, counts): (PeerId, bool),
        start: Start,
    ) -> bool {
        // A page that begins some blocks below the head costs no more than one that begins at the head.
        let step = u64::from(config.page_size.get() / 32).max(1);
        let from = chain.applied().saturating_sub(step - 1).max(chain.base.saturating_add(1));
        self.begin(config, now, Search { from, step, start: Some(start), counts, ..Search::new(now, peer) })
    }

    /// All of the peer's page links to a branch that is not the chain, and that may win with its next blocks. False as for
    /// [`search`](Self::search).
    pub(crate) fn follow(
        &mut self,
        config: &CatchUpConfig,
        now: Instant,
        from: BlockNumber,
        (peer, counts): (PeerId, bool),
    ) -> bool {
        self.begin(config, now, Search { from, forward: true, counts, ..Search::new(now, peer) })
    }

    fn begin(&mut self, config: &CatchUpConfig, now: Instant, search: Search) -> bool {
        // A search for an orphan yields; the orphan waits for the next one.
        let mut deadlines = Deadlines::new(now);
        let stays = self
            .search
            .as_ref()
            .is_some_and(|other| other.orphan.is_none() && !other.yields(config, &mut deadlines));
        if !stays {
            self.search = Some(search);
        }
        !stays
    }

    /// Begins a search for an orphan if one can begin, and requests the next page. `heads_known`: heads have been told since they
    /// were invalidated.
    pub(crate) fn plan(
        &mut self,
        ctx: &mut Context,
        deadlines: &mut Deadlines,
        chain: &Chain,
        heads_known: bool,
    ) {
        let applied = chain.applied();
        if let Some(search @ Search { orphan: Some((signer, _)), .. }) = &self.search
            && search.yields(&ctx.config, deadlines)
            && self.orphans.others_wait(ctx, deadlines, applied, signer)
        {
            self.search = None;
        }
        if self.search.is_none()
            && let Some((orphan, from, peer)) = self.orphans.next(ctx, deadlines, applied, heads_known)
        {
            self.search = Some(Search { from, orphan: Some(orphan), ..Search::new(deadlines.now(), peer) });
        }
        let Some(search) =
            self.search.as_mut().filter(|search| matches!(search.stage, Stage::AwaitingRequest))
        else {
            return;
        };
        let now = deadlines.now();
        let peer = ctx.peers.get(&search.peer);
        let allowed = peer.and_then(|peer| peer.protocol(Protocol::Page).next_allowed(&ctx.config, now));
        if !allowed.is_none_or(|at| deadlines.allowed(at)) {
            return;
        }
        let request = Request::Page { from: search.from, count: ctx.config.page_size };
        search.requested = now;
        search.stage = Stage::Requested(ctx.request(now, search.peer, Purpose::Ancestors, request));
    }

    /// A page has come. It ends the search if it is empty, or if it is the first one and does not contain the parent that is
    /// searched for. If its first height cannot be used, the search steps back.
    pub(crate) fn received(
        &mut self,
        chain: &Chain,
        (id, peer): (RequestId, PeerId),
        count: NonZeroU32,
        items: Vec<Authenticated>,
    ) -> Prefix {
        let Some(search) = self
            .search
            .as_mut()
            .filter(|search| matches!(search.stage, Stage::Requested(pending) if pending == id))
        else {
            return Prefix::NotRequested;
        };
        let (items, prefix) = Prefix::of(items, search.from, count);
        if let Some((start, last)) = search.start.as_mut().zip(items.last())
            && last.block() > start.tip.0
        {
            start.tip = (last.block(), last.hash());
        }
        let other = search.first
            && search.orphan.is_some_and(|(_, parent)| !items.iter().any(|item| item.hash() == parent));
        match prefix {
            Prefix::Blocks { .. } if !other => search.stage = Stage::Received(Page { id, peer, items }),
            Prefix::Unusable if !other && search.step_back(chain) => {}
            _ => self.search = None,
        }
        prefix
    }

    /// A request has failed. `again`: the peer may be asked once more for the same orphan.
    pub(crate) fn failed(&mut self, id: RequestId, again: bool) {
        let ended =
            self.search.take_if(|search| matches!(search.stage, Stage::Requested(pending) if pending == id));
        if let Some(Search { peer, orphan: Some(orphan), .. }) = ended
            && again
        {
            self.orphans.ask_again(&orphan, &peer);
        }
    }

    pub(crate) fn take(&mut self) -> Option<Page> {
        let search = self.search.as_mut().filter(|search| matches!(search.stage, Stage::Received(_)))?;
        match std::mem::replace(&mut search.stage, Stage::Importing) {
            Stage::Received(page) => Some(page),
            Stage::AwaitingRequest | Stage::Requested(_) | Stage::Importing => None,
        }
    }

    /// The page that was taken could not be validated: the search has ended, and may begin again.
    pub(crate) fn deferred(&mut self) {
        let ended = self.search.take_if(|search| matches!(search.stage, Stage::Importing));
        if let Some(Search { peer, orphan: Some(orphan), .. }) = ended {
            self.orphans.ask_again(&orphan, &peer);
        }
    }

    /// The page that was taken has been imported, and the head has not moved. `last`: its last height that linked, if any did.
    /// `claim`: its peer's.
    pub(crate) fn imported(
        &mut self,
        chain: &Chain,
        last: Option<BlockNumber>,
        claim: Option<BlockNumber>,
    ) -> Outcome {
        let Some(search) = self.search.as_mut().filter(|search| matches!(search.stage, Stage::Importing))
        else {
            return Outcome::None;
        };
        let settled = search.orphan.is_some_and(|orphan| !self.orphans.contains(&orphan));
        let claim = claim.filter(|_| search.orphan.is_none());
        let top = claim.map_or(chain.applied(), |claim| claim.max(chain.applied()));
        let outcome = match last {
            _ if settled => Outcome::None,
            Some(last) if last < top => {
                (search.from, search.forward, search.stage) =
                    (last.saturating_add(1), true, Stage::AwaitingRequest);
                return Outcome::None;
            }
            Some(_) => Outcome::Lost,
            None if search.step_back(chain) => return Outcome::None,
            None => Outcome::Unlinked(search.start),
        };
        let for_orphan = search.orphan.is_some();
        self.search = None;
        // A search for an orphan says nothing about its peer's claim.
        if for_orphan { Outcome::None } else { outcome }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    fn peer() -> PeerId {
        PeerId::from_bytes(&[0, 1, 1]).unwrap()
    }

    #[test]
    fn a_search_for_a_claim_that_counts_keeps_from_live_and_one_for_an_orphan_does_not() {
        let (config, now, chain) = (CatchUpConfig::default(), Instant::now(), Chain::default());
        for counts in [true, false] {
            let start = Start { signer: Address::ZERO, tip: (3, B256::ZERO) };
            let (mut fork, mut branch) = (AncestorSearch::default(), AncestorSearch::default());
            assert!(fork.search(&config, now, &chain, (peer(), counts), start));
            assert!(branch.follow(&config, now, 1, (peer(), counts)));
            assert_eq!([fork.keeps_from_live(), branch.keeps_from_live()], [counts; 2]);
        }
        let orphan = Search { orphan: Some(Default::default()), counts: true, ..Search::new(now, peer()) };
        let search = AncestorSearch { search: Some(orphan), ..AncestorSearch::default() };
        assert!(!search.keeps_from_live() && !AncestorSearch::default().keeps_from_live());
    }

    #[test]
    fn a_search_for_an_orphan_that_is_gone_ends_with_its_page() {
        let orphan = Search {
            orphan: Some(Default::default()),
            stage: Stage::Importing,
            from: 3,
            ..Search::new(Instant::now(), peer())
        };
        let mut ancestors = AncestorSearch { search: Some(orphan), ..AncestorSearch::default() };
        // The page does not link; with the orphan it would step back.
        assert_eq!(ancestors.imported(&Chain::default(), None, None), Outcome::None);
        assert_eq!(ancestors.from(), None);
    }
}
