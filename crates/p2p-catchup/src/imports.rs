//! Pages on their way through the caller's validator and store: one at a time.

use std::time::Instant;

use p2p_types::{Address, B256, BlockNumber, Head, PeerId};

use crate::{
    CatchUp, ImportVerdict, Output, RequestId,
    chain::{Mark, Moved},
    peers::PATIENCE,
    time::after,
    walks::{Start, Step},
};

/// The page that is being imported.
#[derive(Debug)]
pub(crate) struct Importing {
    id: RequestId,
    pub(crate) peer: PeerId,
    first: BlockNumber,
    /// Who has signed the first block, and what that names as its parent.
    signer: Address,
    parent: B256,
    hashes: Vec<B256>,
    /// It belongs to a walk below the head.
    walk: bool,
    /// Where the chain stood when it was handed out.
    before: Mark,
}

impl Importing {
    /// The height of the `count`th commitment; none for none.
    fn height(&self, count: usize) -> Option<BlockNumber> {
        let offset = u64::try_from(count).ok()?.checked_sub(1)?;
        self.first.checked_add(offset)
    }

    fn last(&self) -> BlockNumber {
        self.height(self.hashes.len()).unwrap_or(self.first)
    }

    fn tip(&self) -> (BlockNumber, B256) {
        (self.last(), self.hashes.last().copied().unwrap_or_default())
    }

    /// Whether it holds this block, or stands on it.
    fn follows(&self, block: &B256) -> bool {
        self.parent == *block || self.hashes.contains(block)
    }
}

impl CatchUp {
    /// Hands out the next page, if one is here and none is out: first of the walk, then above the head.
    pub(crate) fn import_next(&mut self) {
        if self.importing.is_some() {
            return;
        }
        let (page, walk) = match self.walks.take() {
            Some(page) => (Some(page), true),
            None => (self.chain.next().and_then(|next| self.pages.take(next)), false),
        };
        let Some(page) = page else { return };
        let Some(first) = page.items.first() else { return };
        let (signer, parent, first) = (first.recovered().signer(), first.parent_hash(), first.block());
        let hashes = page.items.iter().map(p2p_validation::Authenticated::hash).collect();
        let (id, peer, before) = (page.id, page.peer, self.chain.mark());
        self.importing = Some(Importing { id, peer, first, signer, parent, hashes, walk, before });
        self.ctx.outputs.push_back(Output::Import { id, from: peer, page: page.items });
    }

    /// The first height that is neither applied nor being imported.
    pub(crate) fn first_to_ask(&self) -> Option<BlockNumber> {
        let above = self.importing.as_ref().filter(|page| !page.walk).map_or(0, Importing::last);
        self.chain.applied().max(above).checked_add(1)
    }

    /// The caller has judged a page. What has come of it is measured against the head at the time when the page was
    /// handed out, as [`Input::Applied`](crate::Input::Applied) may have told of the new one already.
    pub(crate) fn imported(
        &mut self,
        now: Instant,
        id: RequestId,
        head: Option<Head>,
        verdict: ImportVerdict,
    ) {
        let Some(page) = self.importing.take_if(|page| page.id == id) else { return };
        self.chain.move_head(head);
        let moved = self.chain.moved_since(page.before);
        let linked = match verdict {
            ImportVerdict::Linked => page.hashes.len(),
            ImportVerdict::Unlinked { index } | ImportVerdict::Unusable { index } => {
                index.min(page.hashes.len())
            }
            ImportVerdict::Deferred => 0,
        };
        if moved != Moved::No {
            self.progressed = true;
            self.hope();
        }
        self.walks.linked(page.hashes.get(..linked).unwrap_or_default());
        if verdict != ImportVerdict::Deferred {
            self.deferred = None;
        }
        match (moved, verdict) {
            (Moved::Back, _) if linked > 0 => self.pages.clear(),
            (Moved::Back, _) => self.reorged(),
            (Moved::Up | Moved::No, _) => {}
        }
        if linked > 0
            && moved != Moved::No
            && let Some(peer) = self.ctx.peers.get_mut(&page.peer)
        {
            peer.delivered();
        }
        match verdict {
            ImportVerdict::Deferred => self.defer(now, &page),
            _ if page.walk => self.walked(now, &page, linked, moved),
            ImportVerdict::Unusable { .. } if linked == 0 => self.unusable(now, &page),
            _ => self.extended(now, &page, linked),
        }
    }

    /// A page could not be judged: a pause for all pages, and a longer and longer one until the same peer is asked for the
    /// same again. Another peer's page may be one that can be judged.
    fn defer(&mut self, now: Instant, page: &Importing) {
        self.deferred = Some(after(now, self.ctx.config.backoff.pause(1, &mut self.ctx.rng)));
        if page.walk {
            self.walks.deferred();
        }
        if let Some(next) = self.chain.next() {
            self.ctx.not_judged(now, &page.peer, (next, self.chain.applied()));
        }
    }

    /// A page from below the head, or from beside it.
    fn walked(&mut self, now: Instant, page: &Importing, linked: usize, moved: Moved) {
        if moved != Moved::No {
            // The fork is found and taken; from here on it goes up in pages again.
            if let Some(Start { signer, .. }) = self.walks.start() {
                self.walks.failed.succeeded(&signer);
            }
            self.walks.stop();
            self.pages.clear();
            self.ctx.peers.reconsider();
            return;
        }
        let claim = self.ctx.peers.get(&page.peer).and_then(|peer| peer.claim);
        match self.walks.imported(&self.chain, page.height(linked), claim) {
            Step::On => {}
            Step::Lost => self.dismiss(now, page.peer, page.tip(), true),
            Step::Unlinked(None) => self.dismiss(now, page.peer, page.tip(), false),
            Step::Unlinked(start) => self.search_failed(now, page.peer, start),
        }
    }

    /// The claim of a peer is no height to reach: its branch is not the chain. That is no reason to doubt other heads.
    fn dismiss(&mut self, now: Instant, peer: PeerId, tip: (BlockNumber, B256), linked: bool) {
        self.ctx.dismiss(now, &peer, tip, linked);
        self.last_claim = self.last_claim.min(self.claim());
    }

    /// The peer does not serve the ancestors of what it has above the head.
    pub(crate) fn search_failed(&mut self, now: Instant, peer: PeerId, start: Option<Start>) {
        if let Some(Start { signer, tip }) = start {
            self.walks.failed.add(now, signer);
            self.dismiss(now, peer, tip, false);
        }
    }

    /// What the peer has above the head is of no use now.
    fn no_use(&mut self, now: Instant, peer: PeerId, promises: u32) {
        let applied = self.chain.applied();
        if let Some(next) = self.chain.next() {
            self.ctx.not_served(now, &peer, (next, applied), false);
        }
        self.ctx.lower_claim(&peer, applied);
        self.ctx.unkept(now, &peer, promises);
    }

    /// A page from above the head begins with what is of no use: as if the peer had not served it.
    fn unusable(&mut self, now: Instant, page: &Importing) {
        let applied = self.chain.applied();
        if applied >= page.first {
            return;
        }
        let claim = self.ctx.peers.get(&page.peer).and_then(|peer| peer.claim);
        let top = claim.is_none_or(|claim| claim <= page.first);
        self.ctx.not_served(now, &page.peer, (page.first, applied), top);
        if !top {
            self.ctx.unkept(now, &page.peer, 1);
        }
    }

    /// A page from above the head.
    fn extended(&mut self, now: Instant, page: &Importing, linked: usize) {
        let applied = self.chain.applied();
        let unmoved = self.chain.next() == Some(page.first);
        if applied >= page.last() || (linked == 0 && !unmoved) {
            return;
        }
        // Of a peer that has left, nothing more can be asked.
        let there = self.ctx.peers.get(&page.peer).filter(|peer| peer.is_askable());
        let more = there.is_some_and(|peer| peer.claims(page.last().saturating_add(1)));
        let counts = there.is_some_and(|peer| peer.counted_claim(applied).is_some());
        let all = linked == page.hashes.len();
        let begun = if linked == 0 && applied > self.chain.base {
            if there.is_none() {
                return;
            }
            self.look_below(now, page, counts)
        } else if all && unmoved && more {
            let next = page.last().saturating_add(1);
            self.walks.climb(&self.ctx.config, now, next, (page.peer, counts))
        } else if linked == 0 {
            // It does not meet the base.
            return self.no_use(now, page.peer, PATIENCE);
        } else if unmoved {
            // All that the peer has, or a part of it, links, and yet the head stays.
            return self.dismiss(now, page.peer, page.tip(), all);
        } else {
            // What comes next on the page does not link; others may have what does.
            return self.ctx.not_served(now, &page.peer, (applied.saturating_add(1), applied), false);
        };
        if !begun {
            // One fork at a time; this one comes up again after a pause.
            self.ctx.not_judged(now, &page.peer, (page.first, applied));
        }
    }

    /// A page above the head does not link: looks for where the peer's chain leaves ours. False if it must wait for another
    /// search.
    fn look_below(&mut self, now: Instant, page: &Importing, counts: bool) -> bool {
        let Some(peer) = self.ctx.peers.get(&page.peer) else { return true };
        let (repeated, before) = (peer.dismissed_claim().is_some(), peer.dismissed);
        let grown = before.is_some_and(|before| !before.linked && page.follows(&before.tip));
        let exhausted = self.walks.failed.exhausted(now, &page.signer, self.ctx.config.leave_out);
        if !repeated && (grown || exhausted) {
            self.dismiss(now, page.peer, page.tip(), false);
        }
        if !repeated && grown {
            // The branch has grown, and links no better for that.
            return true;
        }
        let (peer, start) =
            ((page.peer, counts && !exhausted), Start { signer: page.signer, tip: page.tip() });
        self.walks.descend(&self.ctx.config, now, &self.chain, peer, start) || exhausted
    }
}
