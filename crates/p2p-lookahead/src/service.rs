//! The task that follows L1: heads first, past epochs when there is time.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError},
    time::Duration,
};

use p2p_types::UnixSeconds;
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use crate::{
    ConfigError, L1Config, L1Error, L1Event, L1Head, L1Lookahead,
    learner::Learner,
    metrics,
    rpc::{Heads, Layer},
    snapshot::Snapshot,
    source,
};

/// How long a past epoch that was asked for is not learned again, whether that went well or not.
const AGAIN: Duration = Duration::from_secs(30);
/// The pause after a step that failed without an endpoint to blame.
const PAUSE: Duration = Duration::from_secs(1);
/// Epochs whose last attempt is remembered.
const ATTEMPTS: usize = 1024;

/// The task. It ends when it is dropped, or with an error that asking again cannot heal.
#[must_use = "nothing is learned until the service runs"]
pub struct L1Service {
    config: L1Config,
    lookahead: Arc<L1Lookahead>,
    attempts: BTreeMap<u64, Instant>,
    snapshot: Option<Snapshot>,
    /// The epoch in which it was written last.
    saved: Option<u64>,
}

impl L1Lookahead {
    /// The schedule, and the service that learns it. Nothing is known before the service runs; whatever is signed by then
    /// waits.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn start(config: L1Config) -> Result<(Arc<Self>, L1Service), ConfigError> {
        config.check()?;
        metrics::describe();
        // Nodes that start together should not ask together; a hash map's own randomness is enough for that.
        let lookahead = Arc::new(Self::new(&config, RandomState::new().hash_one(config.chain_id)));
        let shared = Arc::clone(&lookahead);
        Ok((
            lookahead,
            L1Service { config, lookahead: shared, attempts: BTreeMap::new(), snapshot: None, saved: None },
        ))
    }
}

impl L1Service {
    /// Follows L1 for as long as it is polled. Failures of endpoints are waited out; what is known goes on being
    /// answered meanwhile. May be cancelled at any point: what is on disk is whole.
    ///
    /// # Errors
    /// [`L1Error::NoSource`]: the contract that the configuration names is none that tells a schedule.
    pub async fn run(mut self) -> Result<(), L1Error> {
        let lookahead = Arc::clone(&self.lookahead);
        let (mut heads, mut learner, mut again) = (Heads::None, None, false);
        loop {
            let head = if again {
                // What could not be read is not announced a second time.
                lookahead.pool.rest().await;
                lookahead.pool.newest().await.map(Some)
            } else {
                let announced = select! {
                    biased;
                    announced = lookahead.pool.wait(&mut heads) => announced,
                    () = lookahead.asked.notified(), if learner.is_some() => {
                        self.past(learner.as_mut()).await;
                        continue;
                    }
                };
                lookahead.pool.head(&mut heads, announced).await
            };
            let step = match head {
                Ok(Some(head)) => self.head(&mut learner, head).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            again = step.is_err();
            if let Err(error) = step {
                self.failed(error).await?;
            }
        }
    }

    /// A new head: learned whole, then shown.
    async fn head(&mut self, learner: &mut Option<Learner>, head: L1Head) -> Result<(), L1Error> {
        let lookahead = Arc::clone(&self.lookahead);
        let l1 = &lookahead.pool;
        let learner = match learner {
            Some(learner) => learner,
            none => none.insert(self.boot(head).await?),
        };
        let Some(step) = learner.advance(l1, head).await? else { return Ok(()) };
        let changed = self.lookahead.learned(learner.schedule());
        {
            let mut state = self.lookahead.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.head, state.error) = (Some(step.head), None);
            state.reorgs += u64::from(step.reorg.is_some());
        }
        self.measure();
        if let Some(lowest) = step.reorg {
            metrics::reorg();
            tracing::info!(lowest, head = step.head.number, "L1 has replaced blocks");
            self.tell(L1Event::Reorg { lowest });
        }
        if let Some(from) = changed {
            tracing::info!(%from, "the schedule has changed");
            self.tell(L1Event::Changed { from });
        }
        self.tell(L1Event::Head(step.head));
        // A restart catches up with an epoch of blocks sooner than each of them is written.
        let epoch = self.config.time.epoch_at(UnixSeconds::new(step.head.timestamp));
        if let Some(snapshot) = &self.snapshot
            && (self.saved != epoch || step.reorg.is_some())
        {
            self.saved = epoch;
            snapshot.write(learner.ledger()).await;
        }
        Ok(())
    }

    /// Sets the gauges to what the status says.
    fn measure(&self) {
        let status = self.lookahead.status();
        metrics::known(status.head.map_or(0, |head| head.number), status.epochs);
        for endpoint in status.endpoints {
            metrics::endpoint(Layer::L1.label(), endpoint.name, endpoint.in_use);
        }
    }

    async fn boot(&mut self, head: L1Head) -> Result<Learner, L1Error> {
        let adapter = source::discover(&self.lookahead.pool, self.config.source, head).await?;
        let generation = adapter.generation();
        tracing::info!(generation = generation.label(), whitelist = %adapter.whitelist(), "the schedule's contracts are found");
        metrics::generation(generation.label());
        self.tell(L1Event::Found { generation });
        let dir = self.config.data_dir.as_deref();
        self.snapshot = dir.map(|dir| Snapshot::new(dir, &self.config, generation));
        let ledger = match &self.snapshot {
            Some(snapshot) => snapshot.read().await,
            None => None,
        };
        Ok(Learner::new(self.config.clone(), adapter, ledger))
    }

    /// Learns one of the past epochs that were requested.
    async fn past(&mut self, learner: Option<&mut Learner>) {
        let Some(learner) = learner else { return };
        let Some(epoch) = self.lookahead.next_wanted() else { return };
        let now = Instant::now();
        self.attempts.retain(|_, at| now.duration_since(*at) < AGAIN);
        if self.attempts.contains_key(&epoch) || self.attempts.len() >= ATTEMPTS {
            self.lookahead.asked.notify_one();
            return;
        }
        self.attempts.insert(epoch, now);
        match learner.recall(&self.lookahead.pool, epoch).await {
            Ok(()) => {
                self.lookahead.learned(learner.schedule());
                tracing::debug!(epoch, "a past epoch is learned");
            }
            Err(error) => tracing::debug!(epoch, %error, "a past epoch cannot be learned now"),
        }
        // There may be more.
        self.lookahead.asked.notify_one();
    }

    async fn failed(&self, error: L1Error) -> Result<(), L1Error> {
        if matches!(error, L1Error::NoSource(_)) {
            return Err(error);
        }
        tracing::debug!(%error, "L1 is not read");
        let resting = self.lookahead.pool.rests_until().is_some();
        self.lookahead.state.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error.to_string());
        self.measure();
        if !resting {
            sleep_until(Instant::now() + PAUSE).await;
        }
        Ok(())
    }

    fn tell(&self, event: L1Event) {
        // Without subscribers nobody wants to know.
        drop(self.lookahead.events.send(event));
    }
}
