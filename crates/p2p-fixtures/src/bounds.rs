//! What something costs while all that others can fill is full.

use std::time::Duration;

/// Asserts that something takes at most `limit` times as long while all that others can fill is full as while it is empty.
/// Each call says how long it took.
///
/// # Panics
/// If it takes longer in each of eight runs.
pub fn assert_as_cheap(
    what: &str,
    limit: u32,
    mut while_full: impl FnMut() -> Duration,
    mut while_empty: impl FnMut() -> Duration,
) {
    // Other work can disturb any run, but not the least of several.
    let (mut full, mut empty) = (Duration::MAX, Duration::MAX);
    let is_cheap = (0..8).any(|_| {
        (full, empty) = (full.min(while_full()), empty.min(while_empty()));
        full < empty * limit
    });
    assert!(is_cheap, "{what}: {full:?} while full, {empty:?} while empty");
}
