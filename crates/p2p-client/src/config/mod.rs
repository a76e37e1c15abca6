//! All that can be set, in one place, checked once when a client starts.

mod check;
mod setters;

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use p2p_catchup::{CatchUpConfig, RateLimit};
use p2p_storage::{HeldLimits, PendingLimits, SdkStorage, StorageLimits};
use p2p_types::{Address, Clock, SigningDomain, SigningGuard, UnixSeconds};
use p2p_validation::{BlockRules, TaikoRules, ValidationConfig};
use preconfirmation_p2p::{Keypair, NetworkConfig, PacingConfig};

pub use check::ConfigError;

/// The chain id of Taiko's mainnet.
pub const MAINNET_CHAIN_ID: u64 = 167_000;

/// How a client takes part. The chain id lives in [`network`](Self::network), and everything else derives
/// from it.
#[derive(Clone)]
#[non_exhaustive]
pub struct P2pClientConfig {
    /// The network: chain id, identity, addresses, limits.
    pub network: NetworkConfig,
    /// The rules: signing domain, slasher, graces.
    pub validation: ValidationConfig,
    /// The chain's rules on block parameters.
    pub block_rules: Arc<dyn BlockRules>,
    /// Invalid gossip is ignored, not penalised: while an operator rolls out new rules and its peers still
    /// follow the old ones. Shows in [`P2pClient::leniencies`](crate::P2pClient::leniencies). What is
    /// malformed is penalised all the same.
    pub gossipsub_validation_soft_fail: bool,
    /// Where the chain is kept.
    pub storage: StorageChoice,
    /// Whether this client publishes, and what keeps its signers from contradicting themselves.
    pub publishing: Publishing,
    /// A second guard beside the store's own: the one that several nodes with one key share. None by default. See
    /// [`with_guard`](Self::with_guard).
    pub guard: Option<Arc<dyn SigningGuard>>,
    /// How long the guard may take to answer. Without an answer nothing is signed, stored or sent.
    pub guard_timeout: Duration,
    /// Catch-up. Where it has no `rate_limit` of its own, it keeps to that of `network`. Its `max_txlist_bytes` must not be below that
    /// of `network`; [`with_max_txlist_bytes`](Self::with_max_txlist_bytes) sets both.
    pub catchup: CatchUpConfig,
    /// What waits and what is remembered, in memory.
    pub memory: MemoryConfig,
    /// Queues and work in progress.
    pub queues: ClientQueues,
    /// How long [`P2pClient::shutdown`](crate::P2pClient::shutdown) may take before what is still open is
    /// abandoned.
    pub shutdown_timeout: Duration,
    /// How long [`NetworkApi::wait_for_bootstrap`](crate::NetworkApi::wait_for_bootstrap) waits for a first peer.
    pub bootstrap_timeout: Duration,
    /// Whether metrics go to the process's recorder. [`P2pClient::counts`](crate::P2pClient::counts) counts in
    /// any case.
    pub metrics: bool,
    /// How often what waits for the lookahead is judged again.
    pub schedule_retry: Duration,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl P2pClientConfig {
    /// The protocol's defaults for a chain; the network listens nowhere and knows nobody until told.
    #[must_use]
    pub fn new(chain_id: u64, identity: Keypair, validation: ValidationConfig) -> Self {
        Self::with_network(NetworkConfig::new(chain_id, identity), validation)
    }

    /// For Taiko's mainnet. The signing domain and the slasher are the deployment's: take them from its
    /// configuration.
    #[must_use]
    pub fn mainnet(identity: Keypair, domain: SigningDomain, slasher: Address) -> Self {
        Self::new(MAINNET_CHAIN_ID, identity, ValidationConfig::new(domain, slasher))
    }

    /// For tests: a new identity, a free port of the loopback interface, short waits, small memories, and publishing
    /// with a store in memory.
    #[must_use]
    pub fn test(chain_id: u64, validation: ValidationConfig) -> Self {
        let mut config = Self::local(chain_id, Keypair::generate_ed25519(), validation);
        config.memory.held_txlist_bytes = 8 * 1024 * 1024;
        config.schedule_retry = Duration::from_millis(50);
        config.publishing = Publishing::GuardedUntilRestart;
        config
    }

    /// As [`P2pClientConfig::new`], listening on a free port of the loopback interface.
    #[must_use]
    pub fn local(chain_id: u64, identity: Keypair, validation: ValidationConfig) -> Self {
        Self::with_network(NetworkConfig::local(chain_id, identity), validation)
    }

    fn with_network(network: NetworkConfig, validation: ValidationConfig) -> Self {
        Self {
            network,
            validation,
            block_rules: Arc::new(TaikoRules::default()),
            gossipsub_validation_soft_fail: false,
            storage: StorageChoice::default(),
            publishing: Publishing::default(),
            guard: None,
            guard_timeout: Duration::from_secs(2),
            catchup: CatchUpConfig::default(),
            memory: MemoryConfig::default(),
            queues: ClientQueues::default(),
            shutdown_timeout: Duration::from_secs(15),
            bootstrap_timeout: Duration::from_secs(30),
            metrics: true,
            schedule_retry: Duration::from_secs(1),
            clock: Arc::new(system_clock),
        }
    }
}

impl P2pClientConfig {
    /// Catch-up's settings, with the network's rate limit where they have none.
    pub(crate) fn catchup(&self) -> CatchUpConfig {
        let PacingConfig { requests, window, .. } = self.network.pacing;
        CatchUpConfig {
            rate_limit: self
                .catchup
                .rate_limit
                .or_else(|| Some(RateLimit { requests, window }).filter(|limit| !limit.is_unlimited())),
            ..self.catchup.clone()
        }
    }
}

impl fmt::Debug for P2pClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("P2pClientConfig")
            .field("network", &self.network)
            .field("validation", &self.validation)
            .field("storage", &self.storage)
            .field("guard", &self.guard)
            .field("catchup", &self.catchup)
            .field("memory", &self.memory)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

fn system_clock() -> UnixSeconds {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixSeconds::new(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
}

/// Whether a client publishes commitments. Whoever does must not contradict what was published before, also after a
/// crash: two contradicting signatures cost the signer its stake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Publishing {
    /// It only follows: publishing a commitment is refused.
    #[default]
    Disabled,
    /// It publishes, and the store keeps what was promised, through crashes and restarts. A store that cannot is refused
    /// at the start.
    Guarded,
    /// It publishes, and a restart may forget what was promised: whoever signs must remember it elsewhere, or the keys
    /// are worth nothing.
    GuardedUntilRestart,
}

/// Where the chain is stored.
#[derive(Clone)]
#[non_exhaustive]
pub enum StorageChoice {
    /// In memory: lost with the process.
    Memory(StorageLimits),
    /// In this folder. Everything is synced to disk before an event tells of it.
    #[cfg(feature = "disk")]
    Disk {
        /// Created where it is missing.
        folder: std::path::PathBuf,
        /// How much it may hold.
        limits: StorageLimits,
    },
    /// In a store that the application has opened, or its own implementation.
    Custom(Arc<dyn SdkStorage>),
}

impl<S: SdkStorage + 'static> From<Arc<S>> for StorageChoice {
    fn from(storage: Arc<S>) -> Self {
        Self::Custom(storage)
    }
}

impl From<Arc<dyn SdkStorage>> for StorageChoice {
    fn from(storage: Arc<dyn SdkStorage>) -> Self {
        Self::Custom(storage)
    }
}

impl fmt::Debug for StorageChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(limits) => f.debug_tuple("Memory").field(limits).finish(),
            #[cfg(feature = "disk")]
            Self::Disk { folder, limits } => {
                f.debug_struct("Disk").field("folder", folder).field("limits", limits).finish()
            }
            Self::Custom(_) => f.debug_tuple("Custom").finish_non_exhaustive(),
        }
    }
}

impl Default for StorageChoice {
    fn default() -> Self {
        Self::Memory(StorageLimits::default())
    }
}

/// Bounds of what is kept in memory beside the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// Commitments that wait for their parent, for the schedule or for their time.
    pub pending: PendingLimits,
    /// Bytes of transaction lists that no commitment names yet.
    pub held_txlist_bytes: usize,
    /// Bytes of these that one peer may bring within [`held_txlist_ttl`](Self::held_txlist_ttl). What is beyond is
    /// neither held nor forwarded.
    pub held_txlist_bytes_per_peer: usize,
    /// How long such a list is held.
    pub held_txlist_ttl: Duration,
    /// Messages remembered as seen.
    pub seen: u32,
    /// How long.
    pub seen_ttl: Duration,
    /// Heights of windows for which it is remembered what their preconfer has promised.
    pub promises: u32,
}

impl MemoryConfig {
    pub(crate) const fn held(&self) -> HeldLimits {
        HeldLimits {
            bytes: self.held_txlist_bytes,
            bytes_per_peer: self.held_txlist_bytes_per_peer,
            ttl: self.held_txlist_ttl,
        }
    }
}

impl Default for MemoryConfig {
    /// 64 MiB of lists for a minute, 8 MiB of one peer, 16,384 messages for ten minutes, the promises for 16,384 heights.
    fn default() -> Self {
        Self {
            pending: PendingLimits::default(),
            held_txlist_bytes: 64 * 1024 * 1024,
            held_txlist_bytes_per_peer: 8 * 1024 * 1024,
            held_txlist_ttl: Duration::from_secs(60),
            seen: 16 * 1024,
            seen_ttl: Duration::from_secs(600),
            promises: 16 * 1024,
        }
    }
}

/// Bounds of the client's queues. Where one is full, what is said here happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientQueues {
    /// Commands of handles. Full: the caller waits, or is told [`Backpressure`] by the `try_` methods.
    ///
    /// [`Backpressure`]: crate::P2pClientError::Backpressure
    pub commands: NonZeroUsize,
    /// Events kept for each subscriber. Full: the oldest go, and the subscriber is told how many.
    pub events: NonZeroUsize,
    /// Events kept for each handler of [`P2pClient::run_with_handler`](crate::P2pClient::run_with_handler).
    /// Full: nothing is taken in from gossip and catch-up.
    pub handler: NonZeroUsize,
    /// Commitments of gossip that wait for the next batch. Full: no gossip is read, and the network drops and counts
    /// what it cannot queue.
    pub commitments: NonZeroUsize,
    /// Transaction lists of gossip that are being hashed. The same where it is full.
    pub txlists: NonZeroUsize,
}

impl Default for ClientQueues {
    fn default() -> Self {
        let nz = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self { commands: nz(64), events: nz(4096), handler: nz(256), commitments: nz(256), txlists: nz(16) }
    }
}
