//! The messages of gossip whose verdict is owed. No clock: every call says what time it is.
//!
//! **Shares.** Their count and their bytes are bounded together. When there is no room, whoever holds most gives up its
//! newest; who holds most itself is refused. So nobody takes what others need, however many it sends.
//!
//! **Time.** gossipsub forgets a message after `history` heartbeats. What is open until shortly before that is settled
//! *ignore*, so that what waits for a verdict holds no room for longer. What has not been read yet keeps its room, because it
//! is still in memory, and can be read.
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
    Settled(Verdict),
    /// Its twin is being judged; it has the same verdict.
    WaitsForTwin,
    /// There is no room for it.
    Refused,
}

#[derive(Debug)]
struct Entry {
    received: Received,
    until: Instant,
    /// Whether gossipsub has been told to ignore it. The message is still there to be read.
    expired: bool,
    /// The genuine message that waits for the verdict on this twin.
    genuine: Option<u64>,
}

/// A message that had to be given up for another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenUp {
    pub(crate) key: u64,
    /// None if gossipsub has been told to ignore it already.
    pub(crate) received: Option<Received>,
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
    pub(crate) fn open(&mut self, received: Received, now: Instant) -> (Opened, Vec<GivenUp>) {
        let twin = self.twins.get(&received.id).copied();
        if let Some(Twin::Accepted(verdict)) = twin {
            return (Opened::Settled(verdict), Vec::new());
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
            self.give_up(newest, &mut given_up);
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
        let until = after(now, self.life);
        self.open.insert(key, Entry { received, until, expired: false, genuine: None });
        (opened, given_up)
    }

    /// The verdict on a message, and on the genuine one that waited for it. Nothing if it is over: settled, given up or
    /// expired.
    #[must_use]
    pub(crate) fn settle(&mut self, key: u64, verdict: Verdict, now: Instant) -> Vec<Received> {
        let Some(Entry { received, expired: false, genuine: waits, .. }) = self.remove(key) else {
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
        std::iter::once(received).chain(genuine.map(|genuine| genuine.received)).collect()
    }

    /// Takes out what gossipsub is about to forget; what is still `unread` stays.
    #[must_use]
    pub(crate) fn expired(&mut self, now: Instant, unread: impl Fn(u64) -> bool) -> Vec<Received> {
        while let Some((since, _)) = self.accepted_twins.front()
            && now.saturating_duration_since(*since) >= self.twin_life
        {
            self.forget_twin();
        }
        let over = self.open.iter().take_while(|(_, entry)| entry.until <= now);
        let over: Vec<_> = over.map(|(key, entry)| (*key, entry.expired)).collect();
        let mut expired = Vec::new();
        for (key, before) in over {
            if unread(key) {
                if let Some(entry) = self.open.get_mut(&key).filter(|_| !before) {
                    entry.expired = true;
                    expired.push(entry.received.clone());
                }
            } else if let Some(entry) = self.remove(key) {
                expired.extend(Some(entry.received).filter(|_| !before));
            }
        }
        expired
    }

    fn give_up(&mut self, key: u64, given_up: &mut Vec<GivenUp>) {
        let mut next = Some(key);
        while let Some(key) = next
            && let Some(entry) = self.remove(key)
        {
            given_up.push(GivenUp { key, received: Some(entry.received).filter(|_| !entry.expired) });
            next = entry.genuine;
        }
    }

    fn forget_twin(&mut self) {
        if let Some((_, genuine)) = self.accepted_twins.pop_front() {
            self.twins.remove(&genuine);
        }
    }

    fn remove(&mut self, key: u64) -> Option<Entry> {
        let entry = self.open.remove(&key)?;
        let received = &entry.received;
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
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    struct Rig {
        verdicts: Verdicts,
        start: Instant,
        sent: u8,
    }

    impl Rig {
        fn new(most: usize, bytes: usize) -> Self {
            Self::with(|config| {
                config.queues.open_verdicts = most.try_into().unwrap();
                config.queues.open_verdict_bytes = bytes.try_into().unwrap();
            })
        }

        fn with(change: impl FnOnce(&mut NetworkConfig)) -> Self {
            let mut config = NetworkConfig::new(1, Keypair::generate_ed25519());
            change(&mut config);
            let verdicts = Verdicts::new(&config, Duration::from_secs(1));
            Self { verdicts, start: Instant::now(), sent: 0 }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn message(&mut self, from: PeerId, bytes: usize) -> Received {
            self.sent += 1;
            let id = MessageId::new(&[self.sent]);
            Received { id, from, author: Some(from), topic: Topic::RawTxLists, bytes, twin_of: None }
        }

        /// Opens one; what it is to be done with it, and whose others were given up.
        fn open(&mut self, from: PeerId, bytes: usize) -> (Opened, Vec<u64>) {
            let message = self.message(from, bytes);
            let (opened, given_up) = self.verdicts.open(message, self.start);
            (opened, given_up.iter().map(|given_up| given_up.key).collect())
        }
    }

    #[test]
    fn whoever_holds_most_gives_up_its_newest_and_is_refused_itself() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let mut rig = Rig::new(3, 1000);
        for key in 1..=3 {
            assert_eq!(rig.open(one, 1), (Opened::Ask(key), vec![]));
        }
        assert_eq!(rig.open(one, 1), (Opened::Refused, vec![]));
        assert_eq!(rig.open(two, 1), (Opened::Ask(4), vec![3]));
        // Two and one: the next would make it one and two.
        assert_eq!(rig.open(two, 1), (Opened::Ask(5), vec![2]));
        assert_eq!(rig.open(one, 1), (Opened::Ask(6), vec![5]));
        assert_eq!(rig.verdicts.len(), 3);
    }

    #[test]
    fn bytes_are_shared_as_the_count_is() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let mut rig = Rig::new(100, 100);
        assert_eq!(rig.open(one, 40), (Opened::Ask(1), vec![]));
        assert_eq!(rig.open(one, 40), (Opened::Ask(2), vec![]));
        assert_eq!(rig.open(two, 30), (Opened::Ask(3), vec![2]));
        assert_eq!(rig.open(two, 30), (Opened::Ask(4), vec![]));
        assert_eq!(rig.open(two, 1), (Opened::Refused, vec![]));
        // One that is larger than everything gets everything, when it is there.
        let (mut rig, key) = (Rig::new(100, 100), 1);
        assert_eq!(rig.open(one, 1000), (Opened::Ask(key), vec![]));
        assert_eq!(rig.verdicts.settle(key, Verdict::Ignore, rig.start).len(), 1);
        assert_eq!((rig.verdicts.bytes, rig.verdicts.shares.len()), (0, 0));
    }

    #[test]
    fn what_is_open_when_gossip_is_about_to_forget_it_is_over_and_what_is_unread_keeps_its_room() {
        let peer = PeerId::random();
        let mut rig = Rig::new(2, 1000);
        let (read, unread) = (rig.message(peer, 1), rig.message(peer, 1));
        assert_eq!(rig.verdicts.open(read.clone(), rig.start).0, Opened::Ask(1));
        assert_eq!(rig.verdicts.open(unread.clone(), rig.start).0, Opened::Ask(2));
        // Eleven heartbeats less the time between two looks.
        assert!(rig.verdicts.expired(rig.at(4_499), |_| false).is_empty());
        assert_eq!(rig.verdicts.expired(rig.at(4_500), |key| key == 2), [read, unread]);
        assert_eq!(rig.verdicts.len(), 1);
        assert!(rig.verdicts.expired(rig.at(5_500), |key| key == 2).is_empty());
        assert!(rig.verdicts.settle(2, Verdict::Accept, rig.at(6_000)).is_empty());
        assert_eq!(rig.verdicts.len(), 0);
    }

    #[test]
    fn a_verdict_and_a_twin_last_as_long_as_gossip_remembers() {
        let mut rig = Rig::with(|config| {
            config.gossip.history = 5.try_into().unwrap();
            config.gossip.heartbeat = Duration::from_secs(2);
            config.gossip.duplicate_cache = Duration::from_secs(30);
        });
        let (genuine, mut twin) = (rig.message(PeerId::random(), 1), rig.message(PeerId::random(), 1));
        twin.twin_of = Some(genuine.id.clone());
        assert_eq!(rig.verdicts.open(twin, rig.start).0, Opened::Ask(1));
        assert_eq!(rig.verdicts.settle(1, Verdict::Accept, rig.start).len(), 1);
        assert_eq!(rig.open(PeerId::random(), 1).0, Opened::Ask(2));
        // Four heartbeats less the time between two looks.
        assert!(rig.verdicts.expired(rig.at(6_999), |_| false).is_empty());
        assert_eq!(rig.verdicts.expired(rig.at(7_000), |_| false).len(), 1);
        drop(rig.verdicts.expired(rig.at(29_999), |_| false));
        assert_eq!(rig.verdicts.twins.len(), 1);
        drop(rig.verdicts.expired(rig.at(30_000), |_| false));
        assert_eq!(rig.verdicts.twins.len(), 0);
    }

    #[test]
    fn the_verdict_on_a_twin_is_the_one_on_the_genuine_message_for_as_long_as_it_may_come() {
        let (carrier, honest) = (PeerId::random(), PeerId::random());
        for (verdict, remembered) in [
            (Verdict::Accept, Some(Opened::Settled(Verdict::Accept))),
            (Verdict::Ignore, None),
            (Verdict::Reject(preconfirmation_types::Offence::WrongSigner), None),
        ] {
            let mut rig = Rig::new(8, 1000);
            let genuine = rig.message(honest, 1);
            let mut twin = rig.message(carrier, 1);
            twin.twin_of = Some(genuine.id.clone());
            assert_eq!(rig.verdicts.open(twin.clone(), rig.start).0, Opened::Ask(1));
            assert_eq!(rig.verdicts.open(genuine.clone(), rig.start).0, Opened::WaitsForTwin);
            assert_eq!(rig.verdicts.settle(1, verdict, rig.start), [twin, genuine.clone()]);
            assert_eq!(rig.verdicts.len(), 0);
            let again = rig.verdicts.open(genuine.clone(), rig.at(119_000)).0;
            assert_eq!(again, remembered.unwrap_or(Opened::Ask(3)));
            drop(rig.verdicts.expired(rig.at(200_000), |_| false));
            assert_eq!(rig.verdicts.twins.len(), 0);
            assert!(matches!(rig.verdicts.open(genuine, rig.at(200_000)).0, Opened::Ask(_)));
        }
    }

    #[test]
    fn twins_that_are_remembered_are_bounded() {
        let mut rig = Rig::new(8, 1000);
        for number in 0..TWINS + 10 {
            let mut twin = rig.message(PeerId::random(), 1);
            twin.twin_of = Some(MessageId::new(&number.to_be_bytes()));
            rig.sent = 0;
            let (Opened::Ask(key), _) = rig.verdicts.open(twin, rig.start) else { panic!("not asked") };
            assert_eq!(rig.verdicts.settle(key, Verdict::Accept, rig.start).len(), 1);
        }
        assert_eq!((rig.verdicts.twins.len(), rig.verdicts.accepted_twins.len()), (TWINS, TWINS));
    }
}
