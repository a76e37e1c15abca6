//! Pages on their way through the caller's validator and store: one at a time.

use std::time::Instant;

use p2p_types::{B256, BlockNumber, Head, PeerId};

use crate::{CatchUp, ImportVerdict, Output, RequestId, chain::Moved, peers::PATIENCE, walks::Step};

/// The page that is being imported.
#[derive(Debug)]
pub(crate) struct Importing {
    id: RequestId,
    peer: PeerId,
    first: BlockNumber,
    hashes: Vec<B256>,
    /// It belongs to a walk below the head.
    walk: bool,
    /// The head has been moved back since: only offences count.
    outdated: bool,
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
        let Some(first) = page.items.first().map(p2p_validation::Authenticated::block) else { return };
        let hashes = page.items.iter().map(p2p_validation::Authenticated::hash).collect();
        self.importing =
            Some(Importing { id: page.id, peer: page.peer, first, hashes, walk, outdated: false });
        self.ctx.outputs.push_back(Output::Import { id: page.id, from: page.peer, page: page.items });
    }

    /// The first height that is neither applied nor being imported.
    pub(crate) fn first_to_ask(&self) -> Option<BlockNumber> {
        let above = self.importing.as_ref().filter(|page| !page.walk).map_or(0, Importing::last);
        self.chain.applied().max(above).checked_add(1)
    }

    pub(crate) const fn outdate_import(&mut self) {
        if let Some(page) = &mut self.importing {
            page.outdated = true;
        }
    }

    /// The caller has judged a page.
    pub(crate) fn imported(
        &mut self,
        now: Instant,
        id: RequestId,
        head: Option<Head>,
        verdict: ImportVerdict,
    ) {
        let Some(page) = self.importing.take_if(|page| page.id == id) else { return };
        let moved = self.chain.move_head(head);
        if moved != Moved::No {
            self.progressed = true;
            self.hope();
        }
        if moved == Moved::Back {
            self.pages.clear();
        }
        let linked = match verdict {
            ImportVerdict::Linked => page.hashes.len(),
            ImportVerdict::Unlinked { index } => index.min(page.hashes.len()),
            ImportVerdict::Faulty(_) | ImportVerdict::Deferred => 0,
        };
        self.walks.settle(page.hashes.iter().take(linked).copied());
        if linked > 0
            && moved != Moved::No
            && let Some(peer) = self.ctx.peers.get_mut(&page.peer)
        {
            peer.delivered();
        }
        match verdict {
            ImportVerdict::Faulty(offence) => {
                self.ctx.report(now, page.peer, offence);
                self.walks.stop_peer(&page.peer);
            }
            ImportVerdict::Deferred => {
                self.ctx.unanswered(now, &page.peer, false);
                if page.walk {
                    self.walks.stop_peer(&page.peer);
                }
            }
            ImportVerdict::Linked | ImportVerdict::Unlinked { .. } if page.outdated => {}
            ImportVerdict::Linked | ImportVerdict::Unlinked { .. } if page.walk => {
                self.walked(now, &page, linked, moved);
            }
            ImportVerdict::Linked | ImportVerdict::Unlinked { .. } => self.extended(now, &page, linked),
        }
    }

    /// A page from below the head.
    fn walked(&mut self, now: Instant, page: &Importing, linked: usize, moved: Moved) {
        if moved != Moved::No {
            // The fork is found and taken; from here on it goes up in pages again.
            self.walks.stop();
            self.pages.clear();
            return;
        }
        let promises = match self.walks.imported(&self.chain, page.height(linked)) {
            Step::On => return,
            Step::Nothing => 1,
            Step::Elsewhere => PATIENCE,
        };
        self.ctx.lower_claim(&page.peer, self.chain.applied());
        self.ctx.unkept(now, &page.peer, promises);
    }

    /// A page from above the head.
    fn extended(&mut self, now: Instant, page: &Importing, linked: usize) {
        let applied = self.chain.applied();
        let unmoved = self.chain.next() == Some(page.first);
        if applied >= page.last() || (linked == 0 && !unmoved) {
            return;
        }
        let there = self.ctx.peers.get(&page.peer).is_some_and(|peer| peer.is_askable());
        if linked == 0 && applied > self.chain.base {
            // Of a peer that has left, the fork cannot be asked.
            if there && !self.walks.descend(&self.chain, page.peer) {
                // One fork at a time; this one comes up again after a pause.
                self.ctx.unanswered(now, &page.peer, true);
            }
            return;
        }
        self.ctx.lower_claim(&page.peer, applied);
        if unmoved {
            // It does not meet the base, or all of it links and yet the head stays.
            self.ctx.unkept(now, &page.peer, PATIENCE);
        }
    }
}
