//! Commitments, judged one after the other.

use std::collections::VecDeque;

use p2p_storage::{StorageError, StoredCommitment};
use p2p_types::{B256, BlockNumber, Origin, SdkEvent, TxList};
use p2p_validation::{
    Arrival, Authenticated, Elected, Facts, IgnoreReason, Linked, Missing, Parent, Rejection,
    ValidationOutcome,
};
use preconfirmation_p2p::Verdict;
use tracing::Span;

use super::{
    Candidate, ChainProcessor, Conflict, GossipCommitment, MAX_AHEAD, PublishDecision, forwarding::Admission,
};
use crate::{requests::is_relays_fault, skew::Timing};

impl ChainProcessor {
    /// A commitment of the application: judged like any other, but it never waits, and its signer's earlier
    /// promises bind it unless `acknowledged` names the one that it breaks.
    pub(super) fn local(
        &mut self,
        commitment: Authenticated,
        txlist: Option<TxList>,
        acknowledged: Option<&Conflict>,
    ) -> Result<PublishDecision, StorageError> {
        if self.is_here(&commitment)? {
            let unsent = self.is_unsent(&commitment)?;
            let judged = self.complete(txlist)?;
            // Too late, it is of use to nobody.
            let in_time = || self.validator.elect(commitment, Arrival::Live(self.unix));
            return Ok(match judged {
                PublishDecision::AlreadyStored
                    if unsent && matches!(in_time(), ValidationOutcome::Accept(_)) =>
                {
                    PublishDecision::Unpublished
                }
                judged => judged,
            });
        }
        let elected = match self.validator.elect(commitment, Arrival::Live(self.unix)) {
            ValidationOutcome::Accept(elected) => elected,
            ValidationOutcome::Defer(missing) => return Ok(PublishDecision::Deferred(missing)),
            ValidationOutcome::Ignore(reason) => return Ok(PublishDecision::Ignored(reason)),
            ValidationOutcome::Reject(rejection) => return Ok(PublishDecision::Rejected(rejection)),
        };
        if let Some(conflict) = self.conflict(&elected)?
            && acknowledged != Some(&conflict)
        {
            return Ok(PublishDecision::Conflict(conflict));
        }
        let linked = match self.link(elected.clone())? {
            ValidationOutcome::Accept(linked) => linked,
            ValidationOutcome::Defer(missing) => return Ok(PublishDecision::Deferred(missing)),
            ValidationOutcome::Ignore(reason) => return Ok(PublishDecision::Ignored(reason)),
            ValidationOutcome::Reject(rejection) => return Ok(PublishDecision::Rejected(rejection)),
        };
        // From here on it binds its signer, whatever becomes of the rest.
        self.promise(&elected)?;
        self.own_lists.extend(txlist.map(|txlist| (txlist.hash(), txlist)));
        self.staged.push(linked, Origin::Local, Span::current());
        let flushed = self.flush();
        self.own_lists.clear();
        let mut flushed = flushed?;
        let judged = flushed.judged.pop().unwrap_or(PublishDecision::AlreadyStored);
        if !matches!(judged, PublishDecision::Failed(_)) {
            self.promises.admit(&elected);
            self.note(&elected)?;
        }
        self.work_off(flushed.next)?;
        Ok(judged)
    }

    /// Whether this very promise of its signer is in the store. A block at whose height nothing stands
    /// any more is judged anew.
    fn is_here(&self, commitment: &Authenticated) -> Result<bool, StorageError> {
        let Some(known) = self.store.by_hash(&commitment.hash())? else { return Ok(false) };
        let same = known.recovered.signer() == commitment.recovered().signer();
        Ok(same && (commitment.is_eop_only() || self.store.by_block(known.block)?.is_some()))
    }

    /// Whether nobody else can be expected to have what is here: publishing it was cut off before the network took it.
    /// What has a successor is fetched by whoever hears of that.
    fn is_unsent(&self, commitment: &Authenticated) -> Result<bool, StorageError> {
        let next = commitment.block().saturating_add(u64::from(!commitment.is_eop_only()));
        Ok(self.store.by_block(next)?.is_none() && !self.store.is_sent(&commitment.hash())?)
    }

    /// A block that is known, published once more: news only if its transaction list is.
    fn complete(&mut self, txlist: Option<TxList>) -> Result<PublishDecision, StorageError> {
        let Some(txlist) = txlist else { return Ok(PublishDecision::AlreadyStored) };
        if self.store.contains(&txlist.hash())? {
            return Ok(PublishDecision::AlreadyStored);
        }
        let hash = txlist.hash();
        self.local_list(txlist)?;
        Ok(if self.store.contains(&hash)? { PublishDecision::Stored } else { PublishDecision::AlreadyStored })
    }

    /// Commitments of gossip: each is authenticated, on all cores where there are many, then judged and stored.
    pub(super) fn gossip(&mut self, arrived: Vec<GossipCommitment>) -> Result<(), StorageError> {
        let mut candidates = VecDeque::with_capacity(arrived.len());
        let answers = self.validator.authenticate_all(&arrived);
        for (GossipCommitment { arrival, from, verdict, span, .. }, answer) in
            arrived.into_iter().zip(answers)
        {
            match answer {
                Ok(commitment) => candidates.push_back(Candidate {
                    commitment,
                    arrival,
                    origin: Origin::Gossip(from),
                    verdict,
                    missing: None,
                    since: self.now,
                    admitted: false,
                    span,
                }),
                Err(rejection) => {
                    self.rejected(&span, &rejection);
                    if let Some(verdict) = verdict {
                        verdict.settle(blame(self.soft_fail, &rejection));
                    }
                }
            }
        }
        self.work_off(candidates)
    }

    /// Judges candidates and what had waited for them, and stores what is linked, until nothing is left to judge.
    pub(super) fn work_off(&mut self, mut queue: VecDeque<Candidate>) -> Result<(), StorageError> {
        while !queue.is_empty() {
            while let Some(candidate) = queue.pop_front() {
                // However many a missing block has held back, it and they cost one write.
                if let Some(linked) = self.judge(candidate)? {
                    queue.extend(self.release(linked));
                }
            }
            queue = self.flush()?.next;
        }
        Ok(())
    }

    /// One candidate through election and linkage. Its hash, if it is to be stored.
    fn judge(&mut self, mut candidate: Candidate) -> Result<Option<B256>, StorageError> {
        let span = candidate.span.clone();
        let _entered = span.enter();
        let outcome = self.validator.elect(candidate.commitment.clone(), candidate.arrival);
        self.time(&candidate, &outcome);
        let elected = match outcome {
            ValidationOutcome::Accept(elected) => elected,
            ValidationOutcome::Defer(missing) => {
                self.wait(missing, candidate);
                return Ok(None);
            }
            ValidationOutcome::Ignore(reason) => {
                self.ignored(&span, reason.label());
                // Of what was not judged, nothing is remembered: it may come again.
                if matches!(reason, IgnoreReason::Early { .. } | IgnoreReason::Lookahead(_)) {
                    self.forget(&candidate);
                }
                return Ok(None);
            }
            ValidationOutcome::Reject(rejection) => {
                self.rejected(&span, &rejection);
                if let Some(verdict) = candidate.verdict.take() {
                    verdict.settle(blame(self.soft_fail, &rejection));
                }
                return Ok(None);
            }
        };
        if !self.plausible(elected.block()) {
            self.ignored(&span, "far_ahead");
            return Ok(None);
        }
        if !self.admit(&elected, &mut candidate)? {
            return Ok(None);
        }
        self.note(&elected)?;
        match self.link(elected.clone())? {
            ValidationOutcome::Accept(linked) => {
                Self::forward(&mut candidate);
                let hash = linked.hash();
                self.staged.push(linked, candidate.origin, candidate.span);
                return Ok(Some(hash));
            }
            ValidationOutcome::Defer(missing) => {
                Self::forward(&mut candidate);
                self.wait(missing, candidate);
            }
            ValidationOutcome::Ignore(reason) => self.ignored(&span, reason.label()),
            // An elected preconfer's fault, which a peer that lacked the parent could not see when it
            // forwarded this: not forwarded further, and the peer does not pay.
            ValidationOutcome::Reject(rejection) => self.rejected(&span, &rejection),
        }
        Ok(None)
    }

    /// Whether a promise goes further: not if it is known, in whatever bytes, nor if its signer has made too many of its
    /// kind on which nobody has built.
    fn admit(&mut self, elected: &Elected, candidate: &mut Candidate) -> Result<bool, StorageError> {
        if std::mem::replace(&mut candidate.admitted, true) {
            return Ok(true);
        }
        let hash = elected.hash();
        let built_on = self.pending.waits_for(&hash);
        let admission = self.promises.admit(elected);
        if admission != Admission::New {
            // One promise goes out once.
            candidate.verdict = None;
        }
        let refused = match admission {
            Admission::Known if self.store.by_hash(&hash)?.is_some() => Some("known"),
            Admission::Full if !built_on => Some("too_many_promises"),
            _ if !built_on && self.is_withdrawn(elected) && self.store.by_hash(&hash)?.is_none() => {
                Some("l1_replaced")
            }
            Admission::New | Admission::Known | Admission::Full => None,
        };
        if let Some(reason) = refused {
            self.ignored(&candidate.span, reason);
        }
        Ok(refused.is_none())
    }

    /// Notes when a live commitment of an elected preconfer came, once for each.
    fn time(&mut self, candidate: &Candidate, outcome: &ValidationOutcome<Elected>) {
        let Arrival::Live(arrived) = candidate.arrival else { return };
        let in_time = match outcome {
            ValidationOutcome::Accept(_) => true,
            // Who signed is judged before.
            ValidationOutcome::Ignore(IgnoreReason::Early { .. } | IgnoreReason::Late { .. })
            | ValidationOutcome::Defer(Missing::Time(_)) => false,
            _ => return,
        };
        if !matches!(candidate.missing, Some(Missing::Parent(_))) {
            let timestamp = candidate.commitment.timestamp();
            self.effects.timings.push(Timing { arrived, timestamp, in_time });
        }
    }

    fn ignored(&self, span: &Span, reason: &'static str) {
        self.metrics.ignored(reason);
        span.record("outcome", reason);
        tracing::debug!("ignored");
    }

    fn rejected(&self, span: &Span, rejection: &Rejection) {
        self.metrics.rejected(rejection.label());
        span.record("outcome", rejection.label());
        tracing::debug!(%rejection, "rejected");
    }

    /// Notes what an elected preconfer has signed: what it proves, and whether it hands over.
    pub(super) fn note(&mut self, elected: &Elected) -> Result<(), StorageError> {
        self.handovers.note(elected);
        self.signers.insert(elected.recovered().signer(), ());
        for evidence in self.witness.note(elected) {
            match self.store.put_evidence(&evidence) {
                Ok(true) => {}
                // Told before the last restart.
                Ok(false) => continue,
                Err(error) if error.is_retryable() => self.storage_failed(&error),
                Err(error) => return Err(error),
            }
            let (kind, signer, block) = (evidence.kind(), evidence.signer(), evidence.block());
            tracing::warn!(kind = kind.label(), %signer, block, "a preconfer has misbehaved");
            self.metrics.evidence(kind);
            let [first, second] = [evidence.first(), evidence.second()]
                .map(|signed| std::sync::Arc::new(signed.recovered().clone()));
            self.emit(SdkEvent::Evidence { kind, signer, block, first, second });
        }
        Ok(())
    }

    /// Whether a height can be: the schedule bounds who and when, not how high.
    fn plausible(&self, block: BlockNumber) -> bool {
        self.reference.is_none_or(|reference| block <= reference.saturating_add(MAX_AHEAD))
    }

    /// Forwarding asks for less than showing: elected is enough.
    fn forward(candidate: &mut Candidate) {
        if let Some(verdict) = candidate.verdict.take() {
            verdict.settle(Verdict::Accept);
        }
    }

    /// Step 3 against what the store holds and what is about to be stored.
    pub(super) fn link(&self, elected: Elected) -> Result<ValidationOutcome<Linked>, StorageError> {
        let Some(base) = self.store.base()? else {
            return Ok(ValidationOutcome::Defer(Missing::Parent(elected.parent_hash())));
        };
        let parent = match self.staged.by_hash(&elected.parent_hash()) {
            Some(staged) => Some(staged.clone()),
            None => self.store.by_hash(&elected.parent_hash())?,
        };
        let before = match elected.block().checked_sub(1) {
            Some(block) if self.validator.follows_height(&elected) || block == base.number => {
                match self.staged.by_block(block) {
                    Some(staged) => Some(staged.clone()),
                    None => self.store.by_block(block)?,
                }
            }
            _ => None,
        };
        let facts = Facts { base, parent: parent.as_ref().map(fact), before: before.as_ref().map(fact) };
        Ok(self.validator.link(elected, &facts))
    }
}

/// The verdict on invalid gossip.
pub(crate) const fn soft(soft_fail: bool, offence: p2p_types::Offence) -> Verdict {
    if soft_fail { Verdict::Ignore } else { Verdict::Reject(offence) }
}

/// The verdict on a commitment that breaks a rule. Whoever relays it checks some rules; the rest only its author knows.
const fn blame(soft_fail: bool, rejection: &Rejection) -> Verdict {
    match soft(soft_fail, rejection.offence()) {
        Verdict::Reject(offence) if !is_relays_fault(rejection) => Verdict::RejectAuthor(offence),
        verdict => verdict,
    }
}

fn fact(stored: &StoredCommitment) -> Parent<'_> {
    Parent { block: stored.block, preconf: stored.recovered.signed().preconf() }
}
