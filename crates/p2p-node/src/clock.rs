//! The host's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use p2p_types::UnixSeconds;

/// The present, in seconds since the epoch; the epoch for a clock before it.
pub(crate) fn now() -> UnixSeconds {
    UnixSeconds::new(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
