//! What a configuration may be, checked once.

use std::time::Duration;

use p2p_storage::StorageLimits;

use super::{P2pClientConfig, StorageChoice};

/// Longest duration that can be set: a day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest where there must be some.
const TICK: Duration = Duration::from_millis(1);
/// Most entries of a queue or a memory: a million.
const MANY: u64 = 1 << 20;
/// Most bytes of a memory: 64 GiB.
const HUGE: u64 = 64 << 30;
/// Fewest heights whose promises are remembered: with fewer, a signer that alternates between heights could have more
/// than three blocks of each forwarded.
const PROMISES: u64 = 1024;
/// Fewest bytes of the pending pool: room for some entries in each of its shares.
const PENDING: u64 = 64 << 10;
/// Fewest commitments of a store: a page of catch-up.
const STORED: u64 = 256;
/// What a held transaction list counts beside its bytes.
const HELD_LIST: u64 = 128;

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
        let largest_list = count(self.network.max_txlist_bytes);
        for (field, value, min, max) in [
            ("network.chain_id", self.network.chain_id, 1, u64::MAX),
            ("memory.pending.bytes", count(memory.pending.bytes.get()), PENDING, HUGE),
            ("memory.seen", memory.seen.into(), 1, MANY),
            ("memory.promises", memory.promises.into(), PROMISES, MANY),
            // A list that is published before its commitment waits here.
            (
                "memory.held_txlist_bytes",
                count(memory.held_txlist_bytes),
                largest_list.saturating_add(HELD_LIST),
                HUGE,
            ),
            ("memory.held_txlist_bytes_per_peer", count(memory.held_txlist_bytes_per_peer), 1, HUGE),
            ("queues.commands", count(queues.commands.get()), 1, MANY),
            ("queues.events", count(queues.events.get()), 1, MANY),
            ("queues.handler", count(queues.handler.get()), 1, MANY),
            ("queues.commitments", count(queues.commitments.get()), 1, MANY),
            ("queues.txlists", count(queues.txlists.get()), 1, MANY),
            // Each list on its way is taken for so large: taken for less, they would exceed `catchup.buffer_bytes`.
            ("catchup.max_txlist_bytes", count(self.catchup.max_txlist_bytes.get()), largest_list, u64::MAX),
        ] {
            number(field, value, min, max)?;
        }
        match &self.storage {
            StorageChoice::Memory(limits) => storage(limits, largest_list)?,
            #[cfg(feature = "disk")]
            StorageChoice::Disk { limits, .. } => storage(limits, largest_list)?,
            StorageChoice::Custom(_) => {}
        }
        for (field, value, min) in [
            ("validation.executor_slot_grace", rules.executor_slot_grace, Duration::ZERO),
            ("validation.clock_drift", rules.clock_drift, Duration::ZERO),
            ("validation.slot", rules.slot, Duration::ZERO),
            ("validation.horizon", rules.horizon, Duration::ZERO),
            ("memory.pending.ttl", memory.pending.ttl, TICK),
            ("memory.held_txlist_ttl", memory.held_txlist_ttl, TICK),
            ("memory.seen_ttl", memory.seen_ttl, TICK),
            ("shutdown_timeout", self.shutdown_timeout, TICK),
            ("bootstrap_timeout", self.bootstrap_timeout, TICK),
            ("schedule_retry", self.schedule_retry, TICK),
            ("guard_timeout", self.guard_timeout, TICK),
            // The network's own time-out comes first: it knows whether an answer is late or lost.
            ("catchup.request_deadline", self.catchup.request_deadline, self.network.pacing.timeout),
        ] {
            if value < min || value > DAY {
                return Err(ConfigError::Duration { field, value, min, max: DAY });
            }
        }
        Ok(self.catchup().check()?)
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

const fn number(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if value < min || value > max {
        return Err(ConfigError::Number { field, value, min, max });
    }
    Ok(())
}

/// What a store that the client opens must have room for: a page, and a list of any size.
fn storage(limits: &StorageLimits, largest_list: u64) -> Result<(), ConfigError> {
    let &StorageLimits { commitments, non_canonical, txlists, txlist_bytes, evidence } = limits;
    number("storage.limits.commitments", count(commitments), STORED, u64::MAX)?;
    number("storage.limits.non_canonical", count(non_canonical), 1, u64::MAX)?;
    number("storage.limits.txlists", count(txlists), STORED, u64::MAX)?;
    number("storage.limits.txlist_bytes", count(txlist_bytes), largest_list, u64::MAX)?;
    number("storage.limits.evidence", count(evidence), 1, u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use p2p_types::{Address, SigningDomain};
    use p2p_validation::ValidationConfig;
    use preconfirmation_types::rate_limit::RateLimit;

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
        let error = refused(|config| config.memory.held_txlist_bytes = 1);
        let expected = "memory.held_txlist_bytes is 1, must be from 2097280 to 68719476736";
        assert_eq!(error.to_string(), expected);
        let error = refused(|config| config.memory.promises = 8);
        assert!(matches!(error, ConfigError::Number { field: "memory.promises", min: 1024, .. }));
        let error = refused(|config| config.memory.pending.bytes = NonZeroUsize::MIN);
        assert!(matches!(error, ConfigError::Number { field: "memory.pending.bytes", .. }));
        let error = refused(|config| config.catchup.max_txlist_bytes = NonZeroUsize::MIN);
        assert!(matches!(error, ConfigError::Number { field: "catchup.max_txlist_bytes", .. }));
        let error = refused(|config| config.network.pacing.timeout = Duration::from_secs(21));
        assert!(matches!(error, ConfigError::Duration { field: "catchup.request_deadline", .. }));
        let small = StorageLimits { commitments: 255, ..StorageLimits::default() };
        let error = refused(|config| config.storage = StorageChoice::Memory(small));
        assert!(matches!(error, ConfigError::Number { field: "storage.limits.commitments", min: 256, .. }));
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
    fn catch_up_keeps_to_its_own_rate_limit_or_to_the_networks() {
        let mut config = config().with_max_txlist_bytes(NonZeroUsize::new(1_000).unwrap());
        let network = &config.network.pacing;
        let (requests, window) = (network.requests, network.window);
        assert_eq!(config.catchup().rate_limit, Some(RateLimit { requests, window }));
        assert_eq!(
            (config.network.max_txlist_bytes, config.catchup().max_txlist_bytes.get()),
            (1_000, 1_000)
        );
        let own = RateLimit { requests: NonZeroUsize::MIN, window: Duration::from_secs(1) };
        config.catchup.rate_limit = Some(own);
        assert_eq!(config.catchup().rate_limit, Some(own));
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn no_grace_at_all_is_a_setting() {
        let mut config = config().with_executor_slot_grace(Duration::ZERO);
        config.validation.clock_drift = Duration::ZERO;
        assert_eq!(config.check(), Ok(()));
    }
}
