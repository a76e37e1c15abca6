//! The commitments that a run is about: a tree of blocks and handovers of three preconfers, honest and not.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};
use std::{num::NonZeroU64, time::Duration};

use p2p_client::{
    validation::{Authenticated, RotatingSchedule, ValidationConfig, Validator},
    wire::Container as _,
};
use p2p_fixtures::{DOMAIN, SLASHER, key};
use p2p_types::{
    Address, B256, Bytes, PeerId, PreconfCommitment, Preconfirmation, TxList, U256, UnixSeconds,
};
use p2p_validation::{Lookahead, LookaheadError, Slot};

/// The settled block to begin with.
pub(super) const BASE: u64 = 10;

/// Seconds of a window.
pub(super) const WINDOW: u64 = 1_000;

/// Commitments.
const COUNT: usize = 256;

/// Different transaction lists.
const LISTS: u8 = 24;

/// A peer, by its number.
pub(crate) fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, number]).unwrap()
}

/// A schedule that can change: who takes turns, or nothing known from the third window on.
#[derive(Debug, Default)]
pub(super) struct Switch(AtomicU8);

impl Switch {
    pub(super) fn set(&self, to: u8) {
        self.0.store(to % 4, Ordering::Relaxed);
    }
}

impl Lookahead for Switch {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        static ROTATIONS: OnceLock<[RotatingSchedule; 2]> = OnceLock::new();
        let [one, other] = ROTATIONS.get_or_init(|| {
            [[1, 2, 3], [1, 3, 2]].map(|keys| {
                let operators = keys.iter().map(|byte| key(*byte).address()).collect();
                let window = NonZeroU64::new(WINDOW).unwrap();
                RotatingSchedule::new(operators, UnixSeconds::new(0), window).unwrap()
            })
        });
        match self.0.load(Ordering::Relaxed) {
            1 => Ok(other.turn(moment)),
            2 if moment.get() >= 2 * WINDOW => Ok(None),
            3 => Err(LookaheadError::Unavailable),
            _ => Ok(one.turn(moment)),
        }
    }
}

/// The key whose turn a window is, in the schedule to begin with.
fn elected(window: u64) -> u8 {
    u8::try_from(window % 3).unwrap() + 1
}

/// Whose turn a window is, in the schedule to begin with. Half of the time of a run was spent on making addresses from keys.
pub(super) fn elected_address(window: u64) -> Address {
    static ADDRESSES: OnceLock<[Address; 3]> = OnceLock::new();
    let addresses = ADDRESSES.get_or_init(|| [1, 2, 3].map(|byte| key(byte).address()));
    addresses[usize::from(elected(window)) - 1]
}

/// A validator without tables of signers, which are made by other threads.
pub(super) fn validator(switch: Arc<Switch>) -> Validator {
    let config = ValidationConfig {
        signer_tables: 0,
        slot: Duration::from_secs(12),
        ..ValidationConfig::new(DOMAIN, SLASHER)
    };
    Validator::new(config, switch)
}

#[derive(Debug)]
struct Entry {
    commitment: Authenticated,
    ssz: Bytes,
    parent: Option<usize>,
    window: u64,
    list: Option<u8>,
}

/// All commitments.
#[derive(Debug)]
pub(crate) struct Universe {
    entries: Vec<Entry>,
    lists: Vec<TxList>,
}

impl Universe {
    pub(crate) fn get() -> &'static Self {
        static UNIVERSE: OnceLock<Universe> = OnceLock::new();
        UNIVERSE.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut rng = fastrand::Rng::with_seed(19);
        let lists = (0..LISTS).map(|fill| {
            let bytes = vec![fill; 8 + usize::from(fill)];
            TxList::new(bytes.into(), 1_024).unwrap()
        });
        let mut universe = Self { entries: Vec::with_capacity(COUNT), lists: lists.collect() };
        let validator = validator(Arc::default());
        for number in 0..COUNT {
            let entry = universe.next(&mut rng, &validator, number);
            universe.entries.push(entry);
        }
        universe
    }

    /// One more: on one of the last, on the base, or on what nobody knows.
    fn next(&self, rng: &mut fastrand::Rng, validator: &Validator, number: usize) -> Entry {
        let parent = match rng.u8(0..100) {
            0..12 => None,
            _ => number.checked_sub(1).map(|last| last.saturating_sub(rng.usize(0..20))),
        };
        let before = parent.map(|parent| &self.entries[parent]);
        let preconf = before.map(|entry| entry.commitment.preconf());
        let height = before.map_or(BASE, |entry| entry.commitment.block()) + 1;
        let window = before.map_or(1, |entry| entry.window) + u64::from(rng.u8(0..5) == 0);
        let window = window.min(4);
        let signer = match rng.u8(0..100) {
            0..6 => rng.u8(1..=4),
            _ => elected(window),
        };
        let handover = rng.u8(0..10) == 0;
        let list = (!handover).then(|| rng.u8(0..LISTS));
        let grown = |of: fn(&Preconfirmation) -> U256, from: u64, by: u64| {
            preconf.map_or(U256::from(from), of) + U256::from(by)
        };
        let unknown = rng.u8(0..30) == 0;
        let parent_hash = before.map_or(B256::ZERO, |entry| entry.commitment.hash());
        let preconf = Preconfirmation {
            eop: handover || rng.u8(0..10) == 0,
            block_number: U256::from(if rng.u8(0..50) == 0 { height + 1 } else { height }),
            timestamp: U256::from(window * WINDOW + (height - BASE) * 16 + rng.u64(0..16)),
            anchor_block_number: grown(|block| block.anchor_block_number, 100, rng.u64(0..3)),
            proposal_id: grown(|block| block.proposal_id, 1, rng.u64(0..2)),
            coinbase: Address::left_padding_from(&number.to_be_bytes()),
            raw_tx_list_hash: list.map_or(B256::ZERO, |list| self.lists[usize::from(list)].hash()),
            parent_preconfirmation_hash: if unknown { B256::repeat_byte(0xcc) } else { parent_hash },
            submission_window_end: U256::from((window + 1) * WINDOW - 1),
            ..Preconfirmation::default()
        };
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(signer), &DOMAIN);
        let ssz = signed.to_ssz().into();
        let commitment = validator.authenticate_signed(signed).unwrap();
        Entry { commitment, ssz, parent: parent.filter(|_| !unknown), window, list }
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&self, which: usize) -> &Entry {
        &self.entries[which % COUNT]
    }

    pub(super) fn commitment(&self, which: usize) -> Authenticated {
        self.entry(which).commitment.clone()
    }

    pub(super) fn ssz(&self, which: usize) -> &Bytes {
        &self.entry(which).ssz
    }

    pub(super) fn hash(&self, which: usize) -> B256 {
        self.entry(which).commitment.hash()
    }

    pub(super) fn height(&self, which: usize) -> u64 {
        self.entry(which).commitment.block()
    }

    /// The list that a commitment names.
    pub(super) fn list(&self, which: usize) -> Option<TxList> {
        self.entry(which).list.map(|list| self.lists[usize::from(list)].clone())
    }

    /// A commitment with what it stands on, lowest first.
    pub(super) fn ancestors(&self, which: usize) -> Vec<usize> {
        let mut path: Vec<usize> =
            std::iter::successors(Some(which % COUNT), |at| self.entries[*at].parent).take(12).collect();
        path.reverse();
        path
    }

    /// No commitment is higher.
    pub(super) fn highest(&self) -> u64 {
        static HIGHEST: OnceLock<u64> = OnceLock::new();
        *HIGHEST.get_or_init(|| self.entries.iter().map(|entry| entry.commitment.block()).max().unwrap())
    }
}
