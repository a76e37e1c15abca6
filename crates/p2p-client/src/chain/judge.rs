//! The judge: the pure part of the chain processor. It decides what a commitment is worth, whoever brought it.
//!
//! There is one ladder for all of them: *elect* (window, signer, time), *screen* (what its source allows it, and what its
//! signer has promised before), *note* (evidence, handovers), *link* (parent, height, block rules). The judge reads the
//! [`Ledger`] and writes nothing, and knows no clock: the moment comes with each commitment.

use std::num::NonZeroUsize;

use p2p_storage::{StorageError, StoredCommitment};
use p2p_types::{Address, B256, Base, BlockNumber, Conflict, Promise, UnixSeconds};
use p2p_validation::{
    Arrival, Authenticated, Draft, Elected, Evidence, Facts, Handovers, IgnoreReason, Linked, Missing,
    Parent, Rejection, ValidationOutcome, Validator, Witness, WitnessLimits,
};
use schnellru::{ByLength, LruMap};

use super::{
    forwarding::{Admission, ForwardingMemory},
    guard,
    l1::Replaced,
    ledger::Ledger,
    settlement::NotSettled,
};

/// Most blocks that a live commitment may be above the best known height and still be believed.
pub(crate) const MAX_AHEAD: BlockNumber = 1024;

/// Windows that are remembered as handed over: more than a day of L1 epochs.
const HANDOVERS: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(windows) => windows,
    None => NonZeroUsize::MIN,
};

/// Signers that are remembered as elected: more than take turns in a day.
const SIGNERS: u32 = 256;

/// Where a commitment comes from, which decides what it is screened for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Gossip {
        /// The highest height that peers or elected preconfers have shown.
        reference: Option<BlockNumber>,
        /// Something that waits names it as its parent.
        built_on: bool,
        /// It has been screened before, and came back from the pending pool.
        screened: bool,
    },
    /// The application. It is noted only once it is stored: what is refused binds nobody.
    Own {
        /// The conflict that the application has been shown and waives.
        acknowledged: Option<&'a Conflict>,
    },
    Page {
        /// Something that waits names it as its parent.
        awaited: bool,
        /// The next one of the page names it as its parent.
        built_on: bool,
        /// It or one above it in the page was signed after L1 had replaced its anchor.
        renewed: bool,
    },
}

/// What the judge decides.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) outcome: Result<Linked, Fall>,
    /// It passed the screen as a promise that had not been seen: it may be forwarded.
    pub(super) is_news: bool,
    /// What it proves together with others.
    pub(super) evidence: Vec<Evidence>,
}

/// Where on the ladder a commitment fell, and why.
#[derive(Debug)]
pub(super) enum Fall {
    /// At the first step, for what it says and when it came.
    NotElected(Cause),
    /// It is of no use from its source; why, as a label.
    Useless(&'static str),
    /// What is built on it could show that it is of use, and nothing is known to be; why, as a label.
    Unconfirmed(&'static str),
    /// It contradicts what its signer has promised. Only what the application publishes is screened for that.
    Conflict(Conflict),
    /// At the last step, for what it stands on.
    NotLinked(Cause),
}

/// Why a step does not accept a commitment.
#[derive(Debug)]
pub(super) enum Cause {
    Waits(Missing),
    Ignored(IgnoreReason),
    Rejected(Rejection),
}

/// What a step accepts, or why it does not.
fn accepted<T>(outcome: ValidationOutcome<T>) -> Result<T, Cause> {
    match outcome {
        ValidationOutcome::Accept(accepted) => Ok(accepted),
        ValidationOutcome::Defer(missing) => Err(Cause::Waits(missing)),
        ValidationOutcome::Ignore(reason) => Err(Cause::Ignored(reason)),
        ValidationOutcome::Reject(rejection) => Err(Cause::Rejected(rejection)),
    }
}

/// What a commitment is linked against.
struct Surroundings {
    base: Base,
    parent: Option<StoredCommitment>,
    before: Option<StoredCommitment>,
}

impl Surroundings {
    fn facts(&self) -> Facts<'_> {
        let Self { base, parent, before } = self;
        Facts { base: *base, parent: parent.as_ref().map(fact), before: before.as_ref().map(fact) }
    }
}

/// Decides what commitments are worth.
pub(super) struct Judge {
    pub(super) validator: Validator,
    pub(super) witness: Witness,
    pub(super) handovers: Handovers,
    forwarding: ForwardingMemory,
    /// Signers that have been elected lately.
    signers: LruMap<Address, ()>,
    /// What L1 has replaced, as the application has declared.
    pub(super) replaced: Replaced,
    /// What was promised for the base's height and not settled.
    pub(super) not_settled: NotSettled,
}

impl Judge {
    pub(super) fn new(validator: Validator, forwarding: ForwardingMemory) -> Self {
        Self {
            validator,
            witness: Witness::new(WitnessLimits::default()),
            handovers: Handovers::new(HANDOVERS),
            forwarding,
            signers: LruMap::new(ByLength::new(SIGNERS)),
            replaced: Replaced::default(),
            not_settled: NotSettled::default(),
        }
    }

    /// The ladder, for what is to be stored.
    pub(super) fn judge(
        &mut self,
        ledger: &Ledger,
        commitment: Authenticated,
        arrival: Arrival,
        source: Source<'_>,
    ) -> Result<Judgement, StorageError> {
        let fell = |fall| Ok(Judgement { outcome: Err(fall), is_news: false, evidence: Vec::new() });
        let elected = match accepted(self.validator.elect(commitment, arrival)) {
            Ok(elected) => elected,
            Err(cause) => return fell(Fall::NotElected(cause)),
        };
        let is_news = match self.screen(ledger, &elected, source)? {
            Ok(is_news) => is_news,
            Err(fall) => return fell(fall),
        };
        // Read before anything is noted: what the store cannot answer now is judged anew, and proves the same again.
        let surroundings = self.surroundings(ledger, elected.block(), elected.parent_hash())?;
        let is_own = matches!(source, Source::Own { .. });
        let evidence = if is_own { Vec::new() } else { self.note(&elected) };
        let outcome = accepted(self.link(elected, surroundings)).map_err(Fall::NotLinked);
        Ok(Judgement { outcome, is_news, evidence })
    }

    /// The ladder, for what the application has not signed yet.
    pub(super) fn judge_draft(
        &self,
        ledger: &Ledger,
        draft: &Draft,
        arrival: Arrival,
        acknowledged: Option<&Conflict>,
    ) -> Result<Result<(), Fall>, StorageError> {
        if let Err(cause) = accepted(self.validator.elect_draft(draft, arrival)) {
            return Ok(Err(Fall::NotElected(cause)));
        }
        if let Err(fall) = self.screen_own(ledger, &draft.promise(), draft.parent_hash(), acknowledged)? {
            return Ok(Err(fall));
        }
        let surroundings = self.surroundings(ledger, draft.block(), draft.parent_hash())?;
        let linked = match &surroundings {
            None => ValidationOutcome::Defer(Missing::Parent(draft.parent_hash())),
            Some(around) => self.validator.link_draft(draft, arrival, &around.facts()),
        };
        Ok(accepted(linked).map_err(Fall::NotLinked))
    }

    /// The ladder up to its last step, for what is stored: remembers what its signer has promised by it.
    pub(super) fn remember(&mut self, commitment: Authenticated, unix: UnixSeconds) -> Vec<Evidence> {
        match self.validator.elect(commitment, Arrival::History(unix)) {
            ValidationOutcome::Accept(elected) => self.note_stored(&elected),
            _ => Vec::new(),
        }
    }

    /// Whether an elected commitment is news, or why it is of no use from its source.
    fn screen(
        &mut self,
        ledger: &Ledger,
        elected: &Elected,
        source: Source<'_>,
    ) -> Result<Result<bool, Fall>, StorageError> {
        let hash = elected.hash();
        if let Source::Own { acknowledged } = source {
            let (promise, parent) = (Promise::from(&**elected), elected.parent_hash());
            return Ok(self.screen_own(ledger, &promise, parent, acknowledged)?.map(|()| true));
        }
        if self.not_settled.carries(elected.block(), elected.parent_hash()) {
            return Ok(Err(Fall::Useless("not_settled")));
        }
        let (built_on, renewed) = match source {
            Source::Own { .. } => return Ok(Ok(true)),
            // The schedule bounds who and when, not how high.
            Source::Gossip { reference: Some(reference), .. }
                if elected.block() > reference.saturating_add(MAX_AHEAD) =>
            {
                return Ok(Err(Fall::Useless("far_ahead")));
            }
            Source::Gossip { screened: true, .. } => return Ok(Ok(false)),
            Source::Gossip { built_on, .. } => (built_on, built_on || !self.is_withdrawn(elected)),
            Source::Page { awaited, built_on, renewed } => (awaited || built_on, awaited || renewed),
        };
        let admission = self.forwarding.admit(elected);
        Ok(match (admission, source) {
            (Admission::Known, Source::Gossip { .. }) if ledger.by_hash(&hash)?.is_some() => {
                Err(Fall::Useless("known"))
            }
            (Admission::Full, _) if !built_on => Err(Fall::Unconfirmed("too_many_promises")),
            _ if !renewed && ledger.by_hash(&hash)?.is_none() => Err(Fall::Unconfirmed("l1_replaced")),
            _ => Ok(admission == Admission::New),
        })
    }

    /// Whether the application may promise this, on this parent.
    fn screen_own(
        &self,
        ledger: &Ledger,
        promise: &Promise,
        parent: B256,
        acknowledged: Option<&Conflict>,
    ) -> Result<Result<(), Fall>, StorageError> {
        if self.not_settled.carries(promise.block, parent) {
            let (block, base) = (promise.block, promise.block.saturating_sub(1));
            return Ok(Err(Fall::NotLinked(Cause::Ignored(IgnoreReason::Settled { block, base }))));
        }
        let own = ledger.promises(&promise.signer, promise.window_end)?;
        let conflict = guard::conflict(&own, &self.witness, promise);
        let broken = conflict.filter(|conflict| acknowledged != Some(conflict));
        Ok(broken.map_or(Ok(()), |conflict| Err(Fall::Conflict(conflict))))
    }

    /// Remembers what an elected preconfer has signed: whether it hands over, and what it proves.
    fn note(&mut self, elected: &Elected) -> Vec<Evidence> {
        self.handovers.note(elected);
        self.signers.insert(elected.recovered().signer(), ());
        self.witness.note(elected)
    }

    /// Remembers what is stored, and counts as a promise of its signer.
    pub(super) fn note_stored(&mut self, elected: &Elected) -> Vec<Evidence> {
        self.forwarding.admit(elected);
        self.note(elected)
    }

    /// What the ledger holds, or has staged, below a commitment. Nothing can be linked without a base.
    fn surroundings(
        &self,
        ledger: &Ledger,
        block: BlockNumber,
        parent_hash: B256,
    ) -> Result<Option<Surroundings>, StorageError> {
        let Some(base) = ledger.base()? else { return Ok(None) };
        let parent = ledger.staged_or_stored(&parent_hash)?;
        let before = match block.checked_sub(1) {
            Some(before) if self.validator.follows_height(parent_hash) || before == base.number => {
                ledger.staged_or_stored_at(before)?
            }
            _ => None,
        };
        Ok(Some(Surroundings { base, parent, before }))
    }

    /// The last step.
    fn link(&self, elected: Elected, surroundings: Option<Surroundings>) -> ValidationOutcome<Linked> {
        let Some(surroundings) = surroundings else {
            return ValidationOutcome::Defer(Missing::Parent(elected.parent_hash()));
        };
        self.validator.link(elected, &surroundings.facts())
    }

    /// Whether a commitment is anchored to what L1 has replaced and was signed before we heard of that.
    pub(super) fn is_withdrawn(&self, commitment: &Authenticated) -> bool {
        self.replaced.withdraws(commitment)
    }

    /// Whether a signer has been elected lately.
    pub(super) fn knows_signer(&self, signer: &Address) -> bool {
        self.signers.peek(signer).is_some()
    }
}

fn fact(stored: &StoredCommitment) -> Parent<'_> {
    Parent { block: stored.block, preconf: stored.recovered.signed().preconf() }
}
