//! Commitments and transaction lists, judged one after the other.

use std::collections::VecDeque;

use p2p_catchup::Input;
use p2p_storage::{Inserted, StorageError, StoredCommitment};
use p2p_types::{BlockNumber, Origin, SdkEvent, TxList};
use p2p_validation::{Arrival, Authenticated, Elected, Facts, Linked, Missing, Parent, ValidationOutcome};
use preconfirmation_p2p::Verdict;

use super::{Candidate, Chain, Judged, MAX_AHEAD};

impl Chain {
    /// A commitment of gossip.
    pub(super) fn gossip(&mut self, candidate: Candidate) -> Result<(), StorageError> {
        self.judge_all(VecDeque::from([candidate]))
    }

    /// A commitment of the application: judged like any other, but it never waits.
    pub(super) fn local(
        &mut self,
        commitment: Authenticated,
        txlist: Option<TxList>,
    ) -> Result<Judged, StorageError> {
        let elected = match self.validator.elect(commitment, Arrival::Live(self.unix)) {
            ValidationOutcome::Accept(elected) => elected,
            ValidationOutcome::Defer(missing) => return Ok(Judged::Deferred(missing)),
            ValidationOutcome::Ignore(reason) => return Ok(Judged::Ignored(reason)),
            ValidationOutcome::Reject(rejection) => return Ok(Judged::Rejected(rejection)),
        };
        if let Some(txlist) = txlist {
            self.txlist(txlist, Origin::Local)?;
        }
        self.forwarded.allows(&elected);
        match self.link(elected)? {
            ValidationOutcome::Accept(linked) => {
                let (judged, next) = match self.store(linked, Origin::Local) {
                    Ok(stored) => stored,
                    Err(error) if error.is_retryable() => return Ok(Judged::Failed(error)),
                    Err(error) => return Err(error),
                };
                self.judge_all(next)?;
                Ok(judged)
            }
            ValidationOutcome::Defer(missing) => Ok(Judged::Deferred(missing)),
            ValidationOutcome::Ignore(reason) => Ok(Judged::Ignored(reason)),
            ValidationOutcome::Reject(rejection) => Ok(Judged::Rejected(rejection)),
        }
    }

    /// Judges candidates, and whatever has waited for them, until nothing is left to judge.
    pub(super) fn work_off(&mut self, mut queue: VecDeque<Candidate>) -> Result<(), StorageError> {
        while let Some(candidate) = queue.pop_front() {
            queue.extend(self.judge(candidate)?);
        }
        Ok(())
    }

    /// One candidate through election and linkage. Returns what had waited for it.
    fn judge(&mut self, mut candidate: Candidate) -> Result<VecDeque<Candidate>, StorageError> {
        let none = VecDeque::new();
        let elected = match self.validator.elect(candidate.commitment.clone(), candidate.arrival) {
            ValidationOutcome::Accept(elected) => elected,
            ValidationOutcome::Defer(missing) => {
                self.wait(missing, candidate);
                return Ok(none);
            }
            ValidationOutcome::Ignore(reason) => {
                self.metrics.ignored(reason.label());
                return Ok(none);
            }
            ValidationOutcome::Reject(rejection) => {
                self.metrics.rejected(rejection.label());
                tracing::debug!(block = candidate.commitment.block(), %rejection, "rejected");
                match (candidate.verdict.take(), candidate.origin.peer()) {
                    (Some(verdict), _) => verdict.settle(Verdict::Reject(rejection.offence())),
                    // Its verdict was settled while it waited; the peer pays all the same.
                    (None, Some(peer)) => self.effects.reports.push((peer, rejection.offence())),
                    (None, None) => {}
                }
                return Ok(none);
            }
        };
        if !self.plausible(elected.block()) {
            self.metrics.ignored("far_ahead");
            return Ok(none);
        }
        match self.link(elected.clone())? {
            ValidationOutcome::Accept(linked) => {
                self.forward(&elected, &mut candidate);
                match self.store(linked, candidate.origin) {
                    Ok((_, next)) => Ok(next),
                    Err(error) if error.is_retryable() => {
                        // It waits as if its parent were missing: catch-up asks for it again.
                        tracing::warn!(%error, block = elected.block(), "cannot store");
                        self.metrics.dropped("store_full", 1);
                        self.effects.inputs.push(Input::Seen { block: elected.block() });
                        Ok(none)
                    }
                    Err(error) => Err(error),
                }
            }
            ValidationOutcome::Defer(missing) => {
                self.forward(&elected, &mut candidate);
                self.wait(missing, candidate);
                Ok(none)
            }
            ValidationOutcome::Ignore(reason) => {
                self.metrics.ignored(reason.label());
                Ok(none)
            }
            // An elected preconfer's fault, which a peer that lacked the parent could not see when it
            // forwarded this: not forwarded further, and the peer does not pay.
            ValidationOutcome::Reject(rejection) => {
                self.metrics.rejected(rejection.label());
                tracing::debug!(block = elected.block(), %rejection, "not linked");
                Ok(none)
            }
        }
    }

    /// Whether a height can be: the schedule bounds who and when, not how high.
    fn plausible(&self, block: BlockNumber) -> bool {
        self.reference.is_none_or(|reference| block <= reference.saturating_add(MAX_AHEAD))
    }

    /// Forwarding asks for less than showing: elected is enough, once per signer and height.
    fn forward(&mut self, elected: &Elected, candidate: &mut Candidate) {
        if let Some(verdict) = candidate.verdict.take() {
            let allowed = self.forwarded.allows(elected);
            verdict.settle(if allowed { Verdict::Accept } else { Verdict::Ignore });
        }
    }

    /// Step 3 against what the store holds.
    pub(super) fn link(&self, elected: Elected) -> Result<ValidationOutcome<Linked>, StorageError> {
        let Some(base) = self.store.base()? else {
            return Ok(ValidationOutcome::Defer(Missing::Parent(elected.parent_hash())));
        };
        let parent = self.store.by_hash(&elected.parent_hash())?;
        let before = match elected.block().checked_sub(1) {
            Some(block) if self.validator.follows_height(&elected) => self.store.by_block(block)?,
            _ => None,
        };
        let facts = Facts { base, parent: parent.as_ref().map(fact), before: before.as_ref().map(fact) };
        Ok(self.validator.link(elected, &facts))
    }

    /// Stores what is linked, tells of it, and returns what had waited for it.
    pub(super) fn store(
        &mut self,
        linked: Linked,
        origin: Origin,
    ) -> Result<(Judged, VecDeque<Candidate>), StorageError> {
        let stored = StoredCommitment::from(linked.clone());
        let inserted = self.store.insert(linked)?;
        let mut next = VecDeque::new();
        let judged = match inserted {
            Inserted::Known => Judged::Known,
            Inserted::Side => {
                next.extend(self.pending.take_parent(stored.hash()));
                Judged::Side
            }
            Inserted::New if stored.recovered.signed().preconf().is_eop_only() => {
                let (block, commitment) = (stored.block, stored.recovered);
                self.effects.events.push(SdkEvent::Handover { block, commitment, origin });
                Judged::Stored
            }
            Inserted::New => {
                self.applied(&stored, origin)?;
                next.extend(self.pending.take_parent(stored.hash()));
                Judged::Stored
            }
            Inserted::Superseded { previous, dropped, adopted } => {
                let from = adopted.first().map_or(stored.block, |lowest| lowest.block);
                tracing::info!(%previous, from, dropped = dropped.len(), "reorg");
                self.metrics.reorg();
                for (block, hash) in self.wanted.forget(&dropped) {
                    self.effects.inputs.push(Input::TxListUnwanted { block, hash });
                }
                self.effects.events.push(SdkEvent::Reorg { dropped, from });
                for block in &adopted {
                    self.applied(block, origin)?;
                }
                next.extend(self.pending.take_parent(stored.hash()));
                Judged::Stored
            }
        };
        Ok((judged, next))
    }

    /// A block has become part of the chain: tell of it, and of its transaction list or the lack of it.
    fn applied(&mut self, stored: &StoredCommitment, origin: Origin) -> Result<(), StorageError> {
        let (block, commitment) = (stored.block, stored.recovered.clone());
        self.effects.events.push(SdkEvent::Commitment { block, commitment, origin });
        let hash = stored.txlist_hash();
        let (list, held) = match self.store.get(&hash)? {
            Some(list) => (Some(list), false),
            None => (self.held.take(&hash), true),
        };
        let Some(list) = list else {
            self.want(stored, !matches!(origin, Origin::Sync(_)));
            return Ok(());
        };
        // A list that is in the store already is put again, so that it stays as long as its newest block.
        match self.store.put(block, list.clone()) {
            Ok(_) => {
                if held {
                    let bytes = list.bytes().len();
                    self.effects.events.push(SdkEvent::TxList { hash, bytes, origin });
                }
                self.ready(block, stored);
                Ok(())
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, block, "cannot store a transaction list");
                self.metrics.dropped("store_full", 1);
                self.want(stored, false);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn ready(&mut self, block: BlockNumber, stored: &StoredCommitment) {
        let (hash, raw_tx_list_hash) = (stored.hash(), stored.txlist_hash());
        self.effects.events.push(SdkEvent::BlockReady { block, hash, raw_tx_list_hash });
    }

    pub(super) fn want(&mut self, stored: &StoredCommitment, live: bool) {
        if self.wanted.insert(stored) {
            let (block, hash) = (stored.block, stored.txlist_hash());
            self.effects.inputs.push(Input::TxListWanted { block, hash, live });
        }
    }

    /// A verified list: stored if a block wants it, held until one does otherwise.
    pub(super) fn txlist(&mut self, txlist: TxList, origin: Origin) -> Result<(), StorageError> {
        let hash = txlist.hash();
        if !self.wanted.contains(&hash) {
            if !self.store.contains(&hash)? {
                let gone = self.held.insert(self.now, txlist);
                self.metrics.dropped("held_txlists", gone);
            }
            return Ok(());
        }
        let blocks = self.wanted.take(&hash);
        let highest = blocks.last().map_or(0, |(block, _)| *block);
        match self.store.put(highest, txlist.clone()) {
            Ok(_) => {}
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "cannot store a transaction list");
                self.metrics.dropped("store_full", 1);
                for (block, block_hash) in blocks {
                    if let Some(stored) = self.store.by_hash(&block_hash)? {
                        self.wanted.insert(&stored);
                        self.effects.inputs.push(Input::TxListWanted { block, hash, live: false });
                    }
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.effects.inputs.push(Input::TxListArrived { hash });
        self.effects.events.push(SdkEvent::TxList { hash, bytes: txlist.bytes().len(), origin });
        for (block, block_hash) in blocks {
            let raw_tx_list_hash = hash;
            self.effects.events.push(SdkEvent::BlockReady { block, hash: block_hash, raw_tx_list_hash });
        }
        Ok(())
    }
}

fn fact(stored: &StoredCommitment) -> Parent<'_> {
    Parent { block: stored.block, preconf: stored.recovered.signed().preconf() }
}
