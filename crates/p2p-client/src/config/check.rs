//! What a configuration may be, checked once.

use std::time::Duration;

use super::P2pClientConfig;

/// Longest duration that can be set: a day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest where there must be some.
const TICK: Duration = Duration::from_millis(1);
/// Most entries of a queue or a memory: a million.
const MANY: u64 = 1 << 20;
/// Most bytes of a memory: 64 GiB.
const HUGE: u64 = 64 << 30;

/// A configuration that cannot work. Of the network's own settings, `NetworkError::Config` tells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number is out of bounds.
    #[error("{field} is {value}, must be from {min} to {max}")]
    Number {
        /// The setting, as a path from [`P2pClientConfig`].
        field: &'static str,
        /// Its value.
        value: u64,
        /// The lowest allowed.
        min: u64,
        /// The highest allowed.
        max: u64,
    },
    /// A duration is out of bounds.
    #[error(
        "{field} is {} s, must be from {} to {} s",
        value.as_secs_f64(),
        min.as_secs_f64(),
        max.as_secs_f64()
    )]
    Duration {
        /// The setting, as a path from [`P2pClientConfig`].
        field: &'static str,
        /// Its value.
        value: Duration,
        /// The shortest allowed.
        min: Duration,
        /// The longest allowed.
        max: Duration,
    },
    /// A setting of catch-up.
    #[error("catchup: {0}")]
    CatchUp(#[from] p2p_catchup::CatchUpConfigError),
    /// The store forgets what was promised when the process dies, and the client is to publish. Give a store on disk with
    /// immediate durability, or ask for [`Publishing::GuardedUntilRestart`](crate::Publishing::GuardedUntilRestart).
    #[error(
        "publishing needs a store that keeps promises through a crash: use a store on disk with immediate durability, or ask for `GuardedUntilRestart` by name"
    )]
    ForgetfulStore,
}

impl P2pClientConfig {
    /// Says whether the settings can work. [`P2pClientBuilder::start`](crate::P2pClientBuilder::start) asks
    /// this first.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (memory, queues, rules) = (&self.memory, &self.queues, &self.validation);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for (field, value, max) in [
            ("network.chain_id", self.network.chain_id, u64::MAX),
            ("memory.seen", memory.seen.into(), MANY),
            ("memory.promises", memory.promises.into(), MANY),
            ("memory.held_txlist_bytes", count(memory.held_txlist_bytes), HUGE),
            ("memory.held_txlist_bytes_per_peer", count(memory.held_txlist_bytes_per_peer), HUGE),
            ("queues.commands", count(queues.commands.get()), MANY),
            ("queues.events", count(queues.events.get()), MANY),
            ("queues.handler", count(queues.handler.get()), MANY),
            ("queues.commitments", count(queues.commitments.get()), MANY),
            ("queues.txlists", count(queues.txlists.get()), MANY),
        ] {
            if value == 0 || value > max {
                return Err(ConfigError::Number { field, value, min: 1, max });
            }
        }
        for (field, value, min) in [
            ("validation.executor_slot_grace", rules.executor_slot_grace, Duration::ZERO),
            ("validation.clock_drift", rules.clock_drift, Duration::ZERO),
            ("validation.slot", rules.slot, Duration::ZERO),
            ("validation.horizon", rules.horizon, Duration::ZERO),
            ("memory.held_txlist_ttl", memory.held_txlist_ttl, TICK),
            ("memory.seen_ttl", memory.seen_ttl, TICK),
            ("shutdown_timeout", self.shutdown_timeout, TICK),
            ("bootstrap_timeout", self.bootstrap_timeout, TICK),
            ("schedule_retry", self.schedule_retry, TICK),
        ] {
            if value < min || value > DAY {
                return Err(ConfigError::Duration { field, value, min, max: DAY });
            }
        }
        Ok(self.catchup.check()?)
    }
}

#[cfg(test)]
mod tests {
    use p2p_types::{Address, SigningDomain};
    use p2p_validation::ValidationConfig;

    use super::*;

    fn config() -> P2pClientConfig {
        P2pClientConfig::test(7, ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::ZERO))
    }

    fn refused(change: impl FnOnce(&mut P2pClientConfig)) -> ConfigError {
        let mut config = config();
        change(&mut config);
        config.check().unwrap_err()
    }

    #[test]
    fn what_cannot_work_is_named_with_its_value_and_its_bounds() {
        assert_eq!(config().check(), Ok(()));
        let error = refused(|config| config.network.chain_id = 0);
        assert_eq!(error.to_string(), "network.chain_id is 0, must be from 1 to 18446744073709551615");
        let error = refused(|config| config.memory.seen = u32::MAX);
        let max = 1 << 20;
        assert_eq!(error, ConfigError::Number { field: "memory.seen", value: u32::MAX.into(), min: 1, max });
        let error = refused(|config| config.shutdown_timeout = Duration::ZERO);
        assert_eq!(error.to_string(), "shutdown_timeout is 0 s, must be from 0.001 to 86400 s");
        let error = refused(|config| config.validation.executor_slot_grace = 2 * DAY);
        assert!(matches!(error, ConfigError::Duration { field: "validation.executor_slot_grace", .. }));
        let error = refused(|config| config.catchup.backoff.min = config.catchup.backoff.max * 2);
        assert_eq!(error.to_string(), "catchup: backoff.min 60s is over backoff.max 30s");
        let error = refused(|config| config.catchup.backoff.jitter = 101);
        assert_eq!(error.to_string(), "catchup: backoff.jitter 101 is over 100 percent");
        let error = refused(|config| config.catchup.backoff.window = Duration::ZERO);
        assert_eq!(error.to_string(), "catchup: backoff.window of 0ns is not between zero and a day");
    }

    #[test]
    fn no_grace_at_all_is_a_setting() {
        let mut config = config().with_executor_slot_grace(Duration::ZERO);
        config.validation.clock_drift = Duration::ZERO;
        assert_eq!(config.check(), Ok(()));
    }
}
