//! One generation of contracts behind one narrow trait: which events tell something, and what.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent};
use p2p_types::UnixSeconds;
use p2p_validation::L1Time;

use crate::{
    L1Error, L1Head,
    abi::{self, v2},
    config::Source,
    rpc::{Filter, L1, Log},
    schedule::{Generation, Posted},
};

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The slots of an epoch.
    Slots { epoch: u64, slots: Vec<Posted> },
    /// That an epoch's slots are in the calldata of its transaction.
    InCalldata { epoch: u64 },
    /// That an epoch's slots were posted in a form that is not known.
    Unreadable { epoch: u64 },
    /// Whether a registration counts may have changed.
    Standing { root: B256 },
    /// The whitelist has changed by this operator.
    Operator { signer: Address, listed: bool },
}

/// The contracts of a generation.
pub(crate) trait Adapter: Send + Sync {
    fn generation(&self) -> Generation;

    /// The contract that draws the operators.
    fn whitelist(&self) -> Address;

    /// The contract that knows which registrations count; none where nobody registers.
    fn registrations(&self) -> Option<Address>;

    /// Which events are of use.
    fn filter(&self) -> Filter;

    /// What an event tells; none if it is of no use or makes no sense.
    fn told(&self, log: &Log, time: &L1Time) -> Option<Told>;

    /// The slots of an epoch in the calldata of the transaction that this event is of.
    fn slots_in(&self, log: &Log, input: &[u8], time: &L1Time) -> Option<Vec<Posted>>;
}

/// The whitelist alone.
struct WhitelistOnly {
    whitelist: Address,
}

/// A store with its slots in events.
struct StoreV1 {
    store: Address,
    whitelist: Address,
}

/// A store with its slots in calldata.
struct StoreV2 {
    store: Address,
    whitelist: Address,
}

const WHITELIST_TOPICS: [B256; 2] =
    [abi::OperatorAdded::SIGNATURE_HASH, abi::OperatorRemoved::SIGNATURE_HASH];

/// The topics of a store with those of its whitelist.
fn store_filter(store: Address, whitelist: Address, posted: B256) -> Filter {
    let own = [posted, abi::Blacklisted::SIGNATURE_HASH, abi::Unblacklisted::SIGNATURE_HASH];
    let topics = own.into_iter().chain(WHITELIST_TOPICS).collect();
    Filter { addresses: vec![store, whitelist], topics }
}

/// Seconds of a slot, and of an epoch.
fn seconds(time: &L1Time) -> (u64, u64) {
    let slot = time.slot_seconds.get();
    (slot, slot.saturating_mul(time.slots_per_epoch.get()))
}

/// The epoch that begins at a second.
fn epoch_from(start: u64, time: &L1Time) -> Option<u64> {
    let epoch = time.epoch_at(UnixSeconds::new(start))?;
    (time.epoch_window(epoch)?.start.get() == start).then_some(epoch)
}

fn whitelist_told(log: &Log, whitelist: Address) -> Option<Told> {
    let (topic, proposer) = (log.topics.first()?, log.topics.get(1)?);
    let listed = *topic == abi::OperatorAdded::SIGNATURE_HASH;
    (log.address == whitelist && WHITELIST_TOPICS.contains(topic))
        .then(|| Told::Operator { signer: Address::from_word(*proposer), listed })
}

fn standing_told(log: &Log, store: Address) -> Option<Told> {
    let (topic, root) = (log.topics.first()?, log.topics.get(1)?);
    let topics = [abi::Blacklisted::SIGNATURE_HASH, abi::Unblacklisted::SIGNATURE_HASH];
    (log.address == store && topics.contains(topic)).then_some(Told::Standing { root: *root })
}

impl Adapter for WhitelistOnly {
    fn generation(&self) -> Generation {
        Generation::Whitelist
    }

    fn whitelist(&self) -> Address {
        self.whitelist
    }

    fn registrations(&self) -> Option<Address> {
        None
    }

    fn filter(&self) -> Filter {
        Filter { addresses: vec![self.whitelist], topics: WHITELIST_TOPICS.to_vec() }
    }

    fn told(&self, log: &Log, _: &L1Time) -> Option<Told> {
        whitelist_told(log, self.whitelist)
    }

    fn slots_in(&self, _: &Log, _: &[u8], _: &L1Time) -> Option<Vec<Posted>> {
        None
    }
}

impl Adapter for StoreV1 {
    fn generation(&self) -> Generation {
        Generation::StoreV1
    }

    fn whitelist(&self) -> Address {
        self.whitelist
    }

    fn registrations(&self) -> Option<Address> {
        Some(self.store)
    }

    fn filter(&self) -> Filter {
        store_filter(self.store, self.whitelist, abi::LookaheadPosted::SIGNATURE_HASH)
    }

    fn told(&self, log: &Log, time: &L1Time) -> Option<Told> {
        if log.address == self.store && log.topics.first() == Some(&abi::LookaheadPosted::SIGNATURE_HASH) {
            let (slot, seconds) = seconds(time);
            let start = u64::try_from(U256::from_be_bytes(log.topics.get(1)?.0)).ok()?;
            let epoch = epoch_from(start, time)?;
            let slots = abi::posted_v1(&log.topics, &log.data, slot, seconds);
            return Some(slots.map_or(Told::Unreadable { epoch }, |(_, slots)| Told::Slots { epoch, slots }));
        }
        standing_told(log, self.store).or_else(|| whitelist_told(log, self.whitelist))
    }

    fn slots_in(&self, _: &Log, _: &[u8], _: &L1Time) -> Option<Vec<Posted>> {
        None
    }
}

impl StoreV2 {
    /// The first second of the epoch, and the hash of its slots.
    fn posted(&self, log: &Log) -> Option<(u64, [u8; 26])> {
        let event = v2::LookaheadPosted::decode_raw_log(log.topics.iter().copied(), &log.data).ok()?;
        let start = u64::try_from(event.epochTimestamp).ok()?;
        (log.address == self.store).then_some((start, event.lookaheadHash.0))
    }
}

impl Adapter for StoreV2 {
    fn generation(&self) -> Generation {
        Generation::StoreV2
    }

    fn whitelist(&self) -> Address {
        self.whitelist
    }

    fn registrations(&self) -> Option<Address> {
        Some(self.store)
    }

    fn filter(&self) -> Filter {
        store_filter(self.store, self.whitelist, v2::LookaheadPosted::SIGNATURE_HASH)
    }

    fn told(&self, log: &Log, time: &L1Time) -> Option<Told> {
        if let Some((start, _)) = self.posted(log) {
            return Some(Told::InCalldata { epoch: epoch_from(start, time)? });
        }
        standing_told(log, self.store).or_else(|| whitelist_told(log, self.whitelist))
    }

    fn slots_in(&self, log: &Log, input: &[u8], time: &L1Time) -> Option<Vec<Posted>> {
        let ((start, hash), (slot, epoch)) = (self.posted(log)?, seconds(time));
        abi::posted_v2(input, start, &hash, slot, epoch)
    }
}

/// The contracts of a generation at these addresses.
#[cfg(feature = "test-utils")]
pub(crate) fn adapter(generation: Generation, store: Address, whitelist: Address) -> Box<dyn Adapter> {
    match generation {
        Generation::Whitelist => Box::new(WhitelistOnly { whitelist }),
        Generation::StoreV1 => Box::new(StoreV1 { store, whitelist }),
        Generation::StoreV2 => Box::new(StoreV2 { store, whitelist }),
    }
}

/// Asks the contracts which generation they are.
pub(crate) async fn discover(l1: &impl L1, source: Source, at: L1Head) -> Result<Box<dyn Adapter>, L1Error> {
    let found = match source {
        Source::Contract(contract) => (probe(l1, contract, at.hash).await?, contract),
        Source::Inbox(inbox) => {
            let config = l1.call(inbox, abi::getConfigCall {}.abi_encode().into(), at.hash).await?;
            let config = config.ok_or(L1Error::NoSource(inbox))?;
            let mut found = (None, inbox);
            // The proposer checker is among the first fields; only it answers as a schedule.
            for contract in abi::addresses(&config).take(8) {
                if let Some(adapter) = probe(l1, contract, at.hash).await? {
                    found = (Some(adapter), contract);
                    break;
                }
            }
            found
        }
    };
    let (adapter, contract) = found;
    adapter.ok_or(L1Error::NoSource(contract))
}

async fn probe(l1: &impl L1, contract: Address, at: B256) -> Result<Option<Box<dyn Adapter>>, L1Error> {
    let ask = |data: Vec<u8>| l1.call(contract, Bytes::from(data), at);
    let whitelist = ask(abi::preconfWhitelistCall {}.abi_encode()).await?;
    let whitelist = whitelist.and_then(|answer| abi::answer::<abi::preconfWhitelistCall>(&answer));
    if let Some(whitelist) = whitelist.filter(|address| !address.is_zero()) {
        let v2 = ask(abi::LOOKAHEAD_BUFFER_SIZECall {}.abi_encode()).await?;
        if v2.is_some_and(|answer| abi::answer::<abi::LOOKAHEAD_BUFFER_SIZECall>(&answer).is_some()) {
            return Ok(Some(Box::new(StoreV2 { store: contract, whitelist })));
        }
        let v1 = ask(abi::getLookaheadStoreConfigCall {}.abi_encode()).await?;
        if v1.is_some_and(|answer| abi::answer::<abi::getLookaheadStoreConfigCall>(&answer).is_some()) {
            return Ok(Some(Box::new(StoreV1 { store: contract, whitelist })));
        }
    }
    let operator = ask(abi::getOperatorForCurrentEpochCall {}.abi_encode()).await?;
    let operator = operator.and_then(|answer| abi::answer::<abi::getOperatorForCurrentEpochCall>(&answer));
    Ok(operator.map(|_| Box::new(WhitelistOnly { whitelist: contract }) as Box<dyn Adapter>))
}
