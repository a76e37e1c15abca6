//! The canonical chain in the database: the view of it that fork choice takes, reorgs, and what a newer base or an L1
//! reorg changes.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use p2p_types::{Address, B256, Base, BlockNumber};
use redb::ReadableTable as _;

use super::{
    fault::fault,
    index::rows_at,
    rows::Row,
    state::last_of_chain,
    tables::{CANONICAL, RowKey, WITHDRAWN},
    writer::Writer,
};
use crate::{
    ChainUpdate, StorageError, StoredCommitment,
    fork::{Blocks, Node, evaluate, standing, with_descendants, withdrawn_by},
};

impl Blocks for Writer<'_> {
    fn lowest(&self) -> BlockNumber {
        self.state.lowest()
    }

    fn head(&self) -> Option<BlockNumber> {
        self.state.head().map(|head| head.number)
    }

    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError> {
        match self.state.tip {
            None => Ok(None),
            Some(tip) if tip.number < block => Ok(None),
            Some(tip) if tip.number == block => Ok(Some(tip.hash)),
            Some(_) => Ok(self.row((block, CANONICAL))?.map(|row| row.stored.hash())),
        }
    }

    fn canonical_node(&self, block: BlockNumber) -> Result<Option<Node>, StorageError> {
        Ok(self.row((block, CANONICAL))?.map(|row| Node::new(&row.stored, false)))
    }

    fn canonical_signers(&self) -> Result<Vec<(BlockNumber, Address)>, StorageError> {
        let mut signers = Vec::new();
        for entry in self.commitments.range((self.lowest(), CANONICAL)..).map_err(fault)? {
            let (key, bytes) = entry.map_err(fault)?;
            if let (block, CANONICAL) = key.value() {
                signers.push((block, Row::signer(block, bytes.value())?));
            }
        }
        Ok(signers)
    }

    fn non_canonical(&self) -> Result<Vec<Node>, StorageError> {
        let nodes = self.branches(|(_, seq)| seq != CANONICAL)?;
        Ok(nodes.into_iter().map(|(_, node)| node).collect())
    }
}

impl Writer<'_> {
    /// Blocks above the base whose keys match, in order of height.
    fn branches(&self, of: impl Fn(RowKey) -> bool) -> Result<Vec<(RowKey, Node)>, StorageError> {
        let mut found = Vec::new();
        for entry in self.commitments.range((self.state.lowest(), CANONICAL)..).map_err(fault)? {
            let (key, bytes) = entry.map_err(fault)?;
            let key = key.value();
            if of(key) {
                let stored = Row::decode(key, bytes.value(), &self.domain)?.stored;
                if !stored.is_handover() {
                    found.push((key, Node::new(&stored, is_withdrawn(key))));
                }
            }
        }
        Ok(found)
    }

    /// Makes the canonical blocks from a height on non-canonical. Returns them, lowest first.
    pub(super) fn leave_chain(&mut self, from: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let mut rows = Vec::new();
        for entry in self.commitments.range((from, CANONICAL)..).map_err(fault)? {
            let (key, bytes) = entry.map_err(fault)?;
            if let key @ (_, CANONICAL) = key.value() {
                rows.push(Row::decode(key, bytes.value(), &self.domain)?);
            }
        }
        for row in &rows {
            self.shift((row.stored.block, CANONICAL), row.arrival, row)?;
        }
        if !rows.is_empty() {
            self.state.tip = last_of_chain(&self.commitments, &self.domain)?;
        }
        Ok(rows.into_iter().map(|row| row.stored).collect())
    }

    /// Makes these non-canonical blocks, lowest first, the end of the chain.
    pub(super) fn enter_chain(&mut self, hashes: &[B256]) -> Result<Vec<StoredCommitment>, StorageError> {
        let mut adopted = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let (key, row) = self.find(hash)?.ok_or(StorageError::UnknownParent(*hash))?;
            self.shift(key, CANONICAL, &row)?;
            self.state.tip = Some(row.stored.head());
            adopted.push(row.stored);
        }
        Ok(adopted)
    }

    /// Makes these blocks the canonical chain above the base.
    fn adopt(&mut self, chain: &[B256]) -> Result<ChainUpdate, StorageError> {
        self.derived.fork = None;
        // The common prefix of both chains stays.
        let mut from = self.state.lowest();
        let mut stays = 0;
        for hash in chain {
            if self.canonical(from)? != Some(*hash) {
                break;
            }
            (from, stays) = (from.saturating_add(1), stays + 1);
        }
        let dropped = self.leave_chain(from)?;
        let adopted = self.enter_chain(chain.get(stays..).unwrap_or_default())?;
        Ok(ChainUpdate { dropped, adopted })
    }

    /// As [`CommitmentStore::set_base`](crate::CommitmentStore::set_base).
    pub(super) fn set_base(&mut self, base: Base) -> Result<ChainUpdate, StorageError> {
        let before = self.state.base.replace(base);
        if before == Some(base) {
            return Ok(ChainUpdate::default());
        }
        self.changed = true;
        let there = self.canonical(base.number)?;
        let settled = base.hash.or(there);
        let goes_on = settled.is_some()
            && there == settled
            && before.is_some_and(|before| before.number <= base.number)
            && self.canonical_node(base.next())?.is_none_or(|first| Some(first.parent) == settled);
        if goes_on {
            self.drop_beside(base, settled)?;
            return Ok(ChainUpdate::default());
        }
        let mut dropped = Vec::new();
        if let Some(settled) = base.hash {
            dropped = self.settle(base.number, settled)?;
            let wrong = self.row((base.number, CANONICAL))?.filter(|row| row.stored.hash() != settled);
            if let Some(wrong) = wrong {
                dropped.push(wrong.stored);
                let gone = rows_at(&self.commitments, base.number, &self.domain)?;
                self.erase(gone.iter().map(|(key, row)| (*key, &row.stored)))?;
                self.state.tip = last_of_chain(&self.commitments, &self.domain)?;
            }
        }
        let lowest = self.state.lowest();
        let nodes = self.branches(|_| true)?.into_iter().map(|(_, node)| node);
        let nodes: Vec<Node> = nodes.collect();
        let standing = standing(lowest, settled, &nodes);
        let nodes: Vec<Node> = nodes.into_iter().filter(|node| standing.contains(&node.hash)).collect();
        let mut update = self.adopt(&evaluate(lowest, &nodes))?;
        dropped.append(&mut update.dropped);
        self.drop_fallen(settled, &standing)?;
        Ok(ChainUpdate { dropped, ..update })
    }

    /// As [`CommitmentStore::settle_other`](crate::CommitmentStore::settle_other).
    pub(super) fn settle_other(
        &mut self,
        block: BlockNumber,
        settled: B256,
    ) -> Result<ChainUpdate, StorageError> {
        // What is stored contradicts this hash, at this height and above.
        let update = self.set_base(Base { number: block, hash: Some(settled) })?;
        self.set_base(Base::at(block))?;
        Ok(update)
    }

    /// Makes the settled block at the base's height and its ancestors canonical, if it is one. Returns the blocks that they
    /// replace, lowest first.
    fn settle(&mut self, number: BlockNumber, settled: B256) -> Result<Vec<StoredCommitment>, StorageError> {
        let mut dropped = Vec::new();
        let is_block = |stored: &StoredCommitment| stored.block == number && !stored.is_handover();
        let mut next = self.find(&settled)?.filter(|(_, row)| is_block(&row.stored));
        while let Some((key, row)) = next.filter(|((_, seq), _)| *seq != CANONICAL) {
            let block = row.stored.block;
            if let Some(before) = self.row((block, CANONICAL))? {
                self.shift((block, CANONICAL), before.arrival, &before)?;
                dropped.push(before.stored);
            }
            self.shift(key, CANONICAL, &row)?;
            next = self.find(&row.stored.parent)?;
        }
        self.state.tip = last_of_chain(&self.commitments, &self.domain)?;
        dropped.reverse();
        Ok(dropped)
    }

    /// The base has moved up along the chain: removes the descendants of other blocks at its height.
    fn drop_beside(&mut self, base: Base, settled: Option<B256>) -> Result<(), StorageError> {
        let here = rows_at(&self.commitments, base.number, &self.domain)?;
        let mut fallen: HashSet<B256> = here.iter().map(|(_, row)| row.stored.hash()).collect();
        fallen.retain(|hash| Some(*hash) != settled);
        let mut gone = Vec::new();
        let mut height = base.next();
        loop {
            let mut next = rows_at(&self.commitments, height, &self.domain)?;
            next.retain(|(_, row)| {
                // A child of a settled block with a known hash names that hash.
                fallen.contains(&row.stored.parent)
                    || (height == base.next() && base.hash.is_some_and(|hash| hash != row.stored.parent))
            });
            if next.is_empty() {
                break;
            }
            fallen = next.iter().map(|(_, row)| row.stored.hash()).collect();
            gone.append(&mut next);
            let Some(above) = height.checked_add(1) else { break };
            height = above;
        }
        self.erase(gone.iter().map(|(key, row)| (*key, &row.stored)))?;
        let hashes: Vec<B256> = gone.iter().map(|(_, row)| row.stored.hash()).collect();
        let lowest = self.state.lowest();
        if let Some(fork) = &mut self.derived.fork {
            fork.settle(lowest, &hashes);
        }
        Ok(())
    }

    /// Removes what is above the base and has an ancestor that is not in `standing`.
    fn drop_fallen(&mut self, settled: Option<B256>, standing: &HashSet<B256>) -> Result<(), StorageError> {
        let lowest = self.state.lowest();
        let mut fallen = Vec::new();
        for entry in self.commitments.range((lowest, CANONICAL)..).map_err(fault)? {
            let (key, bytes) = entry.map_err(fault)?;
            let key = key.value();
            let stored = Row::decode(key, bytes.value(), &self.domain)?.stored;
            let falls = match stored.is_handover() {
                false => !standing.contains(&stored.hash()),
                true if stored.block == lowest => settled.is_some_and(|settled| settled != stored.parent),
                true => !standing.contains(&stored.parent),
            };
            if falls {
                fallen.push((key, stored));
            }
        }
        self.erase(fallen.iter().map(|(key, stored)| (*key, stored)))
    }

    /// As [`CommitmentStore::remove`](crate::CommitmentStore::remove).
    pub(super) fn remove(&mut self, hashes: &[B256]) -> Result<ChainUpdate, StorageError> {
        let nodes: Vec<Node> = self.branches(|_| true)?.into_iter().map(|(_, node)| node).collect();
        let gone = with_descendants(hashes, &nodes);
        let lowest = self.state.lowest();
        for hash in hashes.iter().filter(|hash| !gone.contains(*hash)) {
            if let Some((key, row)) = self.find(hash)?
                && row.stored.is_handover()
                && row.stored.block >= lowest
            {
                self.erase([(key, &row.stored)])?;
            }
        }
        if gone.is_empty() {
            return Ok(ChainUpdate::default());
        }
        let left: Vec<Node> = nodes.into_iter().filter(|node| !gone.contains(&node.hash)).collect();
        let update = self.adopt(&evaluate(lowest, &left))?;
        self.drop_fallen(None, &left.iter().map(|node| node.hash).collect())?;
        Ok(update)
    }

    /// As [`CommitmentStore::withdraw`](crate::CommitmentStore::withdraw).
    pub(super) fn withdraw(&mut self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        let blocks = self.branches(|_| true)?;
        let nodes: Vec<Node> = blocks.iter().map(|(_, node)| *node).collect();
        let withdrawn = withdrawn_by(anchor, &nodes);
        self.mark(&blocks, |node| withdrawn.contains(&node.hash), true)
    }

    /// As [`CommitmentStore::reinstate`](crate::CommitmentStore::reinstate).
    pub(super) fn reinstate(&mut self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        let blocks = self.branches(|_| true)?;
        self.mark(&blocks, |node| node.withdrawn && node.anchor >= anchor, false)
    }

    /// Sets or clears the withdrawn flag of blocks above the base, and runs fork choice over all of them.
    fn mark(
        &mut self,
        blocks: &[(RowKey, Node)],
        which: impl Fn(&Node) -> bool,
        withdrawn: bool,
    ) -> Result<ChainUpdate, StorageError> {
        let mut nodes: Vec<Node> = blocks.iter().map(|(_, node)| *node).collect();
        let mut marked = BTreeMap::new();
        for (node, (key, _)) in nodes.iter_mut().zip(blocks) {
            if which(node) {
                node.withdrawn = withdrawn;
                marked.insert(*key, node.hash);
            }
        }
        if marked.is_empty() {
            return Ok(ChainUpdate::default());
        }
        let update = self.adopt(&evaluate(self.state.lowest(), &nodes))?;
        // Canonical blocks carry no flag: an ancestor of a block without one counts.
        for hash in marked.into_values() {
            if let Some((key @ (_, seq), row)) = self.find(&hash)?
                && seq != CANONICAL
            {
                let mark = if withdrawn { WITHDRAWN } else { 0 };
                self.shift(key, row.arrival | mark, &row)?;
            }
        }
        Ok(update)
    }
}

/// Whether a row has the flag of a withdrawn block.
pub(super) const fn is_withdrawn((_, seq): RowKey) -> bool {
    seq & WITHDRAWN != 0
}
