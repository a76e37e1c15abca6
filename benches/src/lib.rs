//! Benchmarks of the workspace, and the fixtures that they share.
//!
//! Names say what and how much: `txlist::decode/bytes=131072`. Run all with
//! `cargo bench -p preconfirmation-benches`, some with `… -- decode/`. Fixtures are the same on every run.
//!
//! `cargo xtask bench` measures [`pairs`]: the same work our way and the [naive way](baseline), interleaved,
//! so that a neighbour on the same cores disturbs both alike.

#![allow(clippy::disallowed_methods, reason = "what measures time reads the clock")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a fixture that does not build ends the run"
)]

pub mod base;
pub mod baseline;
pub mod gossip;
pub mod guard;
pub mod latency;
pub mod pairs;
pub mod ratio;
pub mod rpc;
pub mod unasked;

use preconfirmation_types::{
    Address, B256, Bytes, GetCommitmentsByNumberResponse, InvalidSecretKey, MAX_TXLIST_BYTES, PageTooLong,
    PreconfCommitment, Preconfirmation, SignedCommitment, SigningDomain, SigningKey, TxList, TxListError,
    U256,
};

/// The domain that all fixtures are signed under.
pub const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;

/// Sizes of transaction lists that are measured: 1 KiB, 128 KiB, 2 MiB.
pub const TXLIST_SIZES: [usize; 3] = [1024, 128 * 1024, MAX_TXLIST_BYTES];

/// A preconfer's key.
///
/// # Errors
/// None: the key is a constant one.
pub fn key() -> Result<SigningKey, InvalidSecretKey> {
    SigningKey::from_bytes([0x42; 32])
}

/// A commitment for a block, with no field left at zero.
#[must_use]
pub fn commitment(block: u64) -> PreconfCommitment {
    PreconfCommitment {
        preconf: Preconfirmation {
            eop: false,
            block_number: U256::from(block),
            timestamp: U256::from(1_760_000_000_u64.saturating_add(block)),
            gas_limit: U256::from(240_000_000),
            coinbase: Address::repeat_byte(0xc0),
            anchor_block_number: U256::from(21_000_000),
            raw_tx_list_hash: B256::repeat_byte(0x7a),
            parent_preconfirmation_hash: B256::repeat_byte(0x9a),
            submission_window_end: U256::from(1_760_000_384),
            prover_auth: Address::repeat_byte(0xaa),
            proposal_id: U256::from(30_162),
        },
        slasher_address: Address::repeat_byte(0x51),
    }
}

/// The same commitment, signed under [`DOMAIN`].
///
/// # Errors
/// As [`key`].
pub fn signed(block: u64) -> Result<SignedCommitment, InvalidSecretKey> {
    Ok(commitment(block).sign(&key()?, &DOMAIN))
}

/// A page of consecutive commitments from block 1.
///
/// # Errors
/// [`PageTooLong`] for more than a response may carry.
pub fn page(commitments: u64) -> Result<GetCommitmentsByNumberResponse, PageTooLong> {
    GetCommitmentsByNumberResponse::new((1..=commitments).map_while(|block| signed(block).ok()).collect())
}

/// A transaction list of so many bytes.
///
/// # Errors
/// [`TxListError`] for more than [`MAX_TXLIST_BYTES`].
pub fn txlist(bytes: usize) -> Result<TxList, TxListError> {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(bytes).collect();
    TxList::new(Bytes::from(bytes), MAX_TXLIST_BYTES)
}

/// What this process has used of the processors.
fn cpu() -> std::time::Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::new(used.tv_sec.try_into().unwrap(), used.tv_nsec.try_into().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixtures_are_what_they_say() {
        assert_eq!(page(256).unwrap().commitments().len(), 256);
        let recovered = signed(7).unwrap().recover(&DOMAIN).unwrap();
        assert_eq!(recovered.signer(), key().unwrap().address());
        for bytes in TXLIST_SIZES {
            assert_eq!(txlist(bytes).unwrap().bytes().len(), bytes);
        }
    }
}
