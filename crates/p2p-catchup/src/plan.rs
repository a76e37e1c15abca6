//! Planning: after each input, sends the requests that can be sent and computes the status.

use std::time::Instant;

use p2p_types::{BlockNumber, HeadSyncStatus, Stall, UnixSeconds};

use crate::{CatchUp, deadlines::Deadlines};

impl CatchUp {
    /// The highest claim that counts, at most the height that the schedule allows; 0 if none counts.
    pub(crate) fn claim(&self) -> BlockNumber {
        let claim = self.ctx.peers.best_claim(self.chain.applied()).unwrap_or_default();
        self.ceiling.map_or(claim, |ceiling| claim.min(ceiling))
    }

    /// The height to reach, by claims that count and by what is missing.
    fn target(&self) -> BlockNumber {
        self.chain.applied().max(self.missing.height).max(self.claim())
    }

    /// Updates what is missing, and invalidates heads where a claim is gone.
    fn update_missing(&mut self, deadlines: &mut Deadlines) {
        let (applied, claim) = (self.chain.applied(), self.claim());
        let (config, requested) = (&self.ctx.config, self.heads.requested_at());
        self.missing = self.waiting.missing(config, deadlines, (applied, claim), requested);
        self.ancestors.orphans.missing(&self.ctx, deadlines, applied, requested, &mut self.missing);
        if claim < self.last_claim && self.last_claim > applied {
            // It was the height to reach: withdrawn, not delivered, or its peer has disconnected.
            self.heads.invalidate();
        }
        self.last_claim = claim;
    }

    /// Sends the requests that can be sent, hands out a page, and returns the status.
    pub(crate) fn plan(&mut self, deadlines: &mut Deadlines) -> HeadSyncStatus {
        if !self.chain.started {
            return HeadSyncStatus::WaitingForL2;
        }
        self.ctx.peers.readmit(deadlines, &self.ctx.config);
        self.update_missing(deadlines);
        if self.progressed && self.importing.is_none() && self.chain.applied() >= self.target() {
            // The height that peers told some time ago is reached. They may have more by now.
            self.progressed = false;
            self.heads.invalidate();
        }
        let progress = self.progress();
        let heads_coming = self.heads.plan(&mut self.ctx, deadlines, progress, self.missing.since);

        let pausing = self.deferred.is_some_and(|until| !deadlines.due(until));
        if !pausing && self.txlists.count() < self.ctx.config.missing_txlists_limit.get() {
            self.ancestors.plan(&mut self.ctx, deadlines, &self.chain, self.heads.has_answer());
            // An orphan that all peers were requested for is gone.
            self.update_missing(deadlines);
            self.import_next();
            if let Some(from) = self.first_to_request() {
                let range = (from, self.target());
                self.pages.plan(&mut self.ctx, deadlines, range, self.ancestors.forked_peer());
            }
        }
        let txlists_in_grace = self.txlists.plan(&mut self.ctx, deadlines);
        // What could not be validated is requested again: no peer has failed to deliver it.
        let in_grace = txlists_in_grace || self.missing.in_grace || self.deferred.is_some() || heads_coming;
        self.current_status(deadlines, in_grace)
    }

    fn current_status(&mut self, deadlines: &mut Deadlines, in_grace: bool) -> HeadSyncStatus {
        let (applied, target) = (self.chain.applied(), self.target());
        let seen = applied.max(self.missing.seen);
        let peers = self.ctx.peers.available().count();
        let txlists_missing = self.txlists.missing();
        let complete = applied >= target && txlists_missing == 0 && !self.missing.sibling;
        // The verdict says whether it was the last page.
        let ended = self.importing.is_none() || self.status.is_live();
        let confirmed = self.heads.are_confirmed(&self.ctx, deadlines);
        if complete && confirmed && ended && !self.ancestors.keeps_from_live() {
            (self.stalled, self.stalled_since) = (false, None);
            return HeadSyncStatus::Live { head: self.chain.head() };
        }
        let at_work = self.ctx.has_pending() || self.importing.is_some() || self.txlists.is_storing();
        let idle = !at_work && !in_grace && !deadlines.is_rate_limited();
        // Where nothing is known to be missing, the head is only not confirmed.
        let short = !complete || self.ctx.peers.anybody_claims_above(applied);
        self.stalled = short && (self.stalled || (idle && peers > 0));
        let why = match self.txlists.lowest() {
            _ if peers == 0 => Stall::NoPeers,
            _ if !self.stalled => {
                self.stalled_since = None;
                return HeadSyncStatus::Syncing {
                    applied,
                    seen,
                    target,
                    commitments_per_second: self.throughput.per_second(deadlines),
                    txlists_missing,
                    peers,
                };
            }
            Some(lowest) if applied >= target && txlists_missing > 0 => {
                Stall::WaitingForData { lowest, txlists: txlists_missing }
            }
            _ => Stall::NothingDelivered,
        };
        let since = *self.stalled_since.get_or_insert(unix(self.wall, deadlines.now()));
        HeadSyncStatus::Stalled { why, since, applied, seen, target }
    }
}

fn unix(wall: Option<(Instant, UnixSeconds)>, now: Instant) -> UnixSeconds {
    let (at, unix) = wall.unwrap_or((now, UnixSeconds::new(0)));
    unix.saturating_add(now.saturating_duration_since(at))
}
