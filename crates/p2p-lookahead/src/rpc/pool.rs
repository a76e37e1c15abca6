//! Several endpoints as one: whoever fails is let alone for a while, and the next one is asked.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::{Address, B256, Bytes};
use alloy_pubsub::Subscription;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, error::Elapsed, sleep_until, timeout_at},
};
use url::Url;

use super::{
    Blocks, Filter, L1, Log, RawHeader, RawTransaction,
    config::{Layer, PoolConfig},
    endpoint::Endpoint,
};
use crate::{L1Error, L1Head, metrics};

/// How an endpoint is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Its scheme, host and port.
    pub name: String,
    /// Whether it is the one that is asked.
    pub in_use: bool,
    /// Why it is not asked at the moment; none if it is well.
    pub failure: Option<String>,
}

struct Health {
    backoff: ExponentialBackoff,
    /// Not asked before.
    until: Option<Instant>,
    /// Since when it fails, and how it failed last.
    down: Option<(Instant, L1Error)>,
}

struct State {
    current: usize,
    /// Time of the newest head that has come.
    newest: u64,
    health: Vec<Health>,
}

/// The endpoints. One is in use until it fails.
pub(crate) struct Pool {
    layer: Layer,
    endpoints: Vec<Endpoint>,
    state: Mutex<State>,
    calls: AtomicU64,
    poll_interval: Duration,
    silence: Duration,
    seed: u64,
}

/// How new heads come from the endpoint in use.
pub(crate) enum Heads {
    /// Not yet.
    None,
    /// By asking for the newest one again and again.
    Polled { of: usize, last: B256, since: Instant, next: Instant },
    /// By subscription.
    Subscribed { of: usize, since: Instant, heads: Box<Subscription<RawHeader>> },
}

/// What a subscription has told, or that it has been silent for too long.
pub(crate) type Announced = Result<Result<RawHeader, RecvError>, Elapsed>;

impl Pool {
    /// The seed is for the jitter of pauses.
    pub(crate) fn new(config: &PoolConfig<'_>, seed: u64) -> Self {
        let endpoint = |url: &Url| Endpoint::new(url.clone(), config.chain_id, config.call_timeout);
        let endpoints: Vec<_> = config.endpoints.iter().map(endpoint).collect();
        let health = |index| Health { backoff: backoff(seed, index), until: None, down: None };
        let state = State { current: 0, newest: 0, health: (0..endpoints.len()).map(health).collect() };
        Self {
            layer: config.layer,
            endpoints,
            state: Mutex::new(state),
            calls: AtomicU64::new(0),
            poll_interval: config.poll_interval,
            silence: config.silence,
            seed,
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        let state = self.state();
        let of = |(index, (endpoint, health)): (usize, (&Endpoint, &Health))| EndpointStatus {
            name: endpoint.name(),
            in_use: index == state.current && health.down.is_none(),
            failure: health.down.as_ref().map(|(_, error)| error.to_string()),
        };
        self.endpoints.iter().zip(&state.health).enumerate().map(of).collect()
    }

    /// When an endpoint may be asked again, if none may be asked now.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let (state, now) = (self.state(), Instant::now());
        let rests = |health: &Health| health.until.filter(|until| *until > now);
        let all: Option<Vec<_>> = state.health.iter().map(rests).collect();
        all?.into_iter().min()
    }

    /// Waits until an endpoint may be asked.
    pub(crate) async fn rest(&self) {
        if let Some(until) = self.rests_until() {
            sleep_until(until).await;
        }
    }

    /// Waits until there may be a new head, which [`head`](Self::head) then tells. May be cancelled.
    pub(crate) async fn wait(&self, heads: &mut Heads) -> Option<Announced> {
        self.rest().await;
        let current = self.state().current;
        match heads {
            Heads::Polled { of, next, .. } if *of == current => {
                sleep_until(*next).await;
                None
            }
            Heads::Subscribed { of, since, heads } if *of == current => {
                Some(timeout_at(*since + self.silence, heads.recv()).await)
            }
            _ => None,
        }
    }

    /// The new head, if there is one. An endpoint that has none for too long has failed.
    pub(crate) async fn head(
        &self,
        heads: &mut Heads,
        announced: Option<Announced>,
    ) -> Result<Option<L1Head>, L1Error> {
        let (current, now) = (self.state().current, Instant::now());
        let failure = match (&mut *heads, announced) {
            (Heads::Subscribed { of, since, .. }, Some(announced)) if *of == current => match announced {
                Ok(Ok(head)) => {
                    *since = now;
                    let came = self.came(current, head.into()).await;
                    if came.is_err() {
                        *heads = Heads::None;
                    }
                    return came.map(Some);
                }
                Ok(Err(RecvError::Lagged(_))) => return Ok(None),
                Ok(Err(RecvError::Closed)) => L1Error::Transport("the connection is closed".into()),
                Err(_) => L1Error::Silent(self.silence),
            },
            (Heads::Polled { of, last, since, next }, _) if *of == current => {
                *next = now + self.poll_interval;
                let head = self.newest().await?;
                if *last != head.hash {
                    (*last, *since) = (head.hash, Instant::now());
                    return Ok(Some(head));
                }
                if since.elapsed() <= self.silence {
                    return Ok(None);
                }
                L1Error::Silent(self.silence)
            }
            _ => return self.begin(heads).await.map(Some),
        };
        *heads = Heads::None;
        Err(self.fail(current, failure).await)
    }

    /// Begins with whichever endpoint answers: that is the one in use from now on.
    async fn begin(&self, heads: &mut Heads) -> Result<L1Head, L1Error> {
        let head = self.newest().await?;
        let (of, since) = (self.state().current, Instant::now());
        let endpoint = self.endpoints.get(of).ok_or(L1Error::Unavailable)?;
        if endpoint.subscribes() {
            match endpoint.heads().await {
                Ok(subscription) => *heads = Heads::Subscribed { of, since, heads: Box::new(subscription) },
                Err(error) => return Err(self.fail(of, error).await),
            }
        } else {
            *heads = Heads::Polled { of, last: head.hash, since, next: since + self.poll_interval };
        }
        Ok(head)
    }

    /// The newest block of whichever endpoint answers.
    pub(crate) async fn newest(&self) -> Result<L1Head, L1Error> {
        let head = self.latest().await?;
        let current = self.state().current;
        self.came(current, head).await
    }

    /// The endpoint in use.
    pub(crate) fn current(&self) -> usize {
        self.state().current
    }

    /// The endpoint in use has failed, in a way that only who asked can tell.
    pub(crate) async fn fail_current(&self, error: L1Error) -> L1Error {
        self.fail(self.current(), error).await
    }

    /// A head that is newer than all before ends the silence of its endpoint. One that is older by more than a silence is
    /// of no use: what its endpoint lacks would look like a reorg. Nor is one from the future, beside which every other would
    /// be old.
    pub(crate) async fn came(&self, index: usize, head: L1Head) -> Result<L1Head, L1Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ahead = Duration::from_secs(head.timestamp).saturating_sub(now);
        // Heads of others are older by up to a slot or two, and still not behind by a silence.
        if ahead > self.silence / 3 {
            return Err(self.fail(index, L1Error::Ahead(ahead)).await);
        }
        let behind = {
            let mut state = self.state();
            if head.timestamp > state.newest {
                state.newest = head.timestamp;
                if let Some(health) = state.health.get_mut(index) {
                    self.end_outage(index, health);
                }
            }
            Duration::from_secs(state.newest.saturating_sub(head.timestamp))
        };
        if behind <= self.silence { Ok(head) } else { Err(self.fail(index, L1Error::Behind(behind)).await) }
    }

    /// Asks the endpoint in use, and the others after it as long as they fail or refuse.
    pub(crate) async fn request<R: DeserializeOwned + Send + Sync + Unpin + std::fmt::Debug + 'static>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R, L1Error> {
        let (first, count) = (self.state().current, self.endpoints.len());
        let mut refused = None;
        for index in (first..count).chain(0..first) {
            let Some(endpoint) = self.endpoints.get(index).filter(|_| self.may_be_asked(index)) else {
                continue;
            };
            self.calls.fetch_add(1, Ordering::Relaxed);
            metrics::call(self.layer.label(), method);
            match endpoint.request(method, params.clone()).await {
                Ok(answer) => {
                    self.recovered(index);
                    return Ok(answer);
                }
                Err(error) if error.is_of_endpoint() => {
                    self.fail(index, error).await;
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(L1Error::Unavailable))
    }

    fn may_be_asked(&self, index: usize) -> bool {
        let (state, now) = (self.state(), Instant::now());
        state.health.get(index).is_some_and(|health| health.until.is_none_or(|until| until <= now))
    }

    /// Lets an endpoint alone for a while. One warning an outage.
    async fn fail(&self, index: usize, error: L1Error) -> L1Error {
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.disconnect().await;
        }
        metrics::failure(self.layer.label());
        let (mut state, now) = (self.state(), Instant::now());
        let count = state.health.len();
        if state.current == index && count > 0 {
            state.current = (index + 1) % count;
        }
        if let Some(health) = state.health.get_mut(index) {
            health.until = health.backoff.next().map(|pause| now + pause);
            let since = health.down.take().map(|(since, _)| since);
            if since.is_none() {
                let (chain, endpoint) = (self.layer.label(), self.name(index));
                tracing::warn!(chain, endpoint, %error, "an endpoint fails");
            }
            health.down = Some((since.unwrap_or(now), error.clone()));
        }
        error
    }

    fn recovered(&self, index: usize) {
        let mut state = self.state();
        state.current = index;
        let Some(health) = state.health.get_mut(index) else { return };
        // One that answers and has no new block, or not the one that it was asked for, is still of no use.
        if !matches!(
            health.down,
            Some((
                _,
                L1Error::Silent(_)
                    | L1Error::Behind(_)
                    | L1Error::Ahead(_)
                    | L1Error::OtherBlock
                    | L1Error::Missing(_)
            ))
        ) {
            self.end_outage(index, health);
        }
    }

    fn end_outage(&self, index: usize, health: &mut Health) {
        if let Some((since, _)) = health.down.take() {
            (health.until, health.backoff) = (None, backoff(self.seed, index));
            let (chain, endpoint, seconds) =
                (self.layer.label(), self.name(index), since.elapsed().as_secs());
            tracing::info!(chain, endpoint, seconds, "an endpoint has recovered");
        }
    }

    fn name(&self, index: usize) -> String {
        self.endpoints.get(index).map(Endpoint::name).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block, if there is one. An endpoint that answers with one that was not asked for has failed.
    pub(crate) async fn header(
        &self,
        method: &'static str,
        params: Value,
        was_asked_for: impl Fn(&L1Head) -> bool,
    ) -> Result<Option<L1Head>, L1Error> {
        let head: Option<L1Head> = self.request::<Option<RawHeader>>(method, params).await?.map(Into::into);
        if head.as_ref().is_some_and(|head| !was_asked_for(head)) {
            return Err(self.fail_current(L1Error::OtherBlock).await);
        }
        Ok(head)
    }
}

impl L1 for Pool {
    async fn latest(&self) -> Result<L1Head, L1Error> {
        let head = self.header("eth_getBlockByNumber", json!(["latest", false]), |_| true).await?;
        head.ok_or(L1Error::Moved)
    }

    async fn by_number(&self, number: u64) -> Result<Option<L1Head>, L1Error> {
        let params = json!([format!("{number:#x}"), false]);
        self.header("eth_getBlockByNumber", params, |head| head.number == number).await
    }

    async fn by_hash(&self, hash: B256) -> Result<Option<L1Head>, L1Error> {
        self.header("eth_getBlockByHash", json!([hash, false]), |head| head.hash == hash).await
    }

    async fn call(&self, to: Address, data: Bytes, at: B256) -> Result<Option<Bytes>, L1Error> {
        let params = json!([{ "to": to, "data": data }, { "blockHash": at }]);
        match self.request::<Bytes>("eth_call", params).await {
            Ok(answer) => Ok(Some(answer).filter(|answer| !answer.is_empty())),
            Err(L1Error::Refused { code, message }) if code == 3 || is_revert(&message) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn logs(&self, filter: &Filter, blocks: Blocks) -> Result<Vec<Log>, L1Error> {
        let Filter { addresses, topics } = filter;
        let params = match blocks {
            Blocks::One(hash) => json!([{ "address": addresses, "topics": [topics], "blockHash": hash }]),
            Blocks::Range(from, to) => json!([{
                "address": addresses, "topics": [topics],
                "fromBlock": format!("{from:#x}"), "toBlock": format!("{to:#x}"),
            }]),
        };
        self.request("eth_getLogs", params).await
    }

    async fn input(&self, transaction: B256) -> Result<Option<Bytes>, L1Error> {
        let found: Option<RawTransaction> =
            self.request("eth_getTransactionByHash", json!([transaction])).await?;
        Ok(found.map(|transaction| transaction.input))
    }
}

/// Whether an endpoint says that the contract has refused, and not that it cannot ask it.
fn is_revert(message: &str) -> bool {
    ["revert", "invalid opcode"].iter().any(|word| message.contains(word))
}

/// Pauses of 1 s to 30 s with jitter, without end.
fn backoff(seed: u64, index: usize) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(seed.wrapping_add(index as u64))
        .build()
}
