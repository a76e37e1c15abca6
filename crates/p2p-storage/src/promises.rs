//! Promises of the application's own signers.

/// Limit of stored promises: weeks of them, if they are pruned.
pub(crate) const MAX_PROMISES: usize = 1 << 20;
