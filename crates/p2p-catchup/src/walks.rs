//! Looking below the head: for the point where a peer's chain leaves ours, and for the parent of a
//! commitment that waits.
//!
//! A walk belongs to one peer. It asks for earlier and earlier pages, doubling its step, until one links or
//! the base is reached; from there it goes up again, page by page, until the head moves or the peer has shown all that
//! it claims. Other peers are asked for pages above the head meanwhile, and a walk that takes long makes way for another,
//! so that it holds up nobody.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use p2p_types::{BlockNumber, PeerId};
use p2p_validation::Authenticated;

use crate::{
    CatchUpConfig, Request, RequestId,
    chain::Chain,
    context::{Context, Purpose},
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
    from: BlockNumber,
    step: BlockNumber,
    /// A page has linked: from here on upwards.
    rising: bool,
    /// Whose parent is looked for; none if a page above the head did not link.
    orphan: Option<OrphanId>,
    stage: Stage,
}

impl Walk {
    /// To an earlier page; not if the base is reached, or if it rises already.
    fn descend(&mut self, chain: &Chain) -> bool {
        let bottom = chain.base.saturating_add(1);
        let further = !self.rising && self.from > bottom;
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
    /// It is over: a page between two that link does not.
    Broken,
    /// It is over: everything that the peer claims is here, and it is not the chain that stands.
    Nothing,
    /// It is over: the peer's chain does not meet ours above the base.
    Elsewhere,
}

/// At most one walk, and the parents that wait for one.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    walk: Option<Walk>,
    pub(crate) orphans: Orphans,
}

/// How long a walk may take while another one waits.
fn longest(config: &CatchUpConfig) -> Duration {
    config.hurry_after.saturating_mul(2)
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
    pub(crate) fn linked(&mut self, items: &[p2p_types::B256]) {
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

    /// The page of `peer` right above the head did not link. False if another walk like this is on, and not for too
    /// long.
    pub(crate) fn descend(
        &mut self,
        config: &CatchUpConfig,
        now: Instant,
        chain: &Chain,
        peer: PeerId,
    ) -> bool {
        self.begin(config, now, Walk { from: chain.applied(), ..walk(now, peer) })
    }

    /// All of a page of `peer` links, beside the chain that stands: more of it may win. False as for
    /// [`descend`](Self::descend).
    pub(crate) fn climb(
        &mut self,
        config: &CatchUpConfig,
        now: Instant,
        from: BlockNumber,
        peer: PeerId,
    ) -> bool {
        self.begin(config, now, Walk { from, rising: true, ..walk(now, peer) })
    }

    fn begin(&mut self, config: &CatchUpConfig, now: Instant, walk: Walk) -> bool {
        // An orphan's walk makes way; the orphan waits for the next one.
        let stays = self
            .walk
            .as_ref()
            .is_some_and(|other| other.orphan.is_none() && after(other.begun, longest(config)) > now);
        if !stays {
            self.walk = Some(walk);
        }
        !stays
    }

    /// Starts a walk for an orphan if one can be looked for, and asks for the next page of the walk.
    pub(crate) fn plan(&mut self, ctx: &mut Context, agenda: &mut Agenda, chain: &Chain, heard: bool) {
        let applied = chain.applied();
        if let Some(Walk { begun, orphan: Some((signer, _)), .. }) = &self.walk
            && agenda.due(after(*begun, longest(&ctx.config)))
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
        let first = !walk.rising && walk.step == 1;
        let other =
            first && walk.orphan.is_some_and(|(_, parent)| !items.iter().any(|item| item.hash() == parent));
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
            Some(_) => Step::Nothing,
            None if walk.descend(chain) => return Step::On,
            None if walk.rising => Step::Broken,
            None => Step::Elsewhere,
        };
        self.walk = None;
        over
    }
}

fn walk(begun: Instant, peer: PeerId) -> Walk {
    Walk { peer, begun, from: 0, step: 1, rising: false, orphan: None, stage: Stage::ToAsk }
}
