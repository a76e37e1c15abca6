//! Pages above the head: contiguous ranges, requested from several peers, handed out in order.

use std::{collections::BTreeMap, num::NonZeroU32};

use p2p_types::{BlockNumber, PeerId};
use p2p_validation::Authenticated;

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    deadlines::{Deadlines, after},
    peer::Peer,
    protocol_state::Protocol,
};

/// A page that was received.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) id: RequestId,
    pub(crate) peer: PeerId,
    pub(crate) items: Vec<Authenticated>,
}

/// The usable prefix of a page: consecutive blocks from the first requested height on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// No request for it is pending.
    NotRequested,
    /// The page was empty.
    Empty,
    /// It does not begin with a block at the requested height: another height, or an EOP-only commitment.
    Unusable,
    /// Blocks up to `last`. `cut`: the next commitment on the page does not follow.
    Blocks { last: BlockNumber, cut: bool },
}

impl Prefix {
    /// Truncates a page that was requested from `from` on, for up to `count` blocks, to its usable prefix.
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
        let usable = (from..=BlockNumber::MAX).zip(&items).take_while(follows).count();
        let cut = usable < items.len();
        items.truncate(usable);
        let prefix = match items.last() {
            Some(last) => Self::Blocks { last: last.block(), cut },
            None => Self::Unusable,
        };
        (items, prefix)
    }
}

/// A range of heights, requested from a peer, and from a second one if all later ranges wait for it.
#[derive(Debug)]
struct Range {
    count: NonZeroU32,
    requests: Vec<PageRequest>,
    page: Option<Page>,
}

#[derive(Debug)]
struct PageRequest {
    id: RequestId,
    peer: PeerId,
    /// The last height of this range that the peer claimed to have when the request was sent.
    promised: BlockNumber,
}

/// At most `pages_in_flight` ranges, none overlapping.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    ranges: BTreeMap<BlockNumber, Range>,
}

impl Pages {
    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Whether a range begins at this height.
    pub(crate) fn begin_at(&self, height: BlockNumber) -> bool {
        self.ranges.contains_key(&height)
    }

    /// A page has come for the range at `from`: its usable prefix, and up to where its peer claimed to have this range. Without a
    /// usable prefix the range is free again, unless a second request for it is pending.
    pub(crate) fn received(
        &mut self,
        id: RequestId,
        from: BlockNumber,
        items: Vec<Authenticated>,
    ) -> (Prefix, BlockNumber) {
        let Some(range) = self.ranges.get_mut(&from).filter(|range| range.page.is_none()) else {
            return (Prefix::NotRequested, from);
        };
        let Some(&PageRequest { peer, promised, .. }) =
            range.requests.iter().find(|request| request.id == id)
        else {
            return (Prefix::NotRequested, from);
        };
        let (items, prefix) = Prefix::of(items, from, range.count);
        if matches!(prefix, Prefix::Blocks { .. }) {
            range.page = Some(Page { id, peer, items });
        } else {
            self.failed(id, from);
        }
        (prefix, promised)
    }

    /// A request has failed: the range is free again, unless a second request for it is pending.
    pub(crate) fn failed(&mut self, id: RequestId, from: BlockNumber) {
        if let Some(range) = self.ranges.get_mut(&from) {
            range.requests.retain(|request| request.id != id);
            if range.requests.is_empty() && range.page.is_none() {
                self.ranges.remove(&from);
            }
        }
    }

    /// The page that begins at `next`, the height above the head, if it was received. What is applied already is cut off.
    pub(crate) fn take(&mut self, next: BlockNumber) -> Option<Page> {
        while let Some(first) = self.ranges.first_entry() {
            let range = first.get();
            let end = range.page.as_ref().map_or_else(
                || end_of(*first.key(), range.count),
                |page| page.items.last().map_or(0, Authenticated::block),
            );
            if end >= next {
                if *first.key() > next || range.page.is_none() {
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

    /// Requests ranges from `from` up to `target`, each from a peer that claims to have its beginning, but not from `except`. The
    /// first range does not wait for room that later ones take. If it can be requested from no peer whose claims count, it is
    /// requested from another one, which can regain trust so.
    pub(crate) fn plan(
        &mut self,
        ctx: &mut Context,
        deadlines: &mut Deadlines,
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
            let is_first = self.ranges.len() == room && self.ranges.keys().all(|&first| from < first);
            if self.ranges.len() >= room && !is_first
                || !self
                    .request(ctx, deadlines, (from, end), |id, peer| peer.is_trusted() && except != Some(*id))
            {
                break;
            }
            next = end.checked_add(1);
        }
        if self.covers(from).is_none() {
            let end = self.end_of_gap(from, ctx.config.page_size);
            self.request(ctx, deadlines, (from, end), |id, _| except != Some(*id));
        } else {
            self.hedge(ctx, deadlines, from, except);
        }
    }

    /// All later pages wait for the first one: if its peer takes long, it is requested from a second peer too. The first response
    /// counts.
    fn hedge(
        &mut self,
        ctx: &mut Context,
        deadlines: &mut Deadlines,
        from: BlockNumber,
        except: Option<PeerId>,
    ) {
        let Some((&first, range)) = self.ranges.range(..=from).next_back() else {
            return;
        };
        let ([PageRequest { id, peer: slow, .. }], None) = (range.requests.as_slice(), &range.page) else {
            return;
        };
        let long = ctx.sent_at(*id).map(|at| after(at, ctx.config.hedge_after));
        if !long.is_some_and(|long| deadlines.due(long)) {
            return;
        }
        let (slow, end) = (*slow, end_of(first, range.count));
        self.request(ctx, deadlines, (first, end), |id, peer| {
            peer.is_trusted() && *id != slow && except != Some(*id)
        });
    }

    /// The end of the requested range that contains `block`, if there is one.
    fn covers(&self, block: BlockNumber) -> Option<BlockNumber> {
        let (&start, range) = self.ranges.range(..=block).next_back()?;
        Some(end_of(start, range.count)).filter(|&end| end >= block)
    }

    /// The last height that a range from `from` on can have.
    fn end_of_gap(&self, from: BlockNumber, page_size: NonZeroU32) -> BlockNumber {
        let above =
            self.ranges.range(from..).next().map_or(BlockNumber::MAX, |(&start, _)| start.saturating_sub(1));
        above.min(end_of(from, page_size))
    }

    fn request(
        &mut self,
        ctx: &mut Context,
        deadlines: &mut Deadlines,
        (from, end): (BlockNumber, BlockNumber),
        may: impl Fn(&PeerId, &Peer) -> bool,
    ) -> bool {
        for (_, peer) in ctx.peers.available().filter(|(id, peer)| may(id, peer) && peer.claims(from)) {
            // A peer that could not serve this is asked again after a pause.
            if let Some(at) = peer.retry_at(from) {
                deadlines.due(at);
            }
        }
        let now = deadlines.now();
        let chosen = ctx.peers.pick(&ctx.config, Protocol::Page, deadlines, &mut ctx.rng, |id, peer| {
            let serves = peer.claims(from) && peer.retry_at(from).is_none_or(|at| at <= now);
            (may(id, peer) && serves).then(|| !peer.claims(end))
        });
        let Some(peer) = chosen else { return false };
        let count = count_of(from, end);
        let promised = ctx.peers.get(&peer).and_then(|peer| peer.claim).map_or(from, |claim| claim.min(end));
        let id = ctx.request(deadlines.now(), peer, Purpose::Page(from), Request::Page { from, count });
        let range =
            self.ranges.entry(from).or_insert_with(|| Range { count, requests: Vec::new(), page: None });
        range.requests.push(PageRequest { id, peer, promised });
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
