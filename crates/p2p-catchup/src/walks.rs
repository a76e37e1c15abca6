//! Looking below the head: for the point where a peer's chain leaves ours, and for the parent of a
//! commitment that waits.
//!
//! A walk belongs to one peer. It asks for earlier and earlier pages, doubling its step, until one links or
//! the base is reached; from there it goes up again, page by page, until the head moves or the peer has shown all that
//! it claims. Other peers are asked for pages above the head meanwhile, and a walk that takes long makes way for another,
//! so that it holds up nobody.

use std::{num::NonZeroU32, time::Instant};

use p2p_types::{Address, B256, BlockNumber, PeerId};
use p2p_validation::Authenticated;

use crate::{
    CatchUpConfig, Request, RequestId,
    chain::Chain,
    context::{Context, Purpose},
    dismissed::FailedSearches,
    lanes::Kind,
    orphans::{OrphanId, Orphans},
    pages::{Page, Prefix},
    time::{Agenda, after},
};

/// How a page of a walk is on its way.
#[derive(Debug)]
enum Stage {
    ToAsk,
    Asked(RequestId),
    Here(Page),
    Importing,
}

#[derive(Debug)]
struct Walk {
    peer: PeerId,
    begun: Instant,
    /// When its last page was asked for.
    asked: Instant,
    from: BlockNumber,
    step: BlockNumber,
    /// No page of it has come yet.
    first: bool,
    /// A page has linked: from here on upwards.
    rising: bool,
    /// Whose parent is looked for; none if a page above the head did not link.
    orphan: Option<OrphanId>,
    /// What it began with, if it began with a page above the head that did not link.
    start: Option<Start>,
    /// The claim of its peer counted when it began.
    counts: bool,
    stage: Stage,
}

/// A page above the head that does not link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Who has signed its first block.
    pub(crate) signer: Address,
    /// Its last block; then the highest that the walk has been shown.
    pub(crate) tip: (BlockNumber, B256),
}

impl Walk {
    /// Whether it makes way for another one that waits: its page is long in coming, or it has taken long in all. Others may
    /// take as long before it begins anew, so that the latter is far longer: a deep fork takes many pages.
    fn makes_way(&self, config: &CatchUpConfig, agenda: &mut Agenda) -> bool {
        let page = after(self.asked, config.hurry_after.saturating_mul(2));
        let all = after(self.begun, config.hurry_after.saturating_mul(30));
        matches!(self.stage, Stage::Asked(_)) && agenda.due(page) || agenda.due(all)
    }

    /// To an earlier page; not if the base is reached, or if it rises already.
    fn descend(&mut self, chain: &Chain) -> bool {
        let bottom = chain.base.saturating_add(1);
        let further = !self.rising && self.from > bottom;
        self.first = false;
        if further {
            self.from = self.from.saturating_sub(self.step).max(bottom);
            self.step = self.step.saturating_mul(2);
            self.stage = Stage::ToAsk;
        }
        further
    }
}

/// How a walk goes on after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// With the next page, or it is over and nothing is said against the peer.
    On,
    /// It is over: everything that the peer claims is here, and it is not the chain that stands.
    Lost,
    /// It is over: what the peer serves does not link, down to the base, or between two pages that do.
    Unlinked(Option<Start>),
}

/// At most one walk, and the parents that wait for one.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    walk: Option<Walk>,
    pub(crate) orphans: Orphans,
    pub(crate) failed: FailedSearches,
}

impl Walks {
    /// The base has moved: nothing at or below it is looked for.
    pub(crate) fn settle(&mut self, base: BlockNumber) {
        self.orphans.settle(base);
        if let Some(walk) = &mut self.walk
            && matches!(walk.stage, Stage::ToAsk)
        {
            walk.from = walk.from.max(base.saturating_add(1));
        }
    }

    /// Whatever was being looked for has another answer now.
    pub(crate) fn stop(&mut self) {
        self.walk = None;
    }

    /// The peer is gone or at fault.
    pub(crate) fn stop_peer(&mut self, peer: &PeerId) {
        if self.walk.as_ref().is_some_and(|walk| walk.peer == *peer) {
            self.walk = None;
        }
    }

    /// These are linked now. If the parent that is looked for is among them, its signer has told the truth.
    pub(crate) fn linked(&mut self, items: &[B256]) {
        if items.is_empty() {
            return;
        }
        if let Some((signer, parent)) = self.walk.as_ref().and_then(|walk| walk.orphan)
            && items.contains(&parent)
        {
            self.orphans.found(&signer);
        }
        items.iter().for_each(|hash| self.orphans.remove(hash));
    }

    /// The first height of the page that is asked for.
    pub(crate) fn from(&self) -> Option<BlockNumber> {
        self.walk.as_ref().map(|walk| walk.from)
    }

    /// The peer whose chain has been found to leave ours, while it is looked for where.
    pub(crate) fn strayed(&self) -> Option<PeerId> {
        self.walk.as_ref().filter(|walk| walk.orphan.is_none()).map(|walk| walk.peer)
    }

    /// What the walk began with, if that was a page that did not link.
    pub(crate) fn start(&self) -> Option<Start> {
        self.walk.as_ref().and_then(|walk| walk.start)
    }

    /// Whether a walk may find what the node lacks: it is for a claim that counts.
    pub(crate) fn keeps_from_live(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.orphan.is_none() && walk.counts)
    }

    /// The page of `peer` right above the head did not link. False if another walk like this is on, and not for too
    /// long.
    pub(crate) fn descend(
        &mut self,
        config: &CatchUpConfig,
        now: Instant,
        chain: &Chain,
        (peer, counts): (PeerId, bool),
        start: Start,
    ) -> bool {
        // A page that begins some blocks below the head costs no more than one that begins right there.
        let step = u64::from(config.page_size.get() / 32).max(1);
        let from = chain.applied().saturating_sub(step - 1).max(chain.base.saturating_add(1));
        let walk = Walk { from, step, start: Some(start), counts, ..walk(now, peer) };
        self.begin(config, now, walk)
    }

    /// All of a page of `peer` links, beside the chain that stands: more of it may win. False as for
    /// [`descend`](Self::descend).
    pub(crate) fn climb(
        &mut self,
        config: &CatchUpConfig,
        now: Instant,
        from: BlockNumber,
        (peer, counts): (PeerId, bool),
    ) -> bool {
        self.begin(config, now, Walk { from, rising: true, counts, ..walk(now, peer) })
    }

    fn begin(&mut self, config: &CatchUpConfig, now: Instant, walk: Walk) -> bool {
        // An orphan's walk makes way; the orphan waits for the next one.
        let mut agenda = Agenda::new(now);
        let stays = self
            .walk
            .as_ref()
            .is_some_and(|other| other.orphan.is_none() && !other.makes_way(config, &mut agenda));
        if !stays {
            self.walk = Some(walk);
        }
        !stays
    }

    /// Starts a walk for an orphan if one can be looked for, and asks for the next page of the walk.
    pub(crate) fn plan(&mut self, ctx: &mut Context, agenda: &mut Agenda, chain: &Chain, heard: bool) {
        let applied = chain.applied();
        if let Some(walk @ Walk { orphan: Some((signer, _)), .. }) = &self.walk
            && walk.makes_way(&ctx.config, agenda)
            && self.orphans.others_wait(ctx, agenda, applied, signer)
        {
            self.walk = None;
        }
        if self.walk.is_none()
            && let Some((orphan, from, peer)) = self.orphans.next(ctx, agenda, applied, heard)
        {
            self.walk = Some(Walk { from, orphan: Some(orphan), ..walk(agenda.now(), peer) });
        }
        let Some(walk) = self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::ToAsk)) else { return };
        let turn = ctx.peers.get(&walk.peer).and_then(|peer| peer.lane(Kind::Page).turn(&ctx.config));
        if !turn.is_none_or(|turn| agenda.due_turn(turn)) {
            return;
        }
        let request = Request::Page { from: walk.from, count: ctx.config.page_size };
        walk.asked = agenda.now();
        walk.stage = Stage::Asked(ctx.ask(agenda.now(), walk.peer, Purpose::Walk, request));
    }

    /// A page has come. An empty one ends the walk, and so does one that is not of the chain that is
    /// looked for. Where a height cannot be used, an earlier one may be.
    pub(crate) fn fill(
        &mut self,
        chain: &Chain,
        (id, peer): (RequestId, PeerId),
        count: NonZeroU32,
        items: Vec<Authenticated>,
    ) -> Prefix {
        let Some(walk) =
            self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::Asked(open) if open == id))
        else {
            return Prefix::Unwanted;
        };
        let (items, prefix) = Prefix::of(items, walk.from, count);
        if let Some((start, last)) = walk.start.as_mut().zip(items.last())
            && last.block() > start.tip.0
        {
            start.tip = (last.block(), last.hash());
        }
        let other = walk.first
            && walk.orphan.is_some_and(|(_, parent)| !items.iter().any(|item| item.hash() == parent));
        match prefix {
            Prefix::Blocks { .. } if !other => walk.stage = Stage::Here(Page { id, peer, items }),
            Prefix::Unusable if !other && walk.descend(chain) => {}
            _ => self.walk = None,
        }
        prefix
    }

    /// A request ended without a page. `again`: the peer may be asked once more for the same orphan.
    pub(crate) fn lost(&mut self, id: RequestId, again: bool) {
        let asked = self.walk.take_if(|walk| matches!(walk.stage, Stage::Asked(open) if open == id));
        if let Some(Walk { peer, orphan: Some(orphan), .. }) = asked
            && again
        {
            self.orphans.ask_again(&orphan, &peer);
        }
    }

    pub(crate) fn take(&mut self) -> Option<Page> {
        let walk = self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::Here(_)))?;
        match std::mem::replace(&mut walk.stage, Stage::Importing) {
            Stage::Here(page) => Some(page),
            Stage::ToAsk | Stage::Asked(_) | Stage::Importing => None,
        }
    }

    /// The page that was taken could not be judged: the walk is over, and may be begun again.
    pub(crate) fn deferred(&mut self) {
        let over = self.walk.take_if(|walk| matches!(walk.stage, Stage::Importing));
        if let Some(Walk { peer, orphan: Some(orphan), .. }) = over {
            self.orphans.ask_again(&orphan, &peer);
        }
    }

    /// The page that was taken has been imported and the head did not move. `last`: its last height that linked, if
    /// any did. `claim`: what its peer claims.
    pub(crate) fn imported(
        &mut self,
        chain: &Chain,
        last: Option<BlockNumber>,
        claim: Option<BlockNumber>,
    ) -> Step {
        let Some(walk) = self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::Importing)) else {
            return Step::On;
        };
        let settled = walk.orphan.is_some_and(|orphan| !self.orphans.contains(&orphan));
        let claim = claim.filter(|_| walk.orphan.is_none());
        let top = claim.map_or(chain.applied(), |claim| claim.max(chain.applied()));
        let over = match last {
            _ if settled => Step::On,
            Some(last) if last < top => {
                (walk.from, walk.rising, walk.stage) = (last.saturating_add(1), true, Stage::ToAsk);
                return Step::On;
            }
            Some(_) => Step::Lost,
            None if walk.descend(chain) => return Step::On,
            None => Step::Unlinked(walk.start),
        };
        let for_orphan = walk.orphan.is_some();
        self.walk = None;
        // That somebody waits for a block says nothing about what its peer claims.
        if for_orphan { Step::On } else { over }
    }
}

fn walk(begun: Instant, peer: PeerId) -> Walk {
    Walk {
        peer,
        begun,
        asked: begun,
        from: 0,
        step: 1,
        first: true,
        rising: false,
        orphan: None,
        start: None,
        counts: false,
        stage: Stage::ToAsk,
    }
}
