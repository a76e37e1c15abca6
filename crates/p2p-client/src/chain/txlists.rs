//! Transaction lists: stored for the blocks that name them, wanted where they are missing.

use p2p_catchup::Input;
use p2p_storage::{StorageError, StoredCommitment};
use p2p_types::{BlockNumber, MessageId, Origin, SdkEvent, TxList};

use super::Chain;

impl Chain {
    /// A block has become part of the chain: tell of it, and of its transaction list or the lack of it.
    pub(super) fn applied(&mut self, stored: &StoredCommitment, origin: Origin) -> Result<(), StorageError> {
        let (block, commitment) = (stored.block, stored.recovered.clone());
        self.tell(SdkEvent::Commitment { block, commitment, origin });
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
                    self.tell(SdkEvent::TxList { hash, bytes, origin });
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
        self.tell(SdkEvent::BlockReady { block, hash, raw_tx_list_hash });
    }

    pub(super) fn want(&mut self, stored: &StoredCommitment, live: bool) {
        if self.wanted.insert(stored) {
            let (block, hash) = (stored.block, stored.txlist_hash());
            self.effects.inputs.push(Input::TxListWanted { block, hash, live });
        }
    }

    /// A verified list: stored if a block wants it, held until one does otherwise. Says in a word what became of it.
    pub(super) fn txlist(&mut self, txlist: TxList, origin: Origin) -> Result<&'static str, StorageError> {
        let hash = txlist.hash();
        if !self.wanted.contains(&hash) {
            if self.store.contains(&hash)? {
                return Ok("known");
            }
            let gone = self.held.insert(self.now, txlist);
            self.metrics.dropped("held_txlists", gone);
            return Ok("held");
        }
        let blocks = self.wanted.take(&hash);
        let highest = blocks.last().map_or(0, |(block, _)| *block);
        let stored = tracing::debug_span!("store").in_scope(|| self.store.put(highest, txlist.clone()));
        match stored {
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
                return Ok("store_full");
            }
            Err(error) => return Err(error),
        }
        self.effects.inputs.push(Input::TxListArrived { hash });
        self.effects.seen.push(MessageId::of_txlist(&txlist));
        self.tell(SdkEvent::TxList { hash, bytes: txlist.bytes().len(), origin });
        for (block, block_hash) in blocks {
            let raw_tx_list_hash = hash;
            self.tell(SdkEvent::BlockReady { block, hash: block_hash, raw_tx_list_hash });
        }
        Ok("stored")
    }
}
