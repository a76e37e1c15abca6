//! The one task that owns everything: it waits, and lets others work. Nothing slow happens in it: signatures
//! and hashes are checked on blocking threads, the chain and its store are worked on by one blocking thread
//! at a time, requests are futures in a set.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use p2p_catchup::{CatchUp, Failure, Input, Output, Reply, RequestId};
use p2p_storage::{SdkStorage, SeenCache, StorageError};
use p2p_types::{
    Base, BlockNumber, Bytes, HeadSyncStatus, MessageId, Origin, PeerId, SdkEvent, TxList, UnixSeconds,
};
use p2p_validation::{Arrival, Authenticated};
use preconfirmation_p2p::{
    GossipMessage, InboundRequest, NetworkError, NetworkEvent, NetworkEvents, Verdict, VerdictToken,
};
use preconfirmation_types::{Offence, RawTxListGossip, TxListError};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    P2pClientConfig, P2pClientError,
    chain::{Candidate, Chain, Effects, Job, Judged, MAX_AHEAD},
    client::State,
    requests::{ANSWERING, Asker, serve},
};

/// Most jobs that wait for the owner of the chain before nothing new is taken in.
const MAX_JOBS: usize = 512;

/// What a handle asks of the service.
pub(crate) enum Command {
    SetBase { base: Base, reply: oneshot::Sender<Result<(), StorageError>> },
    Publish { commitment: Box<Authenticated>, txlist: Option<TxList>, reply: oneshot::Sender<Judged> },
    TxList(TxList),
    Shutdown,
}

/// A job that a worker prepares; nothing comes of what it rejects.
type Prepared = JoinHandle<Option<Job>>;

/// What a service is made of.
pub(crate) struct ServiceParts {
    pub(crate) config: P2pClientConfig,
    pub(crate) store: Arc<dyn SdkStorage>,
    pub(crate) asker: Asker,
    pub(crate) network: NetworkEvents,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: broadcast::Sender<SdkEvent>,
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
    state: watch::Sender<State>,
    tasks: TaskTracker,
    machine: CatchUp,
    seen: SeenCache,
    owner: Owner,
    jobs: Vec<Job>,
    /// The block that was applied last, and its timestamp.
    newest: Option<(BlockNumber, UnixSeconds)>,
    /// When something in the chain's waiting room is to be looked at.
    chain_deadline: Option<Instant>,
    /// In order of arrival, whichever worker is done first.
    commitments: FuturesOrdered<Prepared>,
    txlists: FuturesOrdered<Prepared>,
    /// What catch-up has asked; each in a task of its own, where small lists are hashed.
    requests: FuturesUnordered<BoxFuture<'static, (RequestId, PeerId, Reply)>>,
    /// What peers have asked and nobody answers so far. Bounded by the network's `serving.in_work`.
    asked: Vec<(PeerId, InboundRequest)>,
    answering: FuturesUnordered<JoinHandle<()>>,
}

/// Where the chain is: here, or with the thread that works on it.
enum Owner {
    Idle(Box<Chain>),
    Busy(JoinHandle<(Box<Chain>, Effects)>),
    /// The thread died and took the chain with it.
    Lost,
}

impl Service {
    pub(crate) fn new(parts: ServiceParts) -> Result<Self, P2pClientError> {
        let ServiceParts { config, store, asker, network, commands, events, state, tasks } = parts;
        let mut machine = CatchUp::new(config.catchup(), config.seed)?;
        machine.set_wall_clock(now(), config.clock.now());
        let chain =
            Chain::new(store.clone(), asker.validator.clone(), &config.memory, asker.metrics.clone(), now());
        Ok(Self {
            machine,
            seen: SeenCache::new(config.memory.seen, config.memory.seen_ttl),
            owner: Owner::Idle(Box::new(chain)),
            jobs: Vec::new(),
            newest: None,
            chain_deadline: None,
            commitments: FuturesOrdered::new(),
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
        let Self { config, store, asker, network: events, commands, state, tasks, owner, .. } = self;
        let limit = config.shutdown_timeout;
        let down = async {
            // 1. No more commands: whoever waits is told `Closed`.
            drop(commands);
            // 2. The running batch ends, so that what was given to the store is in it. With the chain go the
            //    verdicts that are still open: they settle Ignore.
            if let Owner::Busy(batch) = owner {
                batch.await.map(drop).map_err(|_| P2pClientError::Join("chain"))?;
            }
            drop(store);
            // 3. The network says goodbye to its peers.
            drop(events);
            asker.network.shutdown();
            drop(asker);
            if !network.is_finished() {
                network_end((&mut network).await)?;
            }
            // 4. Tasks that served peers or published are done when the network is.
            tasks.close();
            tasks.wait().await;
            Ok(())
        };
        let down = timeout(limit, down).await.unwrap_or(Err(P2pClientError::Join("shutdown took too long")));
        network.abort();
        let ended = driven.and(down);
        state.send_modify(|state| state.ended = Some(ended));
    }

    async fn drive(
        &mut self,
        network: &mut JoinHandle<Result<(), NetworkError>>,
    ) -> Result<(), P2pClientError> {
        let mut schedule_retry =
            tokio::time::interval(self.config.schedule_retry.max(Duration::from_millis(1)));
        schedule_retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_batch();
            self.start_answering();
            let deadline = self.deadline();
            let room = self.jobs.len() < MAX_JOBS;
            let reads = room
                && self.commitments.len() < self.config.queues.commitments.get()
                && self.txlists.len() < self.config.queues.txlists.get();
            tokio::select! {
                biased;
                ended = &mut *network => {
                    network_end(ended)?;
                    return Err(NetworkError::Closed.into());
                }
                done = batch_done(&mut self.owner) => {
                    let effects = self.finish_batch(done)?;
                    self.apply(effects)?;
                }
                command = self.commands.recv(), if room => match command {
                    Some(Command::Shutdown) | None => return Ok(()),
                    Some(command) => self.command(command),
                },
                Some(job) = self.commitments.next(), if room => self.prepared(job)?,
                Some(job) = self.txlists.next(), if room => self.prepared(job)?,
                Some((id, from, reply)) = self.requests.next() => {
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
                event = self.network.next(), if reads => match event {
                    Some(event) => self.network_event(event),
                    // The network's own end, above, says why.
                    None => network_end((&mut *network).await).and(Err(NetworkError::Closed.into()))?,
                },
                () = sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => self.tick(),
                _ = schedule_retry.tick() => self.retry_schedule(),
            }
        }
    }

    /// Hands what has gathered to the owner of the chain, if it is not at work.
    fn start_batch(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        self.owner = match std::mem::replace(&mut self.owner, Owner::Lost) {
            Owner::Idle(mut chain) => {
                let jobs = std::mem::take(&mut self.jobs);
                let (now, unix, reference) = (now(), self.config.clock.now(), self.reference());
                Owner::Busy(spawn_blocking(move || {
                    let effects = chain.process(now, unix, reference, jobs);
                    (chain, effects)
                }))
            }
            other => other,
        };
    }

    /// Hands what peers have asked to a blocking thread, if not enough of them are at it.
    fn start_answering(&mut self) {
        if !self.asked.is_empty() && self.answering.len() < ANSWERING {
            let (store, asked) = (self.store.clone(), std::mem::take(&mut self.asked));
            self.answering.push(self.tasks.spawn_blocking(move || serve(store.as_ref(), asked)));
        }
    }

    fn finish_batch(
        &mut self,
        done: Result<(Box<Chain>, Effects), JoinError>,
    ) -> Result<Effects, P2pClientError> {
        let Ok((chain, effects)) = done else {
            self.owner = Owner::Lost;
            return Err(P2pClientError::Join("chain"));
        };
        self.chain_deadline = chain.next_deadline();
        self.owner = Owner::Idle(chain);
        Ok(effects)
    }

    fn apply(&mut self, effects: Effects) -> Result<(), P2pClientError> {
        // What a handle reads is never behind the events that it has been told.
        let head = effects.events.iter().rev().find_map(|event| match event {
            SdkEvent::Head { head } => Some(*head),
            _ => None,
        });
        if let Some(head) = head {
            self.state.send_modify(|state| state.head = head);
        }
        for event in effects.events {
            if let SdkEvent::Commitment { block, commitment, .. } = &event {
                let timestamp = u64::try_from(commitment.signed().preconf().timestamp).unwrap_or(u64::MAX);
                self.newest = Some((*block, UnixSeconds::new(timestamp)));
            }
            self.emit(event);
        }
        for (peer, offence) in effects.reports {
            self.asker.network.report(peer, offence);
        }
        for input in effects.inputs {
            self.catch_up(input);
        }
        effects.fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    fn emit(&self, event: SdkEvent) {
        if let SdkEvent::Status { status } = event {
            self.asker.metrics.status(&status);
            self.state.send_modify(|state| state.status = status);
        }
        // An error only says that nobody subscribes.
        drop(self.events.send(event));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::SetBase { base, reply } => self.jobs.push(Job::SetBase { base, reply }),
            Command::Publish { commitment, txlist, reply } => {
                self.jobs.push(Job::Local { commitment: *commitment, txlist, reply });
            }
            Command::TxList(txlist) => {
                self.jobs.push(Job::TxList { txlist, origin: Origin::Local, verdict: None });
            }
            Command::Shutdown => {}
        }
    }

    fn prepared(&mut self, job: Result<Option<Job>, JoinError>) -> Result<(), P2pClientError> {
        self.jobs.extend(job.map_err(|_| P2pClientError::Join("validation"))?);
        Ok(())
    }

    fn network_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::PeerConnected(peer) => {
                self.state.send_modify(|state| state.peers.push(peer));
                self.emit(SdkEvent::PeerConnected { peer });
                self.catch_up(Input::PeerUp(peer));
            }
            NetworkEvent::PeerDisconnected(peer) => {
                self.state.send_modify(|state| state.peers.retain(|other| *other != peer));
                self.emit(SdkEvent::PeerDisconnected { peer });
                self.catch_up(Input::PeerDown(peer));
            }
            NetworkEvent::Gossip { from, message, verdict } => match message {
                GossipMessage::Commitment(ssz) => self.gossip_commitment(from, ssz, verdict),
                GossipMessage::TxList(gossip) => self.gossip_txlist(from, gossip, verdict),
            },
            NetworkEvent::Request { from, request } => {
                self.asked.push((from, request));
            }
            _ => tracing::debug!("an event of a kind that this version does not know"),
        }
    }

    fn gossip_commitment(&mut self, from: PeerId, ssz: Bytes, verdict: VerdictToken) {
        if !self.seen.insert(now(), MessageId::of_commitment(&ssz)) {
            self.asker.metrics.known("commitment");
            verdict.settle(Verdict::Ignore);
            return;
        }
        let (validator, metrics) = (self.asker.validator.clone(), self.asker.metrics.clone());
        let arrival = Arrival::Live(self.config.clock.now());
        self.commitments.push_back(spawn_blocking(move || match validator.authenticate(&ssz) {
            Ok(commitment) => {
                let origin = Origin::Gossip(from);
                Some(Job::Gossip(Candidate { commitment, arrival, origin, verdict: Some(verdict) }))
            }
            Err(rejection) => {
                metrics.rejected(rejection.label());
                tracing::debug!(%from, %rejection, "rejected");
                verdict.settle(Verdict::Reject(rejection.offence()));
                None
            }
        }));
    }

    fn gossip_txlist(&mut self, from: PeerId, gossip: RawTxListGossip, verdict: VerdictToken) {
        let (limit, metrics) = (self.asker.max_txlist_bytes, self.asker.metrics.clone());
        self.txlists.push_back(spawn_blocking(move || match gossip.verify(limit) {
            Ok(txlist) => Some(Job::TxList { txlist, origin: Origin::Gossip(from), verdict: Some(verdict) }),
            Err(error) => {
                tracing::debug!(%from, %error, "rejected");
                let offence = match error {
                    TxListError::TooLarge { .. } => Offence::Oversize,
                    _ => Offence::HashMismatch,
                };
                metrics.rejected(offence.label());
                verdict.settle(Verdict::Reject(offence));
                None
            }
        }));
    }

    /// An answer to catch-up. What a head claims is bounded by what the schedule allows: a block has a second of
    /// its own, give or take what gossip is granted too.
    fn replied(&mut self, id: RequestId, from: PeerId, reply: Reply) {
        if matches!(reply, Reply::Head { .. })
            && let Some((newest, at)) = self.newest
        {
            let seconds = self.config.clock.now().get().saturating_sub(at.get());
            let block = newest.saturating_add(seconds).saturating_add(MAX_AHEAD);
            self.catch_up(Input::Ceiling { block });
        }
        self.catch_up(Input::Reply { id, from, reply });
    }

    /// Feeds the sync machine and does what it asks for.
    fn catch_up(&mut self, input: Input) {
        self.machine.handle(now(), input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { id, to, request } => {
                    let asker = self.asker.clone();
                    let reply = self.tasks.spawn(async move { asker.reply(to, request).await });
                    self.requests.push(Box::pin(async move {
                        let reply = reply.await.unwrap_or(Reply::Failed(Failure::NotAnswered));
                        (id, to, reply)
                    }));
                }
                Output::Import { id, from, page } => self.jobs.push(Job::Import { id, from, page }),
                Output::TxList { from, txlist } => {
                    self.jobs.push(Job::TxList { txlist, origin: Origin::Sync(from), verdict: None });
                }
                Output::Report { peer, offence } => self.asker.network.report(peer, offence),
                // Behind the jobs that it builds on: what is said to be here is in the store by then.
                Output::Status(status) => {
                    self.jobs.pop_if(|last| matches!(last, Job::Status(_)));
                    self.jobs.push(Job::Status(status));
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let chain = matches!(self.owner, Owner::Idle(_)).then_some(self.chain_deadline).flatten();
        [self.machine.next_deadline(), chain].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let now = now();
        if self.chain_deadline.is_some_and(|deadline| deadline <= now) && self.jobs.is_empty() {
            self.jobs.push(Job::Tick);
        }
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.catch_up(Input::Tick);
        }
    }

    fn retry_schedule(&mut self) {
        if let Owner::Idle(chain) = &self.owner
            && chain.waits_for_schedule()
        {
            self.jobs.push(Job::Tick);
        }
    }

    /// The best known height, by which what gossip claims is judged plausible.
    fn reference(&self) -> Option<BlockNumber> {
        match self.machine.status() {
            HeadSyncStatus::Live { head } => head.map(|head| head.number),
            HeadSyncStatus::Syncing { applied, seen, target, .. } => Some(applied.max(seen).max(target)),
            HeadSyncStatus::Stalled { applied, target, .. } => Some(applied.max(target)),
            _ => None,
        }
    }
}

/// The end of the batch at work; never, if none is.
async fn batch_done(owner: &mut Owner) -> Result<(Box<Chain>, Effects), JoinError> {
    match owner {
        Owner::Busy(batch) => batch.await,
        Owner::Idle(_) | Owner::Lost => std::future::pending().await,
    }
}

fn network_end(ended: Result<Result<(), NetworkError>, JoinError>) -> Result<(), P2pClientError> {
    ended.map_err(|_| P2pClientError::Join("network"))?.map_err(Into::into)
}

/// Tokio's clock, so that a paused one moves deadlines too.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
