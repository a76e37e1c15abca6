//! Unix time in seconds, and the clock.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Whole seconds since the Unix epoch: the unit of timestamps and submission windows on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(u64);

impl UnixSeconds {
    /// A moment, in seconds since the epoch.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This moment and `by` more; stays at the end of time rather than wrapping.
    #[must_use]
    pub const fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// This moment less `by`; stays at the epoch rather than wrapping.
    #[must_use]
    pub const fn saturating_sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the client reads the wall clock. Tests and simulations bring their own; whatever only measures
/// durations takes an `Instant` instead.
pub trait Clock: Send + Sync + 'static {
    /// The present, seconds since the epoch.
    fn now(&self) -> UnixSeconds;
}

impl<F: Fn() -> UnixSeconds + Send + Sync + 'static> Clock for F {
    fn now(&self) -> UnixSeconds {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_wrap_at_either_end_of_time() {
        let (at, hour) = (UnixSeconds::new(10_000), Duration::from_secs(3600));
        assert_eq!(at.saturating_add(hour), UnixSeconds::new(13_600));
        assert_eq!(at.saturating_sub(hour), UnixSeconds::new(6_400));
        assert_eq!(UnixSeconds::new(u64::MAX).saturating_add(hour), UnixSeconds::new(u64::MAX));
        assert_eq!(UnixSeconds::new(5).saturating_sub(hour), UnixSeconds::default());
        assert_eq!(at.to_string(), "10000");
    }

    #[test]
    fn a_function_is_a_clock() {
        assert_eq!(Clock::now(&|| UnixSeconds::new(5)), UnixSeconds::new(5));
    }
}
