//! Gossip: commitments through the ladder, and what had waited for them; transaction lists; the verdicts that both owe.

use std::collections::VecDeque;

use p2p_storage::StorageError;
use p2p_types::{B256, Offence, Origin};
use p2p_validation::{Arrival, Authenticated, IgnoreReason, Missing, Rejection};
use preconfirmation_p2p::Verdict;

use super::{
    Candidate, ChainProcessor, GossipCommitment, Moment, VerifiedTxList,
    effects::Effects,
    judge::{Cause, Fall, Judgement, Source},
    ledger::TxListOutcome,
};
use crate::{requests::is_relays_fault, skew::Timing};

impl ChainProcessor {
    /// Commitments of gossip: each is authenticated, on all cores where there are many, then judged and stored.
    pub(super) fn gossip(
        &mut self,
        at: Moment,
        arrived: Vec<GossipCommitment>,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let mut candidates = VecDeque::with_capacity(arrived.len());
        let answers = self.judge.validator.authenticate_all(&arrived);
        for (gossip, answer) in arrived.into_iter().zip(answers) {
            let GossipCommitment { arrival, from, verdict, span, .. } = gossip;
            match answer {
                Ok(commitment) => candidates.push_back(Candidate {
                    commitment,
                    arrival,
                    origin: Origin::Gossip(from),
                    verdict,
                    missing: None,
                    since: at.now,
                    screened: false,
                    span,
                }),
                Err(rejection) => {
                    out.rejected(&span, &rejection);
                    if let Some(verdict) = verdict {
                        verdict.settle(blame(self.soft_fail, &rejection));
                    }
                }
            }
        }
        self.judge_all(at, candidates, out)
    }

    /// Judges candidates and what had waited for them, then stores all that is linked. However many a missing block has
    /// held back, it and they cost one write. What the store cannot take now comes again.
    pub(super) fn judge_all(
        &mut self,
        at: Moment,
        mut queue: VecDeque<Candidate>,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        while let Some(candidate) = queue.pop_front() {
            match self.judge_one(at, candidate, out) {
                Ok(Some(linked)) => queue.extend(self.release(linked, out)),
                Ok(None) => {}
                Err(error) if error.is_retryable() => {
                    self.ledger.abandon(&error, out);
                    queue.iter().for_each(|candidate| not_stored(&candidate.commitment, out));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.ledger.commit(out).map(drop)
    }

    /// One candidate through the ladder. Its hash, if it is staged.
    fn judge_one(
        &mut self,
        at: Moment,
        mut candidate: Candidate,
        out: &mut Effects,
    ) -> Result<Option<B256>, StorageError> {
        let span = candidate.span.clone();
        let _entered = span.enter();
        let built_on = self.is_built_on(&candidate.commitment);
        let source = Source::Gossip { reference: at.reference, built_on, screened: candidate.screened };
        let (commitment, arrival) = (candidate.commitment.clone(), candidate.arrival);
        let judgement = self.judge.judge(&self.ledger, commitment, arrival, source);
        let Judgement { outcome, is_news, evidence } =
            judgement.inspect_err(|_| not_stored(&candidate.commitment, out))?;
        out.timings.extend(timing(&candidate, &outcome));
        self.ledger.store_evidence(evidence, out)?;
        let fall = match outcome {
            Ok(linked) => {
                forward(&mut candidate, is_news);
                let hash = linked.hash();
                self.ledger.stage(linked, None, candidate.origin, candidate.span);
                return Ok(Some(hash));
            }
            Err(fall) => fall,
        };
        match fall {
            Fall::NotElected(Cause::Waits(missing)) => self.wait(missing, candidate, out),
            Fall::NotElected(Cause::Ignored(reason)) => {
                out.ignored(&span, reason.label());
                // Of what was not judged, nothing is remembered: it may come again.
                if matches!(reason, IgnoreReason::Early { .. } | IgnoreReason::Lookahead(_)) {
                    out.not_judged(&candidate.commitment);
                }
            }
            Fall::NotElected(Cause::Rejected(rejection)) => {
                out.rejected(&span, &rejection);
                if let Some(verdict) = candidate.verdict {
                    verdict.settle(blame(self.soft_fail, &rejection));
                }
            }
            Fall::NotLinked(Cause::Waits(missing)) => {
                forward(&mut candidate, is_news);
                candidate.screened = true;
                self.wait(missing, candidate, out);
            }
            Fall::NotLinked(Cause::Ignored(reason)) => out.ignored(&span, reason.label()),
            // An elected preconfer's fault, which a peer that lacked the parent could not see when it
            // forwarded this: not forwarded further, and the peer does not pay.
            Fall::NotLinked(Cause::Rejected(rejection)) => out.rejected(&span, &rejection),
            Fall::Useless(reason) | Fall::Unconfirmed(reason) => out.ignored(&span, reason),
            Fall::Conflict(_) => out.ignored(&span, "conflict"),
        }
        Ok(None)
    }

    /// Verified transaction lists: stored if a block lacks them, cached until one names them otherwise.
    pub(super) fn txlists(
        &mut self,
        at: Moment,
        lists: Vec<VerifiedTxList>,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let is_named = |hash: &B256| self.pending.names(hash);
        let outcomes = self.ledger.take_txlists(at.now, &lists, is_named, out)?;
        for (VerifiedTxList { verdict, span, .. }, outcome) in lists.into_iter().zip(outcomes) {
            // Without a promise that names it, a list goes on within the budget of its sender, and to nobody's credit.
            let (label, answer) = match outcome {
                TxListOutcome::Stored => ("stored", Verdict::Accept),
                TxListOutcome::NotStored => ("store_full", Verdict::Accept),
                TxListOutcome::Known { stored: true } => ("known", Verdict::Forward),
                TxListOutcome::Known { stored: false } => ("known", Verdict::Ignore),
                TxListOutcome::Orphaned { named: true } => ("held", Verdict::Accept),
                TxListOutcome::Orphaned { named: false } => ("held", Verdict::Forward),
                // It counts as seen only once it is stored; catch-up fetches it when a block names it.
                TxListOutcome::OverBudget => ("over_budget", Verdict::Ignore),
            };
            span.record("outcome", label);
            if let Some(verdict) = verdict {
                verdict.settle(answer);
            }
        }
        Ok(())
    }
}

/// Nothing is remembered of what could not be judged, and catch-up fetches its block.
fn not_stored(commitment: &Authenticated, out: &mut Effects) {
    out.not_judged(commitment);
    out.not_stored(commitment.block());
}

/// Forwarding asks for less than storing: elected is enough. One promise is forwarded once, in whatever bytes it comes.
fn forward(candidate: &mut Candidate, is_news: bool) {
    if let Some(verdict) = candidate.verdict.take()
        && is_news
    {
        verdict.settle(Verdict::Accept);
    }
}

/// When a live commitment of an elected preconfer came, once for each.
fn timing<T>(candidate: &Candidate, outcome: &Result<T, Fall>) -> Option<Timing> {
    let Arrival::Live(arrived) = candidate.arrival else { return None };
    let in_time = match outcome {
        // Who signed is judged before.
        Err(Fall::NotElected(
            Cause::Ignored(IgnoreReason::Early { .. } | IgnoreReason::Late { .. })
            | Cause::Waits(Missing::Time(_)),
        )) => false,
        Err(Fall::NotElected(_)) => return None,
        _ => true,
    };
    let timestamp = candidate.commitment.timestamp();
    (!matches!(candidate.missing, Some(Missing::Parent(_)))).then_some(Timing { arrived, timestamp, in_time })
}

/// The verdict on invalid gossip.
pub(crate) const fn soft(soft_fail: bool, offence: Offence) -> Verdict {
    if soft_fail { Verdict::Ignore } else { Verdict::Reject(offence) }
}

/// The verdict on a commitment that breaks a rule. Whoever relays it checks some rules; the rest only its author knows.
const fn blame(soft_fail: bool, rejection: &Rejection) -> Verdict {
    match soft(soft_fail, rejection.offence()) {
        Verdict::Reject(offence) if !is_relays_fault(rejection) => Verdict::RejectAuthor(offence),
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_pays_for_what_it_could_check_and_an_author_for_the_rest() {
        let (relays, authors) = (Rejection::MissingTxListHash, Rejection::EopOnlyParent);
        assert_eq!(blame(false, &relays), Verdict::Reject(relays.offence()));
        assert_eq!(blame(false, &authors), Verdict::RejectAuthor(authors.offence()));
        for rejection in [relays, authors] {
            assert_eq!(blame(true, &rejection), Verdict::Ignore);
        }
    }
}
