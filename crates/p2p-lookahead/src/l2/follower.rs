//! The follower of L2: asks, waits, fails over, and says how it is doing.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use p2p_types::{BlockNumber, L2Tip, L2View, PromiseOutcome, Promised, SettledBlock, UnixSeconds};
use serde::Serialize;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::{
    config::L2Config,
    promise::compare,
    rpc::L2 as _,
    tracker::{Moment, RegressAfter, Tracker},
};
use crate::{
    ConfigError, EndpointStatus, L1Error, metrics,
    rpc::{Layer, Pool},
};

pub use super::tracker::{L2Seen, SettledSource};

/// How the follower of L2 is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct L2Status {
    /// Which call tells the last settled block; none while no node answers.
    pub source: Option<SettledSource>,
    /// The last settled block, as it was read last, and when.
    pub seen: Option<L2Seen>,
    /// Whether the node has finished its own synchronization and reached that block.
    pub synced: bool,
    /// Times that L2 took settled blocks back, since the start.
    pub reorgs: u64,
    /// Questions to endpoints since the start.
    pub calls: u64,
    /// Why the last question failed; none if it did not.
    pub error: Option<String>,
    /// The endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

#[derive(Debug, Clone, Default)]
struct State {
    source: Option<SettledSource>,
    seen: Option<L2Seen>,
    synced: bool,
    reorgs: u64,
    error: Option<String>,
}

struct Shared {
    pool: Pool,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says how a follower is doing. A clone is another handle of the same one.
#[derive(Clone)]
pub struct L2Handle {
    shared: Arc<Shared>,
}

impl L2Handle {
    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> L2Status {
        let State { source, seen, synced, reorgs, error } = self.shared.state().clone();
        let (calls, endpoints) = (self.shared.pool.calls(), self.shared.pool.status());
        L2Status { source, seen, synced, reorgs, calls, error, endpoints }
    }
}

impl std::fmt::Debug for L2Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("L2Handle").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// The view of L2 that an execution node has, at one of several endpoints. It asks only while
/// [`next_tip`](L2View::next_tip) is awaited, and for as long as that is: failures are waited out.
pub struct L2Follower {
    config: L2Config,
    shared: Arc<Shared>,
    tracker: Tracker,
    /// When to ask next.
    next: Instant,
    /// Since when the tip is what it is.
    moved: Instant,
}

impl L2Follower {
    /// A follower, and the handle that says how it is doing.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: L2Config) -> Result<(L2Handle, Self), ConfigError> {
        config.check()?;
        metrics::describe();
        // Nodes that start together should not ask together.
        let pool = Pool::new(&config.pool(), RandomState::new().hash_one(config.chain_id));
        let shared = Arc::new(Shared { pool, state: Mutex::default() });
        // Before its silence has another endpoint asked, which would begin anew.
        let regress_after = RegressAfter { same: config.regress_after, other: config.silence / 2 };
        let (tracker, now) = (Tracker::new(regress_after), Instant::now());
        let handle = L2Handle { shared: Arc::clone(&shared) };
        Ok((handle, Self { config, shared, tracker, next: now, moved: now }))
    }

    /// Asks once.
    async fn poll(&mut self) -> Result<Option<L2Tip>, L1Error> {
        let (pool, before) = (&self.shared.pool, self.tracker.told());
        let (now, unix) = (Instant::now(), unix_now());
        let polled = self.tracker.poll(pool, Moment { now, unix }).await;
        let tip = polled.as_ref().ok().copied().flatten();
        if let (Some(before), Some(tip)) = (before, tip)
            && tip.number < before.number
        {
            metrics::l2_reorg();
            tracing::warn!(
                from = tip.number.saturating_add(1),
                to = before.number,
                "L2 has taken settled blocks back"
            );
            // What stands above is read at once.
            self.next = now;
        }
        if tip.is_some_and(|tip| before.is_none_or(|before| before.hash != tip.hash)) {
            self.moved = now;
        } else if tip.is_none() && now.duration_since(self.moved) > self.config.silence {
            self.moved = now;
            return Err(pool.fail_current(L1Error::Silent(self.config.silence)).await);
        }
        polled
    }

    /// A settled block, and the L1 block that it is anchored to where that is to be read.
    async fn read(&self, number: BlockNumber) -> Result<SettledBlock, L1Error> {
        let pool = &self.shared.pool;
        let tip = self.tracker.told();
        let Some(block) = pool.block(number).await? else {
            // It has told a block above this one.
            return Err(pool.fail_current(L1Error::Missing(number)).await);
        };
        if tip.is_some_and(|tip| number == tip.number && block.hash != tip.hash) {
            return Err(L1Error::Moved);
        }
        let anchor = match &self.config.anchor_call {
            Some(call) => pool.first_input(block.hash).await?.and_then(|input| call.read(&input)),
            None => None,
        };
        Ok(block.settled(self.config.anchor_gas, anchor))
    }

    /// Notes how a question went.
    fn note(&mut self, error: Option<&L1Error>) {
        if let Some(error) = error {
            tracing::debug!(%error, "L2 is not read");
            self.tracker.interrupted();
        }
        let Tracker { source, seen, synced, reorgs, .. } = self.tracker;
        *self.shared.state() = State { source, seen, synced, reorgs, error: error.map(ToString::to_string) };
        if let Some(seen) = seen {
            metrics::l2_settled(seen.number);
        }
        for endpoint in self.shared.pool.status() {
            metrics::endpoint(Layer::L2.label(), endpoint.name, endpoint.in_use);
        }
    }
}

impl L2View for L2Follower {
    fn resume(&mut self, settled: BlockNumber) {
        self.tracker.resume(settled);
    }

    async fn next_tip(&mut self) -> Option<L2Tip> {
        loop {
            self.shared.pool.rest().await;
            sleep_until(self.next).await;
            self.next = Instant::now() + self.config.poll_interval;
            let polled = self.poll().await;
            self.note(polled.as_ref().err());
            if let Ok(Some(tip)) = polled {
                return Some(tip);
            }
        }
    }

    async fn block(&mut self, number: BlockNumber) -> Option<SettledBlock> {
        match self.read(number).await {
            Ok(block) => {
                self.tracker.remember(number, block.hash);
                Some(block)
            }
            Err(error) => {
                self.note(Some(&error));
                self.tracker.tell_again();
                None
            }
        }
    }

    async fn compare(&self, block: &SettledBlock, promised: Promised) -> PromiseOutcome {
        let block = block.clone();
        // Unpacking takes milliseconds.
        let compared = spawn_blocking(move || compare(&block, &promised)).await;
        compared.unwrap_or(PromiseOutcome::Unproven)
    }
}

fn unix_now() -> UnixSeconds {
    UnixSeconds::new(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
