//! Windows, clocks, keys and blocks of a simulated chain.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use p2p_client::Keypair;
use p2p_types::{
    Address, B256, Bytes, Preconfirmation, SignedCommitment, SigningDomain, SigningKey, U256, UnixSeconds,
};
use preconfirmation_types::{FixedBytes, PreconfCommitment, keccak256};
use secp256k1::{Message, SecretKey, ecdsa::RecoverableSignature};
use tokio::time::Instant;

pub const CHAIN: u64 = 167_000;
pub const SLASHER: Address = Address::repeat_byte(0x51);
pub const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;

/// Seconds in a window, and between two moves of a base: an L1 slot.
pub const WINDOW: u64 = 12;

/// When the first window starts.
pub const GENESIS: u64 = 1_000_000;

/// The block that is settled at the beginning.
pub const BASE: u64 = 10;

/// No preconfer's key has a number as high.
const PRECONFERS_END: u64 = 200;

/// Who is elected for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Owner {
    Honest(usize),
    Adversary(usize),
}

impl Owner {
    /// The number of its key.
    pub const fn key(self) -> u64 {
        match self {
            Self::Honest(index) => 1 + index as u64,
            Self::Adversary(index) => 100 + index as u64,
        }
    }
}

/// A network identity by its number.
pub fn identity(byte: u8) -> Keypair {
    Keypair::ed25519_from_bytes([byte; 32]).unwrap()
}

/// A key by its number, from 1. Those of preconfers are made once: an address costs as much as a signature.
pub fn key(number: u64) -> SigningKey {
    thread_local! {
        static PRECONFERS: RefCell<HashMap<u64, SigningKey>> = RefCell::default();
    }
    let make = || SigningKey::from_bytes(U256::from(number).to_be_bytes()).unwrap();
    if number >= PRECONFERS_END {
        return make();
    }
    PRECONFERS.with_borrow_mut(|keys| keys.entry(number).or_insert_with(make).clone())
}

/// The wall clock of all, which stands still with Tokio's.
#[derive(Debug, Clone, Copy)]
pub struct WallClock(Instant);

impl WallClock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> u64 {
        GENESIS + self.0.elapsed().as_secs()
    }

    pub fn unix(self) -> UnixSeconds {
        UnixSeconds::new(self.now())
    }

    /// The moment at which it shows a second.
    pub fn at(self, second: u64) -> Instant {
        self.0 + Duration::from_secs(second - GENESIS)
    }

    /// How long it has been running.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// The window of now.
    pub fn window(self) -> usize {
        usize::try_from((self.now() - GENESIS) / WINDOW).unwrap()
    }
}

/// The last second of a window.
pub const fn end_of(window: usize) -> u64 {
    GENESIS + (window as u64 + 1) * WINDOW - 1
}

/// The L1 block that a block is anchored to, by its timestamp: one for each window.
pub const fn anchor(timestamp: u64) -> u64 {
    100 + timestamp.saturating_sub(GENESIS) / WINDOW
}

/// A block and its list; or a handover, without one.
#[derive(Debug, Clone)]
pub struct Block {
    pub signed: SignedCommitment,
    pub txlist: Bytes,
}

/// What a block builds on.
#[derive(Debug, Clone, Copy)]
pub struct Parent {
    pub number: u64,
    pub hash: B256,
    pub timestamp: u64,
}

impl Parent {
    pub const BASE: Self = Self { number: BASE, hash: B256::ZERO, timestamp: GENESIS - 1 };
}

impl Block {
    /// The block on `parent`, in a window. Another `salt` makes another block.
    pub fn on(parent: Parent, timestamp: u64, window_end: u64, salt: u64, signer: &SigningKey) -> Self {
        let number = parent.number.wrapping_add(1);
        let txlist = [&number.to_be_bytes(), &salt.to_be_bytes(), [7; 160].as_slice()].concat();
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp),
            submission_window_end: U256::from(window_end),
            anchor_block_number: U256::from(anchor(timestamp)),
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: parent.hash,
            ..Default::default()
        };
        Self::of(preconf, txlist.into(), signer)
    }

    pub fn of(preconf: Preconfirmation, txlist: Bytes, signer: &SigningKey) -> Self {
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(signer, &DOMAIN);
        Self { signed, txlist }
    }

    /// The same promise under another valid signature of its signer, whose key has this number.
    pub fn signed_again(&self, key: u64, nonce: u64) -> Self {
        let secret = SecretKey::from_secret_bytes(U256::from(key).to_be_bytes()).unwrap();
        let message = Message::from_digest(self.signed.commitment.signing_hash(&DOMAIN).0);
        let nonce = U256::from(nonce).to_be_bytes();
        let signature = RecoverableSignature::sign_ecdsa_recoverable_with_noncedata(message, &secret, &nonce);
        let (v, rs) = signature.serialize_compact();
        let signature = FixedBytes::<64>::new(rs).concat_const(FixedBytes::new([v.to_u8()]));
        Self { signed: SignedCommitment { signature, ..self.signed.clone() }, txlist: self.txlist.clone() }
    }

    /// The same promise with s in the other half: whoever sees one can make the other.
    pub fn mirrored(mut self) -> Self {
        const ORDER: &str = "115792089237316195423570985008687907852837564279074904382605163141518161494337";
        let signature = &mut self.signed.signature;
        let s = U256::from_be_slice(&signature[32..64]);
        let mirrored = ORDER.parse::<U256>().unwrap() - s;
        signature[32..64].copy_from_slice(&mirrored.to_be_bytes::<32>());
        signature[64] ^= 1;
        self
    }

    /// A handover instead of the block on `parent`.
    pub fn handover(parent: Parent, timestamp: u64, window_end: u64, signer: &SigningKey) -> Self {
        let preconf = Preconfirmation {
            eop: true,
            block_number: U256::from(parent.number + 1),
            timestamp: U256::from(timestamp),
            submission_window_end: U256::from(window_end),
            anchor_block_number: U256::from(anchor(timestamp)),
            parent_preconfirmation_hash: parent.hash,
            ..Default::default()
        };
        Self::of(preconf, Bytes::new(), signer)
    }

    pub fn number(&self) -> u64 {
        self.signed.preconf().block_number.to()
    }

    pub fn hash(&self) -> B256 {
        self.signed.preconf().hash()
    }

    pub fn parent(&self) -> Parent {
        let preconf = self.signed.preconf();
        Parent { number: self.number(), hash: self.hash(), timestamp: preconf.timestamp.to() }
    }
}
