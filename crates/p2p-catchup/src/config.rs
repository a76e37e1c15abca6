//! Configuration, checked once when the machine is made.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use preconfirmation_types::{MAX_COMMITMENTS_PER_RESPONSE, MAX_TXLIST_BYTES, rate_limit::RateLimit};

use crate::backoff::Backoff;

/// The longest duration that can be configured: a day. Deadlines so bounded do not overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a commitment in memory, with the bytes that it was decoded from.
const COMMITMENT_BYTES: usize = 2 * 1024;

/// Bounds and timings of catch-up. Checked by [`CatchUp::new`](crate::CatchUp::new).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUpConfig {
    /// Commitments in one request. At most [`MAX_COMMITMENTS_PER_RESPONSE`].
    pub page_size: NonZeroU32,
    /// Pages in flight, or waiting for the one before them to be imported.
    pub pages_in_flight: NonZeroUsize,
    /// Transaction lists in flight.
    pub txlists_in_flight: NonZeroUsize,
    /// Transaction lists in flight from one peer.
    pub txlists_per_peer: NonZeroUsize,
    /// Bytes of everything that is in flight, buffered or being stored, whatever the distance to the head: first the pages that
    /// are allowed, 2 KiB a commitment, then transaction lists with the rest.
    pub buffer_bytes: NonZeroUsize,
    /// The largest transaction list. Each one in flight is assumed to be of this size.
    pub max_txlist_bytes: NonZeroUsize,
    /// How many requests a peer answers on each protocol, where no other limit of it is known. None: requests are not limited.
    /// The network enforces the same limit; here it keeps requests from waiting for one peer while others are free.
    pub rate_limit: Option<RateLimit>,
    /// Missing transaction lists at which importing pauses. None is ever forgotten: there can be more by the blocks of one page,
    /// and by what live gossip adds.
    pub missing_txlists_limit: NonZeroUsize,
    /// Peers whose head is requested in one round.
    pub head_peers: NonZeroUsize,
    /// Heads are requested again this long after the last round, also while live: a gap may show in no gossip.
    pub head_refresh: Duration,
    /// Heads older than this do not confirm that the node is live. Longer than `head_refresh`.
    pub head_stale: Duration,
    /// How long gossip may take to bring what a commitment waits for, before that counts as missing and heads are requested.
    pub gap_grace: Duration,
    /// How long commitments that wait for a parent can keep the node from being live, counted from the first one of a signer,
    /// where heads have been requested since and no claim that counts reaches the height. Their parents are searched for all the
    /// same. A signer can invent parents; peers claim those that exist.
    pub waiting_ttl: Duration,
    /// How long a block that could not be stored ([`Input::NotStored`](crate::Input::NotStored)) keeps the node from being live
    /// while no claim that counts reaches its height.
    pub not_stored_ttl: Duration,
    /// How long gossip may take to bring the transaction list of a live block, before it counts as missing and is requested.
    pub txlist_grace: Duration,
    /// The page that all others wait for is requested from a second peer after this.
    pub hedge_after: Duration,
    /// A request without a reply ends after this. Longer than the network's own time-out, which should come first; this one is
    /// for a reply that the caller loses.
    pub request_deadline: Duration,
    /// Pauses after failures, and a budget of failures for each peer.
    pub backoff: Backoff,
    /// Offences after which a peer is excluded.
    pub max_faults: NonZeroU32,
    /// For how long. Then it is readmitted, one offence short of the next exclusion.
    pub exclude_for: Duration,
}

impl CatchUpConfig {
    /// For a node on a real network.
    #[must_use]
    pub const fn recommended() -> Self {
        Self {
            page_size: nz32(256),
            pages_in_flight: nz(4),
            txlists_in_flight: nz(32),
            txlists_per_peer: nz(8),
            buffer_bytes: nz(64 * 1024 * 1024),
            max_txlist_bytes: nz(MAX_TXLIST_BYTES),
            rate_limit: None,
            missing_txlists_limit: nz(1024),
            head_peers: nz(3),
            head_refresh: Duration::from_secs(12),
            head_stale: Duration::from_secs(36),
            gap_grace: Duration::from_millis(500),
            waiting_ttl: Duration::from_secs(4),
            not_stored_ttl: Duration::from_secs(60),
            txlist_grace: Duration::from_millis(500),
            hedge_after: Duration::from_secs(2),
            request_deadline: Duration::from_secs(20),
            backoff: Backoff::recommended(),
            max_faults: nz32(3),
            exclude_for: Duration::from_secs(10 * 60),
        }
    }

    /// Bytes of the pages that are allowed: in flight, one of an ancestor search, and one that is being imported.
    fn page_bytes(&self) -> usize {
        let page_size = usize::try_from(self.page_size.get()).unwrap_or(usize::MAX);
        let pages = self.pages_in_flight.get().saturating_add(2);
        pages.saturating_mul(page_size).saturating_mul(COMMITMENT_BYTES)
    }

    /// Bytes that are left for transaction lists.
    pub(crate) fn txlist_bytes(&self) -> usize {
        self.buffer_bytes.get().saturating_sub(self.page_bytes())
    }

    /// Checks whether the settings go together.
    ///
    /// # Errors
    /// [`CatchUpConfigError`] names the first setting that does not.
    pub fn check(&self) -> Result<(), CatchUpConfigError> {
        let page_size = usize::try_from(self.page_size.get()).unwrap_or(usize::MAX);
        if page_size > MAX_COMMITMENTS_PER_RESPONSE {
            return Err(CatchUpConfigError::PageSize {
                limit: MAX_COMMITMENTS_PER_RESPONSE,
                actual: page_size,
            });
        }
        for (field, value, may_be_zero) in [
            ("head_refresh", self.head_refresh, false),
            ("head_stale", self.head_stale, false),
            ("gap_grace", self.gap_grace, true),
            ("waiting_ttl", self.waiting_ttl, true),
            ("not_stored_ttl", self.not_stored_ttl, true),
            ("txlist_grace", self.txlist_grace, true),
            ("hedge_after", self.hedge_after, false),
            ("request_deadline", self.request_deadline, false),
            ("exclude_for", self.exclude_for, false),
        ] {
            if value > LONGEST || (value.is_zero() && !may_be_zero) {
                return Err(CatchUpConfigError::Duration { field, value });
            }
        }
        if self.txlist_bytes() < self.max_txlist_bytes.get() {
            let least = self.page_bytes().saturating_add(self.max_txlist_bytes.get());
            return Err(CatchUpConfigError::Buffer { least, actual: self.buffer_bytes.get() });
        }
        if let Some(RateLimit { window: value, .. }) = self.rate_limit
            && (value > LONGEST || value.is_zero())
        {
            return Err(CatchUpConfigError::Duration { field: "rate_limit.window", value });
        }
        check_backoff(&self.backoff)?;
        if self.head_stale <= self.head_refresh {
            return Err(CatchUpConfigError::Stale { refresh: self.head_refresh, stale: self.head_stale });
        }
        Ok(())
    }
}

fn check_backoff(backoff: &Backoff) -> Result<(), CatchUpConfigError> {
    let Backoff { min, max, jitter, window, .. } = *backoff;
    for (field, value) in [("backoff.min", min), ("backoff.max", max), ("backoff.window", window)] {
        if value > LONGEST || value.is_zero() {
            return Err(CatchUpConfigError::Duration { field, value });
        }
    }
    if min > max {
        return Err(CatchUpConfigError::Backoff { min, max });
    }
    if jitter > 100 {
        return Err(CatchUpConfigError::Jitter { actual: jitter });
    }
    Ok(())
}

impl Default for CatchUpConfig {
    fn default() -> Self {
        Self::recommended()
    }
}

const fn nz(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => NonZeroUsize::MIN,
    }
}

const fn nz32(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

/// A setting that is out of its bounds, or does not go together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatchUpConfigError {
    /// No response has so many commitments.
    #[error("page_size {actual} is over the limit of {limit}")]
    PageSize {
        /// Most commitments of a response.
        limit: usize,
        /// The setting.
        actual: usize,
    },
    /// A duration of zero where there must be some, or of more than a day.
    #[error("{field} of {value:?} is not between zero and a day")]
    Duration {
        /// The setting's name.
        field: &'static str,
        /// Its value.
        value: Duration,
    },
    /// The buffer has no room for the pages that are allowed and one transaction list.
    #[error("buffer_bytes {actual} is below {least}")]
    Buffer {
        /// What that takes.
        least: usize,
        /// The setting.
        actual: usize,
    },
    /// The first pause is longer than the longest.
    #[error("backoff.min {min:?} is over backoff.max {max:?}")]
    Backoff {
        /// `backoff.min`.
        min: Duration,
        /// `backoff.max`.
        max: Duration,
    },
    /// The random part of a pause is larger than the pause.
    #[error("backoff.jitter {actual} is over 100 percent")]
    Jitter {
        /// The setting.
        actual: u32,
    },
    /// Heads would be stale before they are requested again.
    #[error("head_stale {stale:?} is not longer than head_refresh {refresh:?}")]
    Stale {
        /// `head_refresh`.
        refresh: Duration,
        /// `head_stale`.
        stale: Duration,
    },
}

#[cfg(test)]
mod tests {
    use p2p_validation::Authenticated;
    use preconfirmation_types::SignedCommitment;

    use super::*;

    #[test]
    fn a_commitment_is_no_larger_than_assumed() {
        assert!(size_of::<Authenticated>() + 2 * size_of::<SignedCommitment>() <= COMMITMENT_BYTES);
    }

    #[test]
    fn settings_at_their_bounds_are_valid() {
        let (recommended, day) = (CatchUpConfig::recommended(), Duration::from_secs(86_400));
        let backoff = Backoff { min: day, max: day, window: day, jitter: 100, ..recommended.backoff };
        let at_most = CatchUpConfig {
            head_stale: day,
            exclude_for: day,
            gap_grace: Duration::ZERO,
            rate_limit: Some(RateLimit { window: day, ..RateLimit::DEPLOYED }),
            buffer_bytes: nz(recommended.page_bytes() + recommended.max_txlist_bytes.get()),
            backoff,
            ..recommended
        };
        assert_eq!(at_most.check(), Ok(()));
        let window = day + Duration::from_nanos(1);
        let over = CatchUpConfig { rate_limit: Some(RateLimit { window, ..RateLimit::DEPLOYED }), ..at_most };
        let rate_limit = CatchUpConfigError::Duration { field: "rate_limit.window", value: window };
        assert_eq!(over.check(), Err(rate_limit));
        let zero = CatchUpConfig { head_refresh: Duration::ZERO, ..at_most };
        let refresh = CatchUpConfigError::Duration { field: "head_refresh", value: Duration::ZERO };
        assert_eq!(zero.check(), Err(refresh));
    }

    #[test]
    fn recommended_settings_are_valid_and_others_are_named() {
        let good = CatchUpConfig::recommended();
        assert_eq!(good.check(), Ok(()));
        let of = |change: fn(&mut CatchUpConfig)| {
            let mut config = CatchUpConfig::recommended();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert_eq!(of(|c| c.page_size = nz32(257)), CatchUpConfigError::PageSize { limit: 256, actual: 257 });
        assert!(matches!(
            of(|c| c.backoff.min = Duration::ZERO),
            CatchUpConfigError::Duration { field: "backoff.min", .. }
        ));
        assert!(matches!(
            of(|c| c.exclude_for = Duration::MAX),
            CatchUpConfigError::Duration { field: "exclude_for", .. }
        ));
        assert!(matches!(of(|c| c.backoff.min = c.backoff.max * 2), CatchUpConfigError::Backoff { .. }));
        assert_eq!(of(|c| c.backoff.jitter = 101).to_string(), "backoff.jitter 101 is over 100 percent");
        assert!(matches!(
            of(|c| c.backoff.window = Duration::MAX),
            CatchUpConfigError::Duration { field: "backoff.window", .. }
        ));
        assert!(matches!(of(|c| c.buffer_bytes = nz(4 * 1024 * 1024)), CatchUpConfigError::Buffer { .. }));
        let limit = RateLimit { window: Duration::ZERO, ..RateLimit::DEPLOYED };
        let limited = CatchUpConfig { rate_limit: Some(limit), ..good };
        assert!(matches!(
            limited.check(),
            Err(CatchUpConfigError::Duration { field: "rate_limit.window", .. })
        ));
        assert!(matches!(of(|c| c.head_stale = c.head_refresh), CatchUpConfigError::Stale { .. }));
    }
}
