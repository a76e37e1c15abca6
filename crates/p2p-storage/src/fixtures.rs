//! Blocks, lists and the way through validation, for tests of stores and of what uses them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "fixtures of tests")]

mod intercepted;

use std::{num::NonZeroU64, sync::Arc};

use p2p_types::{
    Address, B256, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, TxList, U256, UnixSeconds,
};
use p2p_validation::{
    Arrival, Evidence, Facts, Linked, Misbehaviour, Parent, RotatingSchedule, ValidationConfig,
    ValidationOutcome, Validator,
};

pub use intercepted::{Call, Intercepted};

#[cfg(feature = "disk")]
pub use crate::disk::sim_disk::SimDisk;

use crate::{CommitmentStore, Inserted, StorageError};

/// The slasher that all blocks name.
pub const SLASHER: Address = Address::repeat_byte(0x51);
/// What all blocks are signed under.
pub const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
/// Preconfers with endless windows: stores care for branches, not for elections.
const WINDOW: u64 = 1_000_000_000;

/// Who signs everything but what [`successor`]s sign.
#[must_use]
pub fn key() -> SigningKey {
    signer(0)
}

/// The preconfer of a window, by its number.
#[must_use]
pub fn signer(window: u8) -> SigningKey {
    SigningKey::from_bytes([7 + window; 32]).unwrap()
}

/// A block in the window of the next preconfer.
#[must_use]
pub fn successor(number: u64, parent: B256, salt: u8) -> Preconfirmation {
    in_window(1, block(number, number, parent, salt))
}

/// A block in the window of the one after that.
#[must_use]
pub fn successor_of_two(number: u64, parent: B256, salt: u8) -> Preconfirmation {
    in_window(2, block(number, number, parent, salt))
}

/// The same block in the window of another preconfer, as many seconds after its beginning.
#[must_use]
pub fn in_window(window: u8, block: Preconfirmation) -> Preconfirmation {
    let start = u64::from(window) * WINDOW;
    Preconfirmation {
        timestamp: block.timestamp + U256::from(start),
        submission_window_end: U256::from(start + WINDOW - 1),
        ..block
    }
}

/// Who signs a block, by its window.
#[must_use]
pub fn signer_of(preconf: &Preconfirmation) -> SigningKey {
    let window: u64 = preconf.submission_window_end.to::<u64>() / WINDOW;
    signer(u8::try_from(window).unwrap())
}

/// Preconfers that take turns.
const PRECONFERS: u8 = 8;

/// A block, or a handover where `salt` is 0. The salt makes it differ from others like it.
#[must_use]
pub fn block(number: u64, timestamp: u64, parent: B256, salt: u8) -> Preconfirmation {
    Preconfirmation {
        eop: salt == 0,
        block_number: U256::from(number),
        timestamp: U256::from(timestamp),
        submission_window_end: U256::from(WINDOW - 1),
        raw_tx_list_hash: B256::repeat_byte(salt),
        parent_preconfirmation_hash: parent,
        ..Default::default()
    }
}

/// `len` bytes of `fill`.
#[must_use]
pub fn txlist(fill: u8, len: usize) -> TxList {
    TxList::new(vec![fill; len].into(), len).unwrap()
}

/// Proof that the signer that a byte names signed two blocks of one height. The salts tell proofs apart.
#[must_use]
pub fn equivocation(signer: u8, number: u64, salts: [u8; 2]) -> Evidence {
    let (key, judge) = (SigningKey::from_bytes([signer; 32]).unwrap(), Judge::default());
    let [first, second] = salts.map(|salt| {
        let preconf = block(number, number, B256::ZERO, salt);
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key, &DOMAIN);
        judge.0.authenticate_signed(signed).unwrap()
    });
    Evidence::new(Misbehaviour::Equivocation, first, second).unwrap()
}

/// Signs blocks and judges them against what a store holds, as the client does.
#[derive(Debug)]
pub struct Judge(Validator);

impl Default for Judge {
    fn default() -> Self {
        let window = NonZeroU64::new(WINDOW).unwrap();
        let preconfers = (0..PRECONFERS).map(|window| signer(window).address()).collect();
        let schedule = RotatingSchedule::new(preconfers, UnixSeconds::new(0), window).unwrap();
        Self(Validator::new(ValidationConfig::new(DOMAIN, SLASHER), Arc::new(schedule)))
    }
}

impl Judge {
    /// What it judges by.
    #[must_use]
    pub const fn validator(&self) -> &Validator {
        &self.0
    }

    /// The outcome of validation.
    pub fn judge(
        &self,
        store: &(impl CommitmentStore + ?Sized),
        preconf: Preconfirmation,
    ) -> ValidationOutcome<Linked> {
        let parent = store.by_hash(&preconf.parent_preconfirmation_hash).unwrap();
        let parent =
            parent.as_ref().map(|p| Parent { block: p.block, preconf: p.recovered.signed().preconf() });
        let base = store.base().unwrap().unwrap();
        let before = store.by_block(base.number).unwrap();
        let before =
            before.as_ref().map(|p| Parent { block: p.block, preconf: p.recovered.signed().preconf() });
        let facts = Facts { base, parent, before };
        let key = signer_of(&preconf);
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key, &DOMAIN);
        let commitment = self.0.authenticate_signed(signed).unwrap();
        self.0
            .elect(commitment, Arrival::History(UnixSeconds::new(u64::from(PRECONFERS) * WINDOW)))
            .and_then(|elected| self.0.link(elected, &facts))
    }

    /// What validation has linked; panics where it has not.
    pub fn linked(&self, store: &(impl CommitmentStore + ?Sized), preconf: Preconfirmation) -> Linked {
        match self.judge(store, preconf) {
            ValidationOutcome::Accept(linked) => linked,
            other => panic!("not linked: {other:?}"),
        }
    }

    /// Judges a block and inserts it.
    ///
    /// # Errors
    /// What the store says.
    pub fn insert(
        &self,
        store: &(impl CommitmentStore + ?Sized),
        preconf: Preconfirmation,
    ) -> Result<Inserted, StorageError> {
        store.insert(self.linked(store, preconf))
    }
}

/// Judges a block against what the store holds and inserts it.
///
/// # Errors
/// What the store says.
pub fn insert(
    store: &(impl CommitmentStore + ?Sized),
    preconf: Preconfirmation,
) -> Result<Inserted, StorageError> {
    Judge::default().insert(store, preconf)
}

/// Blocks `1..=n` in a store whose base is 0, one second apart.
pub fn chain(store: &(impl CommitmentStore + ?Sized), n: u64) -> Vec<Preconfirmation> {
    let judge = Judge::default();
    let mut parent = B256::ZERO;
    (1..=n)
        .map(|number| {
            let next = block(number, number, parent, 1);
            parent = next.hash();
            assert_eq!(judge.insert(store, next.clone()).unwrap(), Inserted::New);
            next
        })
        .collect()
}
