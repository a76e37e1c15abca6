//! The client's vocabulary: events, commands, sync status, message ids, heights and time.
//!
//! This crate sits above [`preconfirmation_types`] and below validation, storage, catch-up and the client. It has types
//! without behaviour, so that those crates are versioned independently and share one vocabulary. The wire types that its
//! users need are re-exported here.
//!
//! ```
//! use p2p_types::{Base, HeadSyncStatus, MessageId, SdkEvent, Topic};
//!
//! /// What a sidecar's log shows of an event.
//! fn line(event: &SdkEvent) -> Option<String> {
//!     match event {
//!         SdkEvent::Commitment { block, commitment, origin } => {
//!             Some(format!("block {block} by {} ({})", commitment.signer(), origin.label()))
//!         }
//!         SdkEvent::Status { status } => Some(status.to_string()),
//!         _ => None,
//!     }
//! }
//!
//! let status = HeadSyncStatus::WaitingForL2;
//! assert_eq!(line(&SdkEvent::Status { status }).as_deref(), Some("waiting for L2 sync"));
//! assert_eq!(Base::at(41).next(), 42);
//! assert_eq!(MessageId::of_commitment(b"ssz").topic, Topic::Commitments);
//! ```

mod chain;
mod guard;
mod l1;
mod message;
mod misbehaviour;
mod missing;
mod origin;
mod sdk;
mod settlement;
mod status;
mod time;

pub use libp2p_identity::PeerId;
pub use preconfirmation_types::{
    Address, B256, Bytes, MAX_UNPACKED_TXLIST_BYTES, Offence, PreconfCommitment, Preconfirmation, Recovered,
    SignedCommitment, SigningDomain, SigningKey, Topic, TxList, U256,
};

pub use chain::{Base, BlockNumber, Head};
pub use guard::{Conflict, GuardError, GuardFuture, Promise, SigningGuard};
pub use l1::{L1Update, L1View};
pub use message::MessageId;
pub use misbehaviour::Misbehaviour;
pub use missing::Missing;
pub use origin::Origin;
pub use sdk::{SdkCommand, SdkEvent, StorageTrouble};
pub use settlement::{
    Breach, Difference, L2Tip, L2View, PromiseOutcome, Promised, SettledBlock, TransactionsBreach,
};
pub use status::{HeadSyncStatus, Stall};
pub use time::{Clock, UnixSeconds};
