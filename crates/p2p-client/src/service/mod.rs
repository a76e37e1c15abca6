//! The service task: one event loop over network events, commands of handles, catch-up's requests and timers.
//!
//! Nothing slow happens in it: signatures and hashes are checked on Tokio's blocking pool, the chain processor and its
//! store are driven by the [`ChainWorker`] on one blocking thread at a time, and requests are futures in a set. Where the
//! store waits for no device, work that is shorter than waking a thread is done in the task.

mod catch_up;
mod effects;
mod ingestion;
mod reorg_coalescer;
mod subscribers;
mod worker;

use std::{sync::Arc, time::Instant};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use hashbrown::HashSet;
use p2p_catchup::{CatchUp, Reply, RequestId};
use p2p_storage::{SdkStorage, SeenCache};
use p2p_types::{B256, BlockNumber, HeadSyncStatus, PeerId, SdkEvent, UnixSeconds};
use preconfirmation_p2p::{InboundRequest, NetworkError, NetworkEvent, NetworkEvents};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::{JoinError, JoinHandle, yield_now},
    time::{sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    Component, P2pClientConfig, P2pClientError,
    chain::{ChainProcessor, Command, PublishDecision, VerifiedTxList},
    command::ServiceCommand,
    requests::Requester,
    skew::Skew,
    state::{State, knows_its_parent},
};
use reorg_coalescer::ReorgCoalescer;
use subscribers::LosslessSubscribers;
use worker::ChainWorker;

/// Most commands that wait for the chain processor before nothing new is taken in.
const MAX_WAITING: usize = 512;

/// A list that a worker hashes; nothing comes of what it rejects.
type Prepared = JoinHandle<Option<VerifiedTxList>>;

/// What a service is made of.
pub(crate) struct ServiceParts {
    pub(crate) config: P2pClientConfig,
    pub(crate) store: Arc<dyn SdkStorage>,
    pub(crate) requester: Requester,
    pub(crate) network: NetworkEvents,
    pub(crate) commands: mpsc::Receiver<ServiceCommand>,
    pub(crate) events: broadcast::Sender<SdkEvent>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) tasks: TaskTracker,
}

pub(crate) struct Service {
    config: P2pClientConfig,
    store: Arc<dyn SdkStorage>,
    requester: Requester,
    network: NetworkEvents,
    commands: mpsc::Receiver<ServiceCommand>,
    events: broadcast::Sender<SdkEvent>,
    lossless: LosslessSubscribers,
    reorgs: ReorgCoalescer,
    /// A lossless subscriber is behind: nothing is taken in until it has caught up.
    ingestion_paused: bool,
    /// Counts what has changed in the store, for those who follow it there.
    changes: watch::Sender<u64>,
    state: watch::Sender<State>,
    tasks: TaskTracker,
    machine: CatchUp,
    seen: SeenCache,
    worker: ChainWorker,
    /// The block that was applied last, and its timestamp.
    newest: Option<(BlockNumber, UnixSeconds)>,
    /// Our clock against those of preconfers.
    skew: Skew,
    /// Where catch-up stands by its own account.
    claimed: HeadSyncStatus,
    /// In order of arrival, whichever worker is done first.
    txlists: FuturesOrdered<Prepared>,
    /// Catch-up's requests; each in a task of its own, where small lists are hashed.
    requests: FuturesUnordered<BoxFuture<'static, (RequestId, PeerId, Reply)>>,
    /// Requests of peers that wait for a thread to serve them. Bounded by the network's `serving.in_flight`.
    inbound_requests: Vec<(PeerId, InboundRequest)>,
    serving: FuturesUnordered<JoinHandle<HashSet<B256>>>,
}

impl Service {
    pub(crate) fn new(parts: ServiceParts) -> Result<Self, P2pClientError> {
        let ServiceParts { config, store, requester, network, commands, events, changes, state, tasks } =
            parts;
        let mut machine = CatchUp::new(config.catchup(), config.network.effective_seed())
            .map_err(crate::ConfigError::from)?;
        machine.set_wall_clock(now(), config.clock.now());
        let soft_fail = config.gossipsub_validation_soft_fail;
        let processor = ChainProcessor::new(
            store.clone(),
            requester.validator.clone(),
            &config.memory,
            soft_fail,
            requester.metrics.clone(),
        );
        let mut worker = ChainWorker::new(processor, store.clone());
        worker.inbox.push_from_application(Command::WarmUp);
        Ok(Self {
            machine,
            seen: SeenCache::new(config.memory.seen, config.memory.seen_ttl),
            worker,
            lossless: LosslessSubscribers::default(),
            reorgs: ReorgCoalescer::default(),
            ingestion_paused: false,
            newest: None,
            skew: Skew::default(),
            claimed: HeadSyncStatus::default(),
            txlists: FuturesOrdered::new(),
            requests: FuturesUnordered::new(),
            inbound_requests: Vec::new(),
            serving: FuturesUnordered::new(),
            config,
            store,
            requester,
            network,
            commands,
            events,
            changes,
            state,
            tasks,
        })
    }

    /// Runs until a shutdown, the last handle's drop, or the death of a part; then takes everything down in
    /// order and publishes how it ended.
    pub(crate) async fn run(mut self, network: BoxFuture<'static, Result<(), NetworkError>>) {
        let mut network = tokio::spawn(network);
        let driven = self.drive(&mut network).await;
        self.release_reorgs();
        if let Err(error) = &driven {
            tracing::error!(%error, "the client ends");
        }
        let Self {
            config,
            store,
            requester,
            network: events,
            mut commands,
            state,
            tasks,
            mut worker,
            lossless,
            ..
        } = self;
        let limit = config.shutdown_timeout;
        let down = async {
            // 1. No more commands: whoever waits is told `Closed`. Who has a place already, and prepares what is to be
            //    published, takes it first.
            drop(std::mem::take(&mut worker.inbox));
            commands.close();
            while let Some(command) = commands.recv().await {
                drop(command);
            }
            // 2. The running batch ends, so that what was given to the store is in it. With the chain go the
            //    verdicts that are still open: they settle Ignore.
            worker.shut_down().await?;
            drop(store);
            // 3. Lossless subscribers read what is in their queues; what is not is in the store.
            requester.metrics.dropped("events", lossless.overflow());
            drop(lossless);
            // 4. The network says goodbye to its peers.
            drop(events);
            requester.network.shutdown();
            drop(requester);
            if !network.is_finished() {
                network_end((&mut network).await)?;
            }
            // 5. Tasks that served peers or published are done when the network is.
            tasks.close();
            tasks.wait().await;
            Ok(())
        };
        let late = P2pClientError::ShutdownTimeout { limit };
        let down = timeout(limit, down).await.unwrap_or(Err(late));
        network.abort();
        let ended = driven.and(down);
        state.send_modify(|state| state.ended = Some(ended));
    }

    async fn drive(
        &mut self,
        network: &mut JoinHandle<Result<(), NetworkError>>,
    ) -> Result<(), P2pClientError> {
        let mut schedule_retry = tokio::time::interval(self.config.schedule_retry);
        schedule_retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.batching_window().await;
            self.run_chain()?;
            self.start_serving();
            let (flows, reads) = (self.flows(), self.reads());
            let deadline = self.deadline().filter(|_| !self.ingestion_paused);
            tokio::select! {
                biased;
                ended = &mut *network => {
                    network_end(ended)?;
                    return Err(NetworkError::Closed.into());
                }
                effects = self.worker.finished() => {
                    self.apply(effects?)?;
                    self.measure();
                }
                command = self.commands.recv(), if self.worker.inbox.application_commands() < MAX_WAITING => match command {
                    Some(ServiceCommand::Shutdown) | None => return Ok(()),
                    Some(command) => self.command(command),
                },
                () = self.lossless.fill_room(), if self.lossless.overflow() > 0 => self.resume_ingestion(),
                Some(listed) = self.txlists.next(), if flows => self.prepared(listed)?,
                Some((id, from, reply)) = self.requests.next(), if flows => {
                    self.replied(id, from, reply);
                    // What else has come makes one batch for the chain.
                    while let Some(Some((id, from, reply))) = self.requests.next().now_or_never() {
                        self.replied(id, from, reply);
                    }
                }
                Some(served) = self.serving.next() => match served {
                    Ok(damaged) => self.served(damaged),
                    Err(error) => tracing::error!(%error, "serving died"),
                },
                event = network_event(&mut self.network, reads) => match event {
                    Some(event) => self.network_event(event),
                    // The network's own end, above, says why.
                    None => network_end((&mut *network).await).and(Err(NetworkError::Closed.into()))?,
                },
                () = sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => self.tick(),
                _ = schedule_retry.tick() => {
                    self.retry_schedule();
                    self.check_clock();
                    self.measure();
                }
            }
        }
    }

    /// Before commitments are judged, other tasks that have something to do get a turn, and what comes in with that
    /// joins the batch. A peer whose copy has come by then is not sent one: under load each message crosses fewer
    /// links, which saves more than the wait costs.
    async fn batching_window(&mut self) {
        if self.worker.inbox.commitments() == 0 || self.ingestion_paused || !self.worker.is_idle() {
            return;
        }
        yield_now().await;
        // No more than Tokio lets a task do in one go.
        while self.reads()
            && let Some(Some(event)) = self.network.next().now_or_never()
        {
            self.network_event(event);
        }
    }

    /// Whether what comes in is worked off.
    fn flows(&self) -> bool {
        !self.ingestion_paused && self.worker.inbox.ingested() < MAX_WAITING
    }

    /// Whether there is room for what comes in.
    fn reads(&self) -> bool {
        self.flows()
            && self.worker.inbox.commitments() < self.config.queues.commitments.get()
            && self.txlists.len() < self.config.queues.txlists.get()
    }

    fn command(&mut self, command: ServiceCommand) {
        let command = match command {
            ServiceCommand::Chain(command) => command,
            ServiceCommand::SubscribeLossless(events) => return self.lossless.add(events),
            ServiceCommand::Shutdown => return,
        };
        if let Command::Publish { allow_behind, .. } | Command::Permit { allow_behind, .. } = &command
            && let Some(refused) = self.refuses_to_publish(*allow_behind)
            && let Command::Publish { reply, .. } | Command::Permit { reply, .. } = command
        {
            // Whoever asked may have gone.
            return drop(reply.send(refused));
        }
        self.worker.inbox.push_from_application(command);
    }

    /// Why nothing can be published at the moment, if that is so.
    fn refuses_to_publish(&self, allow_behind: bool) -> Option<PublishDecision> {
        // A handler that publishes while it is behind would fill memory with the events of that.
        if self.lossless.overflow() >= self.config.queues.events.get() {
            return Some(PublishDecision::Busy);
        }
        let status = self.machine.status();
        (!allow_behind && !knows_its_parent(&status)).then_some(PublishDecision::NotLive(status))
    }

    fn prepared(&mut self, listed: Result<Option<VerifiedTxList>, JoinError>) -> Result<(), P2pClientError> {
        if let Some(txlist) = listed.map_err(|_| P2pClientError::Panicked(Component::Validation))? {
            self.worker.inbox.push_txlist(txlist);
        }
        Ok(())
    }
}

/// The next event. Whoever is too busy to take anything in still serves.
async fn network_event(network: &mut NetworkEvents, reads: bool) -> Option<NetworkEvent> {
    if reads {
        return network.next().await;
    }
    match network.next_request().await {
        Some(request) => Some(request),
        // The service's own end says why.
        None => std::future::pending().await,
    }
}

fn network_end(ended: Result<Result<(), NetworkError>, JoinError>) -> Result<(), P2pClientError> {
    ended.map_err(|_| P2pClientError::Panicked(Component::Network))?.map_err(Into::into)
}

/// Tokio's clock, so that a paused one moves deadlines too.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
