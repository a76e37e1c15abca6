//! A schedule that has changed, because of an L1 reorg or an operator that was removed: what the old one elected is judged by
//! the new one.
//!
//! A block whose signer is elected no more is removed from the store, with its descendants, and not only withdrawn: a node
//! that meets it now refuses it, and so nothing may stand on it. It is remembered in memory, as a schedule that changes back
//! elects its signer again. What the new schedule does not tell yet stays in the chain until it does.

use std::collections::{HashSet, VecDeque};

use p2p_storage::StorageError;
use p2p_types::{B256, BlockNumber, Origin, UnixSeconds};
use p2p_validation::{Arrival, Authenticated, ValidationOutcome, Validator};
use tracing::Span;

use super::{
    Candidate, ChainProcessor, Moment,
    effects::Effects,
    l1::{Rejudged, ScheduleReorg},
};

/// Commitments that were removed and are remembered, and those that are undecided: some megabytes. The oldest go first.
const REMEMBERED: usize = 4096;

/// What a change of the schedule has left open.
#[derive(Debug, Default)]
pub(super) struct Reconsidered {
    /// Removed, as their signers, or those of their ancestors, are not elected.
    pub(super) removed: VecDeque<Authenticated>,
    /// Still stored, as the schedule does not tell yet.
    pub(super) undecided: VecDeque<Authenticated>,
}

/// What a commitment is worth by the schedule as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Elected,
    NotElected,
    /// The schedule does not tell yet.
    Undecided,
}

impl Standing {
    fn of(validator: &Validator, commitment: Authenticated, at: Moment) -> Self {
        match validator.elect(commitment, Arrival::History(at.unix)) {
            ValidationOutcome::Accept(_) => Self::Elected,
            ValidationOutcome::Reject(_) => Self::NotElected,
            ValidationOutcome::Defer(_) | ValidationOutcome::Ignore(_) => Self::Undecided,
        }
    }
}

impl Reconsidered {
    /// Whether something waits for the schedule.
    pub(super) fn waits(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// What was removed and is elected now.
    fn elected(&self, validator: &Validator, at: Moment) -> Vec<Authenticated> {
        let is_elected = |commitment: &&Authenticated| {
            Standing::of(validator, (*commitment).clone(), at) == Standing::Elected
        };
        self.removed.iter().filter(is_elected).cloned().collect()
    }
}

/// Adds what is new to a queue of bounded length.
fn remember(
    queue: &mut VecDeque<Authenticated>,
    new: impl IntoIterator<Item = Authenticated>,
    out: &Effects,
) {
    let known: HashSet<B256> = queue.iter().map(Authenticated::hash).collect();
    queue.extend(new.into_iter().filter(|commitment| !known.contains(&commitment.hash())));
    let excess = queue.len().saturating_sub(REMEMBERED);
    if excess > 0 {
        queue.drain(..excess);
        out.dropped("reconsidered", excess);
    }
}

impl ChainProcessor {
    /// The schedule of what was signed at or after a second is another one: judges what is stored of it at some heights again,
    /// and, when it has come to the last one, what an earlier change has removed.
    pub(super) fn schedule_changed(
        &mut self,
        at: Moment,
        since: UnixSeconds,
        from: BlockNumber,
        out: &mut Effects,
    ) -> Result<Rejudged, StorageError> {
        let (stored, next) = self.ledger.signed_since(since, from)?;
        let (mut unelected, mut undecided) = (Vec::new(), Vec::new());
        for stored in stored {
            // It may have been stored under other rules than today's, which is no matter of the schedule.
            let Ok(commitment) = self.judge.validator.authenticate_recovered(&stored.recovered) else {
                continue;
            };
            match Standing::of(&self.judge.validator, commitment.clone(), at) {
                Standing::Elected => {}
                Standing::NotElected => unelected.push(commitment),
                Standing::Undecided => undecided.push(commitment),
            }
        }
        let reorg = self.remove_unelected(since, unelected, out)?;
        remember(&mut self.reconsidered.undecided, undecided, out);
        if next.is_none() {
            let back = self.reconsidered.elected(&self.judge.validator, at);
            self.judge_again(at, back, out)?;
        }
        Ok(Rejudged { reorg, next })
    }

    /// Decides about what a change of the schedule has left undecided, as far as the schedule tells by now.
    pub(super) fn reconsider(&mut self, at: Moment, out: &mut Effects) -> Result<(), StorageError> {
        if !self.reconsidered.waits() {
            return Ok(());
        }
        let settled = self.ledger.base()?.map_or(0, |base| base.number);
        let mut unelected = Vec::new();
        let validator = &self.judge.validator;
        self.reconsidered.undecided.retain(|commitment| {
            let standing = Standing::of(validator, commitment.clone(), at);
            if standing == Standing::NotElected && commitment.block() > settled {
                unelected.push(commitment.clone());
            }
            // What has to go stays here until it has.
            standing != Standing::Elected && commitment.block() > settled
        });
        if let Some(since) = unelected.iter().map(Authenticated::timestamp).min() {
            drop(self.remove_unelected(since, unelected, out)?);
        }
        Ok(())
    }

    /// Removes commitments whose signers are not elected, with their descendants, and remembers them: of the descendants
    /// those that have left the chain.
    fn remove_unelected(
        &mut self,
        since: UnixSeconds,
        unelected: Vec<Authenticated>,
        out: &mut Effects,
    ) -> Result<ScheduleReorg, StorageError> {
        if unelected.is_empty() {
            return Ok(ScheduleReorg::none(since));
        }
        let hashes: Vec<B256> = unelected.iter().map(Authenticated::hash).collect();
        let (reorg, mut dropped) = self.ledger.remove_unelected(since, &hashes, out)?;
        let mut gone: HashSet<B256> = hashes.into_iter().collect();
        dropped.retain(|stored| gone.insert(stored.hash()));
        self.reconsidered.undecided.retain(|commitment| !gone.contains(&commitment.hash()));
        let validator = &self.judge.validator;
        let descendants =
            dropped.into_iter().filter_map(|stored| validator.authenticate_recovered(&stored.recovered).ok());
        remember(&mut self.reconsidered.removed, unelected.into_iter().chain(descendants), out);
        Ok(reorg)
    }

    /// Judges commitments that an earlier change has removed as if they had just come. They are remembered until they are
    /// stored.
    fn judge_again(
        &mut self,
        at: Moment,
        commitments: Vec<Authenticated>,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let candidate = |commitment| Candidate {
            commitment,
            arrival: Arrival::History(at.unix),
            origin: Origin::Local,
            verdict: None,
            missing: None,
            since: at.now,
            screened: false,
            span: Span::none(),
        };
        let mut back: HashSet<B256> = commitments.iter().map(Authenticated::hash).collect();
        self.judge_all(at, commitments.into_iter().map(candidate).collect(), out)?;
        let settled = self.ledger.base()?.map_or(0, |base| base.number);
        for commitment in &self.reconsidered.removed {
            if commitment.block() > settled && self.ledger.staged_or_stored(&commitment.hash())?.is_none() {
                back.remove(&commitment.hash());
            }
        }
        self.reconsidered.removed.retain(|commitment| !back.contains(&commitment.hash()));
        Ok(())
    }
}
