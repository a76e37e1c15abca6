//! Changes, inside one write transaction.

use p2p_types::{Address, B256, Base, BlockNumber, Head, SigningDomain, TxList};
use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::{
    STEP,
    fault::{fault, spoils},
    tables::{
        CHAIN, COMMITMENTS, EVIDENCE, EvidencePlace, META, PLACES, Place, ROOTS, Row, State, TXLIST_BLOCKS,
        TXLIST_ORDER, TXLISTS, encode_evidence, find, row, rows_at,
    },
};
use crate::{
    Inserted, StorageError, StorageLimits, StoredCommitment, StoredEvidence,
    evidence::{EvidenceKey, first_of_the_worst, kind_of},
    fork::{Branches, Choice, choose, returns},
};

/// A write transaction in work. A call that fails with an error that does not spoil
/// ([`spoils`](super::fault::spoils)) has changed nothing that matters.
pub(super) struct Writer<'t> {
    meta: Table<'t, &'static str, &'static [u8]>,
    commitments: Table<'t, Place, &'static [u8]>,
    places: Table<'t, &'static [u8; 32], Place>,
    roots: Table<'t, BlockNumber, ()>,
    txlists: Table<'t, &'static [u8; 32], &'static [u8]>,
    txlist_blocks: Table<'t, &'static [u8; 32], (BlockNumber, u64)>,
    txlist_order: Table<'t, (BlockNumber, &'static [u8; 32]), ()>,
    evidence: Table<'t, EvidencePlace<'static>, &'static [u8]>,
    state: State,
    limits: StorageLimits,
    domain: SigningDomain,
    changed: bool,
    /// What has been evicted so far.
    evicted: usize,
    /// Of that, lists that are in files.
    files: Vec<B256>,
}

/// How far a step of the work has come.
pub(super) enum Progress<T> {
    Done(T),
    /// It has removed as much as one step may.
    More,
}

impl Branches for Writer<'_> {
    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError> {
        match self.state.tip {
            None => Ok(None),
            Some(tip) if tip.number < block => Ok(None),
            Some(tip) if tip.number == block => Ok(Some(tip.hash)),
            Some(_) => Ok(self.row((block, CHAIN))?.map(|row| row.stored.hash())),
        }
    }

    fn block(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        Ok(self.find(hash)?.map(|(_, row)| row.stored))
    }

    fn head(&self) -> Option<BlockNumber> {
        self.state.head().map(|head| head.number)
    }

    fn lowest(&self) -> BlockNumber {
        self.state.lowest()
    }
}

impl<'t> Writer<'t> {
    pub(super) fn new(
        transaction: &'t WriteTransaction,
        limits: StorageLimits,
        domain: SigningDomain,
    ) -> Result<Self, StorageError> {
        let meta = transaction.open_table(META).map_err(fault)?;
        Ok(Self {
            state: State::load(&meta)?,
            meta,
            commitments: transaction.open_table(COMMITMENTS).map_err(fault)?,
            places: transaction.open_table(PLACES).map_err(fault)?,
            roots: transaction.open_table(ROOTS).map_err(fault)?,
            txlists: transaction.open_table(TXLISTS).map_err(fault)?,
            txlist_blocks: transaction.open_table(TXLIST_BLOCKS).map_err(fault)?,
            txlist_order: transaction.open_table(TXLIST_ORDER).map_err(fault)?,
            evidence: transaction.open_table(EVIDENCE).map_err(fault)?,
            limits,
            domain,
            changed: false,
            evicted: 0,
            files: Vec::new(),
        })
    }

    /// Writes down the state. None if there is nothing to commit, else the lists whose files have lost their
    /// names.
    pub(super) fn finish(mut self) -> Result<Option<Vec<B256>>, StorageError> {
        if !self.changed {
            return Ok(None);
        }
        self.state.save(&mut self.meta)?;
        Ok(Some(self.files))
    }

    fn row(&self, place: Place) -> Result<Option<Row>, StorageError> {
        row(&self.commitments, place, &self.domain)
    }

    fn find(&self, hash: &B256) -> Result<Option<(Place, Row)>, StorageError> {
        find(&self.commitments, &self.places, hash, &self.domain)
    }

    fn write(&mut self, place: Place, row: &Row) -> Result<(), StorageError> {
        self.changed = true;
        self.commitments.insert(place, &*row.encode()).map_err(fault)?;
        self.places.insert(&row.stored.hash().0, place).map_err(fault)?;
        Ok(())
    }

    /// Takes a row from one place to another of its height.
    fn shift(&mut self, from: Place, slot: u64, row: &Row) -> Result<(), StorageError> {
        self.commitments.remove(from).map_err(fault)?;
        self.write((from.0, slot), row)
    }

    fn erase(&mut self, place: Place, hash: &B256) -> Result<(), StorageError> {
        self.changed = true;
        self.commitments.remove(place).map_err(fault)?;
        self.places.remove(&hash.0).map_err(fault)?;
        self.roots.remove(place.0).map_err(fault)?;
        self.state.commitments = self.state.commitments.saturating_sub(1);
        Ok(())
    }

    fn add(&mut self, slot: Option<u64>, new: &StoredCommitment) -> Result<(), StorageError> {
        self.state.arrivals = self.state.arrivals.saturating_add(1);
        self.state.commitments = self.state.commitments.saturating_add(1);
        let arrival = self.state.arrivals;
        self.write((new.block, slot.unwrap_or(arrival)), &Row { arrival, stored: new.clone() })
    }

    /// As [`CommitmentStore::insert_all`](crate::CommitmentStore::insert_all), as far as one step comes; at least
    /// one is answered unless more must be evicted first.
    pub(super) fn insert_all(
        &mut self,
        new: &[StoredCommitment],
    ) -> Result<Vec<Result<Inserted, StorageError>>, StorageError> {
        let mut answers = Vec::with_capacity(new.len());
        for new in new {
            match self.insert(new) {
                Ok(Progress::Done(inserted)) => answers.push(Ok(inserted)),
                Ok(Progress::More) => break,
                Err(error) if spoils(&error) => return Err(error),
                Err(error) => answers.push(Err(error)),
            }
        }
        Ok(answers)
    }

    /// Whether this step may not evict any more. Each insert evicts one at most, unless the limits have shrunk.
    const fn is_tired(&self) -> bool {
        self.evicted >= STEP
    }

    fn insert(&mut self, new: &StoredCommitment) -> Result<Progress<Inserted>, StorageError> {
        if self.state.base.is_none() {
            return Err(StorageError::NoBase);
        }
        let hash = new.hash();
        if let Some((place, row)) = self.find(&hash)? {
            if !returns(self, &row.stored)? {
                return Ok(Progress::Done(Inserted::Known));
            }
            self.note_root(&row.stored)?;
            self.shift(place, CHAIN, &row)?;
            self.state.tip = Some(row.stored.head());
            return Ok(Progress::Done(Inserted::Restored { adopted: vec![row.stored] }));
        }
        while let Some(full) = self.limits.commitments_full(self.state.commitments) {
            if self.is_tired() {
                return Ok(Progress::More);
            }
            match self.prune_lowest(BlockNumber::MAX)? {
                0 => return Err(full),
                gone => self.evicted += gone,
            }
        }
        if new.recovered.signed().preconf().is_eop_only() {
            self.add(None, new)?;
            return Ok(Progress::Done(Inserted::New));
        }
        let head = new.head();
        let choice = choose(self, new)?;
        self.note_root(new)?;
        Ok(Progress::Done(match choice {
            Choice::Side => {
                self.add(None, new)?;
                Inserted::Side
            }
            Choice::Extend => {
                self.add(Some(CHAIN), new)?;
                self.state.tip = Some(head);
                Inserted::New
            }
            Choice::Switch { from, through } => {
                let dropped = self.leave_chain(from)?;
                let mut adopted = Vec::with_capacity(through.len() + 1);
                for hash in &through {
                    let (place, row) = self.find(hash)?.ok_or(StorageError::UnknownParent(*hash))?;
                    self.note_root(&row.stored)?;
                    self.shift(place, CHAIN, &row)?;
                    adopted.push(row.stored);
                }
                self.add(Some(CHAIN), new)?;
                adopted.push(new.clone());
                self.state.tip = Some(head);
                match dropped.first() {
                    Some(&previous) => Inserted::Superseded { previous, dropped, adopted },
                    None => Inserted::Restored { adopted },
                }
            }
        }))
    }

    /// Remembers the height if this is the first block above the base and does not stand on the chain's block
    /// below: where the hash of the settled block is not known, it may follow anything.
    fn note_root(&mut self, first: &StoredCommitment) -> Result<(), StorageError> {
        if first.block != self.state.lowest() {
            return Ok(());
        }
        let below = match first.block.checked_sub(1) {
            Some(below) => self.canonical(below)?,
            None => None,
        };
        if below != Some(first.parent) {
            self.roots.insert(first.block, ()).map_err(fault)?;
        }
        Ok(())
    }

    /// As [`CommitmentStore::rewind`](crate::CommitmentStore::rewind).
    pub(super) fn rewind(&mut self, from: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let from = from.max(self.state.lowest());
        let gone: Vec<_> = self.chain_from(from)?.into_iter().map(|row| row.stored).collect();
        if !gone.is_empty() {
            self.leave_chain(from)?;
            self.state.tip = self.last_of_chain()?;
        }
        Ok(gone)
    }

    /// Makes history of the chain from a height on; says what it was.
    fn leave_chain(&mut self, from: BlockNumber) -> Result<Vec<B256>, StorageError> {
        let mut dropped = Vec::new();
        for row in self.chain_from(from)? {
            dropped.push(row.stored.hash());
            self.shift((row.stored.block, CHAIN), row.arrival, &row)?;
        }
        Ok(dropped)
    }

    /// The chain from a height on.
    fn chain_from(&self, from: BlockNumber) -> Result<Vec<Row>, StorageError> {
        let mut rows = Vec::new();
        for entry in self.commitments.range((from, CHAIN)..).map_err(fault)? {
            let (place, bytes) = entry.map_err(fault)?;
            if let (block, CHAIN) = place.value() {
                rows.push(Row::decode(block, bytes.value(), &self.domain)?);
            }
        }
        Ok(rows)
    }

    /// As [`CommitmentStore::set_base`](crate::CommitmentStore::set_base).
    pub(super) fn set_base(&mut self, base: Base) -> Result<Vec<StoredCommitment>, StorageError> {
        let settled = self.canonical(base.number)?;
        let contradicted = matches!((base.hash, settled), (Some(ours), Some(theirs)) if ours != theirs);
        let gap = self.lowest_of_chain(base.next())?.is_some_and(|lowest| lowest > base.next());
        let from = if contradicted { Some(base.number) } else { gap.then(|| base.next()) };
        self.changed |= self.state.base != Some(base);
        self.state.base = Some(base);
        let Some(from) = from else { return Ok(Vec::new()) };
        let mut gone = Vec::new();
        for entry in self.commitments.range((from, CHAIN)..).map_err(fault)? {
            let (place, bytes) = entry.map_err(fault)?;
            let place = place.value();
            gone.push((place, Row::decode(place.0, bytes.value(), &self.domain)?.stored));
        }
        for (place, stored) in &gone {
            self.erase(*place, &stored.hash())?;
        }
        self.state.tip = self.last_of_chain()?;
        Ok(gone.into_iter().filter(|((_, slot), _)| *slot == CHAIN).map(|(_, stored)| stored).collect())
    }

    /// The lowest height of the chain from a height on.
    fn lowest_of_chain(&self, from: BlockNumber) -> Result<Option<BlockNumber>, StorageError> {
        for entry in self.commitments.range((from, CHAIN)..).map_err(fault)? {
            if let (block, CHAIN) = entry.map_err(fault)?.0.value() {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// The last block of the chain.
    fn last_of_chain(&self) -> Result<Option<Head>, StorageError> {
        for entry in self.commitments.iter().map_err(fault)?.rev() {
            let (place, bytes) = entry.map_err(fault)?;
            if let (block, CHAIN) = place.value() {
                return Ok(Some(Row::decode(block, bytes.value(), &self.domain)?.stored.head()));
            }
        }
        Ok(None)
    }

    /// Removes the lowest height if it is settled and below `below`; says how many commitments went.
    pub(super) fn prune_lowest(&mut self, below: BlockNumber) -> Result<usize, StorageError> {
        let below = below.min(self.state.base.map_or(0, |base| base.number));
        let lowest = self.commitments.first().map_err(fault)?.map(|(place, _)| place.value().0);
        let Some(lowest) = lowest.filter(|lowest| *lowest < below) else { return Ok(0) };
        let gone = rows_at(&self.commitments, lowest, &self.domain)?;
        for (place, row) in &gone {
            self.erase(*place, &row.stored.hash())?;
        }
        if self.state.tip.is_some_and(|tip| tip.number == lowest) {
            self.state.tip = None;
        }
        Ok(gone.len())
    }

    /// Keeps a list that is there for this block too. Whether it is there.
    pub(super) fn renew_txlist(&mut self, block: BlockNumber, hash: &B256) -> Result<bool, StorageError> {
        let known = self.txlist_blocks.get(&hash.0).map_err(fault)?.map(|info| info.value());
        let Some((before, bytes)) = known else { return Ok(false) };
        // The same list serves several blocks (empty blocks do): it goes when the last of them does.
        if block > before {
            self.changed = true;
            self.txlist_blocks.insert(&hash.0, (block, bytes)).map_err(fault)?;
            self.txlist_order.remove((before, &hash.0)).map_err(fault)?;
            self.txlist_order.insert((block, &hash.0), ()).map_err(fault)?;
        }
        Ok(true)
    }

    /// As [`TxListStore::put`](crate::TxListStore::put), as far as one step comes.
    pub(super) fn put(
        &mut self,
        block: BlockNumber,
        txlist: &TxList,
        in_file: bool,
    ) -> Result<Progress<bool>, StorageError> {
        let (hash, bytes) = (txlist.hash(), txlist.bytes());
        if self.renew_txlist(block, &hash)? {
            return Ok(Progress::Done(false));
        }
        loop {
            let State { txlists, txlist_bytes, .. } = self.state;
            match self.limits.txlists_full(txlists, txlist_bytes, bytes.len()) {
                None => break,
                Some(_) if self.is_tired() => return Ok(Progress::More),
                Some(full) if !self.evict_txlist()? => return Err(full),
                Some(_) => self.evicted += 1,
            }
        }
        self.changed = true;
        if !in_file {
            self.txlists.insert(&hash.0, &**bytes).map_err(fault)?;
        }
        self.txlist_blocks.insert(&hash.0, (block, bytes.len() as u64)).map_err(fault)?;
        self.txlist_order.insert((block, &hash.0), ()).map_err(fault)?;
        self.state.txlists = self.state.txlists.saturating_add(1);
        self.state.txlist_bytes = self.state.txlist_bytes.saturating_add(bytes.len());
        Ok(Progress::Done(true))
    }

    /// Removes the list of the lowest block if that is settled; says whether one went.
    fn evict_txlist(&mut self) -> Result<bool, StorageError> {
        let lowest = self.txlist_order.first().map_err(fault)?.map(|(key, _)| {
            let (block, hash) = key.value();
            (block, *hash)
        });
        let Some((block, hash)) = lowest else { return Ok(false) };
        if self.state.base.is_none_or(|base| block > base.number) {
            return Ok(false);
        }
        self.changed = true;
        self.txlist_order.remove((block, &hash)).map_err(fault)?;
        let info = self.txlist_blocks.remove(&hash).map_err(fault)?.map(|info| info.value());
        if self.txlists.remove(&hash).map_err(fault)?.is_none() {
            self.files.push(B256::from(hash));
        }
        let bytes = info.and_then(|(_, bytes)| usize::try_from(bytes).ok()).unwrap_or(0);
        self.state.txlists = self.state.txlists.saturating_sub(1);
        self.state.txlist_bytes = self.state.txlist_bytes.saturating_sub(bytes);
        Ok(true)
    }

    /// As [`EvidenceStore::put_evidence`](crate::EvidenceStore::put_evidence).
    pub(super) fn put_evidence(
        &mut self,
        key: EvidenceKey,
        evidence: &StoredEvidence,
    ) -> Result<bool, StorageError> {
        if self.evidence.get(place(&key)).map_err(fault)?.is_some() {
            return Ok(false);
        }
        self.changed = true;
        self.evidence.insert(place(&key), &*encode_evidence(place(&key), evidence)).map_err(fault)?;
        let limit = u64::try_from(self.limits.evidence).unwrap_or(u64::MAX);
        let mut kept = true;
        while self.evidence.len().map_err(fault)? > limit {
            let mut keys = Vec::new();
            for entry in self.evidence.iter().map_err(fault)? {
                let (key, _) = entry.map_err(fault)?;
                let (signer, block, label) = key.value();
                let kind = kind_of(label).ok_or(StorageError::Corrupt { what: "evidence" })?;
                keys.push((Address::from(*signer), block, kind.label()));
            }
            let Some(worst) = first_of_the_worst(keys.into_iter()) else { break };
            self.evidence.remove(place(&worst)).map_err(fault)?;
            kept &= worst != key;
        }
        Ok(kept)
    }
}

fn place(key: &EvidenceKey) -> EvidencePlace<'_> {
    (&key.0.0.0, key.1, key.2)
}
