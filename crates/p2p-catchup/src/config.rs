//! What can be set, checked once.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use preconfirmation_types::{MAX_COMMITMENTS_PER_RESPONSE, MAX_TXLIST_BYTES};

use crate::{Backoff, Pace};

/// Longest duration that can be set: a day. Deadlines so bounded cannot run out of time's range.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Of one commitment in memory, with the bytes that it came in.
const COMMITMENT_BYTES: usize = 2 * 1024;

/// Bounds and paces of catch-up. Checked by [`CatchUp::new`](crate::CatchUp::new).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUpConfig {
    /// Commitments asked for with one request. At most [`MAX_COMMITMENTS_PER_RESPONSE`].
    pub page_size: NonZeroU32,
    /// Pages on their way, or waiting for the one before them to be imported.
    pub pages_in_flight: NonZeroUsize,
    /// Transaction lists on their way.
    pub txlists_in_flight: NonZeroUsize,
    /// Transaction lists on their way from one peer.
    pub txlists_per_peer: NonZeroUsize,
    /// Bytes of everything that is on its way, waits for its turn or is being stored, whatever the distance:
    /// first the pages that are allowed, 2 KiB a commitment, then transaction lists with the rest.
    pub buffer_bytes: NonZeroUsize,
    /// The largest transaction list that there can be; each one on its way is taken for so large.
    pub max_txlist_bytes: NonZeroUsize,
    /// How many requests a peer takes on each protocol, where it has not shown that it takes more; none does
    /// not pace. The caller takes it from the network's settings, which pace too: here it keeps requests
    /// from waiting for their turn at one peer while others are free.
    pub pace: Option<Pace>,
    /// Missing transaction lists at which importing pauses. The list of wants is never cut: it can exceed
    /// this by the blocks of one page, and by what live gossip adds.
    pub wanted_limit: NonZeroUsize,
    /// Peers whose head is asked in one round.
    pub head_peers: NonZeroUsize,
    /// A round of heads this long after the last one, also while live: the gap that nobody gossips about.
    pub head_refresh: Duration,
    /// Heads heard longer ago than this do not make live any more. Longer than `head_refresh`.
    pub head_stale: Duration,
    /// How long what a commitment waits for may come by gossip before it counts as missing and heads are asked.
    pub gap_grace: Duration,
    /// How long commitments that wait for a parent can keep the node from being live, counted from the first one of
    /// a signer, where heads have been asked since and no peer whose word counts claims the height. Their
    /// parents are looked for all the same. A liar can invent parents; a real one is claimed by peers.
    pub waiting_ttl: Duration,
    /// How long a block that could not be stored ([`Input::Seen`](crate::Input::Seen)) keeps the node from being
    /// live while no peer whose word counts claims its height.
    pub seen_ttl: Duration,
    /// How long a live block's transaction list may come by gossip before it counts as missing and is asked for.
    pub txlist_grace: Duration,
    /// A page that everybody waits for is asked of a second peer after this.
    pub hurry_after: Duration,
    /// A request without a reply is given up after this. Longer than the network's own time-out, which
    /// should come first; this one only keeps a reply that is lost on the way here from hanging the machine.
    pub request_deadline: Duration,
    /// Pauses after failures, and how many failures a peer may cost.
    pub backoff: Backoff,
    /// Offences after which a peer is left out.
    pub max_strikes: NonZeroU32,
    /// For how long. It comes back with one strike left.
    pub leave_out: Duration,
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
            pace: None,
            wanted_limit: nz(1024),
            head_peers: nz(3),
            head_refresh: Duration::from_secs(12),
            head_stale: Duration::from_secs(36),
            gap_grace: Duration::from_millis(500),
            waiting_ttl: Duration::from_secs(4),
            seen_ttl: Duration::from_secs(60),
            txlist_grace: Duration::from_millis(500),
            hurry_after: Duration::from_secs(2),
            request_deadline: Duration::from_secs(20),
            backoff: Backoff::recommended(),
            max_strikes: nz32(3),
            leave_out: Duration::from_secs(10 * 60),
        }
    }

    /// Bytes of the pages that are allowed: in flight, one of a walk, and one that is being imported.
    fn page_bytes(&self) -> usize {
        let page_size = usize::try_from(self.page_size.get()).unwrap_or(usize::MAX);
        let pages = self.pages_in_flight.get().saturating_add(2);
        pages.saturating_mul(page_size).saturating_mul(COMMITMENT_BYTES)
    }

    /// Bytes that are left for transaction lists.
    pub(crate) fn txlist_bytes(&self) -> usize {
        self.buffer_bytes.get().saturating_sub(self.page_bytes())
    }

    /// Says whether the settings go together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let page_size = usize::try_from(self.page_size.get()).unwrap_or(usize::MAX);
        if page_size > MAX_COMMITMENTS_PER_RESPONSE {
            return Err(ConfigError::PageSize { limit: MAX_COMMITMENTS_PER_RESPONSE, actual: page_size });
        }
        for (field, value, may_be_zero) in [
            ("head_refresh", self.head_refresh, false),
            ("head_stale", self.head_stale, false),
            ("gap_grace", self.gap_grace, true),
            ("waiting_ttl", self.waiting_ttl, true),
            ("seen_ttl", self.seen_ttl, true),
            ("txlist_grace", self.txlist_grace, true),
            ("hurry_after", self.hurry_after, false),
            ("request_deadline", self.request_deadline, false),
            ("leave_out", self.leave_out, false),
        ] {
            if value > LONGEST || (value.is_zero() && !may_be_zero) {
                return Err(ConfigError::Duration { field, value });
            }
        }
        if self.txlist_bytes() < self.max_txlist_bytes.get() {
            let least = self.page_bytes().saturating_add(self.max_txlist_bytes.get());
            return Err(ConfigError::Buffer { least, actual: self.buffer_bytes.get() });
        }
        if let Some(Pace { window: value, .. }) = self.pace
            && (value > LONGEST || value.is_zero())
        {
            return Err(ConfigError::Duration { field: "pace.window", value });
        }
        self.backoff.check()?;
        if self.head_stale <= self.head_refresh {
            return Err(ConfigError::Stale { refresh: self.head_refresh, stale: self.head_stale });
        }
        Ok(())
    }
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

/// A configuration that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No peer answers with so many commitments.
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
    /// More than all of a pause cannot be left to chance.
    #[error("backoff.jitter {actual} is over 100 percent")]
    Jitter {
        /// The setting.
        actual: u32,
    },
    /// Heads would be stale before they are asked for again.
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
    fn a_commitment_is_no_larger_than_is_reckoned() {
        assert!(size_of::<Authenticated>() + 2 * size_of::<SignedCommitment>() <= COMMITMENT_BYTES);
    }

    #[test]
    fn recommended_settings_go_together_and_others_are_named() {
        let good = CatchUpConfig::recommended();
        assert_eq!(good.check(), Ok(()));
        let of = |change: fn(&mut CatchUpConfig)| {
            let mut config = CatchUpConfig::recommended();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert_eq!(of(|c| c.page_size = nz32(257)), ConfigError::PageSize { limit: 256, actual: 257 });
        assert!(matches!(
            of(|c| c.backoff.min = Duration::ZERO),
            ConfigError::Duration { field: "backoff.min", .. }
        ));
        assert!(matches!(
            of(|c| c.leave_out = Duration::MAX),
            ConfigError::Duration { field: "leave_out", .. }
        ));
        assert!(matches!(of(|c| c.backoff.min = c.backoff.max * 2), ConfigError::Backoff { .. }));
        assert_eq!(of(|c| c.backoff.jitter = 101).to_string(), "backoff.jitter 101 is over 100 percent");
        assert!(matches!(
            of(|c| c.backoff.window = Duration::MAX),
            ConfigError::Duration { field: "backoff.window", .. }
        ));
        assert!(matches!(of(|c| c.buffer_bytes = nz(4 * 1024 * 1024)), ConfigError::Buffer { .. }));
        let pace = Pace { requests: nz32(8), window: Duration::ZERO };
        let paced = CatchUpConfig { pace: Some(pace), ..good };
        assert!(matches!(paced.check(), Err(ConfigError::Duration { field: "pace.window", .. })));
        assert!(matches!(of(|c| c.head_stale = c.head_refresh), ConfigError::Stale { .. }));
    }
}
