//! The slow-reader monitor: a muxer wrapper that finds connections whose other end does not read what gossip writes, and
//! a read gate for gossip of graylisted peers.
//!
//! **Slow readers.** gossipsub's queue for a peer is bounded by count, and it does not say how long the queue is. But it
//! writes one message after the other, drops on the way what has waited for longer than `queue_time`, and a message that
//! is being written blocks all behind it. So a peer holds at most what gossip has enqueued since the message in writing
//! began, and `queue_time` before; and no more than since the connection was last flushed. Both are seen on the
//! connection's streams; what gossip has enqueued is known to the service ([`OutboundQueue`]).
//!
//! **Half frames.** What a peer has sent of a frame is kept until the rest is there. One that takes longer than
//! `frame_time` is not waited for.
//!
//! **The read gate.** Gossip of a graylisted peer would be dropped, but only after its signature was checked. It is left
//! unread instead, so that a flood fills the window of its own stream and costs nothing more.

use std::{
    collections::{HashMap, VecDeque},
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncWrite, task::AtomicWaker};
use libp2p::{
    PeerId,
    core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent},
};
use tokio::time::Sleep;

use crate::{config::GossipConfig, frames::Frames};

/// How long an orderly close of a connection may take. One whose other end does not read does not close in order.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Bytes that a stream brings before the read gate applies to it. No request is as long (§10), so it is gossip's.
const UNGATED_BYTES: usize = 4096;

/// The monitored connections of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlowReaderMonitor(Arc<Mutex<Vec<Connection>>>);

type Connection = (PeerId, Weak<ConnectionIo>);

impl SlowReaderMonitor {
    /// Monitors the connection with a peer from here on.
    pub(crate) fn watch<M>(&self, peer: PeerId, muxer: M) -> StreamMuxerBox
    where
        M: StreamMuxer + Send + Unpin + 'static,
        M::Substream: Send + Unpin + 'static,
        M::Error: Send + Sync + 'static,
    {
        let io = Arc::new(ConnectionIo::default());
        let mut list = locked(&self.0);
        list.retain(|(_, io)| io.strong_count() > 0);
        list.push((peer, Arc::downgrade(&io)));
        drop(list);
        StreamMuxerBox::new(MonitoredMuxer { muxer, io, closing: None })
    }

    /// Cuts the connections whose other ends do not read, and returns whose they were, and why.
    pub(crate) fn cut(&self, queue: &OutboundQueue, now: Instant) -> Vec<(PeerId, CutReason)> {
        let mut cut = Vec::new();
        for (peer, io) in locked(&self.0).iter() {
            if let Some(io) = io.upgrade()
                && !io.cut.load(Ordering::Relaxed)
                && let Some(reason) = io
                    .blocked()
                    .and_then(|blocked| queue.judge(blocked, now))
                    .or_else(|| io.begun().and_then(|begun| queue.judge_frame(begun, now)))
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
        for (peer, io) in locked(&self.0).iter() {
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
        for (_, io) in locked(&self.0).iter().filter(|(of, _)| of == peer) {
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
    enqueued: VecDeque<(Instant, usize)>,
}

impl OutboundQueue {
    pub(crate) const fn new(config: GossipConfig) -> Self {
        Self { config, enqueued: VecDeque::new() }
    }

    /// Gossip has enqueued a message of this length.
    pub(crate) fn enqueued(&mut self, bytes: usize, now: Instant) {
        let memory = self.config.send_stall.saturating_add(self.config.queue_time);
        while let Some((at, _)) = self.enqueued.front()
            && now.saturating_duration_since(*at) > memory
        {
            self.enqueued.pop_front();
        }
        self.enqueued.push_back((now, bytes));
    }

    /// Whether another message of this length leaves half of a peer's queue free, if the peer has taken what was
    /// enqueued before `flushed`.
    fn has_room(&self, last_flushed: Option<Instant>, bytes: usize) -> bool {
        let waiting = self
            .enqueued
            .iter()
            .rev()
            .take_while(|(at, _)| last_flushed.is_none_or(|last_flushed| *at >= last_flushed));
        let (messages, waiting) = waiting
            .fold((0, 0_usize), |(messages, sum), (_, bytes)| (messages + 1, sum.saturating_add(*bytes)));
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
        let behind = self.enqueued.iter().rev().take_while(|(at, _)| from.is_none_or(|from| *at >= from));
        let bytes: usize = behind.map(|(_, bytes)| bytes).sum();
        (bytes > self.config.send_queue_bytes.get()).then_some(CutReason::TooMuch)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection whose other end does not read.
#[derive(Debug, Clone, Copy)]
struct Blocked {
    /// Since when its longest blocked stream is.
    since: Instant,
    /// When all streams were flushed last. What gossip enqueues at that very moment may still be on its way.
    last_flushed: Option<Instant>,
}

/// What is seen of one connection.
#[derive(Debug, Default)]
struct ConnectionIo {
    streams: Mutex<Streams>,
    /// The read gate: what its peer's gossip brings is left unread. Changes while `streams` is locked.
    gate_closed: AtomicBool,
    cut: AtomicBool,
    cutting: AtomicWaker,
}

/// The streams of one connection, by number.
#[derive(Debug, Default)]
struct Streams {
    opened: u64,
    /// Blocked streams that we opened, each since when.
    blocked: HashMap<u64, Instant>,
    last_flushed: Option<Instant>,
    /// Those of the other end that wait for the read gate to open.
    gated: HashMap<u64, Waker>,
    /// Those of the other end in the middle of a frame, each with the frame's beginning.
    begun: HashMap<u64, Instant>,
}

impl Streams {
    fn open(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }
}

impl ConnectionIo {
    fn blocked(&self) -> Option<Blocked> {
        let streams = locked(&self.streams);
        let since = streams.blocked.values().min().copied()?;
        Some(Blocked { since, last_flushed: streams.last_flushed })
    }

    /// When the oldest unfinished frame began. What we leave unread has all the time there is.
    fn begun(&self) -> Option<Instant> {
        let streams = locked(&self.streams);
        let closed = self.gate_closed.load(Ordering::Acquire);
        streams.begun.values().min().copied().filter(|_| !closed)
    }

    fn last_flushed(&self) -> Option<Instant> {
        locked(&self.streams).last_flushed
    }

    /// The connection is flushed, but for blocked streams.
    fn written(&self, now: Instant) {
        let mut streams = locked(&self.streams);
        if streams.blocked.is_empty() {
            streams.last_flushed = Some(now);
        }
    }

    fn set_gate(&self, closed: bool) {
        let mut streams = locked(&self.streams);
        let before = self.gate_closed.swap(closed, Ordering::AcqRel);
        if before && !closed {
            let now = Instant::now();
            streams.begun.values_mut().for_each(|begun| *begun = now);
            streams.gated.drain().for_each(|(_, waker)| waker.wake());
        }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.cutting.wake();
    }
}

struct MonitoredMuxer<M> {
    muxer: M,
    io: Arc<ConnectionIo>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<M> StreamMuxer for MonitoredMuxer<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = MonitoredStream<M::Substream>;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = Pin::new(&mut self.muxer).poll_inbound(cx);
        stream
            .map_ok(|stream| MonitoredStream {
                stream,
                direction: Direction::Inbound(InboundStream::new(&self.io)),
            })
            .map_err(io::Error::other)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = Pin::new(&mut self.muxer).poll_outbound(cx);
        stream
            .map_ok(|stream| MonitoredStream {
                stream,
                direction: Direction::Outbound(OutboundStream::new(&self.io)),
            })
            .map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let over = self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_WITHIN)));
        if over.as_mut().poll(cx).is_ready() || self.io.cut.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.muxer).poll_close(cx).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.io.cutting.register(cx.waker());
        if self.io.cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // Polled after all streams, when these can do no more.
        self.io.written(Instant::now());
        Pin::new(&mut self.muxer).poll(cx).map_err(io::Error::other)
    }
}

/// A stream that we opened. It is blocked from its opening until the other end says its first byte, which it does
/// when it agrees to a protocol; later from the first write that found no room until all is flushed.
struct OutboundStream {
    io: Arc<ConnectionIo>,
    number: u64,
    agreed: bool,
    blocked: bool,
}

impl OutboundStream {
    fn new(io: &Arc<ConnectionIo>) -> Self {
        let mut streams = locked(&io.streams);
        let number = streams.open();
        streams.blocked.insert(number, Instant::now());
        drop(streams);
        Self { io: Arc::clone(io), number, agreed: false, blocked: true }
    }

    fn set_blocked(&mut self, blocked: bool) {
        if self.blocked == blocked || !self.agreed {
            return;
        }
        self.blocked = blocked;
        let mut streams = locked(&self.io.streams);
        if blocked {
            streams.blocked.insert(self.number, Instant::now());
        } else {
            streams.blocked.remove(&self.number);
        }
    }
}

impl Drop for OutboundStream {
    fn drop(&mut self) {
        locked(&self.io.streams).blocked.remove(&self.number);
    }
}

/// A stream that the other end opened.
struct InboundStream {
    io: Arc<ConnectionIo>,
    number: u64,
    /// Bytes it has brought.
    read: usize,
    frames: Frames,
    /// Whether it is known to be in the middle of a frame.
    begun: bool,
}

impl InboundStream {
    fn new(io: &Arc<ConnectionIo>) -> Self {
        let number = locked(&io.streams).open();
        Self { io: Arc::clone(io), number, read: 0, frames: Frames::default(), begun: false }
    }

    fn on_read(&mut self, bytes: &[u8], now: Instant) {
        self.read = self.read.saturating_add(bytes.len());
        let begun = self.frames.read(bytes, now);
        if begun.is_some() || self.begun {
            let mut streams = locked(&self.io.streams);
            match begun {
                // It may have been moved on when its peer was read again.
                Some(begun) => {
                    let known = streams.begun.entry(self.number).or_insert(begun);
                    *known = begun.max(*known);
                }
                None => {
                    streams.begun.remove(&self.number);
                }
            }
            self.begun = begun.is_some();
        }
    }

    /// Whether it is read. If not, the task is woken when it is again.
    fn may_read(&self, cx: &Context<'_>) -> bool {
        if self.read <= UNGATED_BYTES || !self.io.gate_closed.load(Ordering::Acquire) {
            return true;
        }
        let mut streams = locked(&self.io.streams);
        let closed = self.io.gate_closed.load(Ordering::Acquire);
        if closed {
            streams.gated.insert(self.number, cx.waker().clone());
        }
        !closed
    }
}

impl Drop for InboundStream {
    fn drop(&mut self) {
        let mut streams = locked(&self.io.streams);
        streams.gated.remove(&self.number);
        streams.begun.remove(&self.number);
    }
}

/// Who opened a stream, and what is to be known of it.
enum Direction {
    Outbound(OutboundStream),
    Inbound(InboundStream),
}

struct MonitoredStream<S> {
    stream: S,
    direction: Direction,
}

impl<S> MonitoredStream<S> {
    fn written<T>(&mut self, result: Poll<io::Result<T>>, flushed: bool) -> Poll<io::Result<T>> {
        if let Direction::Outbound(stream) = &mut self.direction
            && (flushed || result.is_pending())
        {
            stream.set_blocked(result.is_pending());
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Direction::Inbound(stream) = &self.direction
            && !stream.may_read(cx)
        {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(bytes @ 1..)) = read {
            match &mut self.direction {
                Direction::Outbound(stream) if !stream.agreed => {
                    stream.agreed = true;
                    stream.set_blocked(false);
                }
                Direction::Outbound(_) => {}
                Direction::Inbound(stream) => {
                    stream.on_read(buf.get(..bytes).unwrap_or_default(), Instant::now())
                }
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(written, false)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(flushed, true)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_close(cx);
        self.written(closed, true)
    }
}

#[cfg(test)]
mod tests {
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

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
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
    fn nothing_is_flushed_while_a_stream_is_blocked() {
        let (io, start) = (Arc::new(ConnectionIo::default()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        io.written(at(1));
        let mut stream = OutboundStream::new(&io);
        io.written(at(2));
        assert_eq!(io.blocked().map(|blocked| blocked.last_flushed), Some(Some(at(1))));
        stream.agreed = true;
        stream.set_blocked(false);
        assert!(io.blocked().is_none());
        io.written(at(3));
        stream.set_blocked(true);
        assert_eq!(io.blocked().map(|blocked| blocked.last_flushed), Some(Some(at(3))));
    }

    #[test]
    fn a_gated_stream_is_read_as_far_as_a_request_and_when_opened() {
        let (io, count) = (Arc::new(ConnectionIo::default()), Arc::new(Woken::default()));
        let mut stream = InboundStream::new(&io);
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        io.set_gate(true);
        stream.read = UNGATED_BYTES;
        assert!(stream.may_read(&cx));
        stream.read += 1;
        assert!(!stream.may_read(&cx) && !stream.may_read(&cx));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        io.set_gate(false);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(stream.may_read(&cx));
        // One that goes is not remembered.
        io.set_gate(true);
        assert!(!stream.may_read(&cx));
        drop(stream);
        assert!(locked(&io.streams).gated.is_empty());
    }

    #[test]
    fn what_is_too_old_to_wait_is_forgotten() {
        let (mut queue, start) = (queue(), Instant::now());
        for second in 0..1000 {
            queue.enqueued(1, start + Duration::from_secs(second));
        }
        assert_eq!(queue.enqueued.len(), 11);
    }
}
