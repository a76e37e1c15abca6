//! The messages of gossip whose verdict is owed. No clock: every call says what time it is.
//!
//! **Shares.** Their count and their bytes are bounded together. When there is no room, whoever holds most gives up its
//! newest; who holds most itself is refused. So nobody takes what others need, however many it sends.
//!
//! **Time.** gossipsub forgets a message after `history` heartbeats. What is open until shortly before that is settled
//! *ignore*, so that what waits for a verdict holds no room for longer.
//!
//! **Twins.** Anyone can make a second form of a genuine commitment, with s in the upper half (§4). It is judged as its
//! low form, which the application then knows; the verdict on the promise is kept, and falls on the genuine message, which
//! the application is not asked about again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::{PeerId, gossipsub::MessageId};
use preconfirmation_types::Topic;

use crate::{
    config::{NetworkConfig, after},
    event::Verdict,
};

/// Most twins whose genuine message has not come and is still awaited. Only twins of accepted commitments count.
const TWINS: usize = 4096;

/// A message that came, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: MessageId,
    pub(crate) from: PeerId,
    /// Who signed it for gossip.
    pub(crate) author: Option<PeerId>,
    pub(crate) topic: Topic,
    pub(crate) bytes: usize,
    /// The id of the genuine message, if this is a twin of it.
    pub(crate) twin_of: Option<MessageId>,
}

/// What is to be done with a message that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Ask the application; its answer is for this number.
    Ask(u64),
    /// Its twin has been judged so.
    Judged(Verdict),
    /// Its twin is being judged; it has the same verdict.
    WaitsForTwin,
    /// There is no room for it.
    Refused,
}

#[derive(Debug)]
struct Entry {
    received: Received,
    until: Instant,
    /// The genuine message that waits for the verdict on this twin.
    genuine: Option<u64>,
}

/// What one peer holds.
#[derive(Debug, Default)]
struct Share {
    open: BTreeSet<u64>,
    bytes: usize,
}

/// A twin that is being judged, or was accepted.
#[derive(Debug, Clone, Copy)]
enum Twin {
    Open(u64),
    Accepted(Verdict),
}

/// The open verdicts.
#[derive(Debug)]
pub(crate) struct Verdicts {
    most: usize,
    most_bytes: usize,
    life: Duration,
    twin_life: Duration,
    next: u64,
    /// In the order of their coming, and so of their ends.
    open: BTreeMap<u64, Entry>,
    shares: HashMap<PeerId, Share>,
    bytes: usize,
    twins: HashMap<MessageId, Twin>,
    accepted_twins: VecDeque<(Instant, MessageId)>,
}

impl Verdicts {
    /// `tick`: between two calls of [`expired`](Self::expired).
    pub(crate) fn new(config: &NetworkConfig, tick: Duration) -> Self {
        let gossip = &config.gossip;
        // gossipsub moves its history on with each heartbeat, the first of which may come at once.
        let heartbeats = u32::try_from(gossip.history.get()).unwrap_or(u32::MAX).saturating_sub(1);
        Self {
            most: config.queues.open_verdicts.get(),
            most_bytes: config.queues.open_verdict_bytes.get(),
            life: gossip.heartbeat.saturating_mul(heartbeats).saturating_sub(tick),
            twin_life: gossip.duplicate_cache,
            next: 0,
            open: BTreeMap::new(),
            shares: HashMap::new(),
            bytes: 0,
            twins: HashMap::new(),
            accepted_twins: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes note of a message, and says what is to be done with it and which others had to be given up for it.
    #[must_use]
    pub(crate) fn open(&mut self, received: Received, now: Instant) -> (Opened, Vec<(u64, Received)>) {
        let twin = self.twins.get(&received.id).copied();
        if let Some(Twin::Accepted(verdict)) = twin {
            return (Opened::Judged(verdict), Vec::new());
        }
        let bytes = received.bytes.min(self.most_bytes);
        let mut given_up = Vec::new();
        while self.open.len() >= self.most || self.bytes.saturating_add(bytes) > self.most_bytes {
            let weight: fn(&Share) -> usize =
                if self.open.len() >= self.most { |share| share.open.len() } else { |share| share.bytes };
            let own = self.shares.get(&received.from).map_or(0, weight);
            let most = self.shares.values().max_by_key(|share| weight(share));
            let Some(newest) = most.filter(|most| weight(most) > own).and_then(|most| most.open.last())
            else {
                return (Opened::Refused, given_up);
            };
            let newest = *newest;
            if let Some((received, waits)) = self.remove(newest) {
                given_up.push((newest, received));
                given_up.extend(waits.and_then(|key| Some((key, self.remove(key)?.0))));
            }
        }
        self.next += 1;
        let key = self.next;
        self.bytes += bytes;
        let share = self.shares.entry(received.from).or_default();
        share.open.insert(key);
        share.bytes += bytes;
        let opened = match twin {
            Some(Twin::Open(twin))
                if let Some(entry) = self.open.get_mut(&twin)
                    && entry.genuine.is_none() =>
            {
                entry.genuine = Some(key);
                Opened::WaitsForTwin
            }
            _ => Opened::Ask(key),
        };
        if let Some(genuine) = &received.twin_of {
            self.twins.entry(genuine.clone()).or_insert(Twin::Open(key));
        }
        self.open.insert(key, Entry { received, until: after(now, self.life), genuine: None });
        (opened, given_up)
    }

    /// The verdict on a message, and on the genuine one that waited for it. Nothing if it is over: settled, given up or
    /// expired.
    #[must_use]
    pub(crate) fn settle(&mut self, key: u64, verdict: Verdict, now: Instant) -> Vec<Received> {
        let Some((received, waits)) = self.remove(key) else {
            return Vec::new();
        };
        if let (Some(genuine), Verdict::Accept | Verdict::Forward) = (&received.twin_of, verdict) {
            self.twins.insert(genuine.clone(), Twin::Accepted(verdict));
            self.accepted_twins.push_back((now, genuine.clone()));
            if self.accepted_twins.len() > TWINS {
                self.forget_twin();
            }
        }
        let genuine = waits.and_then(|key| self.remove(key));
        std::iter::once(received).chain(genuine.map(|(genuine, _)| genuine)).collect()
    }

    /// Takes out what gossipsub is about to forget.
    #[must_use]
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(u64, Received)> {
        while let Some((since, _)) = self.accepted_twins.front()
            && now.saturating_duration_since(*since) >= self.twin_life
        {
            self.forget_twin();
        }
        let mut expired = Vec::new();
        while let Some((key, entry)) = self.open.first_key_value()
            && entry.until <= now
        {
            let key = *key;
            expired.extend(self.remove(key).map(|(received, _)| (key, received)));
        }
        expired
    }

    fn forget_twin(&mut self) {
        if let Some((_, genuine)) = self.accepted_twins.pop_front() {
            self.twins.remove(&genuine);
        }
    }

    fn remove(&mut self, key: u64) -> Option<(Received, Option<u64>)> {
        let Entry { received, genuine, .. } = self.open.remove(&key)?;
        let bytes = received.bytes.min(self.most_bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(share) = self.shares.get_mut(&received.from) {
            share.open.remove(&key);
            share.bytes = share.bytes.saturating_sub(bytes);
            if share.open.is_empty() {
                self.shares.remove(&received.from);
            }
        }
        if let Some(of) = &received.twin_of
            && matches!(self.twins.get(of), Some(Twin::Open(open)) if *open == key)
        {
            self.twins.remove(of);
        }
        Some((received, genuine))
    }
}
