//! The machine: inputs are dealt with, then everything that can be done is done.

use std::time::Instant;

use p2p_types::{BlockNumber, Head, HeadSyncStatus, Offence, PeerId, UnixSeconds};

use crate::{
    CatchUpConfig, ConfigError, Failure, Input, Output, Reply, RequestId,
    chain::{Chain, Moved},
    context::{Asked, Context, Purpose},
    heads::{Heads, Stand},
    imports::Importing,
    pages::{Pages, Prefix},
    peers::PATIENCE,
    rate::Rate,
    time::Agenda,
    txlists::TxLists,
    waiting::{Missing, Waiting},
    walks::Walks,
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
    pub(crate) walks: Walks,
    pub(crate) txlists: TxLists,
    /// The page that the caller is importing.
    pub(crate) importing: Option<Importing>,
    /// The last page could not be judged: nothing is imported before.
    pub(crate) deferred: Option<Instant>,
    pub(crate) waiting: Waiting,
    /// What was missing when it was last looked at.
    pub(crate) missing: Missing,
    /// Pages have moved the head since heads were asked for the last time.
    pub(crate) progressed: bool,
    /// The highest claim that counted when it was last looked at.
    pub(crate) last_claim: BlockNumber,
    /// Everybody has been asked in vain, and nothing has come since.
    pub(crate) stuck: bool,
    pub(crate) rate: Rate,
    /// The wall clock's time at a moment.
    pub(crate) wall: Option<(Instant, UnixSeconds)>,
    pub(crate) stalled_since: Option<UnixSeconds>,
    /// No block can be above this, by the schedule.
    pub(crate) ceiling: Option<BlockNumber>,
    deadline: Option<Instant>,
    pub(crate) status: HeadSyncStatus,
    told: HeadSyncStatus,
}

impl CatchUp {
    /// A machine that waits for [`Input::Start`]. The same seed and the same inputs give the same outputs.
    ///
    /// # Errors
    /// [`ConfigError`] if the settings do not go together.
    pub fn new(config: CatchUpConfig, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            ctx: Context::new(config, seed),
            chain: Chain::default(),
            heads: Heads::default(),
            pages: Pages::default(),
            walks: Walks::default(),
            txlists: TxLists::default(),
            importing: None,
            deferred: None,
            waiting: Waiting::default(),
            missing: Missing::default(),
            progressed: false,
            last_claim: 0,
            stuck: false,
            rate: Rate::default(),
            wall: None,
            stalled_since: None,
            ceiling: None,
            deadline: None,
            status: HeadSyncStatus::Idle,
            told: HeadSyncStatus::Idle,
        })
    }

    /// Says what the wall clock shows at a moment: what is told of time in the status follows from it. Without
    /// it, time is counted from the first input on.
    pub const fn set_wall_clock(&mut self, now: Instant, unix: UnixSeconds) {
        self.wall = Some((now, unix));
    }

    /// Takes in what happened. `now` must not go back.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let mut agenda = Agenda::new(now);
        self.wall.get_or_insert((now, UnixSeconds::new(0)));
        let (started, before) = (self.chain.started, self.chain.applied());
        self.take_in(now, input);
        match self.chain.applied() {
            applied if applied < before || started != self.chain.started => self.rate.restart(now, applied),
            applied if applied > before => self.rate.reached(now, applied),
            _ => {}
        }
        for (id, peer) in self.ctx.overdue(&mut agenda) {
            self.fail(now, id, peer, Failure::NotAnswered);
        }
        self.status = self.plan(&mut agenda);
        // What was asked for just now has a deadline too.
        self.ctx.overdue(&mut agenda);
        self.deadline = agenda.next();
    }

    /// The next thing to do, if there is one. The status comes last, and only if it is another than the
    /// last one that came out here.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.ctx.outputs.pop_front() {
            return Some(output);
        }
        (self.told != self.status).then(|| {
            self.told = self.status;
            Output::Status(self.status)
        })
    }

    /// When to come back with [`Input::Tick`] if nothing else happens; none if there is nothing to wait for.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Where catch-up stands.
    #[must_use]
    pub const fn status(&self) -> HeadSyncStatus {
        self.status
    }

    fn take_in(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start { base, head } => {
                self.settled(base);
                self.applied(head);
            }
            Input::Settled { base } if self.chain.started => self.settled(base),
            Input::Settled { .. } => {}
            Input::PeerUp(peer) => {
                if self.ctx.peers.up(peer) && self.chain.started {
                    self.hope();
                    self.heads.greet(&mut self.ctx, now, peer);
                }
            }
            Input::PeerDown(peer) => self.peer_down(now, peer),
            Input::Reply { id, from, reply } => self.reply(now, id, from, reply),
            Input::Imported { id, head, verdict } => self.imported(now, id, head, verdict),
            Input::Applied { head } => self.applied(head),
            Input::Seen { block } => {
                if self.waiting.see(now, self.chain.applied(), block) {
                    self.hope();
                }
            }
            Input::Orphan { block, parent, signer } => {
                let orphan = (block.saturating_sub(1), signer, parent);
                if self.walks.orphans.add(&self.ctx, now, &self.chain, orphan) {
                    self.hope();
                }
            }
            Input::OrphanGone { parent } => self.walks.orphans.remove(&parent),
            Input::Waiting { highest } => {
                if self.waiting.set(now, self.chain.applied(), highest) {
                    self.hope();
                }
            }
            Input::TxListWanted { block, hash, live } => {
                self.txlists.want(&mut self.ctx, now, block, hash, live);
            }
            Input::TxListArrived { hash } => {
                if self.txlists.arrived(&hash) {
                    self.hope();
                }
            }
            Input::TxListUnwanted { block, hash } => self.txlists.unwant(block, hash),
            Input::Ceiling { block } => self.ceiling = Some(block),
            Input::Pace { peer, pace } => {
                if let Some(peer) = self.ctx.peers.get_mut(&peer) {
                    peer.learn(pace);
                }
            }
            Input::Tick => {}
        }
    }

    /// Something came that may help.
    pub(crate) const fn hope(&mut self) {
        self.stuck = false;
        self.heads.encourage();
    }

    /// The base has moved. What is above it stays as it is.
    fn settled(&mut self, base: BlockNumber) {
        let moved = self.chain.settle(base);
        self.walks.settle(base);
        self.moved(moved);
    }

    /// The head is this now.
    fn applied(&mut self, head: Option<Head>) {
        let moved = self.chain.move_head(head);
        if let Some(head) = self.chain.head() {
            self.walks.linked(&[head.hash]);
        }
        self.moved(moved);
    }

    fn moved(&mut self, moved: Moved) {
        match moved {
            Moved::No => {}
            Moved::Up => self.hope(),
            // The import may be the reason; its end will tell.
            Moved::Back if self.importing.is_some() => {
                self.pages.clear();
                self.heads.doubt();
                self.hope();
            }
            Moved::Back => self.reorged(),
        }
    }

    /// The head has moved back, and not by a page: whatever peers have said is in doubt.
    pub(crate) fn reorged(&mut self) {
        self.pages.clear();
        self.walks.stop();
        self.ctx.peers.forget_claims();
        self.heads.doubt();
        self.hope();
    }

    pub(crate) fn stand(&self) -> Stand {
        Stand { applied: self.chain.applied(), missing: self.missing.height }
    }

    fn peer_down(&mut self, now: Instant, peer: PeerId) {
        for id in self.ctx.open_of(&peer) {
            self.fail(now, id, peer, Failure::NotAnswered);
        }
        self.walks.stop_peer(&peer);
        let judged = self.importing.as_ref().is_some_and(|page| page.peer == peer);
        self.ctx.peers.down(&peer, now, judged);
    }

    fn reply(&mut self, now: Instant, id: RequestId, from: PeerId, reply: Reply) {
        if let Reply::Failed(failure) = reply {
            return self.fail(now, id, from, failure);
        }
        let Some(asked) = self.ctx.close(id, &from) else { return };
        self.ctx.answered(now, &asked);
        match (asked.purpose, reply) {
            (Purpose::Head, Reply::Head { block }) => {
                let stand = self.stand();
                self.heads.heard(&mut self.ctx, now, (id, from), block, stand);
            }
            (Purpose::Page(first), Reply::Page(items)) => {
                let (prefix, promised) = self.pages.fill(id, first, items);
                self.weigh(now, from, (first, promised), prefix);
            }
            (Purpose::Walk, Reply::Page(items)) => {
                let first = self.walks.from().unwrap_or_default();
                let start = self.walks.start();
                let strayed = self.walks.strayed().is_some();
                let count = self.ctx.config.page_size;
                match self.walks.fill(&self.chain, (id, from), count, items) {
                    Prefix::Empty => {
                        self.ctx.lower_claim(&from, first.saturating_sub(1));
                        self.ctx.unkept(now, &from, PATIENCE);
                    }
                    Prefix::Unusable if strayed && self.walks.strayed().is_none() => {
                        self.ctx.unkept(now, &from, 1);
                        self.search_failed(now, from, start);
                    }
                    Prefix::Unusable | Prefix::Blocks { .. } | Prefix::Unwanted => {}
                }
            }
            (Purpose::TxList(hash), Reply::TxList(txlist)) if txlist.hash() == hash => {
                if self.txlists.hand(id, &hash, txlist.bytes().len().max(1)) {
                    self.hope();
                    self.ctx.outputs.push_back(Output::TxList { from, txlist });
                }
                if let Some(peer) = self.ctx.peers.get_mut(&from) {
                    peer.failures = 0;
                    peer.misses /= 2;
                }
            }
            (Purpose::TxList(hash), Reply::TxList(_)) => {
                self.ctx.report(now, from, Offence::WrongAnswer);
                self.txlists.lost(id, &hash, from, true);
            }
            (Purpose::TxList(hash), Reply::TxListNotFound) => {
                if let Some(peer) = self.ctx.peers.get_mut(&from) {
                    peer.failures = peer.failures.saturating_sub(1);
                    peer.misses = peer.misses.saturating_add(1);
                }
                self.txlists.lost(id, &hash, from, true);
            }
            // A reply to another kind of question is the caller's mix-up, not the peer's.
            (_, _) => self.end(now, id, &asked, Failure::Local),
        }
    }

    /// What a page above the head from `first` on says about its peer, which claimed to have it up to `promised`.
    fn weigh(
        &mut self,
        now: Instant,
        peer: PeerId,
        (first, promised): (BlockNumber, BlockNumber),
        prefix: Prefix,
    ) {
        let applied = self.chain.applied();
        match prefix {
            Prefix::Unwanted => {}
            Prefix::Empty if promised > first => {
                self.ctx.lower_claim(&peer, first.saturating_sub(1));
                self.ctx.unkept(now, &peer, PATIENCE);
            }
            Prefix::Empty | Prefix::Unusable => {
                let top = promised <= first;
                self.ctx.not_served(now, &peer, (first, applied), top);
                if !top {
                    self.ctx.unkept(now, &peer, 1);
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
        if let Some(asked) = self.ctx.close(id, &peer) {
            self.end(now, id, &asked, failure);
        }
    }

    /// A request has ended without a usable answer.
    fn end(&mut self, now: Instant, id: RequestId, asked: &Asked, failure: Failure) {
        let peer = asked.peer;
        let page = matches!(asked.purpose, Purpose::Page(_) | Purpose::Walk);
        match failure {
            Failure::NotAnswered => self.ctx.unanswered(now, &peer, page),
            Failure::Local => self.ctx.pause(now, &peer),
            Failure::Misbehaved(offence) => self.ctx.report(now, peer, offence),
            Failure::Charged(_) => self.ctx.strike(now, &peer),
        }
        match asked.purpose {
            Purpose::Head => {
                let stand = self.stand();
                self.heads.lost(&mut self.ctx, now, id, stand);
            }
            Purpose::Page(from) => self.pages.lost(id, from),
            Purpose::Walk => {
                let trusted = self.ctx.peers.get(&peer).is_some_and(|peer| peer.is_trusted());
                self.walks.lost(id, trusted);
            }
            Purpose::TxList(hash) => {
                let denied = matches!(failure, Failure::Misbehaved(_) | Failure::Charged(_));
                self.txlists.lost(id, &hash, peer, denied);
            }
        }
    }
}
