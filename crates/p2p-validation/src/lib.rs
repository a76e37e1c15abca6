//! Validation of commitments: pure, synchronous functions over facts that the caller brings.
//!
//! The facts are the arrival, the parent, the base and the lookahead. The [`Validator`] works in three steps; each builds a
//! type that nothing else can build:
//!
//! | step | builds | rules (§) | enough to |
//! |---|---|---|---|
//! | [`Validator::authenticate`] | [`Authenticated`] | ranges, EOP, slasher, signature (§4) | keep while waiting |
//! | [`Validator::elect`] | [`Elected`] | window, elected signer, time, lateness (§4, §5) | forward |
//! | [`Validator::link`] | [`Linked`] | height, parent, block rules (§5) | store, show, serve |
//!
//! The rules, in the order in which they are checked. The signer is recovered once, after all rules that need no signer:
//!
//! | rule | § | outcome | penalty | label |
//! |---|---|---|---|---|
//! | 382 bytes that decode | 2 | [`Rejection::Malformed`] | `malformed` | `malformed` |
//! | numbers fit 64 bits | 4 | [`Rejection::OutOfRange`] | `invalid_commitment` | `out_of_range` |
//! | `eop` false has a txlist | 4 | [`Rejection::MissingTxListHash`] | `invalid_commitment` | `missing_txlist_hash` |
//! | the chain's slasher | 4 | [`Rejection::Slasher`] | `invalid_commitment` | `slasher` |
//! | a fee recipient, where the chain asks for one | 5 | [`Rejection::ZeroCoinbase`] | `invalid_commitment` | `zero_coinbase` |
//! | `gasLimit` and `proposalId` within the chain's limits | 5 | [`Rejection::Parameter`] | `invalid_commitment` | `block_parameter` |
//! | the schedule is known, or the window ends beyond the horizon | 4 | [`Missing::Schedule`] | none | `pending_schedule` |
//! | the schedule is known, or the window ends within the horizon | 4 | [`IgnoreReason::BeyondHorizon`] | none | `beyond_horizon` |
//! | our lookahead answers | 4 | [`IgnoreReason::Lookahead`] | none | `lookahead` |
//! | a window ends at `submissionWindowEnd` | 4 | [`Rejection::WindowEnd`] | `invalid_commitment` | `window_end` |
//! | `timestamp` in that window | 4 | [`Rejection::OutsideWindow`] | `invalid_commitment` | `outside_window` |
//! | the signature recovers: low s, v 0 or 1 | 4 | [`Rejection::Signature`] | `bad_signature` | `bad_signature` |
//! | one of those elected for `timestamp` and that window signed | 4 | [`Rejection::WrongSigner`] | `wrong_signer` | `wrong_signer` |
//! | `timestamp` is less than a slot and the drift ahead of our clock | 5 | [`IgnoreReason::Early`] | none | `early` |
//! | came live before the window's end and the grace | 5 | [`IgnoreReason::Late`] | none | `late` |
//! | `timestamp` is not ahead of our clock by more than the drift | 5 | [`Missing::Time`] | none | `pending_time` |
//! | above the base | 5 | [`IgnoreReason::Settled`] | none | `settled` |
//! | live: the anchor is not too far behind the head of L1 | 5 | [`Rejection::StaleAnchor`] | `invalid_commitment` | `stale_anchor` |
//! | on the settled block, where its hash is known | 5 | [`Rejection::Parent`] | `invalid_commitment` | `parent` |
//! | the parent is known | 5 | [`Missing::Parent`] | none | `pending_parent` |
//! | the parent made a block | 5 | [`Rejection::EopOnlyParent`] | `invalid_commitment` | `eop_only_parent` |
//! | the parent is the block before | 5 | [`Rejection::BlockNumber`] | `invalid_commitment` | `block_number` |
//! | `timestamp`, anchor, proposal and gas limit follow the parent's ([`BlockRules`]) | 5 | [`Rejection::Block`] | `invalid_commitment` | `block_rule` |
//!
//! Windows may overlap, and several signers may be elected at once ([`Lookahead::admissible`]). While the schedule is not
//! known, or may elect the signer by a change that it has not learned yet ([`Lookahead::may_be_elected`]), *early* and *late*
//! are checked before the commitment waits for it.
//!
//! The penalty is named by [`Rejection::offence`]. Whom to charge is up to the caller: a relaying peer cannot check every rule
//! (`wrong_signer`, `slasher`, the window), and the rules from `stale_anchor` on can be broken by an elected preconfer only.
//!
//! No constructor disables a rule silently: [`Validator::leniencies`] lists what an operator has loosened. A [`Witness`] turns
//! two contradicting commitments of a preconfer into [`Evidence`].
//!
//! | schedule | elects |
//! |---|---|
//! | [`StaticSchedule`] | the signers of a list or a file |
//! | [`RotatingSchedule`] | operators in turn, by seconds or by slots and epochs of L1 |
//! | [`CachedSchedule`] | the signers that a source has read from L1, without reorged ones |
//! | [`OpenSchedule`] | **anyone**: for tests |
//!
//! Elected signers sign many commitments in a row. With the feature `known-signers`, on by default, their signatures are
//! verified against tables of their keys instead of being recovered, with the same answers (`p2p_fastverify`);
//! [`ValidationConfig::signer_tables`] bounds the bytes of the tables and turns them off. A new signer's table is built on the
//! pool of `parallel`, beside what is judged, or at once for a page that it has signed much of.
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
//!     ValidationOutcome::Defer(missing) => println!("keep it until {missing} is here"),
//!     ValidationOutcome::Ignore(reason) => println!("of no use: {reason}"),
//!     ValidationOutcome::Reject(rejection) => println!("{rejection}: {:?}", rejection.offence()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authenticated;
mod config;
mod draft;
mod evidence;
mod facts;
mod lookahead;
mod outcome;
mod page;
mod recovery;
mod rules;
mod validator;

#[cfg(feature = "known-signers")]
pub use p2p_fastverify::Counts as SignerCounts;
pub use p2p_types::{Misbehaviour, Missing};

pub use authenticated::{Authenticated, Elected, Linked};
pub use config::{Leniency, ValidationConfig, ZeroParent};
pub use draft::Draft;
pub use evidence::{Evidence, EvidenceError, EvidenceRecord, Witness, WitnessLimits};
pub use facts::{Arrival, Facts, Parent};
pub use lookahead::{
    Admission, CachedSchedule, Handovers, L1Time, Lookahead, LookaheadError, OpenSchedule, RotatingSchedule,
    ScheduleError, ScheduleFileError, Signers, Slot, StaticSchedule, Window,
};
pub use outcome::{IgnoreReason, Rejection, ValidationOutcome};
pub use rules::{BlockRules, LimitsError, TaikoLimits, TaikoRules};
pub use validator::Validator;
