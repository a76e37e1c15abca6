//! Imports: pages that the caller validates and stores, one at a time, and what their verdicts say about the peers.

use std::time::Instant;

use p2p_types::{B256, BlockNumber, Head, PeerId};

use crate::{
    CatchUp, ImportVerdict, Output, RequestId,
    ancestor_search::{Outcome, Start},
    chain::Moved,
    deadlines::after,
    page_import::PageImport,
    peer::MAX_FAILED_PROMISES,
};

impl CatchUp {
    /// Hands out the next page, if none is being imported: one of the ancestor search first, then the one above the head.
    pub(crate) fn import_next(&mut self) {
        if self.importing.is_some() {
            return;
        }
        let (page, search) = match self.ancestors.take() {
            Some(page) => (Some(page), true),
            None => (self.chain.next().and_then(|next| self.pages.take(next)), false),
        };
        let Some(page) = page else { return };
        let Some(first) = page.items.first() else {
            return;
        };
        let (signer, parent, first) = (first.recovered().signer(), first.parent_hash(), first.block());
        let hashes = page.items.iter().map(p2p_validation::Authenticated::hash).collect();
        let (id, peer, before) = (page.id, page.peer, self.chain.mark());
        self.importing = Some(PageImport { id, peer, first, signer, parent, hashes, search, before });
        self.ctx.outputs.push_back(Output::Import { id, from: peer, page: page.items });
    }

    /// The first height that is neither applied nor being imported.
    pub(crate) fn first_to_request(&self) -> Option<BlockNumber> {
        let above = self.importing.as_ref().filter(|page| !page.search).map_or(0, PageImport::last);
        self.chain.applied().max(above).checked_add(1)
    }

    /// The caller has validated a page. Its effect is measured against the head at the time when the page was handed out, as
    /// [`Input::Applied`](crate::Input::Applied) may have told the new one already.
    pub(crate) fn imported(
        &mut self,
        now: Instant,
        id: RequestId,
        head: Option<Head>,
        verdict: ImportVerdict,
    ) {
        let Some(page) = self.importing.take_if(|page| page.id == id) else {
            return;
        };
        self.chain.move_head(head);
        let moved = self.chain.moved_since(page.before);
        let linked = match verdict {
            ImportVerdict::Linked => page.hashes.len(),
            ImportVerdict::Unlinked { index }
            | ImportVerdict::Unusable { index }
            | ImportVerdict::Unconfirmed { index } => index.min(page.hashes.len()),
            ImportVerdict::Deferred => 0,
        };
        if moved != Moved::No {
            self.progressed = true;
            self.reset_backoff();
        }
        self.ancestors.linked(page.hashes.get(..linked).unwrap_or_default());
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
            _ if page.search => self.ancestors_imported(now, &page, linked, moved),
            // What confirms this page may be on the one that was requested to follow it: a longer page has both.
            ImportVerdict::Unconfirmed { .. } if self.pages.begin_at(page.last().saturating_add(1)) => {
                self.pages.clear();
                let applied = self.chain.applied();
                self.ctx.not_validated(now, &page.peer, (applied.saturating_add(1), applied));
            }
            ImportVerdict::Unusable { .. } | ImportVerdict::Unconfirmed { .. } if linked == 0 => {
                self.unusable(now, &page)
            }
            _ => self.page_imported(now, &page, linked),
        }
    }

    /// A page could not be validated: all pages pause, and the same page of the same peer for growing times. Another peer's page
    /// may be one that can be validated.
    fn defer(&mut self, now: Instant, page: &PageImport) {
        self.deferred = Some(after(now, self.ctx.config.backoff.pause(1, &mut self.ctx.rng)));
        if page.search {
            self.ancestors.deferred();
        }
        if let Some(next) = self.chain.next() {
            self.ctx.not_validated(now, &page.peer, (next, self.chain.applied()));
        }
    }

    /// A page of the ancestor search.
    fn ancestors_imported(&mut self, now: Instant, page: &PageImport, linked: usize, moved: Moved) {
        if moved != Moved::No {
            // The fork is found and has won: ordinary pages follow.
            if let Some(Start { signer, .. }) = self.ancestors.start() {
                self.ancestors.failures.succeeded(&signer);
            }
            self.ancestors.stop();
            self.pages.clear();
            self.ctx.peers.reconsider();
            return;
        }
        let claim = self.ctx.peers.get(&page.peer).and_then(|peer| peer.claim);
        match self.ancestors.imported(&self.chain, page.height(linked), claim) {
            Outcome::None => {}
            Outcome::Lost => self.dismiss(now, page.peer, page.tip(), true),
            Outcome::Unlinked(None) => self.dismiss(now, page.peer, page.tip(), false),
            Outcome::Unlinked(start) => self.search_failed(now, page.peer, start),
        }
    }

    /// The peer's claim is no height to reach, as its branch is not the chain. Other heads stay valid.
    fn dismiss(&mut self, now: Instant, peer: PeerId, tip: (BlockNumber, B256), linked: bool) {
        self.ctx.dismiss(now, &peer, tip, linked);
        self.last_claim = self.last_claim.min(self.claim());
    }

    /// The peer does not serve the ancestors of its blocks above the head.
    pub(crate) fn search_failed(&mut self, now: Instant, peer: PeerId, start: Option<Start>) {
        if let Some(Start { signer, tip }) = start {
            self.ancestors.failures.add(now, signer);
            self.dismiss(now, peer, tip, false);
        }
    }

    /// Nothing that the peer has above the head can be used.
    fn nothing_usable(&mut self, now: Instant, peer: PeerId, promises: u32) {
        let applied = self.chain.applied();
        if let Some(next) = self.chain.next() {
            self.ctx.not_served(now, &peer, (next, applied), false);
        }
        self.ctx.lower_claim(&peer, applied);
        self.ctx.promises_failed(now, &peer, promises);
    }

    /// A page above the head begins with a block that a rule refuses: as if the peer had not served it.
    fn unusable(&mut self, now: Instant, page: &PageImport) {
        let applied = self.chain.applied();
        if applied >= page.first {
            return;
        }
        let claim = self.ctx.peers.get(&page.peer).and_then(|peer| peer.claim);
        let top = claim.is_none_or(|claim| claim <= page.first);
        self.ctx.not_served(now, &page.peer, (page.first, applied), top);
        if !top {
            self.ctx.promises_failed(now, &page.peer, 1);
        }
    }

    /// A page above the head.
    fn page_imported(&mut self, now: Instant, page: &PageImport, linked: usize) {
        let applied = self.chain.applied();
        let unmoved = self.chain.next() == Some(page.first);
        if applied >= page.last() || (linked == 0 && !unmoved) {
            return;
        }
        // Nothing more can be requested from a peer that has disconnected.
        let there = self.ctx.peers.get(&page.peer).filter(|peer| peer.is_available());
        let more = there.is_some_and(|peer| peer.claims(page.last().saturating_add(1)));
        let counts = there.is_some_and(|peer| peer.counted_claim(applied).is_some());
        let all = linked == page.hashes.len();
        let begun = if linked == 0 && applied > self.chain.base {
            if there.is_none() {
                return;
            }
            self.search_below(now, page, counts)
        } else if all && unmoved && more {
            let next = page.last().saturating_add(1);
            self.ancestors.follow(&self.ctx.config, now, next, (page.peer, counts))
        } else if linked == 0 {
            // It does not meet the base.
            return self.nothing_usable(now, page.peer, MAX_FAILED_PROMISES);
        } else if unmoved {
            // All of the page, or a part of it, links, and the head has not moved.
            return self.dismiss(now, page.peer, page.tip(), all);
        } else {
            // The next block of the page does not link. Others may have one that does.
            return self.ctx.not_served(now, &page.peer, (applied.saturating_add(1), applied), false);
        };
        if !begun {
            // One search at a time: the page is requested again after a pause.
            self.ctx.not_validated(now, &page.peer, (page.first, applied));
        }
    }

    /// A page above the head does not link: searches for the point where the peer's chain leaves ours. False if that must wait
    /// for another search.
    fn search_below(&mut self, now: Instant, page: &PageImport, counts: bool) -> bool {
        let Some(peer) = self.ctx.peers.get(&page.peer) else {
            return true;
        };
        let (repeated, before) = (peer.dismissed_claim().is_some(), peer.dismissed);
        let grown = before.is_some_and(|before| !before.linked && page.follows(&before.tip));
        let exhausted = self.ancestors.failures.exhausted(now, &page.signer, self.ctx.config.exclude_for);
        if !repeated && (grown || exhausted) {
            self.dismiss(now, page.peer, page.tip(), false);
        }
        if !repeated && grown {
            // The branch has grown. That does not make it link.
            return true;
        }
        let (peer, start) =
            ((page.peer, counts && !exhausted), Start { signer: page.signer, tip: page.tip() });
        self.ancestors.search(&self.ctx.config, now, &self.chain, peer, start) || exhausted
    }
}
