//! The learner against a chain in memory: boot, postings, changes, reorgs, gaps, history, and questions that fail.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use alloy_primitives::{U64, U256};
use alloy_sol_types::{SolEvent, SolValue};
use p2p_types::UnixSeconds;
use p2p_validation::Admission;

use super::*;
use crate::{config::Source, rpc::Filter, source};

const GENESIS: u64 = 1_000_000;
const STORE: Address = Address::repeat_byte(0x57);
const WHITELIST: Address = Address::repeat_byte(0x33);
const A: Address = Address::repeat_byte(0xa);
const B: Address = Address::repeat_byte(0xb);
const C: Address = Address::repeat_byte(0xc);

/// A block of the chain, with the events in it and the whitelist's operators from it on.
#[derive(Clone)]
struct Block {
    head: L1Head,
    logs: Vec<Log>,
    /// The operator of epochs that differ from `A`.
    operators: BTreeMap<u64, Address>,
    blacklisted: BTreeSet<B256>,
}

#[derive(Default)]
struct Questions {
    calls: u64,
    /// Fails from this question on.
    fails_after: Option<u64>,
    /// The most blocks in a query for logs.
    widest: Option<u64>,
    /// Blocks below this have no state any more.
    pruned_below: u64,
    ranges: Vec<(u64, u64)>,
}

/// A chain of blocks of 12 s, from genesis on, and what it was asked.
struct Chain {
    store: bool,
    blocks: Vec<Block>,
    questions: Mutex<Questions>,
    branch: u8,
}

impl Chain {
    fn new(store: bool) -> Self {
        let mut chain = Self { store, blocks: vec![], questions: Mutex::default(), branch: 1 };
        chain.mine(1);
        chain
    }

    /// One more block, so many slots after the last one.
    fn mine(&mut self, slots: u64) -> L1Head {
        let (number, before) = (self.blocks.len() as u64, self.blocks.last().cloned());
        let mut hash = B256::repeat_byte(self.branch);
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let timestamp = before.as_ref().map_or(GENESIS, |before| before.head.timestamp + 12 * slots);
        let parent = before.as_ref().map_or(B256::ZERO, |before| before.head.hash);
        let head = L1Head { number, hash, parent, timestamp };
        let (operators, blacklisted) =
            before.map(|before| (before.operators, before.blacklisted)).unwrap_or_default();
        self.blocks.push(Block { head, logs: vec![], operators, blacklisted });
        head
    }

    /// Mines up to the block whose slot begins at a second.
    fn mine_to(&mut self, second: u64) -> L1Head {
        while self.head().timestamp < second {
            self.mine(1);
        }
        self.head()
    }

    fn head(&self) -> L1Head {
        self.last().head
    }

    fn last(&self) -> &Block {
        self.blocks.last().unwrap()
    }

    /// Forgets the last blocks; what is mined from now on is another branch.
    fn reorg(&mut self, depth: usize) {
        self.blocks.truncate(self.blocks.len() - depth);
        self.branch += 1;
    }

    fn log(&mut self, address: Address, log: alloy_primitives::LogData) {
        let head = self.head();
        let log = Log {
            address,
            topics: log.topics().to_vec(),
            data: log.data,
            block_number: U64::from(head.number),
            block_hash: head.hash,
            transaction_hash: B256::repeat_byte(7),
        };
        self.blocks.last_mut().unwrap().logs.push(log);
    }

    fn post(&mut self, epoch: u64, slots: &[(Address, u64)]) {
        let slot = |(committer, slot): &(Address, u64)| abi::LookaheadSlot {
            committer: *committer,
            timestamp: U256::from(start(epoch) + 12 * slot),
            registrationRoot: committer.into_word(),
            validatorLeafIndex: U256::ZERO,
        };
        let event = abi::LookaheadPosted {
            epochTimestamp: U256::from(start(epoch)),
            lookaheadHash: B256::ZERO,
            slots: slots.iter().map(slot).collect(),
        };
        self.log(STORE, event.encode_log_data());
    }

    /// Removes an operator in the last block: from there on, another one has this epoch.
    fn replace_operator(&mut self, epoch: u64, removed: Address, operator: Address) {
        self.blocks.last_mut().unwrap().operators.insert(epoch, operator);
        let inactive = U256::from(self.head().timestamp);
        let event = abi::OperatorRemoved { proposer: removed, sequencer: removed, inactiveSince: inactive };
        self.log(WHITELIST, event.encode_log_data());
    }

    fn blacklist(&mut self, committer: Address) {
        let root = committer.into_word();
        self.blocks.last_mut().unwrap().blacklisted.insert(root);
        let event = abi::Blacklisted { root, timestamp: Default::default() };
        self.log(STORE, event.encode_log_data());
    }

    fn limit(&self, change: impl FnOnce(&mut Questions)) {
        change(&mut self.questions.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn calls(&self) -> u64 {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).calls
    }

    fn ask(&self) -> Result<(), L1Error> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.calls += 1;
        match questions.fails_after {
            Some(after) if questions.calls > after => Err(L1Error::Unavailable),
            _ => Ok(()),
        }
    }

    fn at(&self, hash: B256) -> Option<&Block> {
        self.blocks.iter().find(|block| block.head.hash == hash)
    }
}

fn refused() -> L1Error {
    L1Error::Refused { code: -32_000, message: "no".into() }
}

impl L1 for Chain {
    async fn latest(&self) -> Result<L1Head, L1Error> {
        self.ask().map(|()| self.head())
    }

    async fn by_number(&self, number: u64) -> Result<Option<L1Head>, L1Error> {
        self.ask()?;
        Ok(self.blocks.get(usize::try_from(number).unwrap()).map(|block| block.head))
    }

    async fn by_hash(&self, hash: B256) -> Result<Option<L1Head>, L1Error> {
        self.ask()?;
        Ok(self.at(hash).map(|block| block.head))
    }

    async fn call(&self, to: Address, data: Bytes, at: B256) -> Result<Option<Bytes>, L1Error> {
        self.ask()?;
        let block = self.at(at).ok_or_else(refused)?;
        if block.head.number < self.questions.lock().unwrap().pruned_below {
            return Err(refused());
        }
        let epoch = (block.head.timestamp - GENESIS) / 384;
        let operator = |epoch: u64| block.operators.get(&epoch).copied().unwrap_or(A).abi_encode();
        let selector: [u8; 4] = data[..4].try_into().unwrap();
        let answer = match selector {
            abi::preconfWhitelistCall::SELECTOR if to == STORE && self.store => WHITELIST.abi_encode(),
            abi::getLookaheadStoreConfigCall::SELECTOR if to == STORE => {
                (U256::from(503), U256::ZERO, U256::ZERO).abi_encode()
            }
            abi::isOperatorBlacklistedCall::SELECTOR if to == STORE => {
                block.blacklisted.contains(&B256::from_slice(&data[4..])).abi_encode()
            }
            abi::getOperatorForCurrentEpochCall::SELECTOR if to == WHITELIST => operator(epoch),
            abi::getOperatorForNextEpochCall::SELECTOR if to == WHITELIST => operator(epoch + 1),
            abi::operatorCountCall::SELECTOR if to == WHITELIST => U256::from(2).abi_encode(),
            abi::operatorMappingCall::SELECTOR if to == WHITELIST => {
                [A, B][usize::from(data[35])].abi_encode()
            }
            _ => return Ok(None),
        };
        Ok(Some(answer.into()))
    }

    async fn logs(&self, filter: &Filter, blocks: Blocks) -> Result<Vec<Log>, L1Error> {
        self.ask()?;
        let mut questions = self.questions.lock().unwrap();
        let within = |head: &L1Head| match blocks {
            Blocks::One(hash) => head.hash == hash,
            Blocks::Range(from, to) => (from..=to).contains(&head.number),
        };
        if let Blocks::Range(from, to) = blocks {
            if questions.widest.is_some_and(|widest| to - from >= widest) {
                return Err(refused());
            }
            questions.ranges.push((from, to));
        }
        let logs = self.blocks.iter().filter(|block| within(&block.head)).flat_map(|block| &block.logs);
        let asked =
            |log: &&Log| filter.addresses.contains(&log.address) && filter.topics.contains(&log.topics[0]);
        Ok(logs.filter(asked).cloned().collect())
    }

    async fn input(&self, _: B256) -> Result<Option<Bytes>, L1Error> {
        self.ask().map(|()| None)
    }
}

#[tokio::test]
async fn parents_that_do_not_step_back_end_the_step() {
    let mut chain = Chain::new(false);
    chain.mine_to(start(1));
    let mut learner = learner(&chain).await;
    let known = learner.schedule();
    // A block that is its own parent, below a new head.
    let mut block = chain.last().clone();
    block.head = L1Head { number: block.head.number + 1, hash: B256::ZERO, parent: B256::ZERO, ..block.head };
    let head = L1Head { number: block.head.number + 1, hash: B256::repeat_byte(9), ..block.head };
    chain.blocks.push(block);
    assert!(matches!(learner.advance(&chain, head).await, Err(L1Error::OtherBlock)));
    assert_eq!(learner.schedule(), known);
}

const fn start(epoch: u64) -> u64 {
    GENESIS + 384 * epoch
}

/// Window end of the whitelist in an epoch.
const fn tail(epoch: u64) -> u64 {
    start(epoch + 1) - 12
}

fn config(contract: Address) -> L1Config {
    let genesis = UnixSeconds::new(GENESIS);
    L1Config::recommended(vec![], 1, genesis, Source::Contract(contract))
}

async fn learner(chain: &Chain) -> Learner {
    let config = config(if chain.store { STORE } else { WHITELIST });
    let adapter = source::discover(chain, config.source, chain.head()).await.unwrap();
    let mut learner = Learner::new(config, adapter, None);
    learner.advance(chain, chain.head()).await.unwrap().unwrap();
    learner
}

impl Learner {
    /// Goes on to the head. The lowest block that was lost.
    async fn go_on(&mut self, chain: &Chain) -> Option<u64> {
        self.advance(chain, chain.head()).await.unwrap().and_then(|step| step.reorg)
    }

    /// Who may sign; nobody named for what is not known or not open.
    fn who(&self, t: u64, end: u64) -> Vec<Address> {
        match self.schedule().admissible(UnixSeconds::new(t), UnixSeconds::new(end)) {
            Admission::Open { signers, .. } => signers.as_slice().to_vec(),
            _ => vec![],
        }
    }

    fn knows(&self, t: u64, end: u64) -> bool {
        let admission = self.schedule().admissible(UnixSeconds::new(t), UnixSeconds::new(end));
        admission != Admission::NotKnown
    }
}

#[tokio::test]
async fn a_generation_is_told_by_what_its_contracts_answer() {
    for store in [false, true] {
        let chain = Chain::new(store);
        let learner = learner(&chain).await;
        let expected = if store { "v1" } else { "whitelist" };
        assert_eq!(learner.adapter.generation().label(), expected);
        assert_eq!(learner.adapter.whitelist(), WHITELIST);
    }
    let chain = Chain::new(true);
    let nobody = source::discover(&chain, Source::Contract(C), chain.head()).await.err();
    assert_eq!(nobody, Some(L1Error::NoSource(C)));
}

#[tokio::test]
async fn a_boot_in_the_middle_of_an_epoch_knows_all_of_it() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1) + 120);
    chain.post(2, &[(B, 4)]);
    chain.mine_to(start(2) + 60);
    chain.post(3, &[(C, 2)]);
    chain.mine_to(start(2) + 120);
    let learner = learner(&chain).await;
    assert_eq!(learner.who(start(2), start(2) + 48), [B]);
    assert_eq!(learner.who(start(2) + 49, start(3) + 24), [C]);
    assert!(!learner.knows(start(1) + 1, tail(1)), "the epoch before is history");
    assert!(!learner.knows(start(4), tail(4)), "the one after the next is too new");
}

#[tokio::test]
async fn epochs_follow_one_another_without_a_gap() {
    let mut chain = Chain::new(false);
    chain.blocks[0].operators.extend([(1, B), (2, C)]);
    let mut learner = learner(&chain).await;
    for epoch in 0..3 {
        for _ in 0..32 {
            let now = chain.head().timestamp;
            assert_eq!(learner.who(now, tail(epoch)), [[A, B, C][usize::try_from(epoch).unwrap()]]);
            assert!(!learner.who(start(epoch + 1), tail(epoch + 1)).is_empty(), "the next one is foretold");
            chain.mine(1);
            assert_eq!(learner.go_on(&chain).await, None);
        }
    }
}

#[tokio::test]
async fn slots_of_l1_without_a_block_change_nothing() {
    let mut chain = Chain::new(false);
    chain.blocks[0].operators.extend([(1, B), (2, C)]);
    let mut learner = learner(&chain).await;
    chain.mine(40);
    learner.go_on(&chain).await;
    assert_eq!(learner.who(start(1) + 200, tail(1)), [B]);
    chain.mine(31);
    learner.go_on(&chain).await;
    assert_eq!(learner.who(start(2) + 200, tail(2)), [C]);
}

#[tokio::test]
async fn a_step_costs_one_question_a_block_and_a_few_an_epoch() {
    let mut chain = Chain::new(false);
    let mut learner = learner(&chain).await;
    let mut questions = Vec::new();
    for _ in 0..64 {
        chain.mine(1);
        let before = chain.calls();
        learner.go_on(&chain).await;
        questions.push(chain.calls() - before);
    }
    assert_eq!(questions.iter().filter(|count| **count == 1).count(), 62);
    assert_eq!(questions.iter().filter(|count| **count == 3).count(), 2, "the first block of an epoch");
}

#[tokio::test]
async fn reorgs_of_one_to_five_blocks_take_back_what_hung_on_them() {
    for depth in 1..=5_usize {
        for lost in [true, false] {
            let mut chain = Chain::new(true);
            chain.mine_to(start(1) + 120);
            let mut learner = learner(&chain).await;
            chain.mine(1);
            if !lost {
                // Below the reorg: stays.
                chain.post(2, &[(B, 4)]);
                learner.go_on(&chain).await;
                chain.mine(1);
            }
            let lowest = chain.head().number;
            if lost {
                chain.post(2, &[(B, 4)]);
            }
            learner.go_on(&chain).await;
            for _ in 1..depth {
                chain.mine(1);
                learner.go_on(&chain).await;
            }
            assert_eq!(learner.schedule().epochs[&2].slots.len(), 1);
            chain.reorg(depth);
            for _ in 0..=depth {
                chain.mine(1);
            }
            assert_eq!(learner.go_on(&chain).await, Some(lowest), "depth {depth}");
            assert_eq!(learner.schedule().epochs[&2].slots.is_empty(), lost, "depth {depth}");
            // The posting comes again, by another preconfer.
            chain.post(2, &[(C, 4)]);
            chain.mine_to(start(2) - 12);
            let mut fresh = self::learner(&chain).await;
            fresh.go_on(&chain).await;
            assert_eq!(fresh.who(start(2), start(2) + 48), [C]);
        }
    }
}

#[tokio::test]
async fn a_posting_that_moves_to_another_block_of_another_branch_is_learned_from_there() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1) + 120);
    let mut learner = learner(&chain).await;
    chain.mine(1);
    chain.post(2, &[(B, 4)]);
    learner.go_on(&chain).await;
    chain.reorg(1);
    chain.mine(1);
    chain.mine(1);
    chain.post(2, &[(C, 5)]);
    assert!(learner.go_on(&chain).await.is_some());
    chain.mine_to(start(2));
    learner.go_on(&chain).await;
    assert_eq!(learner.who(start(2), start(2) + 60), [C]);
    assert_eq!(learner.who(start(2), start(2) + 48), [Address::ZERO; 0]);
}

#[tokio::test]
async fn a_reorg_across_an_epoch_asks_for_its_operator_again() {
    let mut chain = Chain::new(false);
    chain.mine_to(start(1) - 12);
    let mut learner = learner(&chain).await;
    chain.mine(1);
    learner.go_on(&chain).await;
    assert_eq!(learner.who(start(1), tail(1)), [A]);
    chain.reorg(1);
    chain.mine(1);
    chain.blocks.last_mut().unwrap().operators.insert(1, B);
    chain.mine(1);
    assert_eq!(learner.go_on(&chain).await, Some(32));
    assert_eq!(learner.who(start(1), tail(1)), [B]);
}

#[tokio::test]
async fn a_reorg_right_after_boot_is_one() {
    let mut chain = Chain::new(false);
    chain.mine_to(start(1) + 120);
    let mut learner = learner(&chain).await;
    let lowest = chain.head().number - 2;
    chain.reorg(3);
    for _ in 0..3 {
        chain.mine(1);
    }
    assert_eq!(learner.go_on(&chain).await, Some(lowest));
    // Deeper than anything that is known: all is learned anew.
    chain.reorg(30);
    chain.blocks.last_mut().unwrap().operators.insert(1, C);
    chain.mine_to(start(1) + 240);
    assert!(learner.go_on(&chain).await.is_some());
    assert_eq!(learner.who(start(1) + 200, tail(1)), [C]);
}

#[tokio::test]
async fn an_older_block_of_the_same_branch_is_nothing_new() {
    let mut chain = Chain::new(false);
    chain.mine(1);
    chain.mine(1);
    let mut learner = learner(&chain).await;
    let older = chain.blocks[1].head;
    assert_eq!(learner.advance(&chain, older).await, Ok(None));
    assert_eq!(learner.ledger().head(), Some(chain.head()));
}

#[tokio::test]
async fn an_operator_that_is_removed_signs_until_then() {
    let mut chain = Chain::new(false);
    chain.mine_to(start(1) + 96);
    let mut learner = learner(&chain).await;
    let removed = chain.mine(1).timestamp;
    chain.replace_operator(1, A, B);
    learner.go_on(&chain).await;
    assert_eq!(learner.who(removed - 1, tail(1)), [A]);
    assert_eq!(learner.who(removed, tail(1)), [B, A]);
    assert_eq!(learner.who(removed + 12, tail(1)), [B]);
    assert!(!learner.schedule().whitelisted.contains(&A));
    // The same from a boot afterwards, and from history.
    let fresh = self::learner(&chain).await;
    assert_eq!((fresh.who(removed - 1, tail(1)), fresh.who(removed + 12, tail(1))), (vec![A], vec![B]));
    chain.mine_to(start(3));
    let mut later = self::learner(&chain).await;
    assert!(!later.knows(removed, tail(1)));
    later.recall(&chain, 1).await.unwrap();
    assert_eq!((later.who(removed - 1, tail(1)), later.who(removed + 12, tail(1))), (vec![A], vec![B]));
}

#[tokio::test]
async fn who_is_blacklisted_gives_way_to_the_whitelist() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1) + 120);
    chain.post(2, &[(B, 4), (C, 8)]);
    let mut learner = learner(&chain).await;
    chain.mine_to(start(2) + 12);
    learner.go_on(&chain).await;
    assert_eq!(learner.who(start(2) + 60, start(2) + 96), [C]);
    let blacklisted = chain.mine(1).timestamp;
    chain.blacklist(C);
    learner.go_on(&chain).await;
    assert_eq!(learner.who(blacklisted - 1, start(2) + 48), [B]);
    assert_eq!(learner.who(start(2) + 60, start(2) + 96), [A]);
    // A boot long after the event asks for what it cannot have read.
    chain.mine_to(start(6));
    chain.post(7, &[(C, 4)]);
    chain.mine_to(start(7));
    let fresh = self::learner(&chain).await;
    assert_eq!(fresh.who(start(7) + 1, start(7) + 48), [A]);
    // So does one that was there, as the posting comes.
    learner.go_on(&chain).await;
    assert_eq!(learner.who(start(7) + 1, start(7) + 48), [A]);
}

#[tokio::test]
async fn a_long_gap_is_begun_anew_and_what_came_between_is_history() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1) + 120);
    chain.post(2, &[(B, 4)]);
    let mut learner = learner(&chain).await;
    chain.mine(1);
    chain.post(2, &[(C, 8)]);
    chain.mine_to(start(6) + 24);
    assert_eq!(learner.go_on(&chain).await, None, "no reorg");
    assert_eq!(learner.who(start(6), tail(6)), [A]);
    assert!(!learner.knows(start(2), start(2) + 48), "it was not read to its end");
    assert_eq!(learner.schedule().lacks(UnixSeconds::new(start(2))), Some(2));
    for epoch in 2..5 {
        learner.recall(&chain, epoch).await.unwrap();
    }
    assert_eq!(learner.who(start(2), start(2) + 96), [C]);
    assert_eq!(learner.who(start(4), tail(4)), [A]);
}

#[tokio::test]
async fn history_knows_who_was_blacklisted_long_before() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1));
    chain.blacklist(C);
    chain.mine_to(start(4) + 12);
    chain.post(5, &[(B, 4), (C, 8)]);
    chain.mine_to(start(8));
    let mut learner = learner(&chain).await;
    learner.recall(&chain, 5).await.unwrap();
    assert_eq!(learner.who(start(5), start(5) + 48), [B]);
    assert_eq!(learner.who(start(5) + 49, start(5) + 96), [A], "the whitelist's operator");
}

#[tokio::test]
async fn a_saved_ledger_ahead_of_l1_is_dropped_without_a_reorg() {
    let mut chain = Chain::new(false);
    chain.mine_to(start(6));
    let ledger = learner(&chain).await.ledger().clone();
    chain.blocks.truncate(40);
    let adapter = source::discover(&chain, config(WHITELIST).source, chain.head()).await.unwrap();
    let mut learner = Learner::new(config(WHITELIST), adapter, Some(ledger));
    assert_eq!(learner.go_on(&chain).await, None);
    assert_eq!(learner.who(chain.head().timestamp, tail(1)), [A]);
    assert!(!learner.knows(start(6), tail(6)));
}

#[tokio::test]
async fn history_that_has_no_state_any_more_stays_unknown() {
    let mut chain = Chain::new(false);
    chain.mine_to(start(5));
    let mut learner = learner(&chain).await;
    chain.limit(|questions| questions.pruned_below = 4 * 32);
    assert_eq!(learner.recall(&chain, 2).await, Err(refused()));
    assert!(!learner.knows(start(2), tail(2)));
    learner.recall(&chain, 4).await.unwrap();
    assert_eq!(learner.who(start(4), tail(4)), [A]);
    assert!(learner.knows(start(5), tail(5)), "what was known still is");
}

#[tokio::test]
async fn ranges_that_are_refused_are_halved() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1) + 120);
    chain.post(2, &[(B, 4)]);
    chain.mine_to(start(2) + 12);
    chain.limit(|questions| questions.widest = Some(10));
    let learner = learner(&chain).await;
    assert_eq!(learner.who(start(2), start(2) + 48), [B]);
    let ranges = chain.questions.lock().unwrap().ranges.clone();
    assert!(ranges.iter().all(|(from, to)| to - from < 10), "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "no block is left out: {ranges:?}");
}

#[tokio::test]
async fn a_step_that_fails_anywhere_changes_nothing_and_is_done_again() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1) + 120);
    let mut learner = learner(&chain).await;
    chain.mine_to(start(2) - 24);
    chain.post(2, &[(B, 4)]);
    chain.mine_to(start(2));
    let before = learner.ledger().clone();
    let mut failures = 0;
    loop {
        let asked = chain.calls();
        chain.limit(|questions| questions.fails_after = Some(asked + failures));
        match learner.advance(&chain, chain.head()).await {
            Err(error) => assert_eq!(error, L1Error::Unavailable),
            Ok(step) => break assert_eq!(step.unwrap().reorg, None),
        }
        assert_eq!(learner.ledger(), &before, "after {failures} answers");
        failures += 1;
    }
    assert!(failures > 10, "{failures}");
    assert_eq!(learner.who(start(2), start(2) + 48), [B]);
}

#[tokio::test]
async fn what_was_saved_is_used_as_far_as_l1_confirms_it() {
    let mut chain = Chain::new(true);
    chain.mine_to(start(1) + 120);
    chain.post(2, &[(B, 4)]);
    let mut earlier = learner(&chain).await;
    chain.mine_to(start(2) + 12);
    earlier.go_on(&chain).await;
    let resume = async |chain: &Chain| {
        let adapter = source::discover(chain, config(STORE).source, chain.head()).await.unwrap();
        let mut learner = Learner::new(config(STORE), adapter, Some(earlier.ledger().clone()));
        let asked = chain.calls();
        let step = learner.advance(chain, chain.head()).await.unwrap();
        (learner, step.and_then(|step| step.reorg), chain.calls() - asked)
    };
    chain.mine(1);
    let (learner, reorg, calls) = resume(&chain).await;
    assert_eq!((learner.who(start(2), start(2) + 48), reorg, calls), (vec![B], None, 1));
    // L1 was reorganised in between, a little or beyond all that was saved.
    chain.reorg(2);
    chain.mine(1);
    chain.mine(1);
    let (learner, reorg, _) = resume(&chain).await;
    assert_eq!((learner.who(start(2), start(2) + 48), reorg.is_some()), (vec![B], true));
    chain.reorg(60);
    chain.mine_to(start(2) + 12);
    let (learner, reorg, _) = resume(&chain).await;
    assert!(reorg.is_some());
    assert_eq!(learner.who(start(2), start(2) + 48), [Address::ZERO; 0]);
    assert_eq!(learner.who(start(2), tail(2)), [A]);
}

#[tokio::test]
async fn the_first_block_at_a_second_is_found_in_few_questions() {
    let slot = NonZeroU64::new(12).unwrap();
    let mut chain = Chain::new(false);
    for n in 0..2_000_u64 {
        chain.mine(if n % 7 == 0 { 3 } else { 1 });
    }
    let head = chain.head();
    let offsets = (0..head.timestamp - GENESIS).step_by(977);
    for second in offsets.map(|offset| GENESIS + offset).chain([0, GENESIS, head.timestamp]) {
        let asked = chain.calls();
        let found = not_before(&chain, second, head, slot).await.unwrap().unwrap();
        let expected = chain.blocks.iter().find(|block| block.head.timestamp >= second).unwrap();
        assert_eq!(found, expected.head);
        assert!(chain.calls() - asked <= 16, "{second}: {}", chain.calls() - asked);
    }
    assert_eq!(not_before(&chain, head.timestamp + 1, head, slot).await, Ok(None));
}

#[tokio::test]
async fn whoever_signs_with_another_key_is_known_by_that() {
    let mut chain = Chain::new(false);
    chain.mine(1);
    let mut config = config(WHITELIST);
    config.signers.insert(A, C);
    let adapter = source::discover(&chain, config.source, chain.head()).await.unwrap();
    let mut learner = Learner::new(config, adapter, None);
    learner.go_on(&chain).await;
    assert_eq!(learner.who(start(0), tail(0)), [C]);
    assert_eq!(learner.schedule().whitelisted.iter().copied().collect::<Vec<_>>(), [B, C]);
}
