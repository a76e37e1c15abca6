//! What is read of L1 and L2, for the fuzz targets of this workspace. Nothing here is stable.

use std::num::NonZeroU64;

use alloy_primitives::{Address, B256};
use alloy_sol_types::{SolCall, SolEvent as _};
use p2p_types::UnixSeconds;
use p2p_validation::{Admission, L1Time};

use crate::{
    AnchorCall, Generation, L1Head, abi, l2,
    ledger::{Fact, Ledger},
    rpc::{Log, RawHeader},
    schedule::Schedule,
    source::{self, Told},
};

/// The store and the whitelist of [`event`].
pub const CONTRACTS: [Address; 2] = [Address::repeat_byte(0x11), Address::repeat_byte(0x22)];

/// The first topics of all events that are read.
#[must_use]
pub const fn topics() -> [B256; 6] {
    [
        abi::LookaheadPosted::SIGNATURE_HASH,
        abi::v2::LookaheadPosted::SIGNATURE_HASH,
        abi::OperatorAdded::SIGNATURE_HASH,
        abi::OperatorRemoved::SIGNATURE_HASH,
        abi::Blacklisted::SIGNATURE_HASH,
        abi::Unblacklisted::SIGNATURE_HASH,
    ]
}

/// An event as JSON-RPC has it; none if the JSON is another one.
#[must_use]
pub fn log(json: &[u8]) -> Option<(Address, Vec<B256>, Vec<u8>)> {
    let log: Log = serde_json::from_slice(json).ok()?;
    let _height = log.block();
    Some((log.address, log.topics, log.data.to_vec()))
}

/// What an event tells under a generation, and what its transaction's calldata says then. Learns it, and asks the schedule
/// that follows. How many slots were posted; none if it tells nothing.
///
/// # Panics
/// If slots are out of order or out of their epoch, or the schedule contradicts itself.
#[must_use]
pub fn event(
    generation: Generation,
    address: Address,
    topics: &[B256],
    data: &[u8],
    input: &[u8],
    time: &L1Time,
) -> Option<usize> {
    let [store, whitelist] = CONTRACTS;
    let adapter = source::adapter(generation, store, whitelist);
    let log = Log {
        address,
        topics: topics.to_vec(),
        data: data.to_vec().into(),
        block_number: Default::default(),
        block_hash: B256::ZERO,
        transaction_hash: B256::ZERO,
    };
    let told = adapter.told(&log, time)?;
    let mut ledger = Ledger::default();
    let mut posted = 0;
    match told {
        Told::Slots { epoch, slots } => {
            posted = slots.len();
            ledger.learn([(1, Fact::Posting { epoch, slots })]);
            check_epoch(&mut ledger, generation, *time, epoch);
        }
        Told::InCalldata { epoch } => {
            if let Some(slots) = adapter.slots_in(&log, input, time) {
                posted = slots.len();
                ledger.learn([(1, Fact::Posting { epoch, slots })]);
                check_epoch(&mut ledger, generation, *time, epoch);
            }
        }
        Told::Unreadable { .. } | Told::Standing { .. } | Told::Operator { .. } => {}
    }
    Some(posted)
}

/// What was posted for an epoch is in its seconds, and the schedule answers.
fn check_epoch(ledger: &mut Ledger, generation: Generation, time: L1Time, epoch: u64) {
    let Some(window) = time.epoch_window(epoch) else { return };
    ledger.scanned(epoch);
    let (number, hash, parent) = (1, B256::ZERO, B256::ZERO);
    ledger.extend(&[L1Head { number, hash, parent, timestamp: window.start.get() }]);
    let schedule = ledger.schedule(generation, time);
    for slot in schedule.epochs.get(&epoch).iter().flat_map(|epoch| &epoch.slots) {
        let at = UnixSeconds::new(slot.timestamp);
        assert!(window.start <= at && at <= window.end, "a slot outside its epoch");
        check_moment(&schedule, at);
    }
    check_moment(&schedule, window.start);
    check_moment(&schedule, window.end);
}

/// Whose turn it is may sign.
#[allow(clippy::panic, reason = "a failed property")]
fn check_moment(schedule: &Schedule, moment: UnixSeconds) {
    let _lacks = schedule.lacks(moment);
    let Some(slot) = schedule.turn(moment) else { return };
    assert!(slot.window.end >= moment, "a turn that is over");
    let _elected = schedule.may_be_elected(slot.signer, moment);
    if slot.window.start <= moment {
        match schedule.admissible(moment, slot.window.end) {
            Admission::Open { signers, .. } => {
                assert!(signers.contains(slot.signer), "whose turn it is may sign")
            }
            Admission::NotKnown => {}
            other => panic!("the turn of {slot:?} at {moment} is not open: {other:?}"),
        }
    }
}

/// What contracts answer to calls, read in every way.
pub fn answers(answer: &[u8]) {
    let _words = abi::addresses(answer).count();
    fn read<C: SolCall>(answer: &[u8]) -> bool {
        abi::answer::<C>(answer).is_some()
    }
    let _read = [
        read::<abi::getConfigCall>(answer),
        read::<abi::preconfWhitelistCall>(answer),
        read::<abi::getLookaheadStoreConfigCall>(answer),
        read::<abi::LOOKAHEAD_BUFFER_SIZECall>(answer),
        read::<abi::getOperatorForCurrentEpochCall>(answer),
        read::<abi::operatorCountCall>(answer),
        read::<abi::operatorMappingCall>(answer),
        read::<abi::isOperatorBlacklistedCall>(answer),
    ];
}

/// A header as JSON-RPC has it.
#[must_use]
pub fn header(json: &[u8]) -> Option<L1Head> {
    serde_json::from_slice::<RawHeader>(json).ok().map(L1Head::from)
}

/// What an earlier run has saved, used as a run does: asked, added to, rolled back and pruned. Whether it was one.
///
/// # Panics
/// If it is read otherwise once it is written again.
#[must_use]
pub fn saved(json: &[u8], generation: Generation, time: L1Time, moments: &[u64]) -> bool {
    let Ok(mut ledger) = serde_json::from_slice::<Ledger>(json) else { return false };
    let again =
        serde_json::to_vec(&ledger).ok().and_then(|json| serde_json::from_slice::<Ledger>(&json).ok());
    assert_eq!(again.as_ref(), Some(&ledger), "what is written is read again");
    let before = ledger.schedule(generation, time);
    for moment in moments {
        let moment = UnixSeconds::new(*moment);
        let _lacks = before.lacks(moment);
        if let Some(slot) = before.turn(moment) {
            let _admission = before.admissible(moment, slot.window.end);
            let _elected = before.may_be_elected(slot.signer, moment);
        }
        let _admission = before.admissible(moment, moment);
    }
    ledger.prune(&time, NonZeroU64::MIN);
    let pruned = ledger.schedule(generation, time);
    let _differs = before.differs(&pruned);
    if let Some(head) = ledger.head() {
        let _height = ledger.height_of(head.hash);
        ledger.roll_back_to(head.number.saturating_sub(1));
        ledger.unscan_from(1);
        let _differs = pruned.differs(&ledger.schedule(generation, time));
    }
    true
}

/// A block of L2 as JSON-RPC has it: its height and how many transactions it has.
#[must_use]
pub fn block(json: &[u8], anchor_gas: Option<u64>) -> Option<(u64, usize)> {
    l2::fuzz::block(json, anchor_gas)
}

/// The height of the last block that came from L1, as JSON-RPC has it.
#[must_use]
pub fn origin(json: &[u8]) -> Option<u64> {
    l2::fuzz::origin(json)
}

/// The L1 block that the anchor transaction names.
#[must_use]
pub fn anchor(call: &AnchorCall, input: &[u8]) -> Option<u64> {
    l2::fuzz::anchor(call, input)
}

/// The hashes of a list's transactions; none if it is no list. `limit`: most bytes that it is unpacked to.
#[must_use]
pub fn transactions(txlist: &[u8], limit: usize) -> Option<Vec<B256>> {
    l2::fuzz::transactions(txlist, limit)
}

/// The same of what has been unpacked.
#[must_use]
pub fn unpacked_transactions(rlp: &[u8]) -> Option<Vec<B256>> {
    l2::fuzz::unpacked_transactions(rlp)
}
