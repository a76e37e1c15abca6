//! What peers may ask of us, by what it costs.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use libp2p::PeerId;

use crate::{config::ServingConfig, error::ConfigError, pacing::Lane};

/// Unit of the limit on bytes.
const UNIT: usize = 1024;

/// The limits of all peers, and the answers of type `T` that wait until they are paid for. As each of these
/// holds a permit of the requests in work, their number is bounded.
pub(crate) struct Till<T> {
    requests: DefaultKeyedRateLimiter<Lane>,
    bytes: Arc<DefaultKeyedRateLimiter<PeerId>>,
    /// Most units that one answer can cost: all that there is at once.
    most: NonZeroU32,
    item_bytes: usize,
    waiting: FuturesUnordered<BoxFuture<'static, T>>,
}

impl<T: Send + 'static> Till<T> {
    pub(crate) fn new(config: &ServingConfig) -> Result<Self, ConfigError> {
        let requests = quota(config.requests, config.requests_per, "serving.requests_per")?;
        let most = units(config.bytes.get());
        let bytes = quota(most, config.bytes_per, "serving.bytes_per")?;
        Ok(Self {
            requests: RateLimiter::keyed(requests),
            bytes: Arc::new(RateLimiter::keyed(bytes)),
            most,
            item_bytes: config.item_bytes,
            waiting: FuturesUnordered::new(),
        })
    }

    /// Whether a peer may ask once more.
    pub(crate) fn may_ask(&self, lane: Lane) -> bool {
        self.requests.check_key(&lane).is_ok()
    }

    /// Gives an answer back if it can be paid for at once; otherwise it comes out of [`Till::paid`] later.
    pub(crate) fn pay(&self, peer: PeerId, bytes: usize, items: usize, answer: T) -> Option<T> {
        let cost = units(bytes.saturating_add(items.saturating_mul(self.item_bytes))).min(self.most);
        if matches!(self.bytes.check_key_n(&peer, cost), Ok(Ok(_))) {
            return Some(answer);
        }
        let limiter = Arc::clone(&self.bytes);
        self.waiting.push(Box::pin(async move {
            // It costs no more than there can be, so it is paid some time.
            let _paid = limiter.until_key_n_ready(&peer, cost).await;
            answer
        }));
        None
    }

    /// The next answer that has waited and is paid for. Never ends. Cancel-safe.
    pub(crate) async fn paid(&mut self) -> T {
        match self.waiting.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// How many answers wait until they are paid for.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets peers that have all their limits again.
    pub(crate) fn prune(&self) {
        self.requests.retain_recent();
        self.bytes.retain_recent();
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

    fn till() -> Till<u32> {
        let config = ServingConfig {
            requests: 2.try_into().unwrap(),
            requests_per: Duration::from_secs(3600),
            bytes: (10 * UNIT).try_into().unwrap(),
            bytes_per: Duration::from_secs(3600),
            item_bytes: UNIT,
            ..ServingConfig::default()
        };
        Till::new(&config).unwrap()
    }

    #[test]
    fn each_peer_and_protocol_has_its_own_requests() {
        let (till, one, other) = (till(), PeerId::random(), PeerId::random());
        let ask = |peer, protocol| till.may_ask((peer, protocol));
        assert_eq!([ask(one, "a"), ask(one, "a"), ask(one, "a")], [true, true, false]);
        assert!(ask(one, "b") && ask(other, "a"));
    }

    #[test]
    fn answers_are_paid_for_by_bytes_and_by_items() {
        let (till, peer) = (till(), PeerId::random());
        // Three units of bytes and three of items, then one and one, then two that are not there any more.
        assert_eq!(till.pay(peer, 2 * UNIT + 1, 3, 1), Some(1));
        assert_eq!(till.pay(peer, 1, 1, 2), Some(2));
        assert_eq!(till.pay(peer, 2 * UNIT, 1, 3), None);
        assert_eq!(till.waiting(), 1);
        assert_eq!(till.pay(PeerId::random(), 2 * UNIT, 1, 4), Some(4));
        // Larger than all that there is: it costs all.
        assert_eq!(till.pay(PeerId::random(), 100 * UNIT, 1, 5), Some(5));
    }

    #[tokio::test]
    async fn what_is_not_paid_for_waits_until_it_is() {
        let config = ServingConfig {
            bytes: (10 * UNIT).try_into().unwrap(),
            bytes_per: Duration::from_millis(50),
            ..ServingConfig::default()
        };
        let (mut till, peer) = (Till::new(&config).unwrap(), PeerId::random());
        assert_eq!(till.pay(peer, 9 * UNIT, 1, 1), Some(1));
        assert_eq!(till.pay(peer, 9 * UNIT, 1, 2), None);
        assert_eq!(till.paid().await, 2);
        assert_eq!(till.waiting(), 0);
    }
}
