//! What one endpoint after the other says of the last settled block, made into tips. It knows no clock.

use std::{collections::BTreeMap, time::Duration};

use alloy_primitives::B256;
use p2p_types::{BlockNumber, L2Tip, UnixSeconds};
use serde::Serialize;
use tokio::time::Instant;

use super::rpc::{L2, NO_METHOD};
use crate::{L1Error, L1Head};

/// Settled blocks whose hashes are remembered, to find out how far L2 goes back.
const REMEMBERED: usize = 4_096;

/// Which call tells the last settled block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SettledSource {
    /// `taiko_headL1Origin`: the last block that came from L1.
    #[serde(rename = "taiko_headL1Origin")]
    HeadL1Origin,
    /// `eth_getBlockByNumber` with `safe`, where that is not served.
    #[serde(rename = "safe")]
    Safe,
}

/// The last settled block, as it was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct L2Seen {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its timestamp.
    pub timestamp: u64,
    /// When the node said so, by our clock.
    pub at: UnixSeconds,
}

/// When something is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) unix: UnixSeconds,
}

/// How long an endpoint has to say that a lower block of the same chain is the last settled one before it is believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct RegressAfter {
    /// The one that had told the higher block.
    pub(super) same: Duration,
    /// Another one: it may be behind.
    pub(super) other: Duration,
}

/// Follows the last settled block.
#[derive(Debug)]
pub(super) struct Tracker {
    regress_after: RegressAfter,
    /// Which endpoint was asked last.
    asked: Option<usize>,
    pub(super) source: Option<SettledSource>,
    pub(super) seen: Option<L2Seen>,
    /// What was settled before anything was told.
    resumed: Option<BlockNumber>,
    /// What was told last, and by which endpoint.
    told: Option<(L2Tip, usize)>,
    /// Blocks that were told or read, by height.
    known: BTreeMap<u64, B256>,
    pub(super) synced: bool,
    /// Since when the endpoint says that a lower block is the last settled one.
    lower_since: Option<Instant>,
    /// When the tip was the last one told, without interruption.
    steady_at: Option<UnixSeconds>,
    /// The last tip is told again.
    again: bool,
    pub(super) reorgs: u64,
}

impl Tracker {
    pub(super) const fn new(regress_after: RegressAfter) -> Self {
        Self {
            regress_after,
            asked: None,
            source: None,
            seen: None,
            resumed: None,
            told: None,
            known: BTreeMap::new(),
            synced: false,
            lower_since: None,
            steady_at: None,
            again: false,
            reorgs: 0,
        }
    }

    /// The tip that was told last.
    pub(super) fn told(&self) -> Option<L2Tip> {
        self.told.map(|(tip, _)| tip)
    }

    /// What was settled when the client stopped.
    pub(super) const fn resume(&mut self, settled: BlockNumber) {
        self.resumed = Some(settled);
    }

    /// What was read could not be used: the tip is told again.
    pub(super) const fn tell_again(&mut self) {
        self.again = true;
    }

    /// The node did not answer. It may be another one that answers next, or the same after a restart.
    pub(super) const fn interrupted(&mut self) {
        (self.source, self.steady_at, self.synced) = (None, None, false);
    }

    /// Remembers a settled block that was read.
    pub(super) fn remember(&mut self, number: u64, hash: B256) {
        self.known.insert(number, hash);
        while self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
    }

    /// Asks once. Some if there is something to tell.
    pub(super) async fn poll(&mut self, l2: &impl L2, at: Moment) -> Result<Option<L2Tip>, L1Error> {
        let endpoint = l2.endpoint();
        if self.asked.replace(endpoint) != Some(endpoint) {
            self.interrupted();
            self.lower_since = None;
        }
        let Some(head) = self.settled(l2).await? else { return Ok(None) };
        let head = l2.came(head).await?;
        let L1Head { number, hash, timestamp, .. } = head;
        // One that says less than before may have begun to synchronize itself anew.
        let newest = self.told().map(|told| told.number).or(self.resumed);
        let says_less = newest.is_some_and(|newest| number < newest);
        let was_synced = self.synced && !says_less;
        let synced = was_synced || (!l2.is_syncing().await? && l2.reached().await? >= number);
        let taken_back = if self.told.is_some() { self.taken_back(l2, head).await? } else { None };
        if l2.endpoint() != endpoint {
            // Each has answered a part, and one may be behind the other.
            return Err(L1Error::Moved);
        }
        self.synced = synced;
        self.seen = Some(L2Seen { number, hash, timestamp, at: at.unix });
        if let Some(still) = taken_back {
            self.goes_back(still.number);
            return Ok(Some(self.tell(still.number, still.hash, endpoint, at)));
        }
        if says_less {
            let since = *self.lower_since.get_or_insert(at.now);
            let RegressAfter { same, other } = self.regress_after;
            let told_it = self.told.is_some_and(|(_, by)| by == endpoint);
            let after = if told_it { same } else { other };
            if !synced || at.now.duration_since(since) < after {
                return Ok(None);
            }
            self.goes_back(number);
            return Ok(Some(self.tell(number, hash, endpoint, at)));
        }
        self.lower_since = None;
        let Some((told, _)) = self.told else {
            return Ok(Some(self.tell(number, hash, endpoint, at)));
        };
        if self.again {
            // It still stands. What is above it comes once it was read.
            return Ok(Some(self.tell(told.number, told.hash, endpoint, at)));
        }
        if number == told.number && told.synced == self.synced {
            self.steady_at = Some(at.unix);
            self.told = Some((told, endpoint));
            return Ok(None);
        }
        Ok(Some(self.tell(number, hash, endpoint, at)))
    }

    /// The last settled block; none if there is none yet.
    async fn settled(&mut self, l2: &impl L2) -> Result<Option<L1Head>, L1Error> {
        if self.source == Some(SettledSource::Safe) {
            return l2.safe().await;
        }
        match l2.origin().await {
            Err(L1Error::Refused { code: NO_METHOD, .. }) => {
                self.source = Some(SettledSource::Safe);
                l2.safe().await
            }
            origin => {
                self.source = Some(SettledSource::HeadL1Origin);
                match origin? {
                    Some(number) => l2.header(number).await,
                    None => Ok(None),
                }
            }
        }
    }

    fn tell(&mut self, number: u64, hash: B256, endpoint: usize, at: Moment) -> L2Tip {
        let lower_at = match self.told {
            Some((told, _)) if told.number >= number => told.lower_at,
            _ => self.steady_at,
        };
        let tip = L2Tip { number, hash, synced: self.synced, lower_at };
        self.told = Some((tip, endpoint));
        self.remember(number, hash);
        (self.steady_at, self.again, self.lower_since) = (Some(at.unix), false, None);
        tip
    }

    /// Forgets what is above a block that still stands.
    fn goes_back(&mut self, to: u64) {
        self.reorgs += 1;
        drop(self.known.split_off(&to.saturating_add(1)));
    }

    /// The highest known block that still stands, if one that was told does not.
    async fn taken_back(&self, l2: &impl L2, head: L1Head) -> Result<Option<L1Head>, L1Error> {
        let known: Vec<(u64, B256)> =
            self.known.range(..=head.number).map(|(number, hash)| (*number, *hash)).collect();
        let Some((highest, hash)) = known.last().copied() else { return Ok(None) };
        let there = if highest == head.number { head } else { header(l2, highest).await? };
        if there.hash == hash {
            return Ok(None);
        }
        // Below `stands` all stand, from `gone` on none does.
        let (mut stands, mut gone) = (0, known.len().saturating_sub(1));
        let mut found = None;
        while stands < gone {
            let middle = stands.midpoint(gone);
            let Some((number, hash)) = known.get(middle).copied() else { break };
            let there = header(l2, number).await?;
            if there.hash == hash {
                (stands, found) = (middle + 1, Some(there));
            } else {
                gone = middle;
            }
        }
        match (found, known.first()) {
            (None, Some((lowest, _))) => header(l2, lowest.saturating_sub(1)).await.map(Some),
            (found, _) => Ok(found),
        }
    }
}

async fn header(l2: &impl L2, number: u64) -> Result<L1Head, L1Error> {
    l2.header(number).await?.ok_or(L1Error::Moved)
}

#[cfg(test)]
mod tests;
