//! Learns from L1, block by block: which blocks are new and which are lost, what they tell, and what of the past is asked
//! for. Every step is whole or nothing: what fails in the middle has changed nothing and is done again.

use std::{collections::BTreeSet, num::NonZeroU64};

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall;
use p2p_types::UnixSeconds;
use p2p_validation::Window;

use crate::{
    L1Config, L1Error, L1Head, abi,
    ledger::{Fact, Ledger},
    rpc::{Blocks, L1, Log},
    schedule::Schedule,
    source::{Adapter, Told},
};

/// Blocks that are followed one by one, parent by parent; a longer way is looked over by height.
const WALK: usize = 96;
/// Headers that are fetched at boot, so that a reorg right after it is recognised.
const BOOT_HEADERS: usize = 8;
/// Operators of the whitelist that are asked for by index.
const OPERATORS: u64 = 64;

/// What a step has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The head now.
    pub(crate) head: L1Head,
    /// The lowest block that is lost, if any is.
    pub(crate) reorg: Option<u64>,
}

/// What was learned, and from whom.
pub(crate) struct Learner {
    config: L1Config,
    adapter: Box<dyn Adapter>,
    ledger: Ledger,
    /// Blocks that a query for logs spans at present.
    range: u64,
}

type Facts = Vec<(u64, Fact)>;

impl Learner {
    pub(crate) fn new(config: L1Config, adapter: Box<dyn Adapter>, ledger: Option<Ledger>) -> Self {
        Self { range: config.log_range.get(), config, adapter, ledger: ledger.unwrap_or_default() }
    }

    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn schedule(&self) -> Schedule {
        self.ledger.schedule(self.adapter.generation(), self.config.time)
    }

    /// Goes on to a head. None if it is known already.
    pub(crate) async fn advance(&mut self, l1: &impl L1, head: L1Head) -> Result<Option<Step>, L1Error> {
        if self.ledger.height_of(head.hash).is_some() {
            return Ok(None);
        }
        match self.way_to(l1, head).await? {
            Some((ancestor, path)) => self.follow(l1, ancestor, &path).await.map(Some),
            None => self.begin(l1, head).await.map(Some),
        }
    }

    /// The height of the newest block in common, and the blocks from there to a head. None if it is not within reach.
    async fn way_to(&self, l1: &impl L1, head: L1Head) -> Result<Option<(u64, Vec<L1Head>)>, L1Error> {
        let Some(lowest) = self.ledger.headers().last() else { return Ok(None) };
        let Some(known) = self.ledger.head() else { return Ok(None) };
        if head.number.saturating_sub(known.number) > WALK as u64 {
            return Ok(None);
        }
        let (mut path, mut oldest) = (vec![head], head);
        loop {
            if let Some(ancestor) = self.ledger.height_of(oldest.parent) {
                path.reverse();
                return Ok(Some((ancestor, path)));
            }
            if oldest.number <= lowest.number {
                return Ok(None);
            }
            oldest = parent(l1, oldest).await?;
            path.push(oldest);
        }
    }

    /// Learns from blocks that follow one that is known.
    async fn follow(&mut self, l1: &impl L1, ancestor: u64, path: &[L1Head]) -> Result<Step, L1Error> {
        let (Some(first), Some(head)) = (path.first(), path.last()) else { return Err(L1Error::Moved) };
        let mut next = self.ledger.clone();
        let reorg = next.roll_back_to(ancestor);
        let logs = if path.len() == 1 {
            l1.logs(&self.adapter.filter(), Blocks::One(head.hash)).await?
        } else {
            let logs = self.read(l1, first.number, head.number).await?;
            let on_path = |log: &Log| path.iter().any(|block| block.hash == log.block_hash);
            if !logs.iter().all(on_path) {
                return Err(L1Error::Moved);
            }
            logs
        };
        let facts = self.facts(l1, &logs).await?;
        let posted: BTreeSet<u64> =
            facts.iter().filter(|(_, fact)| fact.is_posting()).map(|(at, _)| *at).collect();
        next.learn(facts);
        let mut confirmed: BTreeSet<u64> = BTreeSet::new();
        for block in path {
            let Some(epoch) = self.epoch_of(block.timestamp) else { continue };
            let changed = logs.iter().any(|log| log.block() == block.number && self.is_of_whitelist(log));
            let first_of_epoch = !next.confirmed(epoch) && confirmed.insert(epoch);
            if posted.contains(&block.number) {
                let standings = self.standings(l1, &next, *block, epoch.saturating_add(1)).await?;
                next.learn(standings);
            }
            if !changed && !first_of_epoch {
                continue;
            }
            let from = if first_of_epoch { 0 } else { block.timestamp };
            let learned = self.operators(l1, *block, epoch, from).await;
            // The state of an epoch that is over may be gone: then it is asked for as history.
            match learned {
                Ok(facts) => next.learn(facts),
                Err(L1Error::Refused { .. }) if self.epoch_of(head.timestamp) != Some(epoch) => {}
                Err(error) => return Err(error),
            }
            next.scanned(epoch);
            next.scanned(epoch.saturating_add(1));
            let standings = self.standings(l1, &next, *block, epoch).await?;
            next.learn(standings);
        }
        next.extend(path);
        Ok(self.commit(next, *head, reorg))
    }

    /// Begins anew at a head, with what is still true of what was known.
    async fn begin(&mut self, l1: &impl L1, head: L1Head) -> Result<Step, L1Error> {
        let mut next = self.ledger.clone();
        let before = next.head();
        let mut common = None;
        for header in self.ledger.headers() {
            if l1.by_number(header.number).await?.is_some_and(|there| there.hash == header.hash) {
                common = Some(header.number);
                break;
            }
        }
        let reorg = match (common, before) {
            (Some(number), _) => {
                // What came between is not read, so what depends on it is learned anew or asked for.
                let there = self.ledger.headers().find(|header| header.number == number);
                next.unscan_from(there.and_then(|there| self.epoch_of(there.timestamp)).unwrap_or(0));
                next.roll_back_to(number)
            }
            (None, Some(_)) => {
                next = Ledger::default();
                // A node that has not come so far contradicts nothing.
                let lowest = self.ledger.headers().last().map(|header| header.number);
                lowest.filter(|lowest| *lowest <= head.number)
            }
            (None, None) => None,
        };
        let epoch = self.epoch_of(head.timestamp).ok_or(L1Error::BeforeGenesis)?;
        let mut headers = vec![head];
        let mut oldest = head;
        while headers.len() < BOOT_HEADERS && oldest.number > 0 {
            oldest = parent(l1, oldest).await?;
            headers.push(oldest);
        }
        headers.reverse();
        next.extend(&headers);
        next.learn(self.past(l1, next.clone(), head, epoch).await?);
        if !next.confirmed(epoch) {
            next.learn(self.operators(l1, head, epoch, 0).await?);
        }
        next.learn(self.foretell(l1, head, epoch).await?);
        next.learn(self.whitelisted(l1, head).await?);
        next.scanned(epoch);
        next.scanned(epoch.saturating_add(1));
        for epoch in [epoch, epoch.saturating_add(1)] {
            let standings = self.standings(l1, &next, head, epoch).await?;
            next.learn(standings);
        }
        Ok(self.commit(next, head, reorg))
    }

    /// Learns an epoch that is over, or the present one up to the head.
    pub(crate) async fn recall(&mut self, l1: &impl L1, epoch: u64) -> Result<(), L1Error> {
        let Some(head) = self.ledger.head() else { return Err(L1Error::Moved) };
        let facts = self.past(l1, self.ledger.clone(), head, epoch).await?;
        self.ledger.learn(facts);
        self.ledger.scanned(epoch);
        Ok(())
    }

    fn commit(&mut self, mut next: Ledger, head: L1Head, reorg: Option<u64>) -> Step {
        next.prune(&self.config.time, self.config.history);
        self.ledger = next;
        Step { head, reorg }
    }

    fn epoch_of(&self, timestamp: u64) -> Option<u64> {
        self.config.time.epoch_at(UnixSeconds::new(timestamp))
    }

    fn is_of_whitelist(&self, log: &Log) -> bool {
        matches!(self.adapter.told(log, &self.config.time), Some(Told::Operator { .. }))
    }

    /// All that L1 tells of an epoch up to a head: postings from the epoch before on, and operators and registrations at
    /// blocks inside it. The ledger has what is known already.
    async fn past(
        &mut self,
        l1: &impl L1,
        mut known: Ledger,
        head: L1Head,
        epoch: u64,
    ) -> Result<Facts, L1Error> {
        let window = |epoch| self.config.time.epoch_window(epoch).ok_or(L1Error::Moved);
        let (Window { start: before, .. }, Window { start, end }) =
            (window(epoch.saturating_sub(1))?, window(epoch)?);
        let slot = self.config.time.slot_seconds;
        let from = not_before(l1, before.get(), head, slot).await?.ok_or(L1Error::Moved)?;
        let inside = not_before(l1, start.get(), head, slot).await?.ok_or(L1Error::Moved)?;
        let after = end.get().saturating_add(1);
        let last = match not_before(l1, after, head, slot).await? {
            Some(beyond) => beyond.number.saturating_sub(1),
            None => head.number,
        };
        let logs = self.read(l1, from.number, last).await?;
        let mut facts = self.facts(l1, &logs).await?;
        if inside.timestamp > end.get() {
            // No block at all: nobody could have asked in this epoch, and nobody proposed.
            return Ok(facts);
        }
        let operator = self.operator(l1, inside.hash, abi::getOperatorForCurrentEpochCall::SELECTOR).await;
        // At the present epoch's end the state of its beginning may be gone already; then the head tells.
        let confirmed = match operator {
            Ok(signer) => signer.map(|signer| (inside.number, Fact::Operator { epoch, from: 0, signer })),
            Err(L1Error::Refused { .. }) if last == head.number => None,
            Err(error) => return Err(error),
        };
        facts.extend(confirmed);
        // What was blacklisted before has no event among these.
        known.learn(facts.iter().cloned());
        match self.standings(l1, &known, inside, epoch).await {
            Ok(standings) => facts.extend(standings),
            Err(L1Error::Refused { .. }) if last == head.number => {}
            Err(error) => return Err(error),
        }
        let mut changed: Vec<(u64, B256)> = Vec::new();
        for log in logs.iter().filter(|log| self.is_of_whitelist(log) && log.block() > inside.number) {
            if changed.last().is_none_or(|(number, _)| *number != log.block()) {
                changed.push((log.block(), log.block_hash));
            }
        }
        for (number, hash) in changed {
            let block = l1.by_hash(hash).await?.ok_or(L1Error::NoBlock(hash))?;
            let current = abi::getOperatorForCurrentEpochCall::SELECTOR;
            if let Some(signer) = self.operator(l1, hash, current).await? {
                facts.push((number, Fact::Operator { epoch, from: block.timestamp, signer }));
            }
        }
        Ok(facts)
    }

    /// The events of a span of blocks. Spans that an endpoint refuses are halved, down to single blocks.
    async fn read(&mut self, l1: &impl L1, from: u64, to: u64) -> Result<Vec<Log>, L1Error> {
        let (filter, mut logs, mut at) = (self.adapter.filter(), Vec::new(), from);
        while at <= to {
            let end = at.saturating_add(self.range.max(1) - 1).min(to);
            match l1.logs(&filter, Blocks::Range(at, end)).await {
                Ok(found) => {
                    logs.extend(found);
                    at = end.saturating_add(1);
                }
                Err(L1Error::Refused { .. }) if end > at => self.range = (end - at).div_ceil(2).max(1),
                Err(error) => return Err(error),
            }
        }
        Ok(logs)
    }

    /// What events tell.
    async fn facts(&self, l1: &impl L1, logs: &[Log]) -> Result<Facts, L1Error> {
        let (mut facts, time) = (Vec::new(), &self.config.time);
        for log in logs {
            let fact = match self.adapter.told(log, time) {
                Some(Told::Slots { epoch, slots }) => Fact::Posting { epoch, slots },
                Some(Told::Operator { signer, listed }) => {
                    Fact::Whitelisted { signer: self.signer(signer), listed }
                }
                Some(Told::InCalldata { epoch }) => {
                    let hash = log.transaction_hash;
                    let input = l1.input(hash).await?.ok_or(L1Error::NoBlock(log.block_hash))?;
                    match self.adapter.slots_in(log, &input, time) {
                        Some(slots) => Fact::Posting { epoch, slots },
                        None => unreadable(epoch, hash),
                    }
                }
                Some(Told::Unreadable { epoch }) => unreadable(epoch, log.transaction_hash),
                // What it is now is asked for at a block.
                Some(Told::Standing { root }) => {
                    facts.extend(self.standing(l1, log, root).await?);
                    continue;
                }
                None => continue,
            };
            facts.push((log.block(), fact));
        }
        Ok(facts)
    }

    async fn standing(&self, l1: &impl L1, log: &Log, root: B256) -> Result<Option<(u64, Fact)>, L1Error> {
        let block = l1.by_hash(log.block_hash).await?.ok_or(L1Error::NoBlock(log.block_hash))?;
        self.counts(l1, block, root).await
    }

    /// Whether a registration counts, as a block tells.
    async fn counts(&self, l1: &impl L1, at: L1Head, root: B256) -> Result<Option<(u64, Fact)>, L1Error> {
        let Some(store) = self.adapter.registrations() else { return Ok(None) };
        let call = abi::isOperatorBlacklistedCall { root }.abi_encode();
        let Some(answer) = l1.call(store, Bytes::from(call), at.hash).await? else { return Ok(None) };
        let blacklisted = abi::answer::<abi::isOperatorBlacklistedCall>(&answer)
            .ok_or(L1Error::Answer { contract: store, call: "isOperatorBlacklisted" })?;
        Ok(Some((at.number, Fact::Standing { root, from: at.timestamp, counts: !blacklisted })))
    }

    /// Whether the registrations of an epoch count, asked when it is posted and when it begins: what was blacklisted long
    /// ago has no event in what was read.
    async fn standings(
        &self,
        l1: &impl L1,
        ledger: &Ledger,
        at: L1Head,
        epoch: u64,
    ) -> Result<Facts, L1Error> {
        let schedule = ledger.schedule(self.adapter.generation(), self.config.time);
        let slots = schedule.epochs.get(&epoch).map_or(&[][..], |epoch| &epoch.slots);
        let roots: BTreeSet<B256> = slots.iter().map(|slot| slot.root).collect();
        let mut facts = Vec::new();
        for root in roots {
            let known = schedule.counts(root, at.timestamp);
            let changes =
                |(_, fact): &(u64, Fact)| !matches!(fact, Fact::Standing { counts, .. } if *counts == known);
            facts.extend(self.counts(l1, at, root).await?.filter(changes));
        }
        Ok(facts)
    }

    /// The operators of a block's epoch and the next one, as that block tells.
    async fn operators(&self, l1: &impl L1, at: L1Head, epoch: u64, from: u64) -> Result<Facts, L1Error> {
        let current = self.operator(l1, at.hash, abi::getOperatorForCurrentEpochCall::SELECTOR).await?;
        let current = current.map(|signer| (at.number, Fact::Operator { epoch, from, signer }));
        let mut facts: Facts = current.into_iter().collect();
        facts.extend(self.foretell(l1, at, epoch).await?);
        Ok(facts)
    }

    async fn foretell(&self, l1: &impl L1, at: L1Head, epoch: u64) -> Result<Option<(u64, Fact)>, L1Error> {
        let next = self.operator(l1, at.hash, abi::getOperatorForNextEpochCall::SELECTOR).await?;
        let epoch = epoch.saturating_add(1);
        Ok(next.map(|signer| (at.number, Fact::Foretold { epoch, signer })))
    }

    /// An operator, as a call tells; none where the whitelist has nobody.
    async fn operator(&self, l1: &impl L1, at: B256, selector: [u8; 4]) -> Result<Option<Address>, L1Error> {
        let contract = self.adapter.whitelist();
        let Some(answer) = l1.call(contract, Bytes::from(selector.to_vec()), at).await? else {
            return Ok(None);
        };
        let operator = abi::answer::<abi::getOperatorForCurrentEpochCall>(&answer)
            .ok_or(L1Error::Answer { contract, call: "getOperatorFor…Epoch" })?;
        Ok(Some(operator).filter(|operator| !operator.is_zero()).map(|operator| self.signer(operator)))
    }

    /// The address that an operator signs commitments with.
    fn signer(&self, operator: Address) -> Address {
        self.config.signers.get(&operator).copied().unwrap_or(operator)
    }

    /// Everybody on the whitelist at a block. One whose functions for that do not answer tells nobody.
    async fn whitelisted(&self, l1: &impl L1, at: L1Head) -> Result<Facts, L1Error> {
        let whitelist = self.adapter.whitelist();
        let count = l1.call(whitelist, abi::operatorCountCall {}.abi_encode().into(), at.hash).await?;
        let count = count.and_then(|answer| abi::answer::<abi::operatorCountCall>(&answer));
        let count = count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0).min(OPERATORS);
        let mut facts = Vec::new();
        for index in 0..count {
            let index = alloy_primitives::U256::from(index);
            let call = abi::operatorMappingCall { index }.abi_encode();
            let answer = l1.call(whitelist, call.into(), at.hash).await?;
            let operator = answer.and_then(|answer| abi::answer::<abi::operatorMappingCall>(&answer));
            facts.extend(operator.map(|operator| {
                (at.number, Fact::Whitelisted { signer: self.signer(operator), listed: true })
            }));
        }
        Ok(facts)
    }
}

/// An epoch of which only that there are slots is known: nobody is judged by it.
fn unreadable(epoch: u64, transaction: B256) -> Fact {
    tracing::warn!(%transaction, epoch, "a posted lookahead cannot be read; what is signed for its epoch waits");
    Fact::Unreadable { epoch }
}

/// The block below one. It is one lower, so that no endpoint can lead on without end.
async fn parent(l1: &impl L1, of: L1Head) -> Result<L1Head, L1Error> {
    let parent = l1.by_hash(of.parent).await?.ok_or(L1Error::NoBlock(of.parent))?;
    let is_below = parent.number.checked_add(1) == Some(of.number);
    if is_below { Ok(parent) } else { Err(L1Error::OtherBlock) }
}

/// The first block at or after a second, up to a head; none if that is later. Found by where it should be, so with
/// few questions.
async fn not_before(
    l1: &impl L1,
    second: u64,
    head: L1Head,
    slot: NonZeroU64,
) -> Result<Option<L1Head>, L1Error> {
    if head.timestamp < second {
        return Ok(None);
    }
    // Below `low` all is too early; `high` is late enough.
    let (mut low, mut high) = (0, head);
    for round in 0_u32.. {
        let Some(last) = high.number.checked_sub(1).filter(|last| low <= *last) else { break };
        let slots = (high.timestamp - second).div_ceil(slot.get()).max(1);
        // Slots without a block make the guess too low, so halving has to end the search.
        let number = if round < 4 { high.number.saturating_sub(slots).max(low) } else { low.midpoint(last) };
        let there = l1.by_number(number).await?.ok_or(L1Error::Moved)?;
        if there.timestamp < second {
            low = number.saturating_add(1);
        } else {
            high = there;
        }
    }
    Ok(Some(high))
}

#[cfg(test)]
mod tests;
