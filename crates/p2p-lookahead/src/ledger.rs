//! What was learned, by the block of L1 that told it, so that a reorg takes back exactly what hung on lost blocks.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU64,
};

use alloy_primitives::{Address, B256};
use p2p_types::UnixSeconds;
use p2p_validation::L1Time;
use serde::{Deserialize, Serialize};

use crate::schedule::{Generation, Posted, Schedule};

/// A block of L1, as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct L1Head {
    /// Its height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent: B256,
    /// Its time, in unix seconds.
    pub timestamp: u64,
}

/// Something that a block of L1 told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    /// The whitelist's operator of an epoch, as a block of that epoch tells, from a second on (0: from its beginning).
    Operator { epoch: u64, from: u64, signer: Address },
    /// The whitelist's operator of an epoch, as a block of the epoch before foretells.
    Foretold { epoch: u64, signer: Address },
    /// The slots of an epoch; a later posting replaces an earlier one.
    Posting { epoch: u64, slots: Vec<Posted> },
    /// The slots of an epoch were posted in a form that is not known.
    Unreadable { epoch: u64 },
    /// Whether a registration counts, from a second on.
    Standing { root: B256, from: u64, counts: bool },
    /// Somebody is on the whitelist, or no longer.
    Whitelisted { signer: Address, listed: bool },
}

impl Fact {
    /// Whether it is about the slots of an epoch.
    pub(crate) const fn is_posting(&self) -> bool {
        matches!(self, Self::Posting { .. })
    }

    /// The epoch that it is about, if it is about one.
    const fn epoch(&self) -> Option<u64> {
        match self {
            Self::Operator { epoch, .. }
            | Self::Foretold { epoch, .. }
            | Self::Posting { epoch, .. }
            | Self::Unreadable { epoch } => Some(*epoch),
            Self::Standing { .. } | Self::Whitelisted { .. } => None,
        }
    }
}

/// Headers that are kept: a reorg this deep is rolled back exactly.
const HEADERS: usize = 64;

/// All facts, and the newest headers of the branch that they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    facts: BTreeMap<u64, Vec<Fact>>,
    /// Epochs from whose predecessor's first block on L1 was read.
    scanned: BTreeSet<u64>,
    /// In the order of height, each the parent of the next.
    headers: VecDeque<L1Head>,
}

impl Ledger {
    pub(crate) fn head(&self) -> Option<L1Head> {
        self.headers.back().copied()
    }

    /// The headers that are kept, newest first.
    pub(crate) fn headers(&self) -> impl Iterator<Item = L1Head> {
        self.headers.iter().rev().copied()
    }

    /// The height of a block that is kept.
    pub(crate) fn height_of(&self, hash: B256) -> Option<u64> {
        self.headers.iter().rev().find(|header| header.hash == hash).map(|header| header.number)
    }

    /// Takes back all above a height. Returns the lowest block that is lost.
    pub(crate) fn roll_back_to(&mut self, number: u64) -> Option<u64> {
        let above = self.headers.partition_point(|header| header.number <= number);
        let lowest = self.headers.drain(above..).next().map(|header| header.number);
        if let Some(first_lost) = number.checked_add(1) {
            self.facts.split_off(&first_lost);
        }
        lowest
    }

    /// Follows the chain by blocks, each the child of the one before.
    pub(crate) fn extend(&mut self, path: &[L1Head]) {
        for header in path {
            if self.head().is_some_and(|head| head.hash != header.parent) {
                self.headers.clear();
            }
            self.headers.push_back(*header);
        }
        let excess = self.headers.len().saturating_sub(HEADERS);
        self.headers.drain(..excess);
    }

    pub(crate) fn learn(&mut self, facts: impl IntoIterator<Item = (u64, Fact)>) {
        for (block, fact) in facts {
            let there = self.facts.entry(block).or_default();
            if !there.contains(&fact) {
                there.push(fact);
            }
        }
    }

    pub(crate) fn scanned(&mut self, epoch: u64) {
        self.scanned.insert(epoch);
    }

    /// Epochs from this one on were not read to their end.
    pub(crate) fn unscan_from(&mut self, epoch: u64) {
        self.scanned.split_off(&epoch);
    }

    /// Drops what is about epochs that are more than `history` before that of the head, and of registrations and the
    /// whitelist what newer facts have replaced by then.
    pub(crate) fn prune(&mut self, time: &L1Time, history: NonZeroU64) {
        let Some(head) = self.head() else { return };
        let Some(present) = time.epoch_at(UnixSeconds::new(head.timestamp)) else { return };
        let oldest = present.saturating_sub(history.get());
        let start = time.epoch_window(oldest).map_or(0, |window| window.start.get());
        let within_reorg = head.number.saturating_sub(HEADERS as u64);
        self.scanned = self.scanned.split_off(&oldest);
        let (mut roots, mut signers) = (BTreeSet::new(), BTreeSet::new());
        for (block, facts) in self.facts.iter_mut().rev() {
            let mut kept: Vec<Fact> = Vec::with_capacity(facts.len());
            for fact in std::mem::take(facts).into_iter().rev() {
                let keep = match &fact {
                    // A registration counts unless it is said not to.
                    Fact::Standing { root, from, counts } if *from < start => roots.insert(*root) && !counts,
                    Fact::Whitelisted { signer, listed } if *block < within_reorg => {
                        signers.insert(*signer) && *listed
                    }
                    Fact::Standing { .. } | Fact::Whitelisted { .. } => true,
                    other => other.epoch().is_none_or(|epoch| epoch >= oldest),
                };
                if keep {
                    kept.push(fact);
                }
            }
            kept.reverse();
            *facts = kept;
        }
        self.facts.retain(|_, facts| !facts.is_empty());
    }

    /// The schedule that follows from all facts, in the order of L1.
    pub(crate) fn schedule(&self, generation: Generation, time: L1Time) -> Schedule {
        let mut schedule = Schedule::new(generation, time);
        schedule.head = self.head().map_or(0, |head| head.timestamp);
        for epoch in &self.scanned {
            schedule.epochs.entry(*epoch).or_default().scanned = true;
        }
        let (mut foretold, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for fact in self.facts.values().flatten() {
            match fact {
                Fact::Foretold { epoch, signer } => {
                    foretold.insert(*epoch, *signer);
                }
                Fact::Operator { epoch, from, signer } => {
                    let operators = &mut schedule.epochs.entry(*epoch).or_default().operators;
                    if *from == 0 {
                        operators.clear();
                    }
                    if operators.last().is_none_or(|(_, last)| last != signer) {
                        operators.push((if operators.is_empty() { 0 } else { *from }, *signer));
                    }
                }
                Fact::Posting { epoch, slots } => {
                    schedule.epochs.entry(*epoch).or_default().slots.clone_from(slots);
                    unreadable.remove(epoch);
                }
                Fact::Unreadable { epoch } => {
                    unreadable.insert(*epoch);
                }
                Fact::Standing { root, from, counts } => {
                    schedule.standing.entry(*root).or_default().push((*from, *counts));
                }
                Fact::Whitelisted { signer, listed: true } => {
                    schedule.whitelisted.insert(*signer);
                }
                Fact::Whitelisted { signer, listed: false } => {
                    schedule.whitelisted.remove(signer);
                }
            }
        }
        for epoch in unreadable {
            let epoch = schedule.epochs.entry(epoch).or_default();
            (epoch.scanned, epoch.slots) = (false, Vec::new());
        }
        // An epoch that has begun is told by a block of its own.
        let present = time.epoch_at(UnixSeconds::new(schedule.head));
        for (epoch, signer) in foretold.into_iter().filter(|(epoch, _)| Some(*epoch) > present) {
            let operators = &mut schedule.epochs.entry(epoch).or_default().operators;
            if operators.is_empty() {
                operators.push((0, signer));
            }
        }
        // Facts of one block, and of history that was read later, come as they were learned.
        for changes in schedule.standing.values_mut() {
            changes.sort_by_key(|(from, _)| *from);
            let mut counted = true;
            changes.retain(|(_, counts)| std::mem::replace(&mut counted, *counts) != *counts);
        }
        schedule.standing.retain(|_, changes| !changes.is_empty());
        schedule
    }

    /// Whether a block of this epoch has told its whitelist operator.
    pub(crate) fn confirmed(&self, epoch: u64) -> bool {
        let mut facts = self.facts.values().rev().flatten();
        facts.any(|fact| matches!(fact, Fact::Operator { epoch: of, .. } if *of == epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = Address::repeat_byte(0xa);
    const B: Address = Address::repeat_byte(0xb);
    const TWO: NonZeroU64 = NonZeroU64::new(2).unwrap();

    fn header(number: u64, branch: u8) -> L1Head {
        let hash = |number: u64| {
            let mut hash = B256::repeat_byte(branch);
            hash[..8].copy_from_slice(&number.to_be_bytes());
            hash
        };
        let parent = number.checked_sub(1).map_or(B256::ZERO, hash);
        L1Head { number, hash: hash(number), parent, timestamp: 1_000 + 12 * number }
    }

    fn time() -> L1Time {
        L1Time::ethereum(UnixSeconds::new(1_000))
    }

    fn ledger(headers: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.extend(&(0..headers).map(|number| header(number, 1)).collect::<Vec<_>>());
        ledger
    }

    fn operator(epoch: u64, from: u64, signer: Address) -> Fact {
        Fact::Operator { epoch, from, signer }
    }

    fn operators(ledger: &Ledger, epoch: u64) -> Vec<(u64, Address)> {
        let schedule = ledger.schedule(Generation::Whitelist, time());
        schedule.epochs.get(&epoch).map(|epoch| epoch.operators.clone()).unwrap_or_default()
    }

    #[test]
    fn a_rollback_takes_back_what_lost_blocks_told_and_no_more() {
        let mut ledger = ledger(10);
        ledger.learn([
            (6, operator(0, 0, A)),
            (7, operator(0, 1_084, B)),
            (9, Fact::Foretold { epoch: 1, signer: B }),
        ]);
        assert_eq!(ledger.roll_back_to(9), None);
        assert_eq!(ledger.roll_back_to(7), Some(8));
        assert_eq!(operators(&ledger, 1), []);
        assert_eq!(operators(&ledger, 0), [(0, A), (1_084, B)]);
        assert_eq!(ledger.roll_back_to(6), Some(7));
        assert_eq!(operators(&ledger, 0), [(0, A)]);
        assert_eq!(ledger.head(), Some(header(6, 1)));
        ledger.extend(&[L1Head { parent: header(6, 1).hash, ..header(7, 2) }]);
        assert_eq!(ledger.height_of(header(7, 2).hash), Some(7));
        assert_eq!(ledger.height_of(header(7, 1).hash), None);
    }

    #[test]
    fn headers_are_bounded_and_hang_together() {
        let mut ledger = ledger(100);
        assert_eq!(ledger.headers().count(), HEADERS);
        assert_eq!(ledger.headers().last(), Some(header(36, 1)));
        ledger.extend(&[header(200, 1)]);
        assert_eq!(ledger.headers().collect::<Vec<_>>(), [header(200, 1)], "a gap begins anew");
    }

    #[test]
    fn what_is_older_than_the_history_goes() {
        let mut ledger = ledger(1);
        for epoch in 0..6 {
            ledger.scanned(epoch);
            ledger.learn([(epoch * 32, operator(epoch, 0, A))]);
        }
        ledger.learn([(3, Fact::Standing { root: B256::ZERO, from: 9, counts: false })]);
        ledger.extend(&[header(5 * 32, 1)]);
        ledger.prune(&time(), TWO);
        let schedule = ledger.schedule(Generation::StoreV1, time());
        assert_eq!(schedule.epochs.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(schedule.standing.len(), 1, "a registration is of no epoch");
    }

    #[test]
    fn a_ledger_does_not_grow_with_its_age() {
        let mut ledger = ledger(1);
        let root = B256::repeat_byte(1);
        for epoch in 0..200 {
            let (block, from) = (epoch * 32, 1_000 + epoch * 384);
            ledger.extend(&[header(block, 1)]);
            ledger.scanned(epoch);
            ledger.learn([
                (block, operator(epoch, 0, A)),
                (block, Fact::Standing { root, from, counts: epoch % 2 == 0 }),
                (block, Fact::Whitelisted { signer: B, listed: epoch % 2 == 0 }),
            ]);
            ledger.prune(&time(), TWO);
        }
        let schedule = ledger.schedule(Generation::StoreV1, time());
        let last = 1_000 + 199 * 384;
        assert_eq!(schedule.standing[&root], [(last - 768, false), (last - 384, true), (last, false)]);
        assert!(schedule.whitelisted.is_empty());
        let facts: usize = ledger.facts.values().map(Vec::len).sum();
        assert!(facts <= 3 * 4, "{facts}");
    }

    #[test]
    fn facts_make_a_schedule_in_the_order_of_l1() {
        let mut ledger = ledger(10);
        let posting = |committer| {
            let slots = vec![Posted { committer, timestamp: 1_012, root: B256::ZERO }];
            Fact::Posting { epoch: 0, slots }
        };
        ledger.learn([(5, posting(B)), (4, posting(A)), (5, Fact::Whitelisted { signer: A, listed: true })]);
        ledger.learn([(4, operator(0, 1_048, B)), (3, operator(0, 0, A)), (3, operator(0, 0, A))]);
        let root = B256::repeat_byte(1);
        ledger.learn([(9, Fact::Standing { root, from: 20, counts: true })]);
        ledger.learn([(8, Fact::Standing { root, from: 10, counts: false })]);
        let schedule = ledger.schedule(Generation::StoreV1, time());
        let epoch = &schedule.epochs[&0];
        assert_eq!((epoch.slots[0].committer, epoch.scanned), (B, false));
        assert_eq!(epoch.operators, [(0, A), (1_048, B)]);
        assert_eq!(schedule.standing[&root], [(10, false), (20, true)]);
        assert_eq!((schedule.whitelisted.contains(&A), schedule.head), (true, 1_000 + 9 * 12));
        ledger.learn([(6, Fact::Whitelisted { signer: A, listed: false }), (7, operator(0, 0, B))]);
        let schedule = ledger.schedule(Generation::StoreV1, time());
        assert!(schedule.whitelisted.is_empty());
        assert_eq!(schedule.epochs[&0].operators, [(0, B)], "told of the whole epoch again");
    }

    #[test]
    fn an_epoch_is_confirmed_by_a_block_of_its_own() {
        let mut ledger = ledger(32);
        ledger.learn([(31, Fact::Foretold { epoch: 1, signer: A })]);
        assert!(!ledger.confirmed(1));
        assert_eq!(operators(&ledger, 1), [(0, A)]);
        ledger.learn([(32, operator(1, 0, B))]);
        assert!(ledger.confirmed(1));
        assert_eq!(operators(&ledger, 1), [(0, B)], "what was foretold counts no more");
    }

    #[test]
    fn a_ledger_comes_back_from_json_as_it_was() {
        let mut ledger = ledger(3);
        ledger.scanned(0);
        ledger.learn([(1, operator(0, 0, A)), (2, Fact::Whitelisted { signer: B, listed: true })]);
        let json = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&json).unwrap(), ledger);
    }
}
