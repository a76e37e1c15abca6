//! Transaction lists: stored with the blocks that name them, reported where they are missing, cached where no block names
//! them yet.

use std::time::Instant;

use hashbrown::HashMap;
use p2p_storage::{Held, StorageError, StoredCommitment};
use p2p_types::{B256, BlockNumber, Origin, TxList};
use tracing::Span;

use super::{Committed, Ledger, missing::Block, store_span};
use crate::chain::{VerifiedTxList, effects::Effects};

/// A block that has become part of the chain, and whose list is to be looked for.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) stored: StoredCommitment,
    pub(super) origin: Origin,
    pub(super) span: Span,
}

/// Where the list of a block is that has become part of the chain.
#[derive(Debug, Clone, Copy)]
enum ListState {
    /// In the store.
    Stored,
    /// Among those that are being stored.
    Attached(usize),
    Missing,
}

/// A list to be stored for blocks that share it.
struct Attachment {
    /// The highest of these.
    block: BlockNumber,
    txlist: TxList,
    /// It is not in the store so far.
    is_news: bool,
}

/// What became of a transaction list that came alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chain) enum TxListOutcome {
    /// Blocks lacked it; it is stored.
    Stored,
    /// Blocks lack it, and the store did not take it.
    NotStored,
    /// It is stored or cached already; in the store if `stored`.
    Known { stored: bool },
    /// It is cached; a commitment that waits names it if `named`.
    Orphaned { named: bool },
    /// Its sender has used up its budget.
    OverBudget,
}

impl Ledger {
    /// Stores the orphaned lists of the blocks that have just become part of the chain, reports these, those that were stored
    /// with their blocks, whichever branch is the chain, and those that are missing.
    pub(super) fn attach_txlists(
        &mut self,
        staged: Vec<(BlockNumber, TxList, Result<bool, StorageError>)>,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let applied = std::mem::take(&mut self.applied);
        let mut attachments: Vec<Attachment> = Vec::new();
        let mut places: HashMap<B256, ListState> = HashMap::new();
        let mut answers = Vec::new();
        for (block, txlist, answer) in staged {
            places.insert(txlist.hash(), ListState::Attached(attachments.len()));
            attachments.push(Attachment { block, txlist, is_news: answer != Ok(false) });
            answers.push(answer);
        }
        let beside = attachments.len();
        // A list that is in the store already stays as long as its newest block.
        let mut named = highest_by_list(&applied);
        named.retain(|(_, hash)| !places.contains_key(hash));
        for ((block, hash), answer) in named.iter().copied().zip(self.store.renew(&named)) {
            let place = if self.is_kept(&hash, answer, out)? {
                ListState::Stored
            } else if let Some(txlist) = self.orphans.take(&hash) {
                attachments.push(Attachment { block, txlist, is_news: true });
                ListState::Attached(attachments.len() - 1)
            } else {
                ListState::Missing
            };
            places.insert(hash, place);
        }
        let puts = attachments.iter().skip(beside).map(|list| (list.block, list.txlist.clone())).collect();
        answers.append(&mut self.put_all(applied.iter().map(|applied| &applied.span), puts));
        let mut attached: Vec<_> = attachments.into_iter().zip(answers).collect();
        for Applied { stored, origin, span } in applied {
            let (_entered, hash) = (span.entered(), stored.txlist_hash());
            let place = match places.get(&hash) {
                Some(ListState::Stored) => {
                    out.block_ready(stored.block, stored.hash(), hash);
                    continue;
                }
                Some(ListState::Attached(place)) => attached.get_mut(*place),
                Some(ListState::Missing) | None => None,
            };
            match place {
                None => self.report_missing(&stored, !matches!(origin, Origin::Sync(_)), out),
                Some((attachment, Ok(_))) => {
                    if std::mem::take(&mut attachment.is_news) {
                        out.txlist_stored(&attachment.txlist, origin);
                    }
                    out.block_ready(stored.block, stored.hash(), hash);
                }
                Some((attachment, Err(error))) if error.is_retryable() => {
                    attachment.is_news = false;
                    self.store_failed(error, out);
                    out.dropped("store_full", 1);
                    self.report_missing(&stored, false, out);
                }
                Some((_, Err(error))) => return Err(error.clone()),
            }
        }
        // Those of blocks that are beside the chain.
        for (attachment, answer) in attached.into_iter().take(beside).filter(|(list, _)| list.is_news) {
            match answer {
                Ok(_) => out.txlist_stored(&attachment.txlist, Origin::Local),
                Err(error) if error.is_retryable() => self.store_failed(&error, out),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the store has a list that it was to keep for another block. One that is damaged is given up.
    fn is_kept(
        &mut self,
        hash: &B256,
        answer: Result<bool, StorageError>,
        out: &mut Effects,
    ) -> Result<bool, StorageError> {
        let answer = match answer {
            Err(StorageError::Corrupt { what }) => self.give_up(hash, what, out).map(|_| false),
            answer => answer,
        };
        match answer {
            // Fetched like one that is missing: the block is stored, and waits for nothing else.
            Err(error) if error.is_retryable() => {
                self.store_failed(&error, out);
                Ok(false)
            }
            answer => answer,
        }
    }

    /// Stores the list of a block of the application that is stored already.
    pub(in crate::chain) fn store_own_txlist(
        &mut self,
        block: BlockNumber,
        txlist: &TxList,
        out: &mut Effects,
    ) -> Result<Committed, StorageError> {
        let blocks = self.missing.take(&txlist.hash());
        let answer = self.store.put(block.max(highest(&blocks)), txlist.clone());
        let refused = answer.as_ref().err().cloned();
        self.put(txlist, Origin::Local, blocks, answer, out)?;
        Ok(refused.map_or(Committed::Stored, Committed::Failed))
    }

    /// Takes lists that came alone: stores those that blocks lack, caches others until a block names them. Answers for
    /// each, in order. `is_named`: a commitment that waits names it.
    pub(in crate::chain) fn take_txlists(
        &mut self,
        now: Instant,
        lists: &[VerifiedTxList],
        is_named: impl Fn(&B256) -> bool,
        out: &mut Effects,
    ) -> Result<Vec<TxListOutcome>, StorageError> {
        let lacking: Vec<_> = lists.iter().map(|list| self.missing.take(&list.txlist.hash())).collect();
        let needed = || lists.iter().zip(&lacking).filter(|(_, blocks)| !blocks.is_empty());
        let puts = needed().map(|(list, blocks)| (highest(blocks), list.txlist.clone())).collect();
        let spans: Vec<_> = needed().map(|(list, _)| &list.span).collect();
        let mut answers = self.put_all(spans.into_iter(), puts).into_iter();
        let mut outcomes = vec![None; lists.len()];
        for ((list, blocks), outcome) in lists.iter().zip(lacking).zip(&mut outcomes) {
            if !blocks.is_empty()
                && let Some(answer) = answers.next()
            {
                let _entered = list.span.enter();
                *outcome = Some(self.put(&list.txlist, list.origin, blocks, answer, out)?);
            }
        }
        let outcomes = outcomes.into_iter().zip(lists).map(|(outcome, list)| match outcome {
            Some(outcome) => Ok(outcome),
            None => self.cache_orphan(now, list, &is_named, out),
        });
        outcomes.collect()
    }

    fn put_all<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = &'a Span>,
        puts: Vec<(BlockNumber, TxList)>,
    ) -> Vec<Result<bool, StorageError>> {
        if puts.is_empty() {
            Vec::new()
        } else {
            store_span(messages).in_scope(|| self.store.apply(puts.into()).txlists)
        }
    }

    /// Reports a list that the store has taken or refused, and that these blocks lacked.
    fn put(
        &mut self,
        txlist: &TxList,
        origin: Origin,
        blocks: Vec<Block>,
        answer: Result<bool, StorageError>,
        out: &mut Effects,
    ) -> Result<TxListOutcome, StorageError> {
        match answer {
            Ok(_) => {}
            Err(error) if error.is_retryable() => {
                self.store_failed(&error, out);
                out.dropped("store_full", 1);
                for block in blocks {
                    self.missing.insert(txlist.hash(), block);
                    out.txlist_missing(block.0, txlist.hash(), false);
                }
                return Ok(TxListOutcome::NotStored);
            }
            Err(error) => return Err(error),
        }
        out.missing_txlist_stored(txlist, origin);
        for (block, hash) in blocks {
            out.block_ready(block, hash, txlist.hash());
        }
        Ok(TxListOutcome::Stored)
    }

    /// Caches a list that no block names so far, in the budget of whoever sent it.
    fn cache_orphan(
        &mut self,
        now: Instant,
        list: &VerifiedTxList,
        is_named: &impl Fn(&B256) -> bool,
        out: &mut Effects,
    ) -> Result<TxListOutcome, StorageError> {
        let hash = list.txlist.hash();
        if self.store.contains(&hash)? {
            return Ok(TxListOutcome::Known { stored: true });
        }
        let named = is_named(&hash);
        let sender = list.origin.peer().filter(|_| !named);
        let (held, gone) = self.orphans.insert(now, sender, list.txlist.clone());
        out.dropped("held_txlists", gone);
        Ok(match held {
            Held::New => TxListOutcome::Orphaned { named },
            Held::Known => TxListOutcome::Known { stored: false },
            Held::OverBudget => {
                out.dropped("held_txlists", 1);
                TxListOutcome::OverBudget
            }
        })
    }

    /// Notes that a block lacks its list, and reports it unless that is known.
    pub(super) fn report_missing(&mut self, stored: &StoredCommitment, live: bool, out: &mut Effects) {
        if self.missing.insert(stored.txlist_hash(), (stored.block, stored.hash())) {
            out.txlist_missing(stored.block, stored.txlist_hash(), live);
        }
    }

    /// Reports the lists that blocks of these heights lack.
    pub(in crate::chain) fn report_missing_in(
        &mut self,
        from: BlockNumber,
        through: BlockNumber,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let mut from = from;
        while from <= through {
            let page = self.store.range(from, 256)?;
            let Some(last) = page.last() else { break };
            from = last.block.saturating_add(1);
            for stored in page.iter().filter(|stored| stored.block <= through) {
                if !self.store.contains(&stored.txlist_hash())? {
                    self.report_missing(stored, false, out);
                }
            }
        }
        Ok(())
    }

    /// A list cannot be read: it is removed, so that it is fetched again. Returns the highest block that it was kept for.
    fn give_up(
        &self,
        hash: &B256,
        what: &'static str,
        out: &Effects,
    ) -> Result<Option<BlockNumber>, StorageError> {
        out.txlist_unreadable(hash, what);
        self.store.discard(hash)
    }

    /// A reader has found that a list cannot be read. It is fetched for one block: stored, it is there for all that name it.
    pub(in crate::chain) fn unreadable(&mut self, hash: B256, out: &mut Effects) -> Result<(), StorageError> {
        let highest = match self.store.get(&hash) {
            Err(StorageError::Corrupt { what }) => self.give_up(&hash, what, out)?,
            // Given up before, or fetched again.
            answer => answer.map(|_| None)?,
        };
        let Some(highest) = highest else { return Ok(()) };
        match self.store.by_block(highest)? {
            Some(stored) if stored.txlist_hash() == hash => self.report_missing(&stored, false, out),
            // It was kept for a block beside the chain; a lower one may name it as well.
            _ => {
                let lowest = self.store.base()?.map_or(0, |base| base.number.saturating_add(1));
                self.report_missing_in(lowest, highest, out)?;
            }
        }
        Ok(())
    }

    /// Whether a list is stored.
    pub(in crate::chain) fn has_txlist(&self, hash: &B256) -> Result<bool, StorageError> {
        self.store.contains(hash)
    }

    /// Blocks that lack their list, and bytes of orphaned lists.
    pub(in crate::chain) fn txlist_counts(&self) -> (usize, usize) {
        (self.missing.len(), self.orphans.bytes())
    }
}

/// The lists that blocks name, in their order, each with the highest of its blocks.
fn highest_by_list(applied: &[Applied]) -> Vec<(BlockNumber, B256)> {
    let mut lists: Vec<(BlockNumber, B256)> = Vec::new();
    let mut places = HashMap::new();
    for Applied { stored, .. } in applied {
        let (block, hash) = (stored.block, stored.txlist_hash());
        let place = *places.entry(hash).or_insert(lists.len());
        match lists.get_mut(place) {
            Some((highest, _)) => *highest = block.max(*highest),
            None => lists.push((block, hash)),
        }
    }
    lists
}

fn highest(blocks: &[Block]) -> BlockNumber {
    blocks.last().map_or(0, |(block, _)| *block)
}
