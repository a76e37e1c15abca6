//! Pages above the head: contiguous ranges, asked from several peers, handed on in order.

use std::{collections::BTreeMap, num::NonZeroU32};

use p2p_types::{BlockNumber, PeerId};
use p2p_validation::Authenticated;

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    lanes::Kind,
    peers::Peer,
    time::{Agenda, after},
};

/// A page that is here.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) id: RequestId,
    pub(crate) peer: PeerId,
    pub(crate) items: Vec<Authenticated>,
}

/// The good prefix of a page: blocks that follow each other from the first height asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Nobody waits for it any more.
    Unwanted,
    /// There was nothing on the page.
    Empty,
    /// There is no block at the first height: another height, or an EOP-only commitment.
    Unusable,
    /// Blocks up to `last`. `cut`: what comes next on the page does not follow.
    Blocks { last: BlockNumber, cut: bool },
}

impl Prefix {
    /// Keeps the good prefix of what came for up to `count` blocks from `from` on.
    pub(crate) fn of(
        mut items: Vec<Authenticated>,
        from: BlockNumber,
        count: NonZeroU32,
    ) -> (Vec<Authenticated>, Self) {
        if items.is_empty() {
            return (items, Self::Empty);
        }
        items.truncate(usize::try_from(count.get()).unwrap_or(usize::MAX));
        let follows =
            |(block, item): &(BlockNumber, &Authenticated)| item.block() == *block && !item.is_eop_only();
        let good = (from..=BlockNumber::MAX).zip(&items).take_while(follows).count();
        let cut = good < items.len();
        items.truncate(good);
        let prefix = match items.last() {
            Some(last) => Self::Blocks { last: last.block(), cut },
            None => Self::Unusable,
        };
        (items, prefix)
    }
}

/// A range of heights, assigned to a peer, and to a second one if the first keeps everybody waiting.
#[derive(Debug)]
struct Slot {
    count: NonZeroU32,
    asked: Vec<Asked>,
    page: Option<Page>,
}

#[derive(Debug)]
struct Asked {
    id: RequestId,
    peer: PeerId,
    /// The last height that the peer claimed of this range when it was asked.
    promised: BlockNumber,
}

/// At most `pages_in_flight` ranges, none overlapping.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    slots: BTreeMap<BlockNumber, Slot>,
}

impl Pages {
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    /// A page has come for the slot at `from`: what it is worth, and up to where its peer claimed to have this range.
    /// One that is worth nothing frees the range, unless a second peer has been asked too.
    pub(crate) fn fill(
        &mut self,
        id: RequestId,
        from: BlockNumber,
        items: Vec<Authenticated>,
    ) -> (Prefix, BlockNumber) {
        let Some(slot) = self.slots.get_mut(&from).filter(|slot| slot.page.is_none()) else {
            return (Prefix::Unwanted, from);
        };
        let Some(&Asked { peer, promised, .. }) = slot.asked.iter().find(|asked| asked.id == id) else {
            return (Prefix::Unwanted, from);
        };
        let (items, prefix) = Prefix::of(items, from, slot.count);
        if matches!(prefix, Prefix::Blocks { .. }) {
            slot.page = Some(Page { id, peer, items });
        } else {
            self.lost(id, from);
        }
        (prefix, promised)
    }

    /// A request ended without a page: the range is free again, unless a second peer has been asked too.
    pub(crate) fn lost(&mut self, id: RequestId, from: BlockNumber) {
        if let Some(slot) = self.slots.get_mut(&from) {
            slot.asked.retain(|asked| asked.id != id);
            if slot.asked.is_empty() && slot.page.is_none() {
                self.slots.remove(&from);
            }
        }
    }

    /// The page that begins at `next`, the height above the head, if it is here. What is applied already
    /// is cut off.
    pub(crate) fn take(&mut self, next: BlockNumber) -> Option<Page> {
        while let Some(first) = self.slots.first_entry() {
            let slot = first.get();
            let end = slot.page.as_ref().map_or_else(
                || end_of(*first.key(), slot.count),
                |page| page.items.last().map_or(0, Authenticated::block),
            );
            if end >= next {
                if *first.key() > next || slot.page.is_none() {
                    return None;
                }
                let mut page = first.remove().page?;
                page.items.retain(|item| item.block() >= next);
                return Some(page);
            }
            first.remove();
        }
        None
    }

    /// Assigns ranges from `from` up to `target`, each to a peer that claims to have its beginning, but not
    /// to `except`. The first range is never held up by later ones that are here. If none of those whose
    /// claims count can be asked for it, one whose claims do not count is: so it can win trust back.
    pub(crate) fn plan(
        &mut self,
        ctx: &mut Context,
        agenda: &mut Agenda,
        (from, target): (BlockNumber, BlockNumber),
        except: Option<PeerId>,
    ) {
        let mut next = Some(from);
        while let Some(from) = next.filter(|&from| from <= target) {
            if let Some(end) = self.covers(from) {
                next = end.checked_add(1);
                continue;
            }
            let end = self.end_of_gap(from, ctx.config.page_size).min(target);
            let room = ctx.config.pages_in_flight.get();
            let in_front = self.slots.len() == room && self.slots.keys().all(|&first| from < first);
            if self.slots.len() >= room && !in_front
                || !self.assign(ctx, agenda, (from, end), |id, peer| peer.is_trusted() && except != Some(*id))
            {
                break;
            }
            next = end.checked_add(1);
        }
        if self.covers(from).is_none() {
            let end = self.end_of_gap(from, ctx.config.page_size);
            self.assign(ctx, agenda, (from, end), |id, _| except != Some(*id));
        } else {
            self.hurry(ctx, agenda, from, except);
        }
    }

    /// Everybody waits for the page in front: if its peer takes long, another one is asked too. What comes first
    /// counts.
    fn hurry(&mut self, ctx: &mut Context, agenda: &mut Agenda, from: BlockNumber, except: Option<PeerId>) {
        let Some((&first, slot)) = self.slots.range(..=from).next_back() else { return };
        let ([Asked { id, peer: slow, .. }], None) = (slot.asked.as_slice(), &slot.page) else { return };
        let long = ctx.asked_at(*id).map(|at| after(at, ctx.config.hurry_after));
        if !long.is_some_and(|long| agenda.due(long)) {
            return;
        }
        let (slow, end) = (*slow, end_of(first, slot.count));
        self.assign(ctx, agenda, (first, end), |id, peer| {
            peer.is_trusted() && *id != slow && except != Some(*id)
        });
    }

    /// The end of the range that `block` is in, if it is assigned.
    fn covers(&self, block: BlockNumber) -> Option<BlockNumber> {
        let (&start, slot) = self.slots.range(..=block).next_back()?;
        Some(end_of(start, slot.count)).filter(|&end| end >= block)
    }

    /// The last height that a range which begins at `from` can have.
    fn end_of_gap(&self, from: BlockNumber, page_size: NonZeroU32) -> BlockNumber {
        let above =
            self.slots.range(from..).next().map_or(BlockNumber::MAX, |(&start, _)| start.saturating_sub(1));
        above.min(end_of(from, page_size))
    }

    fn assign(
        &mut self,
        ctx: &mut Context,
        agenda: &mut Agenda,
        (from, end): (BlockNumber, BlockNumber),
        may: impl Fn(&PeerId, &Peer) -> bool,
    ) -> bool {
        for (_, peer) in ctx.peers.askable().filter(|(id, peer)| may(id, peer) && peer.claims(from)) {
            // Whoever could not serve this is asked again after a pause.
            if let Some(at) = peer.retry_at(from) {
                agenda.due(at);
            }
        }
        let now = agenda.now();
        let chosen = ctx.peers.pick(&ctx.config, Kind::Page, agenda, &mut ctx.rng, |id, peer| {
            let serves = peer.claims(from) && peer.retry_at(from).is_none_or(|at| at <= now);
            (may(id, peer) && serves).then(|| !peer.claims(end))
        });
        let Some(peer) = chosen else { return false };
        let count = count_of(from, end);
        let promised = ctx.peers.get(&peer).and_then(|peer| peer.claim).map_or(from, |claim| claim.min(end));
        let id = ctx.ask(agenda.now(), peer, Purpose::Page(from), Request::Page { from, count });
        let slot = self.slots.entry(from).or_insert_with(|| Slot { count, asked: Vec::new(), page: None });
        slot.asked.push(Asked { id, peer, promised });
        true
    }
}

/// The last height of `count` from `from` on.
fn end_of(from: BlockNumber, count: NonZeroU32) -> BlockNumber {
    from.saturating_add(u64::from(count.get() - 1))
}

fn count_of(from: BlockNumber, end: BlockNumber) -> NonZeroU32 {
    let more = u32::try_from(end.saturating_sub(from)).unwrap_or(u32::MAX);
    NonZeroU32::MIN.saturating_add(more)
}
