//! The slow-reader monitor: finds connections whose other end does not read what gossip writes, and closes a read gate for gossip
//! of graylisted peers.
//!
//! **Slow readers.** gossipsub's queue for a peer is bounded by count, and it does not say how long the queue is. But it
//! writes one message after the other, drops on the way what has waited for longer than `queue_time`, and a message that
//! is being written blocks all behind it. So a peer holds at most what gossip has enqueued since the message in writing
//! began, and `queue_time` before; and no more than since the connection was last flushed. Both are seen on the
//! connection's streams (`monitored`); what gossip has enqueued is known to the service ([`OutboundQueue`]).
//!
//! **Half frames.** What a peer has sent of a frame is kept until the rest is there. One that takes longer than
//! `frame_time` is not waited for.
//!
//! **The read gate.** Gossip of a graylisted peer would be dropped, but only after its signature was checked. It is left
//! unread instead, so that a flood fills the window of its own stream and costs nothing more.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, Weak},
    time::Instant,
};

use libp2p::{
    PeerId,
    core::muxing::{StreamMuxer, StreamMuxerBox},
};

use crate::{
    config::GossipConfig,
    monitored::{Blocked, ConnectionIo, locked, monitor},
    send_turns::SendTurns,
};

/// The monitored connections of a node.
#[derive(Debug, Clone)]
pub(crate) struct SlowReaderMonitor {
    connections: Arc<Mutex<Vec<Connection>>>,
    turns: SendTurns,
}

type Connection = (PeerId, Weak<ConnectionIo>);

impl SlowReaderMonitor {
    /// Large messages on the connections take these turns.
    pub(crate) fn new(turns: SendTurns) -> Self {
        Self { connections: Arc::default(), turns }
    }

    /// Monitors the connection with a peer from here on.
    pub(crate) fn watch<M>(&self, peer: PeerId, muxer: M) -> StreamMuxerBox
    where
        M: StreamMuxer + Send + Unpin + 'static,
        M::Substream: Send + Unpin + 'static,
        M::Error: Send + Sync + 'static,
    {
        let io = Arc::<ConnectionIo>::default();
        let mut list = locked(&self.connections);
        list.retain(|(_, io)| io.strong_count() > 0);
        list.push((peer, Arc::downgrade(&io)));
        drop(list);
        monitor(muxer, io, self.turns.clone())
    }

    /// Cuts the connections whose other ends do not read, and returns whose they were, and why.
    pub(crate) fn cut(&self, queue: &OutboundQueue, now: Instant) -> Vec<(PeerId, CutReason)> {
        self.cut_those(|io| io.blocked().and_then(|blocked| queue.judge(blocked, now)))
    }

    /// Cuts the connections on which a frame was begun and not ended in time. Looks at each of their streams: not for each
    /// message.
    pub(crate) fn cut_half_frames(&self, queue: &OutboundQueue, now: Instant) -> Vec<(PeerId, CutReason)> {
        self.cut_those(|io| io.begun().and_then(|begun| queue.judge_frame(begun, now)))
    }

    fn cut_those(&self, judge: impl Fn(&ConnectionIo) -> Option<CutReason>) -> Vec<(PeerId, CutReason)> {
        let mut cut = Vec::new();
        for (peer, io) in locked(&self.connections).iter() {
            if let Some(io) = io.upgrade()
                && !io.is_cut()
                && let Some(reason) = judge(&io)
            {
                io.cut();
                cut.push((*peer, reason));
            }
        }
        cut
    }

    /// Which of these peers have room for a message of this length: of what gossip has enqueued, no more than half of
    /// their queue waits for them.
    pub(crate) fn with_room(&self, peers: &[PeerId], bytes: usize, queue: &OutboundQueue) -> usize {
        let mut last_flushed: HashMap<PeerId, Option<Instant>> = HashMap::new();
        for (peer, io) in locked(&self.connections).iter() {
            if let Some(io) = io.upgrade()
                && peers.contains(peer)
            {
                let since = last_flushed.entry(*peer).or_default();
                *since = io.last_flushed().max(*since);
            }
        }
        let has_room =
            |peer: &&PeerId| last_flushed.get(*peer).is_some_and(|since| queue.has_room(*since, bytes));
        peers.iter().filter(has_room).count()
    }

    /// Closes or opens the read gate of a peer.
    pub(crate) fn set_read_gate(&self, peer: &PeerId, closed: bool) {
        for (_, io) in locked(&self.connections).iter().filter(|(of, _)| of == peer) {
            if let Some(io) = io.upgrade() {
                io.set_gate(closed);
            }
        }
    }
}

/// Why a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutReason {
    /// One message took `send_stall` and was not read to its end.
    Stalled,
    /// More than `send_queue_bytes` may wait behind one message.
    TooMuch,
    /// It began a frame and did not end it in `frame_time`.
    HalfFrame,
}

impl CutReason {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Stalled => "send_stalled",
            Self::TooMuch => "send_queue_bytes",
            Self::HalfFrame => "half_frame",
        }
    }
}

/// The bytes that gossip has enqueued recently, to any peer. No clock: every call is given the time.
#[derive(Debug)]
pub(crate) struct OutboundQueue {
    config: GossipConfig,
    /// The messages, oldest first, each with the bytes of all that were enqueued before it.
    enqueued: VecDeque<(Instant, u64)>,
    /// The bytes of all that were ever enqueued.
    total: u64,
}

impl OutboundQueue {
    pub(crate) const fn new(config: GossipConfig) -> Self {
        Self { config, enqueued: VecDeque::new(), total: 0 }
    }

    /// Gossip has enqueued a message of this length.
    pub(crate) fn enqueued(&mut self, bytes: usize, now: Instant) {
        let memory = self.config.send_stall.saturating_add(self.config.queue_time);
        while let Some((at, _)) = self.enqueued.front()
            && now.saturating_duration_since(*at) > memory
        {
            self.enqueued.pop_front();
        }
        self.enqueued.push_back((now, self.total));
        self.total = self.total.saturating_add(bytes as u64);
    }

    /// How many messages were enqueued since then, and their bytes.
    fn since(&self, since: Option<Instant>) -> (usize, usize) {
        let first = since.map_or(0, |since| self.enqueued.partition_point(|(at, _)| *at < since));
        let before = self.enqueued.get(first).map_or(self.total, |(_, before)| *before);
        let bytes = usize::try_from(self.total - before).unwrap_or(usize::MAX);
        (self.enqueued.len() - first, bytes)
    }

    /// Whether another message of this length leaves half of a peer's queue free, if the peer has taken what was
    /// enqueued before `flushed`.
    fn has_room(&self, last_flushed: Option<Instant>, bytes: usize) -> bool {
        let (messages, waiting) = self.since(last_flushed);
        // What waits alone may be of any length.
        let fits = waiting.saturating_add(bytes) <= self.config.send_queue_bytes.get() / 2;
        messages < self.config.send_queue.get().div_ceil(2) && (messages == 0 || fits)
    }

    fn judge_frame(&self, begun: Instant, now: Instant) -> Option<CutReason> {
        (now.saturating_duration_since(begun) >= self.config.frame_time).then_some(CutReason::HalfFrame)
    }

    fn judge(&self, Blocked { since, last_flushed }: Blocked, now: Instant) -> Option<CutReason> {
        if now.saturating_duration_since(since) >= self.config.send_stall {
            return Some(CutReason::Stalled);
        }
        let from = since.checked_sub(self.config.queue_time).max(last_flushed);
        let (_, bytes) = self.since(from);
        (bytes > self.config.send_queue_bytes.get()).then_some(CutReason::TooMuch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use p2p_fixtures::assert_as_cheap;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn queue() -> OutboundQueue {
        OutboundQueue::new(GossipConfig {
            send_queue: 40.try_into().unwrap(),
            send_queue_bytes: (8 * MIB).try_into().unwrap(),
            send_stall: Duration::from_secs(6),
            queue_time: Duration::from_secs(4),
            frame_time: Duration::from_secs(3),
            ..GossipConfig::default()
        })
    }

    /// Blocked, with nothing known from before.
    fn blocked(since: Instant) -> Blocked {
        Blocked { since, last_flushed: None }
    }

    #[test]
    fn a_message_that_is_not_read_in_time_is_enough() {
        let (queue, start) = (queue(), Instant::now());
        assert_eq!(queue.judge(blocked(start), start + Duration::from_millis(5999)), None);
        assert_eq!(queue.judge(blocked(start), start + Duration::from_secs(6)), Some(CutReason::Stalled));
    }

    #[test]
    fn a_frame_that_is_not_ended_in_time_is_enough() {
        let (queue, start) = (queue(), Instant::now());
        assert_eq!(queue.judge_frame(start, start + Duration::from_millis(2999)), None);
        assert_eq!(queue.judge_frame(start, start + Duration::from_secs(3)), Some(CutReason::HalfFrame));
    }

    #[test]
    fn a_peer_has_room_for_half_of_its_queue_since_it_had_nothing_to_read() {
        let (mut queue, start) = (queue(), Instant::now());
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        assert!(queue.has_room(None, 100 * MIB), "it waits alone");
        for _ in 0..19 {
            queue.enqueued(1, start);
        }
        assert!(queue.has_room(None, 1));
        queue.enqueued(1, start);
        assert!(!queue.has_room(None, 1) && !queue.has_room(at(0), 1));
        assert!(queue.has_room(at(1), 1));
        queue.enqueued(3 * MIB, start + Duration::from_secs(2));
        assert!(queue.has_room(at(1), MIB) && !queue.has_room(at(1), MIB + 1));
    }

    #[test]
    fn what_may_wait_behind_a_message_is_bounded_by_bytes() {
        let (mut queue, start) = (queue(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // Whatever waited before the message in writing is read, or dropped after four seconds.
        queue.enqueued(100 * MIB, at(5));
        queue.enqueued(4 * MIB, at(6));
        assert_eq!(queue.judge(blocked(at(10)), at(11)), None);
        queue.enqueued(4 * MIB, at(11));
        assert_eq!(queue.judge(blocked(at(10)), at(11)), None);
        queue.enqueued(1, at(12));
        assert_eq!(queue.judge(blocked(at(10)), at(12)), Some(CutReason::TooMuch));
        // A peer that has read on holds less.
        assert_eq!(queue.judge(blocked(at(12)), at(12)), None);
    }

    #[test]
    fn what_was_read_before_a_message_does_not_wait_behind_it() {
        let (mut queue, start) = (queue(), Instant::now());
        queue.enqueued(100 * MIB, start);
        let since = start + Duration::from_millis(20);
        assert_eq!(queue.judge(blocked(since), since), Some(CutReason::TooMuch));
        let last_flushed = Some(start + Duration::from_millis(10));
        assert_eq!(queue.judge(Blocked { since, last_flushed }, since), None);
        // What came at that moment may not have been written yet.
        assert_eq!(
            queue.judge(Blocked { since, last_flushed: Some(start) }, since),
            Some(CutReason::TooMuch)
        );
    }

    #[test]
    fn what_is_too_old_to_wait_is_forgotten() {
        let (mut queue, start) = (queue(), Instant::now());
        for second in 0..1000 {
            queue.enqueued(1, start + Duration::from_secs(second));
        }
        assert_eq!(queue.enqueued.len(), 11);
    }

    #[test]
    fn what_was_enqueued_costs_a_peer_that_does_not_read_no_sum() {
        let cost = |messages: u32| {
            let (mut queue, start) = (queue(), Instant::now());
            for n in 0..messages {
                queue.enqueued(1, start + Duration::from_micros(n.into()));
            }
            let begun = Instant::now();
            for _ in 0..256 {
                assert_eq!(queue.judge(blocked(start), start + Duration::from_secs(1)), None);
                assert_eq!(queue.has_room(Some(start), 1), messages < 20);
            }
            begun.elapsed()
        };
        assert_as_cheap("a message to a slow reader", 10, || cost(100_000), || cost(1));
    }
}
