//! Transaction lists: stored for the blocks that name them, wanted where they are missing.

use hashbrown::HashMap;
use p2p_catchup::Input;
use p2p_storage::{Held, StorageError, StoredCommitment};
use p2p_types::{B256, BlockNumber, MessageId, Origin, SdkEvent, TxList};
use p2p_validation::Missing;
use preconfirmation_p2p::Verdict;
use tracing::Span;

use super::{ChainProcessor, VerifiedTxList, staged::store_span};

/// A block that has become part of the chain, and whose list is to be looked for.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) stored: StoredCommitment,
    origin: Origin,
    span: Span,
}

/// What is to be put for blocks that share a list.
struct Supply {
    /// The highest of these.
    block: BlockNumber,
    txlist: TxList,
    /// It was held, and is news.
    is_news: bool,
}

impl ChainProcessor {
    /// A block has become part of the chain: tell of it. Its list follows with those of the whole batch.
    pub(super) fn applied(&mut self, stored: StoredCommitment, origin: Origin) {
        let (block, commitment) = (stored.block, stored.recovered.clone());
        self.emit(SdkEvent::Commitment { block, commitment, origin });
        self.applied.push(Applied { stored, origin, span: Span::current() });
    }

    /// Tells of the lists of the blocks that have just become part of the chain, or of the lack of them.
    pub(super) fn attach_txlists(&mut self) -> Result<(), StorageError> {
        let applied = std::mem::take(&mut self.applied);
        let mut supplies: Vec<Supply> = Vec::new();
        let mut places: HashMap<B256, Option<usize>> = HashMap::new();
        for Applied { stored, .. } in &applied {
            let (block, hash) = (stored.block, stored.txlist_hash());
            let place = match places.get(&hash) {
                Some(place) => *place,
                None => {
                    let kept = self.readable(&hash)?.map(|txlist| Supply { block, txlist, is_news: false });
                    let own = self.own_lists.get(&hash).cloned();
                    let news = |txlist| Supply { block, txlist, is_news: true };
                    let found = kept.or_else(|| own.or_else(|| self.held.take(&hash)).map(news));
                    let place = found.is_some().then_some(supplies.len());
                    supplies.extend(found);
                    places.insert(hash, place);
                    place
                }
            };
            if let Some(supply) = place.and_then(|place| supplies.get_mut(place)) {
                supply.block = supply.block.max(block);
            }
        }
        // A list that is in the store already is put again, so that it stays as long as its newest block.
        let puts = supplies.iter().map(|supply| (supply.block, supply.txlist.clone())).collect();
        let answers = self.put_all(applied.iter().map(|applied| &applied.span), puts);
        let mut supplies: Vec<_> = supplies.into_iter().zip(answers).collect();
        for Applied { stored, origin, span } in applied {
            let (_entered, hash) = (span.entered(), stored.txlist_hash());
            let place = places.get(&hash).copied().flatten();
            match place.and_then(|place| supplies.get_mut(place)) {
                None => self.request_list(&stored, !matches!(origin, Origin::Sync(_))),
                Some((supply, Ok(_))) => {
                    if std::mem::take(&mut supply.is_news) {
                        let bytes = supply.txlist.bytes().len();
                        self.emit(SdkEvent::TxList { hash, bytes, origin });
                    }
                    self.ready(&stored);
                }
                Some((_, Err(error))) if error.is_retryable() => {
                    let error = error.clone();
                    self.storage_failed(&error);
                    self.metrics.dropped("store_full", 1);
                    self.request_list(&stored, false);
                }
                Some((_, Err(error))) => return Err(error.clone()),
            }
        }
        Ok(())
    }

    fn ready(&mut self, stored: &StoredCommitment) {
        let (block, hash, raw_tx_list_hash) = (stored.block, stored.hash(), stored.txlist_hash());
        self.emit(SdkEvent::BlockReady { block, hash, raw_tx_list_hash });
    }

    pub(super) fn request_list(&mut self, stored: &StoredCommitment, live: bool) {
        if self.missing_txlists.insert(stored) {
            let (block, hash) = (stored.block, stored.txlist_hash());
            self.effects.inputs.push(Input::TxListWanted { block, hash, live });
        }
    }

    /// Verified lists: stored if a block wants them, held until one does otherwise.
    pub(super) fn txlists(&mut self, lists: Vec<VerifiedTxList>) -> Result<(), StorageError> {
        let mut wanted = Vec::new();
        let mut others = Vec::new();
        for listed in lists {
            let blocks = self.missing_txlists.take(&listed.txlist.hash());
            if blocks.is_empty() { others.push(listed) } else { wanted.push((listed, blocks)) }
        }
        let highest = |blocks: &[(BlockNumber, B256)]| blocks.last().map_or(0, |(block, _)| *block);
        let put = |(listed, blocks): &(VerifiedTxList, Vec<_>)| (highest(blocks), listed.txlist.clone());
        let puts = wanted.iter().map(put).collect();
        let answers = self.put_all(wanted.iter().map(|(listed, _)| &listed.span), puts);
        for ((listed, blocks), answer) in wanted.into_iter().zip(answers) {
            let entered = listed.span.entered();
            entered.record("outcome", self.stored(&listed.txlist, listed.origin, blocks, answer)?);
            if let Some(verdict) = listed.verdict {
                verdict.settle(Verdict::Accept);
            }
        }
        for VerifiedTxList { txlist, origin, verdict, span } in others {
            let entered = span.entered();
            let (outcome, goes_on) = self.hold(txlist, origin)?;
            entered.record("outcome", outcome);
            if let Some(verdict) = verdict {
                verdict.settle(goes_on);
            }
        }
        Ok(())
    }

    /// A list that the application publishes.
    pub(super) fn local_list(&mut self, txlist: TxList) -> Result<(), StorageError> {
        self.txlists(vec![VerifiedTxList {
            txlist,
            origin: Origin::Local,
            verdict: None,
            span: Span::none(),
        }])
    }

    fn put_all<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = &'a Span>,
        puts: Vec<(BlockNumber, TxList)>,
    ) -> Vec<Result<bool, StorageError>> {
        if puts.is_empty() { Vec::new() } else { store_span(messages).in_scope(|| self.store.put_all(puts)) }
    }

    /// Tells of a list that the store has taken or refused. Says in a word which.
    fn stored(
        &mut self,
        txlist: &TxList,
        origin: Origin,
        blocks: Vec<(BlockNumber, B256)>,
        answer: Result<bool, StorageError>,
    ) -> Result<&'static str, StorageError> {
        let hash = txlist.hash();
        match answer {
            Ok(_) => {}
            Err(error) if error.is_retryable() => {
                self.storage_failed(&error);
                self.metrics.dropped("store_full", 1);
                for (block, block_hash) in blocks {
                    if let Some(stored) = self.store.by_hash(&block_hash)? {
                        self.missing_txlists.insert(&stored);
                        self.effects.inputs.push(Input::TxListWanted { block, hash, live: false });
                    }
                }
                return Ok("store_full");
            }
            Err(error) => return Err(error),
        }
        self.effects.inputs.push(Input::TxListArrived { hash });
        self.effects.seen.push(MessageId::of_txlist(txlist));
        self.emit(SdkEvent::TxList { hash, bytes: txlist.bytes().len(), origin });
        for (block, block_hash) in blocks {
            let raw_tx_list_hash = hash;
            self.emit(SdkEvent::BlockReady { block, hash: block_hash, raw_tx_list_hash });
        }
        Ok("stored")
    }

    /// A list that no block wants so far. Says in a word what became of it, and whether it goes on to others: without a
    /// promise that names it, within the budget of whoever sent it, and to nobody's credit.
    fn hold(&mut self, txlist: TxList, origin: Origin) -> Result<(&'static str, Verdict), StorageError> {
        let hash = txlist.hash();
        if self.store.contains(&hash)? {
            return Ok(("known", Verdict::Forward));
        }
        let named = self.pending.iter().any(|waiting| {
            matches!(waiting.missing, Some(Missing::Parent(_)))
                && waiting.commitment.txlist_hash() == Some(hash)
        });
        let sender = origin.peer().filter(|_| !named);
        let (held, gone) = self.held.insert(self.now, sender, txlist);
        self.metrics.dropped("held_txlists", gone);
        Ok(match held {
            Held::New if named => ("held", Verdict::Accept),
            Held::New => ("held", Verdict::Forward),
            Held::Known => ("known", Verdict::Ignore),
            Held::OverBudget => {
                self.metrics.dropped("held_txlists", 1);
                // It counts as seen only once it is stored; catch-up fetches it when a block names it.
                ("over_budget", Verdict::Ignore)
            }
        })
    }

    /// A list in the store. One that cannot be read any more is given up, so that it is fetched again.
    pub(super) fn readable(&self, hash: &B256) -> Result<Option<TxList>, StorageError> {
        match self.store.get(hash) {
            Err(StorageError::Corrupt { what }) => {
                tracing::warn!(%hash, what, "a transaction list in the store is damaged and is fetched again");
                self.metrics.unreadable();
                self.store.discard(hash)?;
                Ok(None)
            }
            answer => answer,
        }
    }

    /// A reader has found that the list of a block cannot be read.
    pub(super) fn unreadable(&mut self, block: BlockNumber, hash: B256) -> Result<(), StorageError> {
        if self.readable(&hash)?.is_none()
            && let Some(stored) = self.store.by_block(block)?
            && stored.txlist_hash() == hash
        {
            self.request_list(&stored, false);
        }
        Ok(())
    }
}
