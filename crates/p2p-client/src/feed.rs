//! The chain, block by block, from any height on: read from the store, and on as the store grows.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use p2p_storage::{SdkStorage, StorageError, StoredCommitment};
use p2p_types::{B256, Base, BlockNumber, Head, Recovered, TxList};
use tokio::sync::{mpsc, watch};

use crate::{Component, P2pClientError, blocking::spawn_blocking, chain::Command, command::ServiceCommand};

/// Blocks read from the store at once.
const PAGE: usize = 64;
/// Bytes of transaction lists after which a read ends.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What a [`BlockFeed`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockUpdate {
    /// The next block of the chain, complete.
    Block(Block),
    /// The next block is known and lacks its transaction list. It follows as a `Block` when that is there.
    Waiting {
        /// The height.
        block: BlockNumber,
        /// Its preconfirmation hash.
        hash: B256,
        /// The list that is missing.
        raw_tx_list_hash: B256,
    },
    /// Blocks that were yielded have left the chain, by a reorg of it or of L1. What stands there now follows
    /// from this height on, as far as it is known; a block that returns is yielded again.
    Reorg {
        /// The height of the lowest.
        from: BlockNumber,
        /// Preconfirmation hashes of the blocks that were yielded and are gone, lowest first.
        dropped: Vec<B256>,
    },
    /// The contracts have settled these heights, and the store has not got them, or not their lists: they
    /// were pruned, or settled before they came. Nothing will bring them here.
    Settled {
        /// The first height that is skipped.
        from: BlockNumber,
        /// The last.
        through: BlockNumber,
    },
}

/// A block with its transaction list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The height.
    pub block: BlockNumber,
    /// The commitment, its signer and its hashes.
    pub commitment: Arc<Recovered>,
    /// The list.
    pub txlist: TxList,
}

/// Follows the chain through the store; see [`P2pClient::events_from`](crate::P2pClient::events_from).
///
/// Each block is yielded once, in order, with its list. The feed reads when it is asked, so it needs no queue,
/// loses nothing however slow its reader is, and slows nobody. It holds the store open while it lives.
#[derive(Debug)]
pub struct BlockFeed {
    cursor: Arc<Mutex<Cursor>>,
    /// None if the client had ended when the feed was made.
    storage: Option<FeedStorage>,
    changes: watch::Receiver<u64>,
    /// Weak, so that a feed does not keep its client alive.
    commands: mpsc::WeakSender<ServiceCommand>,
}

#[derive(Clone)]
struct FeedStorage(Arc<dyn SdkStorage>);

impl std::fmt::Debug for FeedStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SdkStorage")
    }
}

impl BlockFeed {
    pub(crate) fn new(
        storage: Option<Arc<dyn SdkStorage>>,
        changes: watch::Receiver<u64>,
        commands: mpsc::WeakSender<ServiceCommand>,
        from: BlockNumber,
    ) -> Self {
        let cursor = Arc::new(Mutex::new(Cursor::new(from)));
        Self { cursor, storage: storage.map(FeedStorage), changes, commands }
    }

    /// The next update; `None` after the client has ended and all that it stored has been yielded.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`]. The call after that tries again.
    pub async fn next(&mut self) -> Result<Option<BlockUpdate>, P2pClientError> {
        let mut ended = false;
        loop {
            // Seen before reading: what changes while we read wakes us again.
            self.changes.borrow_and_update();
            // What is read stays with the cursor, so that nothing is lost if nobody waits for it any more.
            if let Some(update) = self.take() {
                return Ok(Some(update));
            }
            let Some(storage) = self.storage.clone() else { return Ok(None) };
            let cursor = Arc::clone(&self.cursor);
            let read = spawn_blocking(move || lock(&cursor).fill(storage.0.as_ref()));
            read.await.map_err(|_| P2pClientError::Panicked(Component::Storage))??;
            if let Some(update) = self.take() {
                return Ok(Some(update));
            }
            if ended {
                return Ok(None);
            }
            ended = self.changes.changed().await.is_err();
        }
    }

    /// The next update that has been read, if there is one.
    fn take(&self) -> Option<BlockUpdate> {
        let mut cursor = lock(&self.cursor);
        if let Some(hash) = cursor.unreadable.take()
            && let Some(commands) = self.commands.upgrade()
        {
            // Where the queue is full, the next look at it says so again.
            drop(commands.try_send(ServiceCommand::Chain(Command::Unreadable { hash })));
        }
        cursor.ready.pop_front()
    }
}

fn lock(cursor: &Mutex<Cursor>) -> MutexGuard<'_, Cursor> {
    cursor.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a feed stands.
#[derive(Debug)]
struct Cursor {
    /// The height to be yielded next.
    next: BlockNumber,
    /// What was yielded above the base, and one block below: what a reorg could take back.
    shown: VecDeque<Head>,
    /// Read and not yet yielded.
    ready: VecDeque<BlockUpdate>,
    /// The block whose lack of a list has been told.
    waiting: Option<B256>,
    /// A list that is in the store and cannot be read.
    unreadable: Option<B256>,
}

impl Cursor {
    const fn new(from: BlockNumber) -> Self {
        Self { next: from, shown: VecDeque::new(), ready: VecDeque::new(), waiting: None, unreadable: None }
    }

    /// Reads what comes next, if nothing is ready.
    fn fill(&mut self, store: &dyn SdkStorage) -> Result<(), StorageError> {
        if self.ready.is_empty()
            && let Some(base) = store.base()?
        {
            self.take_back(store, base)?;
            self.skip(store, base)?;
            self.read(store, base)?;
        }
        Ok(())
    }

    /// Takes back what was yielded and is no longer in the chain.
    fn take_back(&mut self, store: &dyn SdkStorage, base: Base) -> Result<(), StorageError> {
        let mut dropped = Vec::new();
        while let Some(last) = self.shown.back() {
            let stands = match store.by_block(last.number)? {
                Some(stored) => stored.hash() == last.hash,
                // Below the base it was only pruned, unless another block was settled there.
                None => {
                    last.number < base.number
                        || (last.number == base.number && base.hash.is_none_or(|hash| hash == last.hash))
                }
            };
            if stands {
                break;
            }
            (self.next, self.waiting) = (last.number, None);
            dropped.push(last.hash);
            self.shown.pop_back();
        }
        while self.shown.get(1).is_some_and(|second| second.number <= base.number) {
            self.shown.pop_front();
        }
        if !dropped.is_empty() {
            dropped.reverse();
            self.ready.push_back(BlockUpdate::Reorg { from: self.next, dropped });
        }
        Ok(())
    }

    /// Skips settled heights that are not in the store.
    fn skip(&mut self, store: &dyn SdkStorage, base: Base) -> Result<(), StorageError> {
        if self.next > base.number || store.by_block(self.next)?.is_some() {
            return Ok(());
        }
        // Pruning takes the lowest first, so what there is below the base reaches up to it.
        let (mut missing, mut there) = (self.next, base.next());
        if store.by_block(base.number)?.is_some() {
            there = base.number;
            while there - missing > 1 {
                let middle = missing + (there - missing) / 2;
                *if store.by_block(middle)?.is_some() { &mut there } else { &mut missing } = middle;
            }
        }
        self.settled(self.next, there - 1);
        Ok(())
    }

    fn settled(&mut self, from: BlockNumber, through: BlockNumber) {
        self.next = through.saturating_add(1);
        self.ready.push_back(BlockUpdate::Settled { from, through });
    }

    fn read(&mut self, store: &dyn SdkStorage, base: Base) -> Result<(), StorageError> {
        let mut bytes = 0;
        for stored in store.range(self.next, PAGE)? {
            match self.shown.back().filter(|last| !follows(&stored, last)).copied() {
                None => {}
                // What was settled is not what was shown: nobody could tell before a block named it.
                Some(last) if stored.block <= base.next() => {
                    self.shown.pop_back();
                    let (from, dropped) = (last.number, vec![last.hash]);
                    self.ready.push_back(BlockUpdate::Reorg { from, dropped });
                    self.settled(from, from);
                }
                // The chain has changed since we looked; whoever changed it wakes us.
                Some(_) => break,
            }
            let (block, hash, raw_tx_list_hash) = (stored.block, stored.hash(), stored.txlist_hash());
            match self.txlist(store, &raw_tx_list_hash)? {
                Some(txlist) => {
                    bytes += txlist.bytes().len();
                    self.shown.push_back(stored.head());
                    self.next = block.saturating_add(1);
                    self.waiting = None;
                    let commitment = stored.recovered;
                    self.ready.push_back(BlockUpdate::Block(Block { block, commitment, txlist }));
                    if bytes >= PAGE_BYTES {
                        break;
                    }
                }
                // Nobody asks for the lists of settled blocks.
                None if block <= base.number => self.settled(block, block),
                None => {
                    if self.waiting.replace(hash) != Some(hash) {
                        self.ready.push_back(BlockUpdate::Waiting { block, hash, raw_tx_list_hash });
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// A list of the store. One that is damaged is missing: whoever owns the store fetches it again.
    fn txlist(&mut self, store: &dyn SdkStorage, hash: &B256) -> Result<Option<TxList>, StorageError> {
        match store.get(hash) {
            Err(StorageError::Corrupt { .. }) => {
                self.unreadable = Some(*hash);
                Ok(None)
            }
            answer => answer,
        }
    }
}

/// Whether a block stands on what was yielded last.
fn follows(stored: &StoredCommitment, last: &Head) -> bool {
    last.number.saturating_add(1) != stored.block || stored.parent == last.hash
}

#[cfg(test)]
mod tests;
