//! The rules that make a commitment valid: pure, synchronous, explainable.
//!
//! The caller brings the facts (the arrival, the parent, the base, the lookahead); the [`Validator`] judges.
//! A commitment climbs three steps, each a type that only its rules can build:
//!
//! | step | builds | rules (§) | enough to |
//! |---|---|---|---|
//! | [`Validator::authenticate`] | [`Authenticated`] | signature, EOP, slasher, ranges (§4) | keep while waiting |
//! | [`Validator::elect`] | [`Elected`] | window, elected signer, time, lateness (§4, §5) | forward |
//! | [`Validator::link`] | [`Linked`] | height, parent, block rules (§5) | store, show, serve |
//!
//! | rule | outcome | who pays | label |
//! |---|---|---|---|
//! | 382 bytes that decode | [`Rejection::Malformed`] | the peer | `malformed` |
//! | the signature recovers: low s, v 0 or 1 | [`Rejection::Signature`] | the peer | `bad_signature` |
//! | numbers fit 64 bits | [`Rejection::OutOfRange`] | the peer | `out_of_range` |
//! | `eop` false has a txlist | [`Rejection::MissingTxListHash`] | the peer | `missing_txlist_hash` |
//! | the chain's slasher | [`Rejection::Slasher`] | the peer | `slasher` |
//! | the schedule is known | [`Missing::Schedule`] | nobody | |
//! | a slot ends at `submissionWindowEnd` | [`Rejection::WindowEnd`] | the peer | `window_end` |
//! | its elected preconfer signed | [`Rejection::WrongSigner`] | the peer | `wrong_signer` |
//! | `timestamp` in that window | [`Rejection::OutsideWindow`] | the peer | `outside_window` |
//! | `timestamp` is not ahead of our clock by more than the drift | [`IgnoreReason::Early`] | nobody | `early` |
//! | came before the window's end and the grace | [`IgnoreReason::Late`] | nobody | `late` |
//! | above the base | [`IgnoreReason::Settled`] | nobody | `settled` |
//! | on the settled block, where its hash is known | [`Rejection::Parent`] | the peer | `parent` |
//! | the parent is known | [`Missing::Parent`] | nobody | |
//! | the parent made a block | [`Rejection::EopOnlyParent`] | the peer | `eop_only_parent` |
//! | the parent is the block before | [`Rejection::BlockNumber`] | the peer | `block_number` |
//! | the chain's [`BlockRules`] | [`Rejection::Block`] | the peer | `block_rule` |
//!
//! This crate knows no runtime, no socket and no clock. It sits on [`p2p_types`].
//!
//! ```
//! use std::{num::NonZeroU64, sync::Arc};
//! use p2p_types::{
//!     Address, B256, Base, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, U256, UnixSeconds,
//! };
//! use p2p_validation::{Arrival, Facts, RotatingSchedule, ValidationConfig, ValidationOutcome, Validator};
//! use preconfirmation_types::Container;
//!
//! // One preconfer, windows of 12 seconds.
//! let key = SigningKey::from_bytes([7; 32])?;
//! let slot = NonZeroU64::new(12).ok_or("no window")?;
//! let schedule = RotatingSchedule::new(vec![key.address()], UnixSeconds::new(1_000), slot)?;
//! let domain = SigningDomain::PLACEHOLDER;
//! let slasher = Address::repeat_byte(0x51);
//! let validator = Validator::new(ValidationConfig::new(domain, slasher), Arc::new(schedule));
//!
//! let preconf = Preconfirmation {
//!     block_number: U256::from(42),
//!     timestamp: U256::from(1_003),
//!     submission_window_end: U256::from(1_011),
//!     raw_tx_list_hash: B256::repeat_byte(1),
//!     ..Default::default()
//! };
//! let wire = PreconfCommitment { preconf, slasher_address: slasher }.sign(&key, &domain).to_ssz();
//!
//! // Block 41 is settled, so block 42 is the first that is linked.
//! let facts = Facts { base: Base::at(41), parent: None, before: None };
//! let arrival = Arrival::Live(UnixSeconds::new(1_004));
//! match validator.validate(&wire, arrival, &facts) {
//!     ValidationOutcome::Accept(commitment) => assert_eq!(commitment.block(), 42),
//!     ValidationOutcome::Defer(missing) => println!("keep it until {missing:?} is known"),
//!     ValidationOutcome::Ignore(reason) => println!("of no use: {reason:?}"),
//!     ValidationOutcome::Reject(rejection) => println!("{rejection}: {:?}", rejection.offence()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authenticated;
mod lookahead;
mod outcome;
mod rules;
mod validator;

pub use authenticated::{Authenticated, Elected, Linked};
pub use lookahead::{
    Lookahead, LookaheadError, RotatingSchedule, ScheduleError, Slot, StaticSchedule, Window,
};
pub use outcome::{IgnoreReason, Missing, Rejection, ValidationOutcome};
pub use rules::{BlockRules, TaikoRules};
pub use validator::{Arrival, Facts, Parent, ValidationConfig, Validator, ZeroParent};
