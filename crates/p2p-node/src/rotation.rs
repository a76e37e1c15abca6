//! The file of a rotating schedule: `devnet --hold` writes it, `run --lookahead rotating:FILE` reads it.

use std::num::NonZeroU64;

use p2p_types::{Address, UnixSeconds};
use serde::{Deserialize, Serialize};

/// A rotation as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// First second of the first window.
    pub(crate) genesis: UnixSeconds,
    /// Seconds of a window.
    pub(crate) window: NonZeroU64,
    /// Who take turns, in this order.
    pub(crate) operators: Vec<Address>,
}
