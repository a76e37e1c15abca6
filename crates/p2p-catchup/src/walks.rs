//! Looking below the head: for the point where a peer's chain leaves ours, and for the parent of a
//! commitment that waits.
//!
//! A walk belongs to one peer. It asks for earlier and earlier pages, doubling its step, until one links or
//! the base is reached; from there it goes up again, page by page, until the head moves or nothing is left
//! to learn. Other peers are asked for pages above the head meanwhile, so that a walk holds up nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use p2p_types::{B256, BlockNumber, PeerId};

use crate::{
    Request, RequestId,
    chain::Chain,
    context::{Context, Purpose},
    lanes::Kind,
    pages::{Answer, Page, answers},
    time::Agenda,
};

/// Orphans that are looked for at a time. More are left to the pages above the head, which lead to walks
/// of their own.
const ORPHANS: usize = 64;

/// A parent that somebody waits for.
#[derive(Debug)]
struct Orphan {
    /// The height of the missing parent.
    height: BlockNumber,
    /// Who has been asked in vain.
    asked: BTreeSet<PeerId>,
}

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
    from: BlockNumber,
    step: BlockNumber,
    /// A page has linked: from here on upwards.
    rising: bool,
    /// The parent that is looked for; none if a page above the head did not link.
    parent: Option<B256>,
    stage: Stage,
}

/// How a walk goes on after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// With the next page, or it is over and nothing is said against the peer.
    On,
    /// It is over: the peer's chain brought nothing.
    Nothing,
    /// It is over: the peer's chain does not meet ours above the base.
    Elsewhere,
}

/// At most one walk, and the parents that wait for one.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    walk: Option<Walk>,
    orphans: BTreeMap<B256, Orphan>,
}

impl Walks {
    /// False if it is known already, too low or one too many.
    pub(crate) fn add_orphan(&mut self, chain: &Chain, block: BlockNumber, parent: B256) -> bool {
        let height = block.saturating_sub(1);
        let known_head = chain.head().is_some_and(|head| head.hash == parent);
        if height <= chain.base
            || known_head
            || self.orphans.len() >= ORPHANS
            || self.orphans.contains_key(&parent)
        {
            return false;
        }
        self.orphans.insert(parent, Orphan { height, asked: BTreeSet::new() });
        true
    }

    pub(crate) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// These are linked now.
    pub(crate) fn settle(&mut self, hashes: impl IntoIterator<Item = B256>) {
        for hash in hashes {
            self.orphans.remove(&hash);
        }
    }

    /// The base has been set: nothing at or below it is looked for.
    pub(crate) fn restart(&mut self, base: BlockNumber) {
        self.walk = None;
        self.orphans.retain(|_, orphan| orphan.height > base);
    }

    /// Nothing above `highest` waits any more.
    pub(crate) fn give_up_above(&mut self, highest: Option<BlockNumber>) {
        self.orphans.retain(|_, orphan| highest.is_some_and(|highest| orphan.height < highest));
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

    /// The first height of the page that is asked for.
    pub(crate) fn from(&self) -> Option<BlockNumber> {
        self.walk.as_ref().map(|walk| walk.from)
    }

    /// The peer whose chain has been found to leave ours, while it is looked for where.
    pub(crate) fn strayed(&self) -> Option<PeerId> {
        self.walk.as_ref().filter(|walk| walk.parent.is_none()).map(|walk| walk.peer)
    }

    /// The page of `peer` right above the head did not link. False if another walk is on.
    pub(crate) fn descend(&mut self, chain: &Chain, peer: PeerId) -> bool {
        if self.walk.as_ref().is_some_and(|walk| walk.parent.is_none()) {
            return false;
        }
        // An orphan's walk makes way; the orphan waits for the next one.
        let from = chain.applied();
        self.walk = Some(Walk { peer, from, step: 1, rising: false, parent: None, stage: Stage::ToAsk });
        true
    }

    /// Starts a walk for an orphan if one can be looked for, and asks for the next page of the walk.
    pub(crate) fn plan(&mut self, ctx: &mut Context, agenda: &mut Agenda, chain: &Chain, heard: bool) {
        if self.walk.is_none() {
            self.start(ctx, agenda, chain, heard);
        }
        let Some(walk) = self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::ToAsk)) else { return };
        let turn = ctx.peers.get(&walk.peer).and_then(|peer| peer.lane(Kind::Page).turn(&ctx.config));
        if !turn.is_none_or(|turn| agenda.due_turn(turn)) {
            return;
        }
        let request = Request::Page { from: walk.from, count: ctx.config.page_size };
        walk.stage = Stage::Asked(ctx.ask(agenda.now(), walk.peer, Purpose::Walk, request));
    }

    fn start(&mut self, ctx: &mut Context, agenda: &mut Agenda, chain: &Chain, heard: bool) {
        let applied = chain.applied();
        let mut in_vain = Vec::new();
        for (parent, orphan) in self.orphans.iter_mut().filter(|(_, orphan)| orphan.height <= applied) {
            let Orphan { height, asked } = orphan;
            let chosen = ctx.peers.pick(&ctx.config, Kind::Page, agenda, &mut ctx.rng, |id, peer| {
                (peer.claims(*height) && !asked.contains(id)).then_some(())
            });
            if let Some(peer) = chosen {
                asked.insert(peer);
                let (from, parent) = (*height, Some(*parent));
                self.walk = Some(Walk { peer, from, step: 1, rising: false, parent, stage: Stage::ToAsk });
                break;
            }
            let mut able = ctx.peers.askable().filter(|(_, peer)| peer.claims(*height)).peekable();
            if heard && able.all(|(id, _)| asked.contains(id)) {
                in_vain.push(*parent);
            }
        }
        self.settle(in_vain);
    }

    /// A page has come. An empty one ends the walk, and so does one that is not of the chain that is
    /// looked for.
    pub(crate) fn fill(&mut self, id: RequestId, count: NonZeroU32, page: Page) -> Answer {
        let Some(walk) =
            self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::Asked(open) if open == id))
        else {
            return Answer::Unwanted;
        };
        let answer = match page.items.is_empty() {
            _ if !answers(&page.items, walk.from, count) => Answer::Wrong,
            true => Answer::Empty,
            false => Answer::Full,
        };
        let first = !walk.rising && walk.step == 1;
        let other =
            first && walk.parent.is_some_and(|parent| !page.items.iter().any(|item| item.hash() == parent));
        if answer == Answer::Full && !other {
            walk.stage = Stage::Here(page);
        } else {
            self.walk = None;
        }
        answer
    }

    /// A request ended without a page. `again`: the peer may be asked once more for the same orphan.
    pub(crate) fn lost(&mut self, id: RequestId, again: bool) {
        let Some(walk) = self.walk.take_if(|walk| matches!(walk.stage, Stage::Asked(open) if open == id))
        else {
            return;
        };
        if again && let Some(orphan) = walk.parent.and_then(|parent| self.orphans.get_mut(&parent)) {
            orphan.asked.remove(&walk.peer);
        }
    }

    pub(crate) fn take(&mut self) -> Option<Page> {
        let walk = self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::Here(_)))?;
        match std::mem::replace(&mut walk.stage, Stage::Importing) {
            Stage::Here(page) => Some(page),
            Stage::ToAsk | Stage::Asked(_) | Stage::Importing => None,
        }
    }

    /// The page that was taken has been imported and the head did not move. `last`: its last height, if
    /// all of it linked.
    pub(crate) fn imported(&mut self, chain: &Chain, last: Option<BlockNumber>) -> Step {
        let Some(walk) = self.walk.as_mut().filter(|walk| matches!(walk.stage, Stage::Importing)) else {
            return Step::On;
        };
        let settled = walk.parent.is_some_and(|parent| !self.orphans.contains_key(&parent));
        let bottom = chain.base.saturating_add(1);
        match last {
            _ if settled => self.walk = None,
            Some(last) if last < chain.applied() => {
                (walk.from, walk.rising, walk.stage) = (last.saturating_add(1), true, Stage::ToAsk);
            }
            None if !walk.rising && walk.from > bottom => {
                walk.from = walk.from.saturating_sub(walk.step).max(bottom);
                walk.step = walk.step.saturating_mul(2);
                walk.stage = Stage::ToAsk;
            }
            Some(_) | None => {
                let elsewhere = last.is_none() && !walk.rising;
                self.walk = None;
                return if elsewhere { Step::Elsewhere } else { Step::Nothing };
            }
        }
        Step::On
    }
}
