//! Does what can be done after each input, and says where that leaves us.

use std::time::Instant;

use p2p_types::{BlockNumber, HeadSyncStatus, Stall, UnixSeconds};

use crate::{CatchUp, time::Agenda};

impl CatchUp {
    /// The highest claim that counts, as far as the schedule allows it; 0 if none does.
    pub(crate) fn claim(&self) -> BlockNumber {
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
    pub(crate) fn plan(&mut self, agenda: &mut Agenda) -> HeadSyncStatus {
        if !self.chain.started {
            return HeadSyncStatus::WaitingForL2;
        }
        let (strikes, interval) = (self.ctx.config.max_strikes.get(), self.ctx.config.leave_out);
        self.ctx.peers.readmit(agenda, strikes, interval);
        self.look(agenda);
        if self.progressed && self.importing.is_none() && self.chain.applied() >= self.target() {
            // The end is reached that peers told of a while ago: is it still the end?
            self.progressed = false;
            self.heads.doubt();
        }
        let stand = self.stand();
        let heads_coming = self.heads.plan(&mut self.ctx, agenda, stand, self.missing.since);

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
        let in_grace = txlists_in_grace || self.missing.in_grace || self.deferred.is_some() || heads_coming;
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
        if complete && confirmed && ended && !self.walks.keeps_from_live() {
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
