//! What L1 says: events, calldata, answers of contracts and of JSON-RPC, and what an earlier run has saved of it.

use std::num::NonZeroU64;

use p2p_lookahead::{Generation, fuzz};
use p2p_types::{Address, B256, U256, UnixSeconds};
use p2p_validation::L1Time;

use crate::input::Input;

const GENESIS: u64 = 1_000_000;
const EPOCH: u64 = 12 * 32;
const GENERATIONS: [Generation; 3] = [Generation::Whitelist, Generation::StoreV1, Generation::StoreV2];

fn time(input: &mut Input<'_>) -> L1Time {
    let number = |n: u64| NonZeroU64::new(n).unwrap_or(NonZeroU64::MIN);
    match input.byte() % 8 {
        0 => L1Time {
            genesis: UnixSeconds::new(input.u64()),
            slot_seconds: number(input.u64()),
            slots_per_epoch: number(input.u64()),
        },
        _ => L1Time::ethereum(UnixSeconds::new(GENESIS)),
    }
}

/// An event with the calldata of its transaction: slots are those of an epoch, and the schedule that follows answers.
pub fn l1_event(data: &[u8]) {
    let mut input = Input::new(data);
    let (generation, time) = (input.choose(&GENERATIONS), time(&mut input));
    let mut topics = Vec::new();
    for index in 0..input.below(5) {
        topics.push(match (index, input.byte()) {
            (0, kind @ 0..240) => fuzz::topics()[usize::from(kind) % fuzz::topics().len()],
            (1, epoch @ 0..240) => B256::from(U256::from(GENESIS + u64::from(epoch) * EPOCH)),
            _ => B256::from(input.array()),
        });
    }
    let address = match input.byte() {
        kind @ 0..240 => fuzz::CONTRACTS[usize::from(kind) % 2],
        _ => Address::from(input.array()),
    };
    let len = usize::from(input.u16() % 1_024);
    let data = event_data(&mut input, len);
    let calldata = calldata(&mut input);
    let _posted = fuzz::event(generation, address, &topics, &data, &calldata, &time);
}

/// Bytes as they are, or words of which each is a small number or any.
fn event_data(input: &mut Input<'_>, len: usize) -> Vec<u8> {
    if input.bool() {
        return input.bytes(len).to_vec();
    }
    let mut data = Vec::new();
    while !input.is_empty() && data.len() < len {
        let word = match input.byte() {
            small @ 0..128 => U256::from(u64::from(small) * 32),
            second @ 128..192 => U256::from(GENESIS + u64::from(second - 128) * 12),
            _ => U256::from_be_bytes(input.array::<32>()),
        };
        data.extend_from_slice(&word.to_be_bytes::<32>());
    }
    data
}

/// Records of slots behind their length, somewhere in other bytes.
fn calldata(input: &mut Input<'_>) -> Vec<u8> {
    let before = input.byte();
    let mut calldata = input.bytes(before.into()).to_vec();
    let records = input.below(5);
    calldata.extend_from_slice(&U256::from(records * 60).to_be_bytes::<32>());
    for _ in 0..records {
        calldata.extend_from_slice(&[input.byte(); 20]);
        let slot = GENESIS + u64::from(input.byte()) * 12;
        calldata.extend_from_slice(&slot.to_be_bytes()[2..]);
        calldata.extend_from_slice(&[0; 2]);
        calldata.extend_from_slice(&[input.byte(); 32]);
    }
    calldata.extend_from_slice(input.bytes(512));
    calldata
}

/// Answers: of contracts, and JSON of events and headers.
pub fn l1_answer(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => fuzz::answers(data),
        1 => drop(fuzz::log(data)),
        _ => drop(fuzz::header(data)),
    }
}

/// A saved schedule: it is read as it was written, and answers, grows and shrinks whatever it holds.
pub fn l1_saved(data: &[u8]) {
    let mut input = Input::new(data);
    let (generation, time) = (input.choose(&GENERATIONS), time(&mut input));
    let epoch = u64::from(input.byte());
    let moments = [GENESIS + epoch * EPOCH, GENESIS + epoch * EPOCH + 13, input.u64(), 0, u64::MAX];
    let _was_one = fuzz::saved(input.rest(), generation, time, &moments);
}
