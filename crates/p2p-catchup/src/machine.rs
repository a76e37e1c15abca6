//! The state machine: each input is handled, then everything that can be done is planned.

use std::time::Instant;

use p2p_types::{BlockNumber, Head, HeadSyncStatus, Offence, PeerId, UnixSeconds};

use crate::{
    CatchUpConfig, CatchUpConfigError, Failure, Input, Output, Reply, RequestId,
    ancestor_search::AncestorSearch,
    chain::{Chain, Moved},
    context::{Context, PendingRequest, Purpose},
    deadlines::Deadlines,
    heads::{Heads, Progress},
    page_import::PageImport,
    pages::{Pages, Prefix},
    peer::MAX_FAILED_PROMISES,
    throughput::Throughput,
    txlists::TxLists,
    waiting::{Missing, Waiting},
};

/// Brings a node from any gap to live. See the crate's documentation for the rules.
///
/// Drive it with [`handle`](Self::handle) for each input; then take outputs until there is none, and come
/// back with the next input, or with [`Input::Tick`] at [`next_deadline`](Self::next_deadline).
#[derive(Debug)]
#[must_use]
pub struct CatchUp {
    pub(crate) ctx: Context,
    pub(crate) chain: Chain,
    pub(crate) heads: Heads,
    pub(crate) pages: Pages,
    pub(crate) ancestors: AncestorSearch,
    pub(crate) txlists: TxLists,
    /// The page that the caller is importing.
    pub(crate) importing: Option<PageImport>,
    /// The last page could not be validated: no page is imported before this.
    pub(crate) deferred: Option<Instant>,
    pub(crate) waiting: Waiting,
    /// What is missing, as of the last planning.
    pub(crate) missing: Missing,
    /// Pages have moved the head since heads were requested last.
    pub(crate) progressed: bool,
    /// The highest claim that counted at the last planning.
    pub(crate) last_claim: BlockNumber,
    /// All peers have been asked, and nothing has come.
    pub(crate) stalled: bool,
    pub(crate) throughput: Throughput,
    /// The wall clock's time at one moment.
    pub(crate) wall: Option<(Instant, UnixSeconds)>,
    pub(crate) stalled_since: Option<UnixSeconds>,
    /// By the schedule, no block can be above this.
    pub(crate) ceiling: Option<BlockNumber>,
    deadline: Option<Instant>,
    pub(crate) status: HeadSyncStatus,
    emitted: HeadSyncStatus,
}

impl CatchUp {
    /// A machine that waits for [`Input::Start`]. The same seed and the same inputs give the same outputs.
    ///
    /// # Errors
    /// [`CatchUpConfigError`] if the settings do not go together.
    pub fn new(config: CatchUpConfig, seed: u64) -> Result<Self, CatchUpConfigError> {
        config.check()?;
        Ok(Self {
            ctx: Context::new(config, seed),
            chain: Chain::default(),
            heads: Heads::default(),
            pages: Pages::default(),
            ancestors: AncestorSearch::default(),
            txlists: TxLists::default(),
            importing: None,
            deferred: None,
            waiting: Waiting::default(),
            missing: Missing::default(),
            progressed: false,
            last_claim: 0,
            stalled: false,
            throughput: Throughput::default(),
            wall: None,
            stalled_since: None,
            ceiling: None,
            deadline: None,
            status: HeadSyncStatus::Idle,
            emitted: HeadSyncStatus::Idle,
        })
    }

    /// Sets the wall clock's time at a moment; times in the status follow from it. Without it they count from the first input.
    pub const fn set_wall_clock(&mut self, now: Instant, unix: UnixSeconds) {
        self.wall = Some((now, unix));
    }

    /// Handles an input. `now` must not go back.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let mut deadlines = Deadlines::new(now);
        self.wall.get_or_insert((now, UnixSeconds::new(0)));
        let (started, before) = (self.chain.started, self.chain.applied());
        self.input(now, input);
        match self.chain.applied() {
            applied if applied < before || started != self.chain.started => {
                self.throughput.restart(now, applied)
            }
            applied if applied > before => self.throughput.reached(now, applied),
            _ => {}
        }
        for (id, peer) in self.ctx.overdue(&mut deadlines) {
            self.fail(now, id, peer, Failure::NotAnswered);
        }
        self.status = self.plan(&mut deadlines);
        // The new requests have deadlines too.
        self.ctx.overdue(&mut deadlines);
        self.deadline = deadlines.next();
    }

    /// The next output, if there is one. The status comes last, and only if it has changed.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.ctx.outputs.pop_front() {
            return Some(output);
        }
        (self.emitted != self.status).then(|| {
            self.emitted = self.status;
            Output::Status(self.status)
        })
    }

    /// When to call with [`Input::Tick`] if nothing else happens; none if there is nothing to wait for.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The current status.
    #[must_use]
    pub const fn status(&self) -> HeadSyncStatus {
        self.status
    }

    fn input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start { base, head } => {
                self.settled(base);
                self.applied(head);
            }
            Input::Settled { base } if self.chain.started => self.settled(base),
            Input::Settled { .. } => {}
            Input::PeerUp(peer) => {
                if self.ctx.peers.up(peer, now, &self.ctx.config) && self.chain.started {
                    self.reset_backoff();
                    self.heads.request_from(&mut self.ctx, now, peer);
                }
            }
            Input::PeerDown(peer) => self.peer_down(now, peer),
            Input::Reply { id, from, reply } => self.reply(now, id, from, reply),
            Input::Imported { id, head, verdict } => self.imported(now, id, head, verdict),
            Input::Applied { head } => self.applied(head),
            Input::NotStored { block } => {
                if self.waiting.not_stored(now, self.chain.applied(), block) {
                    self.reset_backoff();
                }
            }
            Input::Orphan { block, parent, signer } => {
                let orphan = (block.saturating_sub(1), signer, parent);
                if self.ancestors.orphans.add(&self.ctx, now, &self.chain, orphan) {
                    self.reset_backoff();
                }
            }
            Input::OrphanGone { parent } => self.ancestors.orphans.remove(&parent),
            Input::Waiting { highest } => {
                if self.waiting.set(now, self.chain.applied(), highest) {
                    self.reset_backoff();
                }
            }
            Input::TxListMissing { block, hash, live } => {
                self.txlists.add(&mut self.ctx, now, block, hash, live);
            }
            Input::TxListStored { hash } => {
                if self.txlists.stored(&hash) {
                    self.reset_backoff();
                }
            }
            Input::TxListNotNeeded { block, hash } => self.txlists.not_needed(block, hash),
            Input::Ceiling { block } => self.ceiling = Some(block),
            Input::RateLimit { peer, limit } => {
                if let Some(peer) = self.ctx.peers.get_mut(&peer) {
                    peer.set_rate_limit(limit);
                }
            }
            Input::Tick => {}
        }
    }

    /// Something has come that may help: the node is not stalled, and heads need not wait.
    pub(crate) const fn reset_backoff(&mut self) {
        self.stalled = false;
        self.heads.reset_backoff();
    }

    /// The base has moved. The chain above it stays as it is.
    fn settled(&mut self, base: BlockNumber) {
        let moved = self.chain.settle(base);
        self.ancestors.settle(base);
        self.moved(moved);
    }

    /// This is the head now.
    fn applied(&mut self, head: Option<Head>) {
        let moved = self.chain.move_head(head);
        if let Some(head) = self.chain.head() {
            self.ancestors.linked(&[head.hash]);
        }
        self.moved(moved);
    }

    fn moved(&mut self, moved: Moved) {
        match moved {
            Moved::No => {}
            Moved::Up => self.reset_backoff(),
            // The import may be the reason. Its verdict will tell.
            Moved::Back if self.importing.is_some() => {
                self.pages.clear();
                self.heads.invalidate();
                self.reset_backoff();
            }
            Moved::Back => self.reorged(),
        }
    }

    /// The head has moved back, and not by a page: no claim can be relied on.
    pub(crate) fn reorged(&mut self) {
        self.pages.clear();
        self.ancestors.stop();
        self.ctx.peers.forget_claims();
        self.heads.invalidate();
        self.reset_backoff();
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress { applied: self.chain.applied(), missing: self.missing.height }
    }

    fn peer_down(&mut self, now: Instant, peer: PeerId) {
        for id in self.ctx.pending_of(&peer) {
            self.fail(now, id, peer, Failure::NotAnswered);
        }
        self.ancestors.stop_peer(&peer);
        let judged = self.importing.as_ref().is_some_and(|page| page.peer == peer);
        self.ctx.peers.down(&peer, now, judged);
    }

    fn reply(&mut self, now: Instant, id: RequestId, from: PeerId, reply: Reply) {
        if let Reply::Failed(failure) = reply {
            return self.fail(now, id, from, failure);
        }
        let Some(asked) = self.ctx.take_pending(id, &from) else {
            return;
        };
        self.ctx.answered(now, &asked);
        match (asked.purpose, reply) {
            (Purpose::Head, Reply::Head { block }) => {
                let progress = self.progress();
                self.heads.answered(&mut self.ctx, now, (id, from), block, progress);
            }
            (Purpose::Page(first), Reply::Page(items)) => {
                let (prefix, promised) = self.pages.received(id, first, items);
                self.page_received(now, from, (first, promised), prefix);
            }
            (Purpose::Ancestors, Reply::Page(items)) => {
                let first = self.ancestors.from().unwrap_or_default();
                let start = self.ancestors.start();
                let forked_peer = self.ancestors.forked_peer().is_some();
                let count = self.ctx.config.page_size;
                match self.ancestors.received(&self.chain, (id, from), count, items) {
                    Prefix::Empty => {
                        self.ctx.lower_claim(&from, first.saturating_sub(1));
                        self.ctx.promises_failed(now, &from, MAX_FAILED_PROMISES);
                    }
                    Prefix::Unusable if forked_peer && self.ancestors.forked_peer().is_none() => {
                        self.ctx.promises_failed(now, &from, 1);
                        self.search_failed(now, from, start);
                    }
                    Prefix::Unusable | Prefix::Blocks { .. } | Prefix::NotRequested => {}
                }
            }
            (Purpose::TxList(hash), Reply::TxList(txlist)) if txlist.hash() == hash => {
                if self.txlists.handed_out(id, &hash, txlist.bytes().len().max(1)) {
                    self.reset_backoff();
                    self.ctx.outputs.push_back(Output::TxList { from, txlist });
                }
                if let Some(peer) = self.ctx.peers.get_mut(&from) {
                    peer.served();
                }
            }
            (Purpose::TxList(hash), Reply::TxList(_)) => {
                self.ctx.report(now, from, Offence::WrongAnswer);
                self.txlists.failed(id, &hash, from, true);
            }
            (Purpose::TxList(hash), Reply::TxListNotFound) => {
                if let Some(peer) = self.ctx.peers.get_mut(&from) {
                    peer.failures = peer.failures.saturating_sub(1);
                    peer.misses = peer.misses.saturating_add(1);
                }
                self.txlists.failed(id, &hash, from, true);
            }
            // A reply to another kind of request is the caller's mistake, not the peer's.
            (_, _) => self.end(now, id, &asked, Failure::Local),
        }
    }

    /// What a page above the head from `first` on says about its peer, which claimed to have it up to `promised`.
    fn page_received(
        &mut self,
        now: Instant,
        peer: PeerId,
        (first, promised): (BlockNumber, BlockNumber),
        prefix: Prefix,
    ) {
        let applied = self.chain.applied();
        match prefix {
            Prefix::NotRequested => {}
            Prefix::Empty if promised > first => {
                self.ctx.lower_claim(&peer, first.saturating_sub(1));
                self.ctx.promises_failed(now, &peer, MAX_FAILED_PROMISES);
            }
            Prefix::Empty | Prefix::Unusable => {
                let top = promised <= first;
                self.ctx.not_served(now, &peer, (first, applied), top);
                if !top {
                    self.ctx.promises_failed(now, &peer, 1);
                }
            }
            Prefix::Blocks { last, cut: true } => {
                let next = last.saturating_add(1);
                self.ctx.not_served(now, &peer, (next, applied), promised == next);
            }
            Prefix::Blocks { last, cut: false } if last < promised => self.ctx.lower_claim(&peer, last),
            Prefix::Blocks { .. } => {}
        }
    }

    fn fail(&mut self, now: Instant, id: RequestId, peer: PeerId, failure: Failure) {
        if let Some(asked) = self.ctx.take_pending(id, &peer) {
            self.end(now, id, &asked, failure);
        }
    }

    /// A request has ended without a usable response.
    fn end(&mut self, now: Instant, id: RequestId, asked: &PendingRequest, failure: Failure) {
        let peer = asked.peer;
        let page = matches!(asked.purpose, Purpose::Page(_) | Purpose::Ancestors);
        match failure {
            Failure::NotAnswered => self.ctx.unanswered(now, &peer, page),
            Failure::Local => self.ctx.pause(now, &peer),
            Failure::Misbehaved(offence) => self.ctx.report(now, peer, offence),
            Failure::Charged(_) => self.ctx.add_fault(now, &peer),
        }
        match asked.purpose {
            Purpose::Head => {
                let progress = self.progress();
                self.heads.failed(&mut self.ctx, now, id, progress);
            }
            Purpose::Page(from) => self.pages.failed(id, from),
            Purpose::Ancestors => {
                let trusted = self.ctx.peers.get(&peer).is_some_and(|peer| peer.is_trusted());
                self.ancestors.failed(id, trusted);
            }
            Purpose::TxList(hash) => {
                let denied = matches!(failure, Failure::Misbehaved(_) | Failure::Charged(_));
                self.txlists.failed(id, &hash, peer, denied);
            }
        }
    }
}
