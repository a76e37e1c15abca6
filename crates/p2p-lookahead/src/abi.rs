//! The contracts' calls and events, as far as they are needed.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue, sol};

use crate::schedule::Posted;

sol! {
    // The inbox, the whitelist, both generations of the store.
    function getConfig() external view returns (bytes32);
    function preconfWhitelist() external view returns (address);
    function getLookaheadStoreConfig() external view returns (uint16, uint80, uint80);
    function LOOKAHEAD_BUFFER_SIZE() external view returns (uint256);
    function getOperatorForCurrentEpoch() external view returns (address);
    function getOperatorForNextEpoch() external view returns (address);
    function operatorCount() external view returns (uint256);
    function operatorMapping(uint256 index) external view returns (address);
    function isOperatorBlacklisted(bytes32 root) external view returns (bool);
    function propose(bytes lookahead, bytes data) external;

    event OperatorAdded(address indexed proposer, address indexed sequencer, uint256 activeSince);
    event OperatorRemoved(address indexed proposer, address indexed sequencer, uint256 inactiveSince);
    event Blacklisted(bytes32 indexed root, uint48 timestamp);
    event Unblacklisted(bytes32 indexed root, uint48 timestamp);

    struct LookaheadSlot {
        address committer;
        uint256 timestamp;
        bytes32 registrationRoot;
        uint256 validatorLeafIndex;
    }

    // Generation v1: the slots are in the event.
    event LookaheadPosted(uint256 indexed epochTimestamp, bytes32 lookaheadHash, LookaheadSlot[] slots);
}

/// Generation v2 has an event of the same name, which tells the hash alone.
pub(crate) mod v2 {
    use alloy_sol_types::sol;

    sol! {
        event LookaheadPosted(uint256 indexed epochTimestamp, bytes26 lookaheadHash);
    }
}

/// Bytes of a slot in v2's calldata: committer 20, timestamp 6, leaf 2, root 32.
const RECORD: usize = 60;

/// The words of an answer that are addresses.
pub(crate) fn addresses(answer: &[u8]) -> impl Iterator<Item = Address> + '_ {
    answer.chunks_exact(32).filter_map(|word| {
        let (zeros, address) = word.split_at(12);
        let address = Address::from_slice(address);
        // Smaller than 2^64 is a number.
        let number = address.iter().take(12).all(|byte| *byte == 0);
        (zeros.iter().all(|byte| *byte == 0) && !number).then_some(address)
    })
}

/// The answer to a call; none if it is not one.
pub(crate) fn answer<C: SolCall>(data: &[u8]) -> Option<C::Return> {
    C::abi_decode_returns(data).ok()
}

/// The slots of a v1 event, and the epoch's first second; none if they are no lookahead of that epoch.
pub(crate) fn posted_v1(topics: &[B256], data: &[u8], slot: u64, epoch: u64) -> Option<(u64, Vec<Posted>)> {
    let event = LookaheadPosted::decode_raw_log(topics.iter().copied(), data).ok()?;
    let start = u64::try_from(event.epochTimestamp).ok()?;
    let mut slots = Vec::with_capacity(event.slots.len());
    for slot in event.slots {
        let timestamp = u64::try_from(slot.timestamp).ok()?;
        slots.push(Posted { committer: slot.committer, timestamp, root: slot.registrationRoot });
    }
    in_order(&slots, start, slot, epoch).then_some((start, slots))
}

/// Whether slots are those of an epoch: in the order of time, each at a slot of L1 in it.
fn in_order(slots: &[Posted], start: u64, slot: u64, epoch: u64) -> bool {
    let each = slots.iter().all(|posted| {
        let offset = posted.timestamp.checked_sub(start);
        offset.is_some_and(|offset| offset < epoch && offset.is_multiple_of(slot))
    });
    each && slots.is_sorted_by(|a, b| a.timestamp < b.timestamp)
}

/// The slots that a proposing transaction of v2 posts for an epoch, found in its calldata by what the event tells of
/// them.
///
/// The records lie as `bytes` somewhere in the transaction, for the proposer may call by way of a contract of its own.
/// They are taken where they are a lookahead of that very epoch: those with the event's hash, or, where none has it, those
/// that are the only ones. An empty lookahead is known by its hash.
pub(crate) fn posted_v2(
    input: &[u8],
    start: u64,
    hash: &[u8; 26],
    slot: u64,
    epoch: u64,
) -> Option<Vec<Posted>> {
    let limit = usize::try_from(epoch / slot.max(1)).ok()?.saturating_mul(RECORD);
    let candidates = (0..input.len()).filter_map(|at| {
        let (length, rest) = input.get(at..)?.split_first_chunk::<32>()?;
        let (zeros, length) = length.split_at(28);
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        let fits = zeros.iter().all(|byte| *byte == 0) && length <= limit && length.is_multiple_of(RECORD);
        if fits && length > 0 { rest.get(..length) } else { None }
    });
    let mut only: Option<Vec<Posted>> = None;
    let mut several = false;
    for bytes in candidates {
        let Some(slots) = records(bytes).filter(|slots| in_order(slots, start, slot, epoch)) else {
            continue;
        };
        if has_hash(start, bytes, hash) {
            return Some(slots);
        }
        several |= only.as_ref().is_some_and(|only| *only != slots);
        only = Some(slots);
    }
    if has_hash(start, &[], hash) {
        return Some(Vec::new());
    }
    only.filter(|_| !several)
}

fn records(bytes: &[u8]) -> Option<Vec<Posted>> {
    let mut slots = Vec::with_capacity(bytes.len() / RECORD);
    for record in bytes.chunks_exact(RECORD) {
        let (committer, rest) = record.split_first_chunk::<20>()?;
        let (time, rest) = rest.split_first_chunk::<6>()?;
        let (_leaf, root) = rest.split_first_chunk::<2>()?;
        let mut timestamp = [0; 8];
        timestamp.get_mut(2..)?.copy_from_slice(time);
        let root = B256::try_from(root).ok()?;
        slots.push(Posted { committer: committer.into(), timestamp: u64::from_be_bytes(timestamp), root });
    }
    Some(slots)
}

/// Whether a hash is that of an epoch's lookahead.
fn has_hash(start: u64, slots: &[u8], hash: &[u8; 26]) -> bool {
    let start = alloy_primitives::U256::from(start);
    let encoded = (start, Bytes::copy_from_slice(slots)).abi_encode_params();
    keccak256(encoded).starts_with(hash)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, hex};

    use super::*;

    #[test]
    fn selectors_and_topics_are_those_of_the_contracts() {
        let selectors = [
            (getConfigCall::SELECTOR, "c3f909d4"),
            (preconfWhitelistCall::SELECTOR, "d91f24f1"),
            (getLookaheadStoreConfigCall::SELECTOR, "fd527be8"),
            (LOOKAHEAD_BUFFER_SIZECall::SELECTOR, "a2bf9dba"),
            (getOperatorForCurrentEpochCall::SELECTOR, "343f0a68"),
            (getOperatorForNextEpochCall::SELECTOR, "72a8a551"),
            (operatorCountCall::SELECTOR, "7c6f3158"),
            (operatorMappingCall::SELECTOR, "cecad1f7"),
            (isOperatorBlacklistedCall::SELECTOR, "fd40a5fe"),
        ];
        for (selector, expected) in selectors {
            assert_eq!(hex::encode(selector), expected);
        }
        let topics = [
            (
                LookaheadPosted::SIGNATURE_HASH,
                "ae9b6437ad267553afbf07550405458fc43f11f8c50037a3f6b4d7937064cc0a",
            ),
            (
                v2::LookaheadPosted::SIGNATURE_HASH,
                "f4b55b856c583b952f0c0d42067c8e63c9fae395322905d45e55af1d0f095994",
            ),
            (Blacklisted::SIGNATURE_HASH, "1a878b2bf8680c02f7d79c199a61adbe8744e8ccb0f17e36229b619331fa2e13"),
            (
                Unblacklisted::SIGNATURE_HASH,
                "9682ae3fb79c10948116fe2a224cca9025fb76716477d713dfec766d8bccee17",
            ),
            (
                OperatorAdded::SIGNATURE_HASH,
                "20c899c9053446f0d7a408c709f0196e2c26c6a985dcad854dc19ad567c4531f",
            ),
            (
                OperatorRemoved::SIGNATURE_HASH,
                "a85b3d3497f1e4522d447f02e1a1d16506431ba902da11611a51d8502400e4ea",
            ),
        ];
        for (topic, expected) in topics {
            assert_eq!(hex::encode(topic), expected);
        }
    }

    const START: u64 = 1_000_000;

    fn slots() -> Vec<Posted> {
        [1_u8, 2, 3]
            .map(|n| Posted {
                committer: Address::repeat_byte(n),
                timestamp: START + 12 * u64::from(n),
                root: B256::repeat_byte(0x10 + n),
            })
            .into()
    }

    fn event(slots: &[Posted]) -> (Vec<B256>, Vec<u8>) {
        let slot = |slot: &Posted| LookaheadSlot {
            committer: slot.committer,
            timestamp: U256::from(slot.timestamp),
            registrationRoot: slot.root,
            validatorLeafIndex: U256::from(7),
        };
        let event = LookaheadPosted {
            epochTimestamp: U256::from(START),
            lookaheadHash: B256::repeat_byte(9),
            slots: slots.iter().map(slot).collect(),
        };
        let log = event.encode_log_data();
        (log.topics().to_vec(), log.data.to_vec())
    }

    #[test]
    fn a_v1_event_tells_the_slots_of_its_epoch() {
        let (topics, data) = event(&slots());
        assert_eq!(posted_v1(&topics, &data, 12, 384), Some((START, slots())));
        let (topics, empty) = event(&[]);
        assert_eq!(posted_v1(&topics, &empty, 12, 384), Some((START, vec![])));
        assert_eq!(posted_v1(&topics, &data[..data.len() - 1], 12, 384), None);
        let wrong: [fn(&mut [Posted]); 4] = [
            |slots| slots[0].timestamp = START - 12,
            |slots| slots[2].timestamp = START + 384,
            |slots| slots[1].timestamp += 1,
            |slots| slots.swap(0, 1),
        ];
        for damage in wrong {
            let mut slots = slots();
            damage(&mut slots);
            let (topics, data) = event(&slots);
            assert_eq!(posted_v1(&topics, &data, 12, 384), None);
        }
    }

    fn packed(slots: &[Posted]) -> Vec<u8> {
        let record = |slot: &Posted| {
            let mut bytes = slot.committer.to_vec();
            bytes.extend(&slot.timestamp.to_be_bytes()[2..]);
            bytes.extend([0, 5]);
            bytes.extend(slot.root);
            bytes
        };
        slots.iter().flat_map(record).collect()
    }

    #[test]
    fn a_v2_lookahead_is_found_in_the_transaction_that_posts_it() {
        let next: Vec<Posted> =
            slots().into_iter().map(|slot| Posted { timestamp: slot.timestamp + 384, ..slot }).collect();
        let lookahead = (
            U256::from(3),
            Bytes::from(packed(&slots())),
            Bytes::from(packed(&next)),
            Bytes::from(vec![7; 65]),
        );
        let lookahead = Bytes::from(lookahead.abi_encode_params());
        let input = proposeCall { lookahead, data: Bytes::from(vec![1; 300]) }.abi_encode();
        let found = |start| posted_v2(&input, start, &[0; 26], 12, 384);
        assert_eq!(found(START), Some(slots()));
        assert_eq!(found(START + 384), Some(next));
        assert_eq!(found(START + 768), None, "nothing of that epoch");
        assert_eq!(posted_v2(&input[..200], START, &[0; 26], 12, 384), None);
        assert_eq!(posted_v2(&[], START, &[0; 26], 12, 384), None);
    }

    #[test]
    fn of_several_v2_lookaheads_the_one_with_the_hash_is_taken() {
        let other: Vec<Posted> =
            slots().into_iter().map(|slot| Posted { committer: Address::ZERO, ..slot }).collect();
        let [decoy, real] = [packed(&other), packed(&slots())];
        let encoded = (U256::from(START), Bytes::from(real.clone())).abi_encode_params();
        let hash: [u8; 26] = keccak256(encoded)[..26].try_into().unwrap();
        let input = |first: &[u8], second: &[u8]| {
            (Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)).abi_encode_params()
        };
        for input in [input(&decoy, &real), input(&real, &decoy)] {
            assert_eq!(posted_v2(&input, START, &hash, 12, 384), Some(slots()));
            assert_eq!(posted_v2(&input, START, &[0; 26], 12, 384), None, "which of them?");
        }
        assert_eq!(posted_v2(&input(&real, &real), START, &[0; 26], 12, 384), Some(slots()));
    }

    #[test]
    fn an_empty_v2_lookahead_is_known_by_its_hash() {
        let mut encoded = [0; 96];
        encoded[24..32].copy_from_slice(&START.to_be_bytes());
        encoded[63] = 64;
        let hash: [u8; 26] = keccak256(encoded)[..26].try_into().unwrap();
        assert_eq!(posted_v2(&[], START, &hash, 12, 384), Some(vec![]));
        assert_eq!(posted_v2(&[], START + 384, &hash, 12, 384), None);
    }

    #[test]
    fn the_addresses_among_words_are_found() {
        let a = Address::repeat_byte(0xaa);
        let words = [a.into_word(), B256::with_last_byte(7), B256::repeat_byte(1), a.into_word()];
        assert_eq!(addresses(&words.concat()).collect::<Vec<_>>(), [a, a]);
        assert_eq!(addresses(&[0; 31]).count(), 0);
    }
}
