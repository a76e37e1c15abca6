//! What holds for all of them.

use std::{
    collections::{HashMap, VecDeque},
    num::{NonZeroU64, NonZeroUsize},
    sync::{Arc, LazyLock},
    time::Instant,
};

use p2p_storage::{Added, Pending, PendingLimits, PendingPool};
use p2p_types::{B256, Base, BlockNumber, PreconfCommitment, Preconfirmation, U256, UnixSeconds};
use p2p_validation::{
    Arrival, Authenticated, CachedSchedule, Facts, Parent, Rejection, RotatingSchedule, Slot,
    ValidationOutcome, Validator, Window,
};
use preconfirmation_types::{Container, SignatureError};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::world::{DOMAIN, GENESIS, LIVE, SLASHER, accepts, config, judge, key, preconf, sign, validator};

const BLOCKS: u64 = 30;
const WINDOW: u64 = 15;

fn window(index: u64) -> Window {
    let start = GENESIS + index * WINDOW;
    Window { start: UnixSeconds::new(start), end: UnixSeconds::new(start + WINDOW - 1) }
}

/// 30 blocks, one a second, by two preconfers in two windows.
static CHAIN: LazyLock<Vec<Authenticated>> = LazyLock::new(|| {
    let operators = vec![key(1).address(), key(2).address()];
    let length = NonZeroU64::new(WINDOW).unwrap();
    let schedule = RotatingSchedule::new(operators, UnixSeconds::new(GENESIS), length).unwrap();
    let validator = Validator::new(config(), Arc::new(schedule.clone()));
    let mut parent = B256::repeat_byte(9);
    let block = |number: u64| {
        let timestamp = UnixSeconds::new(GENESIS + number - 1);
        let slot = schedule.turn(timestamp).unwrap();
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp.get()),
            submission_window_end: U256::from(slot.window.end.get()),
            parent_preconfirmation_hash: parent,
            ..preconf()
        };
        parent = preconf.hash();
        let signer = if slot.signer == key(1).address() { key(1) } else { key(2) };
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&signer, &DOMAIN);
        validator.authenticate_signed(signed).unwrap()
    };
    (1..=BLOCKS).map(block).collect()
});

/// The chain as the rules let it grow, with the pending pool of the client.
struct Node {
    schedule: Arc<CachedSchedule>,
    validator: Validator,
    waiting: PendingPool<Authenticated>,
    accepted: HashMap<B256, (BlockNumber, Preconfirmation)>,
    order: Vec<BlockNumber>,
    now: Instant,
}

impl Node {
    /// Knows who is elected in the first window.
    fn new() -> Self {
        let schedule = Arc::new(CachedSchedule::new(NonZeroUsize::new(8).unwrap()));
        let slot = Slot { signer: key(1).address(), window: window(0) };
        schedule.update(1, window(0), vec![slot]).unwrap();
        Self {
            validator: Validator::new(config(), schedule.clone()),
            schedule,
            waiting: PendingPool::new(PendingLimits::default()),
            accepted: HashMap::new(),
            order: Vec::new(),
            now: Instant::now(),
        }
    }

    /// Learns who is elected in the second window.
    fn learn(&mut self) {
        let slot = Slot { signer: key(2).address(), window: window(1) };
        self.schedule.update(2, window(1), vec![slot]).unwrap();
        let validator = &self.validator;
        let known = self.waiting.take_scheduled(|end| validator.knows(end));
        self.judge(known.into());
    }

    fn judge(&mut self, mut queue: VecDeque<Authenticated>) {
        while let Some(commitment) = queue.pop_front() {
            let parent = self.accepted.get(&commitment.parent_hash());
            let parent = parent.map(|(block, preconf)| Parent { block: *block, preconf });
            let facts = Facts { base: Base::at(0), parent, before: None };
            let arrival = Arrival::History(UnixSeconds::new(GENESIS + BLOCKS));
            let outcome = self.validator.elect(commitment.clone(), arrival);
            match outcome.and_then(|elected| self.validator.link(elected, &facts)) {
                ValidationOutcome::Accept(linked) => {
                    self.accepted.insert(linked.hash(), (linked.block(), linked.preconf().clone()));
                    self.order.push(linked.block());
                    queue.extend(self.waiting.take_parent(linked.hash()));
                }
                ValidationOutcome::Defer(missing) => {
                    let pending = Pending {
                        block: commitment.block(),
                        hash: commitment.hash(),
                        txlist: commitment.txlist_hash(),
                        missing,
                        peer: None,
                        known_signer: false,
                        since: self.now,
                    };
                    let added = self.waiting.insert(pending, commitment);
                    assert_eq!(added, Added::Waiting);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The same 64 cases on every run.
fn fixed() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x7a1c_0c0d_e000_0004);
    ProptestConfig { cases: 64, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn acceptance_does_not_depend_on_the_order_of_arrival(
        order in Just((0..CHAIN.len()).collect::<Vec<_>>()).prop_shuffle(),
        learns_after in 0..=CHAIN.len(),
    ) {
        let mut node = Node::new();
        for (arrived, index) in order.into_iter().enumerate() {
            if arrived == learns_after {
                node.learn();
            }
            node.judge([CHAIN[index].clone()].into());
        }
        if learns_after == CHAIN.len() {
            node.learn();
        }
        prop_assert!(node.waiting.is_empty());
        prop_assert_eq!(node.order, (1..=BLOCKS).collect::<Vec<_>>());
    }

    #[test]
    fn a_mirrored_signature_is_refused(byte in 1..u8::MAX, block in any::<u64>()) {
        const ORDER: &str = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let preconf = Preconfirmation { block_number: U256::from(block), ..preconf() };
        let mut twin = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(byte), &DOMAIN);
        let s = U256::from_be_slice(&twin.signature[32..64]);
        let mirrored: U256 = ORDER.parse::<U256>().unwrap() - s;
        twin.signature[32..64].copy_from_slice(&mirrored.to_be_bytes::<32>());
        twin.signature[64] ^= 1;
        let refused = Err(Rejection::Signature(SignatureError::HighS));
        prop_assert_eq!(validator().authenticate(&twin.to_ssz()), refused.clone());
        prop_assert_eq!(validator().authenticate_signed(twin), refused);
    }

    #[test]
    fn no_change_of_bytes_is_accepted_as_the_same_signers(
        changes in proptest::collection::vec((0..382_usize, 1..=u8::MAX), 1..4),
    ) {
        let good = sign(preconf()).to_ssz();
        let mut changed = good.clone();
        for (at, mask) in changes {
            changed[at] ^= mask;
        }
        prop_assume!(changed != good);
        prop_assert!(is_somebody_elses(&changed));
    }
}

/// Whether these bytes are neither accepted nor authentic as key 1's.
fn is_somebody_elses(ssz: &[u8]) -> bool {
    let Ok(commitment) = validator().authenticate(ssz) else { return true };
    commitment.recovered().signer() != key(1).address()
        && !matches!(validator().elect(commitment, LIVE), ValidationOutcome::Accept(_))
}

#[test]
fn no_changed_bit_is_accepted_as_the_same_signers() {
    let good = sign(preconf());
    accepts(judge(&good));
    let good = good.to_ssz();
    assert!(!is_somebody_elses(&good));
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut changed = good.clone();
            changed[at] ^= 1 << bit;
            assert!(is_somebody_elses(&changed), "byte {at}, bit {bit}");
        }
    }
}
