//! What the application publishes: the same ladder, but it never waits, and what its signer has promised before binds it.

use p2p_storage::StorageError;
use p2p_types::{Conflict, Origin, Promise, TxList};
use p2p_validation::{Arrival, Authenticated, Draft, ValidationOutcome};
use tracing::Span;

use super::{
    ChainProcessor, Moment, PublishDecision,
    effects::Effects,
    judge::{Cause, Fall, Source},
    ledger::Committed,
};

impl ChainProcessor {
    /// Judges and stores a commitment of the application, with its transaction list where it has one. `acknowledged` waives
    /// this one conflict.
    pub(super) fn publish(
        &mut self,
        at: Moment,
        commitment: Authenticated,
        txlist: Option<TxList>,
        acknowledged: Option<&Conflict>,
        out: &mut Effects,
    ) -> Result<PublishDecision, StorageError> {
        let arrival = Arrival::Live(at.unix);
        if self.is_here(&Promise::from(&commitment))? {
            return self.publish_again(commitment, arrival, txlist, out);
        }
        let source = Source::Own { acknowledged };
        let linked = match self.judge.judge(&self.ledger, commitment, arrival, source)?.outcome {
            Ok(linked) => linked,
            Err(fall) => return Ok(fall.into()),
        };
        let (hash, elected) = (linked.hash(), (*linked).clone());
        // From here on it binds its signer, whatever becomes of the rest.
        self.ledger.promise(Promise::from(&**linked))?;
        self.ledger.stage(linked, txlist, Origin::Local, Span::current());
        let committed = self.ledger.commit(out)?.pop().map(|(_, committed)| committed);
        let decision = match committed {
            Some(Committed::Stored) => PublishDecision::Stored,
            Some(Committed::NonCanonical) => PublishDecision::NonCanonical,
            Some(Committed::Failed(error)) => return Ok(PublishDecision::Failed(error)),
            Some(Committed::Known) | None => PublishDecision::AlreadyStored,
        };
        let evidence = self.judge.note_stored(&elected);
        self.ledger.store_evidence(evidence, out)?;
        let waiting = self.release(hash, out);
        self.judge_all(at, waiting.into(), out)?;
        Ok(decision)
    }

    /// Judges what the application is about to sign or publish as if it were signed. Where it could be stored, `record`
    /// has it promised, durably; otherwise nothing changes.
    pub(super) fn permit(
        &mut self,
        at: Moment,
        draft: &Draft,
        on_head: bool,
        record: bool,
        acknowledged: Option<&Conflict>,
    ) -> Result<PublishDecision, StorageError> {
        let promise = draft.promise();
        // What is in the store has been judged, and time may have made it too late since.
        if !self.is_here(&promise)? {
            let head = self.ledger.head()?;
            if on_head && head.is_some_and(|head| head.hash != draft.parent_hash()) {
                return Ok(PublishDecision::StaleHead(head));
            }
            let arrival = Arrival::Live(at.unix);
            if let Err(fall) = self.judge.judge_draft(&self.ledger, draft, arrival, acknowledged)? {
                return Ok(fall.into());
            }
        }
        if record {
            self.ledger.promise(promise)?;
        }
        Ok(PublishDecision::Allowed)
    }

    /// Whether this very promise of its signer is in the store. A block at whose height nothing stands
    /// any more is judged anew.
    fn is_here(&self, promise: &Promise) -> Result<bool, StorageError> {
        let Some(known) = self.ledger.by_hash(&promise.hash)? else { return Ok(false) };
        let same = known.recovered.signer() == promise.signer;
        Ok(same && (promise.eop_only || self.ledger.by_block(known.block)?.is_some()))
    }

    /// A commitment that is here, published once more: news if its transaction list is, or if nobody else can be expected
    /// to have it and it is not too late.
    fn publish_again(
        &mut self,
        commitment: Authenticated,
        arrival: Arrival,
        txlist: Option<TxList>,
        out: &mut Effects,
    ) -> Result<PublishDecision, StorageError> {
        let is_unpublished = self.is_unpublished(&commitment)?;
        if let Some(txlist) = txlist
            && !self.ledger.has_txlist(&txlist.hash())?
            && self.ledger.base()?.is_some_and(|base| base.number < commitment.block())
        {
            return Ok(match self.ledger.store_own_txlist(commitment.block(), &txlist, out)? {
                Committed::Failed(error) => PublishDecision::Failed(error),
                _ => PublishDecision::Stored,
            });
        }
        let elected = || self.judge.validator.elect(commitment, arrival);
        let is_of_use = is_unpublished && matches!(elected(), ValidationOutcome::Accept(_));
        Ok(if is_of_use { PublishDecision::Unpublished } else { PublishDecision::AlreadyStored })
    }

    /// Whether nobody else can be expected to have what is here: publishing it was cut off before the network took it.
    /// What has a successor is fetched by whoever hears of that.
    fn is_unpublished(&self, commitment: &Authenticated) -> Result<bool, StorageError> {
        let next = commitment.block().saturating_add(u64::from(!commitment.is_eop_only()));
        Ok(self.ledger.by_block(next)?.is_none() && !self.ledger.is_published(&commitment.hash())?)
    }
}

impl From<Fall> for PublishDecision {
    fn from(fall: Fall) -> Self {
        match fall {
            Fall::NotElected(cause) | Fall::NotLinked(cause) => match cause {
                Cause::Waits(missing) => Self::Deferred(missing),
                Cause::Ignored(reason) => Self::Ignored(reason),
                Cause::Rejected(rejection) => Self::Rejected(rejection),
            },
            Fall::Conflict(conflict) => Self::Conflict(conflict),
            // Only gossip and pages are of no use where they are elected.
            Fall::Useless(_) | Fall::Unconfirmed(_) => Self::AlreadyStored,
        }
    }
}
