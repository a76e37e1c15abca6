//! The one task that owns everything: it waits, and lets others work. Nothing slow happens in it: signatures
//! and hashes are checked on blocking threads, the chain and its store are worked on by one blocking thread
//! at a time, requests are futures in a set. Where the store waits for no device, work that is shorter than waking a
//! thread is done in it.

mod batch;
mod catch_up;
mod intake;
mod taps;

use std::{sync::Arc, time::Instant};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use p2p_catchup::{CatchUp, Reply, RequestId};
use p2p_storage::{SdkStorage, SeenCache, StorageError};
use p2p_types::{B256, Base, BlockNumber, HeadSyncStatus, Origin, PeerId, SdkEvent, TxList, UnixSeconds};
use p2p_validation::{Authenticated, LookaheadError, Slot};
use preconfirmation_p2p::{InboundRequest, NetworkError, NetworkEvent, NetworkEvents};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::{JoinError, JoinHandle, yield_now},
    time::{sleep_until, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::Span;

use crate::{
    L1Reorg, P2pClientConfig, P2pClientError,
    chain::{Arrived, Chain, Conflict, Job, Judged, Listed},
    client::{State, knows_its_parent},
    requests::Asker,
    skew::Skew,
};
use batch::{Owner, batch_done};
use taps::Taps;

/// Most jobs that wait for the owner of the chain before nothing new is taken in.
const MAX_JOBS: usize = 512;

/// What a handle asks of the service.
pub(crate) enum Command {
    SetBase {
        base: Base,
        open: bool,
        reply: oneshot::Sender<Result<(), StorageError>>,
    },
    L1Head(BlockNumber),
    L1Reorg {
        anchor: BlockNumber,
        reply: oneshot::Sender<Result<L1Reorg, StorageError>>,
    },
    L1Restored {
        anchor: BlockNumber,
        reply: oneshot::Sender<Result<(), StorageError>>,
    },
    /// The list of a block in the store cannot be read.
    Unreadable {
        block: BlockNumber,
        hash: B256,
    },
    Expected {
        moment: UnixSeconds,
        reply: oneshot::Sender<Result<Option<Slot>, LookaheadError>>,
    },
    Publish {
        commitment: Box<Authenticated>,
        txlist: Option<TxList>,
        acknowledged: Option<Conflict>,
        /// It goes out even while the client is not live.
        behind: bool,
        reply: oneshot::Sender<Judged>,
        span: Span,
    },
    TxList(TxList, Span),
    /// A reader that loses nothing.
    Tap(mpsc::Sender<SdkEvent>),
    Shutdown,
}

/// A list that a worker hashes; nothing comes of what it rejects.
type Prepared = JoinHandle<Option<Listed>>;

/// What a service is made of.
pub(crate) struct ServiceParts {
    pub(crate) config: P2pClientConfig,
    pub(crate) store: Arc<dyn SdkStorage>,
    pub(crate) asker: Asker,
    pub(crate) network: NetworkEvents,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: broadcast::Sender<SdkEvent>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) tasks: TaskTracker,
}

pub(crate) struct Service {
    config: P2pClientConfig,
    store: Arc<dyn SdkStorage>,
    asker: Asker,
    network: NetworkEvents,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<SdkEvent>,
    taps: Taps,
    /// A lossless reader is behind: no intake until it has caught up.
    paused: bool,
    /// Counts what has changed in the store, for those who follow it there.
    changes: watch::Sender<u64>,
    state: watch::Sender<State>,
    tasks: TaskTracker,
    machine: CatchUp,
    seen: SeenCache,
    owner: Owner,
    /// What the application asks. It goes first, and on while intake is paused.
    commanded: Vec<Job>,
    /// What comes in from the network.
    jobs: Vec<Job>,
    /// Verified lists for the next batch.
    listed: Vec<Listed>,
    /// The block that was applied last, and its timestamp.
    newest: Option<(BlockNumber, UnixSeconds)>,
    /// Our clock against those of preconfers.
    skew: Skew,
    /// Where catch-up stands by its own account.
    claimed: HeadSyncStatus,
    /// When something in the chain's pending pool is to be looked at.
    chain_deadline: Option<Instant>,
    /// Gossip for the next batch.
    commitments: Vec<Arrived>,
    /// In order of arrival, whichever worker is done first.
    txlists: FuturesOrdered<Prepared>,
    /// What catch-up has asked; each in a task of its own, where small lists are hashed.
    requests: FuturesUnordered<BoxFuture<'static, (RequestId, PeerId, Reply)>>,
    /// What peers have asked and nobody answers so far. Bounded by the network's `serving.in_work`.
    asked: Vec<(PeerId, InboundRequest)>,
    answering: FuturesUnordered<JoinHandle<()>>,
}

impl Service {
    pub(crate) fn new(parts: ServiceParts) -> Result<Self, P2pClientError> {
        let ServiceParts { config, store, asker, network, commands, events, changes, state, tasks } = parts;
        let mut machine = CatchUp::new(config.catchup(), config.seed).map_err(crate::ConfigError::from)?;
        machine.set_wall_clock(now(), config.clock.now());
        let soft_fail = config.gossipsub_validation_soft_fail;
        let chain = Chain::new(
            store.clone(),
            asker.validator.clone(),
            &config.memory,
            soft_fail,
            asker.metrics.clone(),
            now(),
        );
        Ok(Self {
            machine,
            seen: SeenCache::new(config.memory.seen, config.memory.seen_ttl),
            owner: Owner::Idle(Box::new(chain)),
            taps: Taps::default(),
            paused: false,
            commanded: vec![Job::Recall],
            jobs: Vec::new(),
            listed: Vec::new(),
            newest: None,
            skew: Skew::default(),
            claimed: HeadSyncStatus::default(),
            chain_deadline: None,
            commitments: Vec::new(),
            txlists: FuturesOrdered::new(),
            requests: FuturesUnordered::new(),
            asked: Vec::new(),
            answering: FuturesUnordered::new(),
            config,
            store,
            asker,
            network,
            commands,
            events,
            changes,
            state,
            tasks,
        })
    }

    /// Runs until a shutdown, the last handle's drop, or the death of a part; then takes everything down in
    /// order and tells how it ended.
    pub(crate) async fn run(mut self, network: BoxFuture<'static, Result<(), NetworkError>>) {
        let mut network = tokio::spawn(network);
        let driven = self.drive(&mut network).await;
        if let Err(error) = &driven {
            tracing::error!(%error, "the client ends");
        }
        let Self {
            config,
            store,
            asker,
            network: events,
            mut commands,
            commanded,
            state,
            tasks,
            owner,
            taps,
            ..
        } = self;
        let limit = config.shutdown_timeout;
        let down = async {
            // 1. No more commands: whoever waits is told `Closed`. Who has a place already, and prepares what is to be
            //    published, takes it first.
            drop(commanded);
            commands.close();
            while let Some(command) = commands.recv().await {
                drop(command);
            }
            // 2. The running batch ends, so that what was given to the store is in it. With the chain go the
            //    verdicts that are still open: they settle Ignore.
            if let Owner::Busy(batch) = owner {
                batch.await.map(drop).map_err(|_| P2pClientError::Join("chain"))?;
            }
            drop(store);
            // 3. Lossless readers read what is in their queues; what is not is in the store.
            asker.metrics.dropped("events", taps.backlog());
            drop(taps);
            // 4. The network says goodbye to its peers.
            drop(events);
            asker.network.shutdown();
            drop(asker);
            if !network.is_finished() {
                network_end((&mut network).await)?;
            }
            // 5. Tasks that served peers or published are done when the network is.
            tasks.close();
            tasks.wait().await;
            Ok(())
        };
        let late = P2pClientError::Timeout { what: "shutdown", limit };
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
            self.gather().await;
            self.start_batch()?;
            self.start_answering();
            let (flows, reads) = (self.flows(), self.reads());
            let deadline = self.deadline().filter(|_| !self.paused);
            tokio::select! {
                biased;
                ended = &mut *network => {
                    network_end(ended)?;
                    return Err(NetworkError::Closed.into());
                }
                done = batch_done(&mut self.owner) => {
                    let effects = self.finish_batch(done)?;
                    self.apply(effects)?;
                    self.measure();
                }
                command = self.commands.recv(), if self.commanded.len() < MAX_JOBS => match command {
                    Some(Command::Shutdown) | None => return Ok(()),
                    Some(command) => self.command(command),
                },
                () = self.taps.drained(), if self.taps.backlog() > 0 => self.resume(),
                Some(listed) = self.txlists.next(), if flows => self.prepared(listed)?,
                Some((id, from, reply)) = self.requests.next(), if flows => {
                    self.replied(id, from, reply);
                    // What else has come makes one batch for the chain.
                    while let Some(Some((id, from, reply))) = self.requests.next().now_or_never() {
                        self.replied(id, from, reply);
                    }
                }
                Some(answered) = self.answering.next() => {
                    if let Err(error) = answered {
                        tracing::error!(%error, "serving died");
                    }
                }
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
    async fn gather(&mut self) {
        if self.commitments.is_empty() || self.paused || !matches!(self.owner, Owner::Idle(_)) {
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
        !self.paused && self.jobs.len() + self.listed.len() < MAX_JOBS
    }

    /// Whether there is room for what comes in.
    fn reads(&self) -> bool {
        self.flows()
            && self.commitments.len() < self.config.queues.commitments.get()
            && self.txlists.len() < self.config.queues.txlists.get()
    }

    fn command(&mut self, command: Command) {
        let job = match command {
            Command::SetBase { base, open, reply } => Job::SetBase { base, open, reply },
            Command::L1Head(head) => Job::L1Head(head),
            Command::L1Reorg { anchor, reply } => Job::L1Reorg { anchor, reply },
            Command::L1Restored { anchor, reply } => Job::L1Restored { anchor, reply },
            Command::Unreadable { block, hash } => Job::Unreadable { block, hash },
            Command::Expected { moment, reply } => Job::Expected { moment, reply },
            // A handler that publishes while it is behind would fill memory with the events of that.
            Command::Publish { reply, .. } if self.taps.backlog() >= self.config.queues.events.get() => {
                drop(reply.send(Judged::Busy));
                return;
            }
            Command::Publish { behind: false, reply, .. } if !knows_its_parent(&self.machine.status()) => {
                drop(reply.send(Judged::NotLive(self.machine.status())));
                return;
            }
            Command::Publish { commitment, txlist, acknowledged, reply, span, .. } => {
                Job::Local { commitment, txlist, acknowledged, reply, span }
            }
            Command::TxList(txlist, span) => {
                Job::TxLists(vec![Listed { txlist, origin: Origin::Local, verdict: None, span }])
            }
            Command::Tap(events) => return self.taps.add(events),
            Command::Shutdown => return,
        };
        self.commanded.push(job);
    }

    fn prepared(&mut self, listed: Result<Option<Listed>, JoinError>) -> Result<(), P2pClientError> {
        self.listed.extend(listed.map_err(|_| P2pClientError::Join("validation"))?);
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
    ended.map_err(|_| P2pClientError::Join("network"))?.map_err(Into::into)
}

/// Tokio's clock, so that a paused one moves deadlines too.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
