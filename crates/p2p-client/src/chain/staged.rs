//! What is linked and waits to be stored together: a batch costs a store on disk one sync.

use std::collections::VecDeque;

use hashbrown::HashMap;
use p2p_catchup::Input;
use p2p_storage::{Inserted, StorageError, StoredCommitment};
use p2p_types::{B256, BlockNumber, Origin, SdkEvent};
use p2p_validation::Linked;
use tracing::Span;

use super::{Candidate, ChainProcessor, PublishDecision};

/// Linked against the store and against what stands before it here. Never outlives a batch.
#[derive(Debug, Default)]
pub(super) struct Staging {
    commitments: Vec<Staged>,
    by_hash: HashMap<B256, usize>,
}

#[derive(Debug)]
struct Staged {
    linked: Linked,
    stored: StoredCommitment,
    origin: Origin,
    span: Span,
}

impl Staging {
    pub(super) fn push(&mut self, linked: Linked, origin: Origin, span: Span) {
        let stored = StoredCommitment::from(linked.clone());
        self.by_hash.entry(stored.hash()).or_insert(self.commitments.len());
        self.commitments.push(Staged { linked, stored, origin, span });
    }

    /// Gives everything up; says which heights that were.
    pub(super) fn abandon(&mut self) -> Vec<BlockNumber> {
        std::mem::take(self).commitments.iter().map(|staged| staged.stored.block).collect()
    }

    pub(super) fn by_hash(&self, hash: &B256) -> Option<&StoredCommitment> {
        let staged = self.commitments.get(*self.by_hash.get(hash)?)?;
        Some(&staged.stored)
    }

    /// The newest block at a height.
    pub(super) fn by_block(&self, block: BlockNumber) -> Option<&StoredCommitment> {
        let is_block = |stored: &&StoredCommitment| stored.block == block && !stored.is_handover();
        self.commitments.iter().rev().map(|staged| &staged.stored).find(is_block)
    }
}

/// What came of storing a batch.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// What had waited for what is stored.
    pub(super) next: VecDeque<Candidate>,
    /// For each commitment, in order.
    pub(super) judged: Vec<PublishDecision>,
}

impl Flushed {
    /// Why something could not be stored that may be stored later.
    pub(super) fn refused(&self) -> Option<&StorageError> {
        self.judged.iter().find_map(|judged| match judged {
            PublishDecision::Failed(error) => Some(error),
            _ => None,
        })
    }
}

impl ChainProcessor {
    /// Stores what is staged, and tells of it. Nothing is told before it is in the store.
    pub(super) fn flush(&mut self) -> Result<Flushed, StorageError> {
        let staged = std::mem::take(&mut self.staged).commitments;
        let mut flushed = Flushed::default();
        if staged.is_empty() {
            return Ok(flushed);
        }
        let before = self.store.head()?;
        let commitments = staged.iter().map(|staged| staged.linked.clone()).collect();
        let spans = staged.iter().map(|staged| &staged.span);
        let answers = store_span(spans).in_scope(|| self.store.insert_all(commitments));
        for (Staged { stored, origin, span, .. }, answer) in staged.into_iter().zip(answers) {
            let _entered = span.entered();
            match answer {
                Ok(inserted) => {
                    self.storage_works();
                    flushed.judged.push(self.inserted(stored, inserted, origin, &mut flushed.next)?)
                }
                // A child of what could not be stored shares its fate, and one of what had to go meanwhile.
                Err(error) if error.is_retryable() || matches!(error, StorageError::UnknownParent(_)) => {
                    Span::current().record("outcome", "store_full");
                    if error.is_retryable() {
                        self.storage_failed(&error);
                    }
                    self.metrics.dropped("store_full", 1);
                    // Catch-up asks for it again.
                    self.effects.inputs.push(Input::Seen { block: stored.block });
                    flushed.judged.push(PublishDecision::Failed(error));
                }
                Err(error) => return Err(error),
            }
        }
        self.attach_txlists()?;
        self.head_moved(before)?;
        Ok(flushed)
    }

    /// Tells of what an insert did, and takes out what had waited for it.
    fn inserted(
        &mut self,
        stored: StoredCommitment,
        inserted: Inserted,
        origin: Origin,
        next: &mut VecDeque<Candidate>,
    ) -> Result<PublishDecision, StorageError> {
        let span = Span::current();
        span.record("outcome", label(&inserted));
        let judged = match inserted {
            Inserted::Known => return Ok(PublishDecision::AlreadyStored),
            Inserted::Side => PublishDecision::NonCanonical,
            Inserted::New if stored.is_handover() => {
                let (block, commitment) = (stored.block, stored.recovered);
                self.emit(SdkEvent::Handover { block, commitment, origin });
                return Ok(PublishDecision::Stored);
            }
            Inserted::New => {
                self.applied(stored.clone(), origin);
                PublishDecision::Stored
            }
            // An L1 reorg had taken it, and what it stands on, out of the chain.
            Inserted::Restored { adopted } => {
                for block in adopted {
                    self.applied(block, origin);
                }
                PublishDecision::Stored
            }
            Inserted::Superseded { previous, dropped, adopted } => {
                let from = adopted.first().map_or(stored.block, |lowest| lowest.block);
                tracing::info!(%previous, from, dropped = dropped.len(), "reorg");
                self.metrics.reorg("fork");
                self.forget_missing(&dropped);
                self.emit(SdkEvent::Reorg { dropped, from });
                // What wins need not be the one that was inserted.
                let stands = adopted.iter().any(|block| block.hash() == stored.hash());
                for block in adopted {
                    self.applied(block, origin);
                }
                if stands { PublishDecision::Stored } else { PublishDecision::NonCanonical }
            }
        };
        next.extend(self.release(stored.hash()));
        Ok(judged)
    }

    pub(super) fn forget_missing(&mut self, dropped: &[B256]) {
        self.applied.retain(|applied| !dropped.contains(&applied.stored.hash()));
        for (block, hash) in self.missing_txlists.forget(dropped) {
            self.effects.inputs.push(Input::TxListUnwanted { block, hash });
        }
    }
}

/// The span of storing a batch: part of its first message, and what follows from all others.
pub(super) fn store_span<'a>(mut messages: impl ExactSizeIterator<Item = &'a Span>) -> Span {
    let count = messages.len();
    let _first = messages.next().map(Span::enter);
    let span = tracing::debug_span!("store", messages = count);
    for other in messages {
        span.follows_from(other);
    }
    span
}

const fn label(inserted: &Inserted) -> &'static str {
    match inserted {
        Inserted::New => "applied",
        Inserted::Known => "known",
        Inserted::Side => "side",
        Inserted::Restored { .. } => "restored",
        Inserted::Superseded { .. } => "superseded",
    }
}
