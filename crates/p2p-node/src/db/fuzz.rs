//! The lines of an export, for fuzzing.

use super::lines::{Header, Line};

/// A line of an export; whether it is its first or another one.
///
/// # Panics
/// If it cannot be written again.
#[must_use]
pub fn export_line(json: &[u8], is_first: bool) -> bool {
    let again = if is_first {
        serde_json::from_slice::<Header>(json).ok().map(|header| serde_json::to_vec(&header))
    } else {
        serde_json::from_slice::<Line>(json).ok().map(|line| serde_json::to_vec(&line))
    };
    again.inspect(|again| assert!(again.is_ok(), "a line that is read can be written")).is_some()
}
