//! The settings that most callers touch, one after the other. All others are public fields.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use p2p_catchup::Backoff;
use p2p_types::{Address, Clock, SigningDomain, SigningGuard};
use p2p_validation::{BlockRules, ZeroParent};
use preconfirmation_p2p::Multiaddr;

use super::{ClientQueues, MemoryConfig, P2pClientConfig, Publishing, StorageChoice};

impl P2pClientConfig {
    /// Listens on this address as well.
    #[must_use]
    pub fn with_listen(mut self, address: Multiaddr) -> Self {
        self.network.listen.push(address);
        self
    }

    /// Peers to stay connected with.
    #[must_use]
    pub fn with_static_peers(mut self, peers: impl IntoIterator<Item = Multiaddr>) -> Self {
        self.network.static_peers = peers.into_iter().collect();
        self
    }

    /// Under which domain commitments are signed.
    #[must_use]
    pub const fn with_domain(mut self, domain: SigningDomain) -> Self {
        self.validation.domain = domain;
        self
    }

    /// The chain's slasher.
    #[must_use]
    pub const fn with_slasher(mut self, slasher: Address) -> Self {
        self.validation.slasher = slasher;
        self
    }

    /// How long after its window's end a commitment may still arrive live (§5), in whole seconds.
    #[must_use]
    pub const fn with_executor_slot_grace(mut self, grace: Duration) -> Self {
        self.validation.executor_slot_grace = grace;
        self
    }

    /// What a zero parent hash means; anything but the default shows as a leniency.
    #[must_use]
    pub const fn with_zero_parent(mut self, zero_parent: ZeroParent) -> Self {
        self.validation.zero_parent = zero_parent;
        self
    }

    /// See [`gossipsub_validation_soft_fail`](P2pClientConfig::gossipsub_validation_soft_fail).
    #[must_use]
    pub const fn with_soft_fail(mut self, soft_fail: bool) -> Self {
        self.gossipsub_validation_soft_fail = soft_fail;
        self
    }

    /// The chain's rules on block parameters.
    #[must_use]
    pub fn with_block_rules(mut self, rules: Arc<dyn BlockRules>) -> Self {
        self.block_rules = rules;
        self
    }

    /// The chain's cap on a transaction list, in bytes.
    #[must_use]
    pub fn with_max_txlist_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.network.max_txlist_bytes = bytes.get();
        self.catchup.max_txlist_bytes = bytes;
        self
    }

    /// From opening a request's stream to its whole answer. Catch-up gives up twice as late.
    #[must_use]
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.network.pacing.timeout = timeout;
        self.catchup.request_deadline = timeout.saturating_mul(2);
        self
    }

    /// How long [`NetworkApi::wait_for_bootstrap`](crate::NetworkApi::wait_for_bootstrap) waits for a first peer.
    #[must_use]
    pub const fn with_bootstrap_timeout(mut self, timeout: Duration) -> Self {
        self.bootstrap_timeout = timeout;
        self
    }

    /// Commitments asked for with one request.
    #[must_use]
    pub const fn with_page_size(mut self, commitments: NonZeroU32) -> Self {
        self.catchup.page_size = commitments;
        self
    }

    /// Catch-up's pauses after failures, their jitter, and how many failures a peer may cost.
    #[must_use]
    pub const fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.catchup.backoff = backoff;
        self
    }

    /// Sizes of the client's queues.
    #[must_use]
    pub const fn with_queues(mut self, queues: ClientQueues) -> Self {
        self.queues = queues;
        self
    }

    /// Bounds of what is kept in memory beside the store.
    #[must_use]
    pub const fn with_memory(mut self, memory: MemoryConfig) -> Self {
        self.memory = memory;
        self
    }

    /// Where the chain is stored: a choice, or a store that the application has opened.
    #[must_use]
    pub fn with_storage(mut self, storage: impl Into<StorageChoice>) -> Self {
        self.storage = storage.into();
        self
    }

    /// Whether this client publishes commitments, and what its guard remembers.
    #[must_use]
    pub const fn with_publishing(mut self, publishing: Publishing) -> Self {
        self.publishing = publishing;
        self
    }

    /// A guard that is asked for every commitment, beside the store's own guard: two nodes with one key share it. It is
    /// asked when all local rules allow the commitment, and before anything is stored or sent. It is not waived by
    /// [`publish_despite_conflict`](crate::Publisher::publish_despite_conflict).
    ///
    /// What it has recorded may still be refused afterwards, if the chain has moved meanwhile: the record then forbids a
    /// block that nobody has seen, and allows that one to be published again.
    #[must_use]
    pub fn with_guard(mut self, guard: Arc<dyn SigningGuard>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// How long the guard may take to answer.
    #[must_use]
    pub const fn with_guard_timeout(mut self, timeout: Duration) -> Self {
        self.guard_timeout = timeout;
        self
    }

    /// Whether metrics go to the process's recorder.
    #[must_use]
    pub const fn with_metrics(mut self, metrics: bool) -> Self {
        self.metrics = metrics;
        self
    }

    /// The wall clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}
