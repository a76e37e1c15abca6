//! What an event costs while everything that others can fill is full: about as much as while nothing is.

use std::time::Duration;

/// How many times as much it may cost.
const LIMIT: u32 = 10;

/// Asserts that the same takes about as long in both cases. Each call says how long it took.
pub(crate) fn assert_as_cheap(
    mut while_full: impl FnMut() -> Duration,
    mut while_empty: impl FnMut() -> Duration,
) {
    // Other work can disturb any run, but not the least of several.
    let (mut full, mut empty) = (Duration::MAX, Duration::MAX);
    let is_cheap = (0..8).any(|_| {
        (full, empty) = (full.min(while_full()), empty.min(while_empty()));
        full < empty * LIMIT
    });
    assert!(is_cheap, "{full:?} while full, {empty:?} while empty");
}
