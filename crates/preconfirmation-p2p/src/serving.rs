//! What peers may ask of us, by what it costs: budgets of requests and of bytes, for each peer, for each host
//! (an IPv4 address or an IPv6 /64, behind which anyone can have any number of names), and of bytes for all together. And
//! how much is written to one peer at a time, so that each answer ends before its asker's time-out.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt as _,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::ServingConfig, error::ConfigError, inbound::Asker, ip::Host, peer_manager::PeerProtocol,
};

/// Unit of the limits on bytes.
const UNIT: usize = 1024;

struct Limiters {
    requests: DefaultKeyedRateLimiter<PeerProtocol>,
    host_requests: DefaultKeyedRateLimiter<(Host, &'static str)>,
    bytes: DefaultKeyedRateLimiter<PeerId>,
    host_bytes: DefaultKeyedRateLimiter<Host>,
    all_bytes: DefaultDirectRateLimiter,
}

/// The budgets as they are configured.
#[derive(Debug, PartialEq, Eq)]
struct Quotas {
    requests: Quota,
    host_requests: Quota,
    bytes: Quota,
    host_bytes: Quota,
    all_bytes: Quota,
}

impl Quotas {
    fn new(config: &ServingConfig) -> Result<Self, ConfigError> {
        let (one, units) = (NonZeroU32::MIN, units(config.bytes.get()));
        let requests =
            |times| quota(config.requests.saturating_mul(times), config.requests_per, "serving.requests_per");
        let bytes = |times| quota(units.saturating_mul(times), config.bytes_per, "serving.bytes_per");
        Ok(Self {
            requests: requests(one)?,
            host_requests: requests(config.peers_per_host)?,
            bytes: bytes(one)?,
            host_bytes: bytes(config.peers_per_host)?,
            all_bytes: bytes(config.peers_in_all)?,
        })
    }
}

/// Who pays for an answer, one after the other.
const PAYERS: [Payer; 3] = [Payer::Peer, Payer::Host, Payer::All];

#[derive(Debug, Clone, Copy)]
enum Payer {
    Peer,
    Host,
    All,
}

impl Limiters {
    fn new(quotas: &Quotas) -> Self {
        Self {
            requests: RateLimiter::keyed(quotas.requests),
            host_requests: RateLimiter::keyed(quotas.host_requests),
            bytes: RateLimiter::keyed(quotas.bytes),
            host_bytes: RateLimiter::keyed(quotas.host_bytes),
            all_bytes: RateLimiter::direct(quotas.all_bytes),
        }
    }

    fn check(&self, payer: Payer, asker: &Asker, cost: NonZeroU32) -> bool {
        let paid = match payer {
            Payer::Peer => self.bytes.check_key_n(&asker.peer, cost),
            Payer::Host => self.host_bytes.check_key_n(&asker.host, cost),
            Payer::All => self.all_bytes.check_n(cost),
        };
        matches!(paid, Ok(Ok(_)))
    }

    /// No answer costs more than there can be, so it is paid some time.
    async fn wait(&self, payer: Payer, asker: &Asker, cost: NonZeroU32) {
        let _paid = match payer {
            Payer::Peer => self.bytes.until_key_n_ready(&asker.peer, cost).await,
            Payer::Host => self.host_bytes.until_key_n_ready(&asker.host, cost).await,
            Payer::All => self.all_bytes.until_n_ready(cost).await,
        };
    }
}

/// The units that may be written to each peer at a time.
#[derive(Debug)]
struct Writes {
    most: NonZeroU32,
    peers: Mutex<HashMap<PeerId, Arc<Semaphore>>>,
}

impl Writes {
    fn of(&self, peer: PeerId) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let most = usize::try_from(self.most.get()).unwrap_or(usize::MAX);
        Arc::clone(peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(most))))
    }

    /// Forgets the peers to which nothing is written and for whom nothing waits.
    fn prune(&self) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
    }
}

/// The right to write an answer, held until it is written. Heads and pages need none: they are small, and who fetches
/// lists still wants to know where the chain is.
pub(crate) type WritePermit = Option<OwnedSemaphorePermit>;

/// The budgets, and the keys of the answers that wait until they are paid for. Whoever holds these answers bounds their
/// number, and ends the wait of what it no longer holds.
pub(crate) struct Throttle<K> {
    limiters: Arc<Limiters>,
    /// Most units that one answer can cost: all that a peer has at once.
    most: NonZeroU32,
    item_bytes: usize,
    writes: Writes,
    waiting: FuturesUnordered<Abortable<BoxFuture<'static, (K, WritePermit)>>>,
}

/// Whether an answer is paid for and may be written.
#[must_use]
pub(crate) enum Payment {
    Paid(WritePermit),
    /// Its key comes out of [`Throttle::paid`] later, unless this ends the wait.
    Waits(AbortHandle),
}

impl<K: Send + 'static> Throttle<K> {
    pub(crate) fn new(config: &ServingConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            limiters: Arc::new(Limiters::new(&Quotas::new(config)?)),
            most: units(config.bytes.get()),
            item_bytes: config.item_bytes,
            writes: Writes { most: units(config.write_bytes_per_peer.get()), peers: Mutex::default() },
            waiting: FuturesUnordered::new(),
        })
    }

    /// Whether a peer may ask once more.
    pub(crate) fn may_ask(&self, asker: &Asker, protocol: &'static str) -> bool {
        self.limiters.requests.check_key(&(asker.peer, protocol)).is_ok()
            && self.limiters.host_requests.check_key(&(asker.host, protocol)).is_ok()
    }

    /// Pays for an answer with this key and takes the right to write it, at once or later. `is_list`: whether it needs one.
    pub(crate) fn pay(&self, asker: Asker, is_list: bool, bytes: usize, items: usize, key: K) -> Payment {
        let cost = units(bytes.saturating_add(items.saturating_mul(self.item_bytes))).min(self.most);
        let room = units(bytes).min(self.writes.most).get();
        let writes = is_list.then(|| self.writes.of(asker.peer));
        let mut payers = PAYERS.into_iter();
        let first = payers.find(|payer| !self.limiters.check(*payer, &asker, cost));
        if first.is_none() {
            let permit = writes.clone().map(|writes| writes.try_acquire_many_owned(room)).transpose();
            if let Ok(permit) = permit {
                return Payment::Paid(permit);
            }
        }
        let limiters = Arc::clone(&self.limiters);
        let paid: BoxFuture<'static, _> = Box::pin(async move {
            for payer in first.into_iter().chain(payers) {
                limiters.wait(payer, &asker, cost).await;
            }
            let permit = match writes {
                // Nobody closes it.
                Some(writes) => writes.acquire_many_owned(room).await.ok(),
                None => None,
            };
            (key, permit)
        });
        let (handle, registration) = AbortHandle::new_pair();
        self.waiting.push(Abortable::new(paid, registration));
        Payment::Waits(handle)
    }

    /// The next answer that has waited, is paid for and may be written. Never ends. Cancel-safe.
    pub(crate) async fn paid(&mut self) -> (K, WritePermit) {
        loop {
            match self.waiting.next().await {
                Some(Ok(paid)) => return paid,
                // Nobody waits for that one any more.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// How many answers wait until they are paid for.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets peers and hosts that have all their limits again.
    pub(crate) fn prune(&self) {
        self.limiters.requests.retain_recent();
        self.limiters.host_requests.retain_recent();
        self.limiters.bytes.retain_recent();
        self.limiters.host_bytes.retain_recent();
        self.writes.prune();
    }
}

/// So many at once, and evenly as many more in that time.
fn quota(at_once: NonZeroU32, per: Duration, setting: &'static str) -> Result<Quota, ConfigError> {
    // As many as can be told are no limit.
    let period = (per / at_once.get()).max(Duration::from_nanos(1));
    let quota = Quota::with_period(period).ok_or(ConfigError::ZeroDuration { setting })?;
    Ok(quota.allow_burst(at_once))
}

fn units(bytes: usize) -> NonZeroU32 {
    let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
    NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ServingConfig {
        ServingConfig {
            requests: 2.try_into().unwrap(),
            requests_per: Duration::from_secs(3600),
            bytes: (10 * UNIT).try_into().unwrap(),
            bytes_per: Duration::from_secs(3600),
            item_bytes: UNIT,
            peers_per_host: 2.try_into().unwrap(),
            peers_in_all: 3.try_into().unwrap(),
            ..ServingConfig::default()
        }
    }

    fn throttle() -> Throttle<u32> {
        Throttle::new(&config()).unwrap()
    }

    fn at(ip: &str) -> Asker {
        let address = ip.parse::<std::net::IpAddr>().unwrap().into();
        Asker { peer: PeerId::random(), host: Host::or_unknown(Some(&address)) }
    }

    fn pays(throttle: &Throttle<u32>, asker: Asker, bytes: usize, items: usize) -> bool {
        matches!(throttle.pay(asker, true, bytes, items, 0), Payment::Paid(_))
    }

    #[test]
    fn budgets_are_as_large_and_refill_as_fast_as_is_set() {
        let config = ServingConfig { bytes_per: Duration::from_secs(60), ..config() };
        let quota = |burst: u32, seconds| {
            let period = Duration::from_secs(seconds) / burst;
            Quota::with_period(period).unwrap().allow_burst(burst.try_into().unwrap())
        };
        let expected = Quotas {
            requests: quota(2, 3600),
            host_requests: quota(2 * 2, 3600),
            bytes: quota(10, 60),
            host_bytes: quota(2 * 10, 60),
            all_bytes: quota(3 * 10, 60),
        };
        assert_eq!(Quotas::new(&config), Ok(expected));
    }

    #[test]
    fn an_item_costs_what_is_set() {
        for (item_bytes, paid) in [(UNIT, true), (3 * UNIT, false)] {
            let config = ServingConfig { item_bytes, ..config() };
            let (throttle, one) = (Throttle::new(&config).unwrap(), at("10.0.0.1"));
            assert!(pays(&throttle, one, UNIT, 3));
            assert_eq!(pays(&throttle, one, UNIT, 1), paid, "{item_bytes}");
        }
    }

    #[test]
    fn each_peer_and_protocol_has_its_own_requests() {
        let (throttle, one, other) = (throttle(), at("10.0.0.1"), at("10.0.0.2"));
        let ask = |asker: &Asker, protocol| throttle.may_ask(asker, protocol);
        assert_eq!([ask(&one, "a"), ask(&one, "a"), ask(&one, "a")], [true, true, false]);
        assert!(ask(&one, "b") && ask(&other, "a"));
    }

    #[test]
    fn many_names_of_one_host_have_no_more_than_some_peers() {
        let throttle = throttle();
        let asked = (0..10).filter(|_| throttle.may_ask(&at("10.0.0.1"), "a")).count();
        assert_eq!(asked, 2 * 2);
        assert!(throttle.may_ask(&at("10.0.0.2"), "a"));
        let paid = (0..10).filter(|_| pays(&throttle, at("10.0.0.1"), 9 * UNIT, 1)).count();
        assert_eq!(paid, 2);
        // And all hosts together have no more than some peers.
        let paid = (0..10).filter(|host| pays(&throttle, at(&format!("10.0.1.{host}")), 9 * UNIT, 1)).count();
        assert_eq!(paid, 1);
    }

    #[test]
    fn answers_are_paid_for_by_bytes_and_by_items() {
        let (throttle, one) = (throttle(), at("10.0.0.1"));
        // Three units of bytes and three of items, then one and one, then two that are not there any more.
        assert!(pays(&throttle, one, 2 * UNIT + 1, 3));
        assert!(pays(&throttle, one, 1, 1));
        assert!(!pays(&throttle, one, 2 * UNIT, 1));
        assert_eq!(throttle.waiting(), 1);
        assert!(pays(&throttle, at("10.0.0.2"), 2 * UNIT, 1));
        // Larger than all that there is: it costs all.
        assert!(pays(&throttle, at("10.0.0.3"), 100 * UNIT, 1));
    }

    #[tokio::test]
    async fn what_is_not_paid_for_waits_until_it_is() {
        let config = ServingConfig { bytes_per: Duration::from_millis(50), ..config() };
        let (mut throttle, one) = (Throttle::new(&config).unwrap(), at("10.0.0.1"));
        assert!(matches!(throttle.pay(one, true, 9 * UNIT, 1, 1), Payment::Paid(_)));
        assert!(matches!(throttle.pay(one, true, 9 * UNIT, 1, 2), Payment::Waits(_)));
        assert_eq!(throttle.paid().await.0, 2);
        assert_eq!(throttle.waiting(), 0);
    }

    #[tokio::test]
    async fn a_wait_that_is_ended_costs_nothing_and_is_forgotten() {
        let config = ServingConfig { bytes_per: Duration::from_millis(100), ..config() };
        let (mut throttle, one) = (Throttle::new(&config).unwrap(), at("10.0.0.1"));
        assert!(matches!(throttle.pay(one, true, 9 * UNIT, 1, 1), Payment::Paid(_)));
        let Payment::Waits(ended) = throttle.pay(one, true, 9 * UNIT, 1, 2) else { panic!("paid") };
        assert!(matches!(throttle.pay(one, true, 0, 1, 3), Payment::Waits(_)));
        ended.abort();
        assert_eq!(throttle.paid().await.0, 3);
        assert_eq!(throttle.waiting(), 0);
    }

    #[tokio::test]
    async fn answers_that_do_not_fit_beside_those_being_written_wait() {
        let config = ServingConfig {
            bytes: (1000 * UNIT).try_into().unwrap(),
            write_bytes_per_peer: (4 * UNIT).try_into().unwrap(),
            ..config()
        };
        let (mut throttle, one) = (Throttle::new(&config).unwrap(), at("10.0.0.1"));
        let Payment::Paid(first) = throttle.pay(one, true, 3 * UNIT, 1, 1) else { panic!("waits") };
        let Payment::Paid(small) = throttle.pay(one, true, UNIT, 1, 2) else { panic!("waits") };
        // One that is larger than all of it waits until nothing else is being written.
        assert!(matches!(throttle.pay(one, true, 9 * UNIT, 1, 3), Payment::Waits(_)));
        assert!(matches!(throttle.pay(at("10.0.0.2"), true, 4 * UNIT, 1, 4), Payment::Paid(_)));
        assert!(matches!(throttle.pay(one, false, 4 * UNIT, 1, 5), Payment::Paid(None)));
        drop(small);
        assert!(futures::FutureExt::now_or_never(throttle.paid()).is_none());
        drop(first);
        let (key, permit) = throttle.paid().await;
        assert_eq!(key, 3);
        throttle.prune();
        assert_eq!(throttle.writes.peers.lock().unwrap().len(), 1, "one is being written to");
        drop(permit);
        throttle.prune();
        assert!(throttle.writes.peers.lock().unwrap().is_empty());
    }
}
