//! What L1 says: who is elected, and what is settled.

use std::collections::BTreeMap;

use p2p_types::{Address, B256, Base};

use crate::{
    node::Node,
    stage::{Owner, key},
};

pub(crate) struct L1 {
    /// Who is elected, by window.
    pub(crate) owners: Vec<Owner>,
    /// What is settled, oldest first.
    settled: Vec<Base>,
    /// All that ever was, by height.
    pub(crate) hashes: BTreeMap<u64, B256>,
}

impl L1 {
    pub(crate) fn new(owners: &[Owner], base: Base) -> Self {
        Self { owners: owners.to_vec(), settled: vec![base], hashes: BTreeMap::new() }
    }

    pub(crate) fn settled(&self) -> Base {
        self.settled.last().copied().unwrap()
    }

    pub(crate) fn signers(&self) -> Vec<Address> {
        self.owners.iter().map(|owner| key(owner.key()).address()).collect()
    }

    /// A reorg takes back what was settled last.
    pub(crate) fn unsettle(&mut self) {
        if self.settled.len() > 1 {
            self.settled.pop();
        }
    }

    /// Settles what a node with a right clock has, so many blocks below all heads.
    pub(crate) fn settle_next(&mut self, nodes: &[Node], depth: u64) {
        let right = || nodes.iter().filter(|node| node.alive().is_some() && node.offset() == 0);
        let lowest = right().filter_map(|node| node.store.head().unwrap()).map(|head| head.number).min();
        let next = lowest.unwrap_or_default().saturating_sub(depth);
        let settled = self.settled();
        let stands = |node: &&Node| {
            settled.hash.is_none() || node.at(settled.number).map(|block| block.hash()) == settled.hash
        };
        if next > settled.number
            && let Some(block) = right().find(stands).and_then(|node| node.at(next))
        {
            self.settled.push(Base { number: next, hash: Some(block.hash()) });
            self.hashes.insert(next, block.hash());
        }
    }
}
