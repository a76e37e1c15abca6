//! Starts a client: opens its store, builds its network, spawns its service.

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use p2p_storage::{MemoryStorage, SdkStorage, StorageError};
use p2p_types::SigningDomain;
use p2p_validation::{Lookahead, Validator};
use preconfirmation_p2p::{Network, NetworkError, NetworkEvents, NetworkHandle};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::{
    Component, ConfigError, P2pClient, P2pClientConfig, P2pClientError, Publishing, StorageChoice,
    Subscription,
    blocking::spawn_blocking,
    client::{Guard, Inner},
    hashing::ListHasher,
    metrics::{self, Metrics},
    requests::Requester,
    service::{Service, ServiceParts},
    state::State,
};

/// A network: its handle, its events, and the future that drives it.
pub(crate) type NetworkParts = (NetworkHandle, NetworkEvents, BoxFuture<'static, Result<(), NetworkError>>);

/// Builds a [`P2pClient`]; see [`P2pClient::builder`].
#[must_use = "nothing runs before `start`"]
pub struct P2pClientBuilder {
    config: P2pClientConfig,
    lookahead: Arc<dyn Lookahead>,
    network: Option<NetworkParts>,
}

impl P2pClient {
    /// Starts a client on the current Tokio runtime, with the store and the network that `config` describes.
    /// `lookahead` says who may sign.
    ///
    /// # Errors
    /// As [`P2pClientBuilder::start`].
    pub async fn start(
        config: P2pClientConfig,
        lookahead: Arc<dyn Lookahead>,
    ) -> Result<Self, P2pClientError> {
        Self::builder(config, lookahead).start().await
    }

    /// Prepares a client whose network is not the one that `config` describes.
    pub fn builder(config: P2pClientConfig, lookahead: Arc<dyn Lookahead>) -> P2pClientBuilder {
        P2pClientBuilder::new(config, lookahead)
    }
}

impl P2pClientBuilder {
    pub(crate) fn new(config: P2pClientConfig, lookahead: Arc<dyn Lookahead>) -> Self {
        Self { config, lookahead, network: None }
    }

    /// A network to use in place of the one that the configuration describes: a simulated one, or one that the
    /// application built. It must be of the configured chain. The client runs `service`, ends when it ends, and
    /// shuts it down through `handle`.
    pub fn network(
        mut self,
        handle: NetworkHandle,
        events: NetworkEvents,
        service: impl Future<Output = Result<(), NetworkError>> + Send + 'static,
    ) -> Self {
        self.network = Some((handle, events, Box::pin(service)));
        self
    }

    /// Starts the client on the current Tokio runtime: opens the store, joins the network, serves what the store holds,
    /// and forwards what is authentic. Catching up starts with [`ChainApi::l2_synced`](crate::ChainApi::l2_synced).
    ///
    /// # Errors
    /// [`P2pClientError::Config`] or [`P2pClientError::Network`] for settings that cannot work;
    /// [`P2pClientError::Storage`] if the store cannot be opened or read.
    pub async fn start(self) -> Result<P2pClient, P2pClientError> {
        Ok(self.start_subscribed().await?.0)
    }

    /// The same with a subscription from the very beginning: [`P2pClient::subscribe`] misses what happens before it is
    /// called, such as the first peers.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_subscribed(self) -> Result<(P2pClient, Subscription), P2pClientError> {
        let Self { mut config, lookahead, network } = self;
        config.check()?;
        // Taken, so that nobody but the service holds the store.
        let (choice, domain) = (std::mem::take(&mut config.storage), config.validation.domain);
        let opened = spawn_blocking(move || {
            let storage = open(choice, domain)?;
            let (head, keeps_promises) = (storage.head()?, storage.keeps_promises());
            Ok::<_, StorageError>((storage, head, keeps_promises))
        });
        let (storage, head, keeps_promises) =
            opened.await.map_err(|_| P2pClientError::Panicked(Component::Storage))??;
        if config.publishing == Publishing::Guarded && !keeps_promises {
            return Err(ConfigError::ForgetfulStore.into());
        }
        if config.metrics {
            metrics::describe();
        }
        let (network, network_events, network_service) = match network {
            Some(parts) => parts,
            None => {
                let (handle, events, service) = Network::new(config.network.clone())?;
                let service: BoxFuture<'static, _> = Box::pin(service.run());
                (handle, events, service)
            }
        };
        let network_service =
            if config.metrics { network_service } else { Box::pin(metrics::unrecorded(network_service)) };
        let validator = Validator::with_rules(config.validation, lookahead, config.block_rules.clone());
        let max_txlist_bytes = config.network.max_txlist_bytes;
        let soft_fail = config.gossipsub_validation_soft_fail;
        let metrics = Arc::new(Metrics::new(config.metrics));
        let hasher = ListHasher::new(max_txlist_bytes);
        let requester = Requester { network, validator, max_txlist_bytes, hasher, soft_fail, metrics };
        let (commands, inbox) = mpsc::channel(config.queues.commands.get());
        let events = broadcast::Sender::new(config.queues.events.get());
        let (weak_events, subscription) = (events.downgrade(), Subscription::new(Some(events.subscribe())));
        let (changes_sender, changes) = watch::channel(0);
        let (state_sender, state) = watch::channel(State { head, ..State::default() });
        let tasks = TaskTracker::new();
        let (handler_queue, bootstrap_timeout) = (config.queues.handler, config.bootstrap_timeout);
        let clock = config.clock.clone();
        let discovers = config.network.discovery.is_some();
        let (publishing, chain_id) = (config.publishing, config.network.chain_id);
        let guard = Guard::new(config.guard.clone(), config.guard_timeout);
        let weak_storage = Arc::downgrade(&storage);
        let service = Service::new(ServiceParts {
            config,
            store: storage,
            requester: requester.clone(),
            network: network_events,
            commands: inbox,
            events,
            changes: changes_sender,
            state: state_sender,
            tasks: tasks.clone(),
        })?;
        tokio::spawn(service.run(network_service));
        let client = P2pClient::new(Inner {
            requester,
            storage: weak_storage,
            commands,
            events: weak_events,
            changes,
            state,
            handler_queue,
            bootstrap_timeout,
            soft_fail,
            discovers,
            publishing,
            guard,
            chain_id,
            clock,
            promises: Mutex::default(),
            tasks,
        });
        Ok((client, subscription))
    }
}

/// Opens the store that the configuration chooses.
#[cfg_attr(not(feature = "disk"), allow(unused_variables, reason = "a file belongs to one domain"))]
fn open(choice: StorageChoice, domain: SigningDomain) -> Result<Arc<dyn SdkStorage>, StorageError> {
    match choice {
        StorageChoice::Custom(storage) => Ok(storage),
        StorageChoice::Memory(limits) => Ok(Arc::new(MemoryStorage::new(limits))),
        #[cfg(feature = "disk")]
        StorageChoice::Disk { folder, limits } => {
            let config = p2p_storage::DiskConfig { limits, ..p2p_storage::DiskConfig::recommended(domain) };
            Ok(Arc::new(p2p_storage::DiskStorage::open(folder, config)?))
        }
    }
}

impl std::fmt::Debug for P2pClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("P2pClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
