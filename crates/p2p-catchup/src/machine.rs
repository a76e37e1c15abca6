//! The machine: inputs are dealt with, then everything that can be done is done.

use std::time::Instant;

use p2p_types::{BlockNumber, Head, HeadSyncStatus, Offence, PeerId, Stall, UnixSeconds};

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
    waiting: Waiting,
    /// What was missing when it was last looked at.
    missing: Missing,
    /// Pages have moved the head since heads were asked for the last time.
    pub(crate) progressed: bool,
    /// The highest claim that counted when it was last looked at.
    last_claim: BlockNumber,
    /// Everybody has been asked in vain, and nothing has come since.
    pub(crate) stuck: bool,
    rate: Rate,
    /// The wall clock's time at a moment.
    wall: Option<(Instant, UnixSeconds)>,
    stalled_since: Option<UnixSeconds>,
    /// No block can be above this, by the schedule.
    ceiling: Option<BlockNumber>,
    deadline: Option<Instant>,
    status: HeadSyncStatus,
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

    fn stand(&self) -> Stand {
        Stand { applied: self.chain.applied(), missing: self.missing.height }
    }

    fn peer_down(&mut self, now: Instant, peer: PeerId) {
        for id in self.ctx.open_of(&peer) {
            self.fail(now, id, peer, Failure::NotAnswered);
        }
        self.walks.stop_peer(&peer);
        self.ctx.peers.down(&peer, now);
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
                let strayed = self.walks.strayed().is_some();
                let count = self.ctx.config.page_size;
                match self.walks.fill(&self.chain, (id, from), count, items) {
                    Prefix::Empty => {
                        self.ctx.lower_claim(&from, first.saturating_sub(1));
                        self.ctx.unkept(now, &from, PATIENCE);
                    }
                    Prefix::Unusable if strayed && self.walks.strayed().is_none() => {
                        self.ctx.unkept(now, &from, 1);
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
                let one_too_high = promised <= first;
                self.ctx.not_served(now, &peer, (first, applied), one_too_high);
                if !one_too_high {
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

    /// The highest claim that counts, as far as the schedule allows it; 0 if none does.
    fn claim(&self) -> BlockNumber {
        let claim = self.ctx.peers.best_claim(self.chain.applied()).unwrap_or_default();
        self.ceiling.map_or(claim, |ceiling| claim.min(ceiling))
    }

    /// The height to reach, by the claims that count and by what is missing.
    fn target(&self) -> BlockNumber {
        self.chain.applied().max(self.missing.height).max(self.claim())
    }

    /// Looks at what is missing, and at whether claims are gone.
    fn look(&mut self, agenda: &mut Agenda) {
        let (applied, claim) = (self.chain.applied(), self.claim());
        let (config, asked) = (&self.ctx.config, self.heads.asked());
        self.missing = self.waiting.missing(config, agenda, (applied, claim), asked);
        self.walks.orphans.missing(&self.ctx, agenda, applied, asked, &mut self.missing);
        if claim < self.last_claim && self.last_claim > applied {
            // A claim is gone that was to be reached: withdrawn, not kept, or its peer has left.
            self.heads.doubt();
        }
        self.last_claim = claim;
    }

    /// Does what can be done, and says where that leaves us.
    fn plan(&mut self, agenda: &mut Agenda) -> HeadSyncStatus {
        if !self.chain.started {
            return HeadSyncStatus::WaitingForL2;
        }
        let now = agenda.now();
        let (strikes, interval) = (self.ctx.config.max_strikes.get(), self.ctx.config.leave_out);
        self.ctx.peers.readmit(agenda, strikes, interval);
        self.look(agenda);
        if self.progressed && self.importing.is_none() && self.chain.applied() >= self.target() {
            // The end is reached that peers told of a while ago: is it still the end?
            self.progressed = false;
            self.heads.doubt();
        }
        let stand = self.stand();
        self.heads.plan(&mut self.ctx, agenda, stand, self.missing.since);

        let pausing = self.deferred.is_some_and(|until| !agenda.due(until));
        if !pausing && self.txlists.wanted() < self.ctx.config.wanted_limit.get() {
            self.walks.plan(&mut self.ctx, agenda, &self.chain, self.heads.was_heard());
            // An orphan that everybody was asked for is gone.
            self.look(agenda);
            self.import_next();
            if let Some(from) = self.first_to_ask() {
                let range = (from, self.target());
                self.pages.plan(&mut self.ctx, agenda, range, self.walks.strayed());
            }
        }
        let txlists_in_grace = self.txlists.plan(&mut self.ctx, agenda);
        // What we could not judge will be asked for again: nobody has failed to deliver.
        let in_grace =
            txlists_in_grace || self.missing.in_grace || self.deferred.is_some() || self.heads.is_coming(now);
        self.judge(agenda, in_grace)
    }

    fn judge(&mut self, agenda: &mut Agenda, in_grace: bool) -> HeadSyncStatus {
        let (applied, target) = (self.chain.applied(), self.target());
        let peers = self.ctx.peers.askable().count();
        let txlists_missing = self.txlists.missing();
        let complete = applied >= target && txlists_missing == 0 && !self.missing.sibling;
        // The end of an import says whether it was the last one.
        let ended = self.importing.is_none() || self.status.is_live();
        let confirmed = self.heads.are_confirmed(&self.ctx, agenda);
        if complete && confirmed && ended && self.walks.strayed().is_none() {
            (self.stuck, self.stalled_since) = (false, None);
            return HeadSyncStatus::Live { head: self.chain.head() };
        }
        let at_work = self.ctx.has_open() || self.importing.is_some() || self.txlists.is_storing();
        let idle = !at_work && !in_grace && !agenda.is_paced();
        // Without anything that is known to be missing, this is only not confirmed.
        let short = !complete || self.ctx.peers.anybody_claims_above(applied);
        self.stuck = short && (self.stuck || (idle && peers > 0));
        let why = match self.txlists.lowest() {
            _ if peers == 0 => Stall::NoPeers,
            _ if !self.stuck => {
                self.stalled_since = None;
                return HeadSyncStatus::Syncing {
                    applied,
                    seen: applied.max(self.missing.seen),
                    target,
                    commitments_per_second: self.rate.per_second(agenda),
                    txlists_missing,
                    peers,
                };
            }
            Some(lowest) if applied >= target && txlists_missing > 0 => {
                Stall::WaitingForData { lowest, txlists: txlists_missing }
            }
            _ => Stall::NothingDelivered,
        };
        let since = *self.stalled_since.get_or_insert(unix(self.wall, agenda.now()));
        HeadSyncStatus::Stalled { why, since, applied, target }
    }
}

fn unix(wall: Option<(Instant, UnixSeconds)>, now: Instant) -> UnixSeconds {
    let (at, unix) = wall.unwrap_or((now, UnixSeconds::new(0)));
    unix.saturating_add(now.saturating_duration_since(at))
}
