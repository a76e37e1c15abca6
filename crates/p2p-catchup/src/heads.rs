//! Head requests (§10, `get_head`): rounds over several peers, repeated. A head is a claim, not a fact.

use std::{collections::BTreeSet, time::Instant};

use p2p_types::{BlockNumber, PeerId};

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    deadlines::{Deadlines, after},
    peer::Peer,
    protocol_state::Protocol,
};

/// Peers whose heads are requested together.
#[derive(Debug)]
struct Round {
    /// Requests that it waits for.
    waiting: BTreeSet<RequestId>,
    /// Requests to peers that have not answered lately: it waits for them only while no claim that counts has come.
    others: BTreeSet<RequestId>,
    begun: Instant,
    /// At least one has answered whose claim counts.
    answered: bool,
    /// Heads were invalidated after it began: its answers may be older than the reason.
    invalidated: bool,
}

/// What is applied, and what is missing above it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) applied: BlockNumber,
    pub(crate) missing: BlockNumber,
}

#[derive(Debug, Default)]
pub(crate) struct Heads {
    round: Option<Round>,
    /// When the last round with an answer that counts ended. None: heads were invalidated since.
    confirmed: Option<Instant>,
    /// When the last round with an answer that counts began.
    requested: Option<Instant>,
    /// No round begins before this.
    earliest: Option<Instant>,
    /// Nor before this, unless the backoff is reset.
    not_before: Option<Instant>,
    /// Consecutive rounds that brought nothing.
    failed_rounds: u32,
}

impl Heads {
    /// The heads told so far no longer confirm that the node is live.
    pub(crate) const fn invalidate(&mut self) {
        self.confirmed = None;
        if let Some(round) = &mut self.round {
            round.invalidated = true;
        }
    }

    /// The next round need not wait as long as after failed ones.
    pub(crate) const fn reset_backoff(&mut self) {
        self.failed_rounds = 0;
        self.not_before = self.earliest;
    }

    /// Whether heads have been told since they were invalidated, and not longer ago than `head_stale`.
    pub(crate) fn are_confirmed(&self, ctx: &Context, deadlines: &mut Deadlines) -> bool {
        self.confirmed.is_some_and(|at| !deadlines.due(after(at, ctx.config.head_stale)))
    }

    pub(crate) const fn has_answer(&self) -> bool {
        self.confirmed.is_some()
    }

    /// When the last round with an answer that counts began.
    pub(crate) const fn requested_at(&self) -> Option<Instant> {
        self.requested
    }

    /// Begins a round if it is time: when heads were invalidated or get old, or while something is missing, the newest of it
    /// since `gap`: once, and again while no peer claims it. True if a round only waits for the shortest interval between
    /// rounds, not for a peer or after a failure.
    pub(crate) fn plan(
        &mut self,
        ctx: &mut Context,
        deadlines: &mut Deadlines,
        progress: Progress,
        gap: Option<Instant>,
    ) -> bool {
        if self.round.is_some() {
            return false;
        }
        let refresh = ctx.config.head_refresh;
        let not_since = |since| self.requested.is_none_or(|requested| requested <= since);
        let wanted = gap.is_some_and(|since| not_since(since) || nobody_claims(ctx, progress))
            || self.confirmed.is_none_or(|at| deadlines.due(after(at, refresh)));
        if !wanted {
            return false;
        }
        if !self.not_before.is_none_or(|at| deadlines.due(at)) {
            return self.failed_rounds == 0;
        }
        let chosen = choose(ctx, deadlines);
        if chosen.is_empty() {
            return false;
        }
        let now = deadlines.now();
        let (mut waiting, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (peer, awaited) in chosen {
            let id = request(ctx, now, peer);
            if awaited {
                waiting.insert(id)
            } else {
                others.insert(id)
            };
        }
        self.round = Some(Round { waiting, others, begun: now, answered: false, invalidated: false });
        false
    }

    /// Requests the head of a peer that has just connected, outside of rounds.
    pub(crate) fn request_from(&self, ctx: &mut Context, now: Instant, peer: PeerId) {
        let mut deadlines = Deadlines::new(now);
        let mut may =
            |peer: &Peer| peer.is_available() && peer.is_free(&ctx.config, Protocol::Head, &mut deadlines);
        if (self.round.is_some() || self.confirmed.is_some()) && ctx.peers.get(&peer).is_some_and(&mut may) {
            request(ctx, now, peer);
        }
    }

    /// A peer has told its head.
    pub(crate) fn answered(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        (id, peer): (RequestId, PeerId),
        block: BlockNumber,
        progress: Progress,
    ) {
        let mut counts = false;
        if let Some(peer) = ctx.peers.get_mut(&peer) {
            peer.set_head(block);
            peer.failures = peer.failures.saturating_sub(1);
            let applied = progress.applied;
            let counted = peer.counted_claim(applied).is_some();
            counts = peer.is_available() && (counted || peer.has_nothing_else(applied));
        }
        self.end(ctx, now, id, counts, progress);
    }

    /// A head request has failed.
    pub(crate) fn failed(&mut self, ctx: &mut Context, now: Instant, id: RequestId, progress: Progress) {
        self.end(ctx, now, id, false, progress);
    }

    fn end(&mut self, ctx: &mut Context, now: Instant, id: RequestId, counts: bool, progress: Progress) {
        let Some(round) = &mut self.round else { return };
        let asked = round.waiting.remove(&id) | round.others.remove(&id);
        round.answered |= counts && asked;
        if !round.waiting.is_empty() || !round.answered && !round.others.is_empty() {
            return;
        }
        let Some(Round { begun, answered, invalidated, .. }) = self.round.take() else {
            return;
        };
        if answered {
            self.requested = Some(begun);
        }
        if answered && !invalidated {
            self.confirmed = Some(now);
        }
        let earliest = after(begun, ctx.config.backoff.min);
        self.earliest = Some(earliest);
        if answered && !nobody_claims(ctx, progress) {
            self.failed_rounds = 0;
            self.not_before = Some(earliest);
        } else {
            self.failed_rounds = self.failed_rounds.saturating_add(1);
            let pause = ctx.config.backoff.pause(self.failed_rounds, &mut ctx.rng);
            self.not_before = Some(earliest.max(after(now, pause)));
        }
    }
}

/// Whether something is missing above the head that no claim that counts reaches.
fn nobody_claims(ctx: &Context, progress: Progress) -> bool {
    let Progress { applied, missing } = progress;
    missing > applied && ctx.peers.best_claim(applied).is_none_or(|claim| claim <= applied)
}

fn request(ctx: &mut Context, now: Instant, peer: PeerId) -> RequestId {
    ctx.request(now, peer, Purpose::Head, Request::Head)
}

/// The peers of a round, and whether it waits for them: `head_peers` of the responsive ones, those asked longest ago first, and
/// those of them whose claim was lowered. The others are asked too, so that they can regain trust; the round waits for them
/// only if there are no responsive ones, or none of these has a claim that counts.
fn choose(ctx: &mut Context, deadlines: &mut Deadlines) -> Vec<(PeerId, bool)> {
    let Context { peers, rng, config, .. } = ctx;
    let mut able = Vec::new();
    for (id, peer) in peers.available() {
        if peer.is_free(config, Protocol::Head, deadlines) {
            able.push((peer.head_requested, rng.u64(..), *id, peer));
        }
    }
    able.sort_unstable_by_key(|&(asked, chance, id, _)| (asked, chance, id));
    let none_responsive = !able.iter().any(|(.., peer)| peer.is_responsive());
    let mut room = config.head_peers.get();
    let mut chosen = Vec::new();
    for (.., id, peer) in able {
        if !peer.is_responsive() {
            chosen.push((id, none_responsive));
        } else if room > 0 || peer.head_due {
            room = room.saturating_sub(1);
            chosen.push((id, true));
        }
    }
    chosen
}
