//! The host's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use p2p_types::UnixSeconds;

/// The present, in seconds since the epoch; the epoch for a clock before it.
pub(crate) fn now() -> UnixSeconds {
    UnixSeconds::new(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The present in milliseconds since the epoch; the epoch for a clock before it.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
