//! The wire of Taiko permissionless preconfirmations, to the byte.
//!
//! Every container, limit, topic and protocol id; SSZ that decodes totally and exactly; the
//! preconfirmation hash and the signing hash; signing and recovery. No runtime, no network: this is the
//! lowest crate of the workspace, and all that a tool needs that reads or writes what preconfers say.
//!
//! ```
//! use preconfirmation_types::{
//!     B256, Container, PreconfCommitment, Preconfirmation, Recovered, SigningDomain, SigningKey, U256,
//! };
//!
//! let key = SigningKey::from_bytes([7; 32])?;
//! let commitment = PreconfCommitment {
//!     preconf: Preconfirmation {
//!         block_number: U256::from(42),
//!         raw_tx_list_hash: B256::repeat_byte(1),
//!         ..Default::default()
//!     },
//!     ..Default::default()
//! };
//! let signed = commitment.sign(&key, &SigningDomain::PLACEHOLDER);
//! let wire = signed.to_ssz();
//! assert_eq!(wire.len(), 382);
//!
//! // What a peer does with bytes from an untrusted peer: decode, hash and recover, without a panic or an allocation.
//! let recovered = Recovered::from_ssz(&wire, &SigningDomain::PLACEHOLDER)?;
//! assert_eq!(recovered.signer(), key.address());
//! assert_eq!(recovered.hash(), signed.preconf().hash());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`frame`] | length-prefixed frames of the request/response protocols |
//! | [`rate_limit`] | how many requests peers answer, and when the next one may leave |
//! | the root | containers ([`Container`]), [`Rpc`] protocols, [`Topic`]s, [`SigningDomain`], [`SigningKey`], [`Unrecovered`], [`Recovered`], [`TxList`], limits, errors |

mod commitment;
mod container;
mod error;
pub mod frame;
mod human;
mod limits;
mod offence;
pub mod rate_limit;
mod recovery;
mod request;
mod signing;
mod topic;
mod txlist;

pub use alloy_primitives::{Address, B256, FixedBytes, KECCAK256_EMPTY, U256, keccak256};
pub use bytes::Bytes;

use human::{decimal, hex_bytes};

pub use commitment::{PreconfCommitment, Preconfirmation, SignedCommitment};
pub use container::Container;
pub use error::{
    DecodeError, DecodeErrorKind, FrameError, InvalidSecretKey, PageTooLong, RecoverError, SignatureError,
    TxListError,
};
pub use limits::{
    COMMITMENT_BYTES, MAX_COMMITMENTS_PER_RESPONSE, MAX_GOSSIP_BYTES, MAX_TXLIST_BYTES,
    MAX_UNPACKED_TXLIST_BYTES, PRECONFIRMATION_BYTES, SIGNED_COMMITMENT_BYTES, TXLIST_HEADER_BYTES,
};
pub use offence::Offence;
#[cfg(feature = "trusted-hash")]
pub use recovery::{HashAll, HashBatch};
pub use recovery::{Hashed, Recovered, Unrecovered};
pub use request::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, Mismatch, PreconfHead, Rpc,
};
pub use signing::{SigningDomain, SigningKey};
pub use topic::{LEGACY_TOPICS, Topic};
pub use txlist::{GetRawTxListResponse, RawTxListGossip, TxList};
