//! Asking for heads: in rounds, of several peers, again and again. A head is a claim, not a fact.

use std::{collections::BTreeSet, time::Instant};

use p2p_types::{BlockNumber, PeerId};

use crate::{
    Request, RequestId,
    context::{Context, Purpose},
    lanes::Kind,
    peers::Peer,
    time::{Agenda, after},
};

/// Peers whose heads are asked together.
#[derive(Debug)]
struct Round {
    waiting: BTreeSet<RequestId>,
    begun: Instant,
    /// At least one answered whose word counts.
    heard: bool,
    /// A doubt came up after it began: its answers may be older than the doubt.
    outdated: bool,
}

/// What is applied, and what is missing above it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub(crate) applied: BlockNumber,
    pub(crate) missing: BlockNumber,
}

#[derive(Debug, Default)]
pub(crate) struct Heads {
    round: Option<Round>,
    /// When the last round ended in which somebody was heard; none since the last reason for doubt.
    confirmed: Option<Instant>,
    /// When the last round began in which somebody was heard whose word counts.
    asked: Option<Instant>,
    /// No round before this, whatever happens: the pace.
    paced: Option<Instant>,
    /// Nor before this, unless something comes that may help.
    not_before: Option<Instant>,
    /// Rounds in a row that brought nothing.
    vain: u32,
}

impl Heads {
    /// What was heard so far does not count any more.
    pub(crate) const fn doubt(&mut self) {
        self.confirmed = None;
        if let Some(round) = &mut self.round {
            round.outdated = true;
        }
    }

    /// Something moved: the next round need not wait as long as after many in vain.
    pub(crate) const fn encourage(&mut self) {
        self.vain = 0;
        self.not_before = self.paced;
    }

    /// Whether heads have been heard since the last doubt, not too long ago.
    pub(crate) fn are_confirmed(&self, ctx: &Context, agenda: &mut Agenda) -> bool {
        self.confirmed.is_some_and(|at| !agenda.due(after(at, ctx.config.head_stale)))
    }

    pub(crate) const fn was_heard(&self) -> bool {
        self.confirmed.is_some()
    }

    /// When heads were asked last that somebody has answered whose word counts.
    pub(crate) const fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// Asks, if it is time: after a doubt, when heads get old, or while something is missing, the last of it since
    /// `gap`: once, and again while no peer claims it. Whether it only waits for the pace, not for a peer or after a
    /// failure.
    pub(crate) fn plan(
        &mut self,
        ctx: &mut Context,
        agenda: &mut Agenda,
        stand: Stand,
        gap: Option<Instant>,
    ) -> bool {
        if self.round.is_some() {
            return false;
        }
        let refresh = ctx.config.head_refresh;
        let unasked = |since| self.asked.is_none_or(|asked| asked <= since);
        let wanted = gap.is_some_and(|since| unasked(since) || nobody_claims(ctx, stand))
            || self.confirmed.is_none_or(|at| agenda.due(after(at, refresh)));
        if !wanted {
            return false;
        }
        if !self.not_before.is_none_or(|at| agenda.due(at)) {
            return self.vain == 0;
        }
        let chosen = choose(ctx, agenda);
        if chosen.is_empty() {
            return false;
        }
        let now = agenda.now();
        let mut waiting = BTreeSet::new();
        for (peer, awaited) in chosen {
            let id = ask(ctx, now, peer);
            if awaited {
                waiting.insert(id);
            }
        }
        self.round = Some(Round { waiting, begun: now, heard: false, outdated: false });
        false
    }

    /// Asks a peer that has just come, outside of rounds.
    pub(crate) fn greet(&self, ctx: &mut Context, now: Instant, peer: PeerId) {
        let mut agenda = Agenda::new(now);
        let mut may = |peer: &Peer| peer.is_askable() && peer.is_free(&ctx.config, Kind::Head, &mut agenda);
        if (self.round.is_some() || self.confirmed.is_some()) && ctx.peers.get(&peer).is_some_and(&mut may) {
            ask(ctx, now, peer);
        }
    }

    /// A peer said how far it has come.
    pub(crate) fn heard(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        (id, peer): (RequestId, PeerId),
        block: BlockNumber,
        stand: Stand,
    ) {
        let mut counts = false;
        if let Some(peer) = ctx.peers.get_mut(&peer) {
            peer.says(block);
            peer.failures = peer.failures.saturating_sub(1);
            let applied = stand.applied;
            let counted = peer.counted_claim(applied).is_some();
            counts = peer.is_askable() && (counted || peer.has_nothing_else(applied));
        }
        self.end(ctx, now, id, counts, stand);
    }

    /// A peer did not say.
    pub(crate) fn lost(&mut self, ctx: &mut Context, now: Instant, id: RequestId, stand: Stand) {
        self.end(ctx, now, id, false, stand);
    }

    fn end(&mut self, ctx: &mut Context, now: Instant, id: RequestId, counts: bool, stand: Stand) {
        let Some(round) = &mut self.round else { return };
        let awaited = round.waiting.remove(&id);
        round.heard |= counts && awaited;
        if !round.waiting.is_empty() {
            return;
        }
        let Some(Round { begun, heard, outdated, .. }) = self.round.take() else { return };
        if heard {
            self.asked = Some(begun);
        }
        if heard && !outdated {
            self.confirmed = Some(now);
        }
        let paced = after(begun, ctx.config.backoff.min);
        self.paced = Some(paced);
        if heard && !nobody_claims(ctx, stand) {
            self.vain = 0;
            self.not_before = Some(paced);
        } else {
            self.vain = self.vain.saturating_add(1);
            let pause = ctx.config.backoff.pause(self.vain, &mut ctx.rng);
            self.not_before = Some(paced.max(after(now, pause)));
        }
    }
}

/// Whether something is missing above the head that no peer whose word counts claims to have.
fn nobody_claims(ctx: &Context, stand: Stand) -> bool {
    let Stand { applied, missing } = stand;
    missing > applied && ctx.peers.best_claim(applied).is_none_or(|claim| claim <= applied)
}

fn ask(ctx: &mut Context, now: Instant, peer: PeerId) -> RequestId {
    ctx.ask(now, peer, Purpose::Head, Request::Head)
}

/// The peers of a round, and whether it waits for them: `head_peers` of those that are steady, the longest
/// unasked first, and those of them whose claim was lowered. Those that answer badly are asked too, so that
/// they can win trust back; it waits for them only if there is nobody else.
fn choose(ctx: &mut Context, agenda: &mut Agenda) -> Vec<(PeerId, bool)> {
    let Context { peers, rng, config, .. } = ctx;
    let mut able = Vec::new();
    for (id, peer) in peers.askable() {
        if peer.is_free(config, Kind::Head, agenda) {
            able.push((peer.head_asked, rng.u64(..), *id, peer));
        }
    }
    able.sort_unstable_by_key(|&(asked, chance, id, _)| (asked, chance, id));
    let nobody = !able.iter().any(|(.., peer)| peer.is_steady());
    let mut room = config.head_peers.get();
    let mut chosen = Vec::new();
    for (.., id, peer) in able {
        if !peer.is_steady() {
            chosen.push((id, nobody));
        } else if room > 0 || peer.head_due {
            room = room.saturating_sub(1);
            chosen.push((id, true));
        }
    }
    chosen
}
