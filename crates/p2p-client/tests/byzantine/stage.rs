//! Who plays, in which windows, by which clock.

use std::time::Duration;

use p2p_types::{
    Address, B256, Bytes, Preconfirmation, SignedCommitment, SigningDomain, SigningKey, U256, UnixSeconds,
};
use preconfirmation_types::{FixedBytes, PreconfCommitment, keccak256};
use secp256k1::{Message, SecretKey, ecdsa::RecoverableSignature};
use tokio::time::Instant;

use crate::play::Shape;

pub(crate) const CHAIN: u64 = 167_000;
pub(crate) const SLASHER: Address = Address::repeat_byte(0x51);
pub(crate) const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;

/// Honest nodes.
pub(crate) const HONEST: usize = 7;

/// Seconds in a window, and between two moves of a base: an L1 slot.
pub(crate) const WINDOW: u64 = 12;

/// When the first window starts.
pub(crate) const GENESIS: u64 = 1_000_000;

/// The block that is settled at the beginning.
pub(crate) const BASE: u64 = 10;

/// Windows before the attack, in which honest preconfers begin the chain.
pub(crate) const BEFORE: usize = 3;

/// Windows of the attack.
pub(crate) const ATTACK: usize = 5;

/// Of these, windows of adversaries.
pub(crate) const TURNS: usize = 2;

/// Windows without blocks after the attack.
pub(crate) const QUIET: usize = 2;

/// Windows of honest preconfers after that.
pub(crate) const AFTER: usize = 1;

/// Who is elected for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Honest(usize),
    Adversary(usize),
}

/// What the seed has drawn.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    pub(crate) adversaries: usize,
    pub(crate) elected: bool,
    /// Adversaries act; else they relay and serve like everybody.
    pub(crate) attacks: bool,
    /// By window.
    pub(crate) owners: Vec<Owner>,
}

impl Plan {
    pub(crate) fn draw(seed: u64, adversaries: usize, elected: bool, shape: Shape) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut order: Vec<usize> = (0..HONEST).collect();
        rng.shuffle(&mut order);
        let windows = BEFORE + ATTACK + QUIET + AFTER;
        let mut owners: Vec<Owner> =
            (0..windows).map(|window| Owner::Honest(order[window % HONEST])).collect();
        if elected && adversaries > 0 {
            // Two turns of adversaries, one after the other or with one between them; the last is of an honest preconfer.
            let turns: [usize; TURNS] = [BEFORE + 1, BEFORE + rng.usize(2..ATTACK - 1)];
            for (turn, window) in turns.into_iter().enumerate() {
                owners[window] = Owner::Adversary(turn % adversaries);
            }
        }
        Self { seed, shape, adversaries, elected, attacks: true, owners }
    }

    /// The same nodes with the same links, of which nobody attacks: honest preconfers have all turns.
    pub(crate) fn quiet(&self) -> Self {
        Self { attacks: false, ..Self::draw(self.seed, self.adversaries, false, self.shape) }
    }

    pub(crate) fn signer(&self, owner: Owner) -> SigningKey {
        key(owner.key())
    }
}

impl Owner {
    /// The number of its key.
    pub(crate) const fn key(self) -> u64 {
        match self {
            Self::Honest(index) => 1 + index as u64,
            Self::Adversary(index) => 100 + index as u64,
        }
    }
}

/// A key by its number, from 1.
pub(crate) fn key(number: u64) -> SigningKey {
    SigningKey::from_bytes(U256::from(number).to_be_bytes()).unwrap()
}

/// The wall clock of all, which stands still with Tokio's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock(Instant);

impl WallClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        GENESIS + self.0.elapsed().as_secs()
    }

    pub(crate) fn unix(self) -> UnixSeconds {
        UnixSeconds::new(self.now())
    }

    /// The moment at which it shows a second.
    pub(crate) fn at(self, second: u64) -> Instant {
        self.0 + Duration::from_secs(second - GENESIS)
    }

    /// The window of now.
    pub(crate) fn window(self) -> usize {
        usize::try_from((self.now() - GENESIS) / WINDOW).unwrap()
    }
}

/// The last second of a window.
pub(crate) const fn end_of(window: usize) -> u64 {
    GENESIS + (window as u64 + 1) * WINDOW - 1
}

/// A block and its list; or a handover, without one.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) signed: SignedCommitment,
    pub(crate) txlist: Bytes,
}

/// What a block builds on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) timestamp: u64,
}

impl Parent {
    pub(crate) const BASE: Self = Self { number: BASE, hash: B256::ZERO, timestamp: GENESIS - 1 };
}

impl Block {
    /// The block on `parent`, in a window. Another `salt` makes another block.
    pub(crate) fn on(
        parent: Parent,
        timestamp: u64,
        window_end: u64,
        salt: u64,
        signer: &SigningKey,
    ) -> Self {
        let number = parent.number.wrapping_add(1);
        let txlist = [&number.to_be_bytes(), &salt.to_be_bytes(), [7; 160].as_slice()].concat();
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp),
            submission_window_end: U256::from(window_end),
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: parent.hash,
            ..Default::default()
        };
        Self::of(preconf, txlist.into(), signer)
    }

    pub(crate) fn of(preconf: Preconfirmation, txlist: Bytes, signer: &SigningKey) -> Self {
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(signer, &DOMAIN);
        Self { signed, txlist }
    }

    /// The same promise under another valid signature of its signer, whose key has this number.
    pub(crate) fn signed_again(&self, key: u64, nonce: u64) -> Self {
        let secret = SecretKey::from_secret_bytes(U256::from(key).to_be_bytes()).unwrap();
        let message = Message::from_digest(self.signed.commitment.signing_hash(&DOMAIN).0);
        let nonce = U256::from(nonce).to_be_bytes();
        let signature = RecoverableSignature::sign_ecdsa_recoverable_with_noncedata(message, &secret, &nonce);
        let (v, rs) = signature.serialize_compact();
        let signature = FixedBytes::<64>::new(rs).concat_const(FixedBytes::new([v.to_u8()]));
        Self { signed: SignedCommitment { signature, ..self.signed.clone() }, txlist: self.txlist.clone() }
    }

    pub(crate) fn number(&self) -> u64 {
        self.signed.preconf().block_number.to()
    }

    pub(crate) fn hash(&self) -> B256 {
        self.signed.preconf().hash()
    }

    pub(crate) fn parent(&self) -> Parent {
        let preconf = self.signed.preconf();
        Parent { number: self.number(), hash: self.hash(), timestamp: preconf.timestamp.to() }
    }
}
