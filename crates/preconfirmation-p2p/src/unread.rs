//! What is not read, either way.
//!
//! **By peers.** Connections whose other end does not read what gossip writes are found and cut.
//!
//! gossipsub's queue for a peer is bounded by count, and it tells nobody how long the queue is. But it
//! writes one message after the other, drops on the way what has waited for longer than `queue_time`, and a
//! message that is being written keeps all behind it waiting. So what a peer pins is at most what gossip was
//! given since the message in writing began, and `queue_time` before; and no more than since the connection
//! last had nothing to write. Both are seen on the connection's streams; what gossip was given is known to
//! the service.
//!
//! **By us.** Gossip of a graylisted peer would be dropped, but only after its signature was checked. It is
//! left unread instead, so that a flood fills the window of its own stream and costs nothing more.

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

use crate::config::GossipConfig;

/// How long an orderly end of a connection may take. One whose other end does not read has none.
const GOODBYE: Duration = Duration::from_secs(2);

/// Bytes that a stream has brought before it can be silenced. No request is as long (§10), so it is gossip's.
const HEARD: usize = 4096;

/// All connections of a node, as their streams see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<Connection>>>);

type Connection = (PeerId, Weak<Gauge>);

impl Connections {
    /// The connection with a peer, watched from here on.
    pub(crate) fn watch<M>(&self, peer: PeerId, muxer: M) -> StreamMuxerBox
    where
        M: StreamMuxer + Send + Unpin + 'static,
        M::Substream: Send + Unpin + 'static,
        M::Error: Send + Sync + 'static,
    {
        let gauge = Arc::new(Gauge::default());
        let mut list = locked(&self.0);
        list.retain(|(_, gauge)| gauge.strong_count() > 0);
        list.push((peer, Arc::downgrade(&gauge)));
        drop(list);
        StreamMuxerBox::new(Watched { muxer, gauge, goodbye: None })
    }

    /// Cuts the connections whose other ends do not read, and returns whose they were, and why.
    pub(crate) fn cut(&self, unread: &Unread, now: Instant) -> Vec<(PeerId, Why)> {
        let mut cut = Vec::new();
        for (peer, gauge) in locked(&self.0).iter() {
            if let Some(gauge) = gauge.upgrade()
                && !gauge.cut.load(Ordering::Relaxed)
                && let Some(waits) = gauge.waits()
                && let Some(why) = unread.judge(waits, now)
            {
                gauge.cut();
                cut.push((*peer, why));
            }
        }
        cut
    }

    /// Which of these peers have room for a message of this length: of what gossip was given, no more than half of
    /// their queue waits for them.
    pub(crate) fn with_room(&self, peers: &[PeerId], bytes: usize, unread: &Unread) -> usize {
        let mut drained: HashMap<PeerId, Option<Instant>> = HashMap::new();
        for (peer, gauge) in locked(&self.0).iter() {
            if let Some(gauge) = gauge.upgrade()
                && peers.contains(peer)
            {
                let since = drained.entry(*peer).or_default();
                *since = gauge.drained().max(*since);
            }
        }
        let has_room =
            |peer: &&PeerId| drained.get(*peer).is_some_and(|since| unread.has_room(*since, bytes));
        peers.iter().filter(has_room).count()
    }

    /// Leaves unread what gossip of a peer brings, or reads on.
    pub(crate) fn silence(&self, peer: &PeerId, silenced: bool) {
        for (_, gauge) in locked(&self.0).iter().filter(|(of, _)| of == peer) {
            if let Some(gauge) = gauge.upgrade() {
                gauge.silence(silenced);
            }
        }
    }
}

/// Why a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// One message took `send_stall` and was not read to its end.
    Stalled,
    /// More than `send_queue_bytes` may wait behind one message.
    TooMuch,
}

impl Why {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Stalled => "send_stalled",
            Self::TooMuch => "send_queue_bytes",
        }
    }
}

/// What gossip was given to send of late. No clock: every call says what time it is.
#[derive(Debug)]
pub(crate) struct Unread {
    config: GossipConfig,
    given: VecDeque<(Instant, usize)>,
}

impl Unread {
    pub(crate) const fn new(config: GossipConfig) -> Self {
        Self { config, given: VecDeque::new() }
    }

    /// Gossip was given a message of this length.
    pub(crate) fn given(&mut self, bytes: usize, now: Instant) {
        let memory = self.config.send_stall.saturating_add(self.config.queue_time);
        while let Some((at, _)) = self.given.front()
            && now.saturating_duration_since(*at) > memory
        {
            self.given.pop_front();
        }
        self.given.push_back((now, bytes));
    }

    /// Whether another message of this length leaves half of a peer's queue free, if the peer has taken what gossip
    /// was given before `drained`.
    fn has_room(&self, drained: Option<Instant>, bytes: usize) -> bool {
        let waits =
            self.given.iter().rev().take_while(|(at, _)| drained.is_none_or(|drained| *at >= drained));
        let (messages, waiting) = waits
            .fold((0, 0_usize), |(messages, sum), (_, bytes)| (messages + 1, sum.saturating_add(*bytes)));
        // What waits alone may be of any length.
        let fits = waiting.saturating_add(bytes) <= self.config.send_queue_bytes.get() / 2;
        messages < self.config.send_queue.get().div_ceil(2) && (messages == 0 || fits)
    }

    fn judge(&self, Waits { since, drained }: Waits, now: Instant) -> Option<Why> {
        if now.saturating_duration_since(since) >= self.config.send_stall {
            return Some(Why::Stalled);
        }
        let from = since.checked_sub(self.config.queue_time).max(drained);
        let behind = self.given.iter().rev().take_while(|(at, _)| from.is_none_or(|from| *at >= from));
        let bytes: usize = behind.map(|(_, bytes)| bytes).sum();
        (bytes > self.config.send_queue_bytes.get()).then_some(Why::TooMuch)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that waits for its other end to read.
#[derive(Debug, Clone, Copy)]
struct Waits {
    /// The longest waiting stream since then.
    since: Instant,
    /// When nothing waited last. What gossip is given at that very moment may still be on its way.
    drained: Option<Instant>,
}

/// What is seen of one connection.
#[derive(Debug, Default)]
struct Gauge {
    streams: Mutex<Streams>,
    /// What its peer's gossip brings is left unread. Changes while `streams` is locked.
    silenced: AtomicBool,
    cut: AtomicBool,
    cutting: AtomicWaker,
}

/// The streams of one connection, by number.
#[derive(Debug, Default)]
struct Streams {
    opened: u64,
    /// Those that we opened and that wait for the other end to read, each with its beginning.
    waiting: HashMap<u64, Instant>,
    drained: Option<Instant>,
    /// Those of the other end that are not read while it is silenced.
    unheard: HashMap<u64, Waker>,
}

impl Streams {
    fn open(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }
}

impl Gauge {
    fn waits(&self) -> Option<Waits> {
        let streams = locked(&self.streams);
        let since = streams.waiting.values().min().copied()?;
        Some(Waits { since, drained: streams.drained })
    }

    fn drained(&self) -> Option<Instant> {
        locked(&self.streams).drained
    }

    /// The connection has written what it had to write, but for what waits.
    fn written(&self, now: Instant) {
        let mut streams = locked(&self.streams);
        if streams.waiting.is_empty() {
            streams.drained = Some(now);
        }
    }

    fn silence(&self, silenced: bool) {
        let mut streams = locked(&self.streams);
        self.silenced.store(silenced, Ordering::Release);
        if !silenced {
            streams.unheard.drain().for_each(|(_, waker)| waker.wake());
        }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.cutting.wake();
    }
}

struct Watched<M> {
    muxer: M,
    gauge: Arc<Gauge>,
    goodbye: Option<Pin<Box<Sleep>>>,
}

impl<M> StreamMuxer for Watched<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = WatchedStream<M::Substream>;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = Pin::new(&mut self.muxer).poll_inbound(cx);
        stream
            .map_ok(|stream| WatchedStream { stream, end: End::Theirs(Ear::new(&self.gauge)) })
            .map_err(io::Error::other)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = Pin::new(&mut self.muxer).poll_outbound(cx);
        stream
            .map_ok(|stream| WatchedStream { stream, end: End::Ours(Watch::new(&self.gauge)) })
            .map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let over = self.goodbye.get_or_insert_with(|| Box::pin(tokio::time::sleep(GOODBYE)));
        if over.as_mut().poll(cx).is_ready() || self.gauge.cut.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.muxer).poll_close(cx).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.gauge.cutting.register(cx.waker());
        if self.gauge.cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // Polled after all streams, when these can do no more.
        self.gauge.written(Instant::now());
        Pin::new(&mut self.muxer).poll(cx).map_err(io::Error::other)
    }
}

/// A stream that we opened. It waits from its opening until the other end says its first byte, which it does
/// when it agrees to a protocol; later from the first write that found no room until all is flushed.
struct Watch {
    gauge: Arc<Gauge>,
    number: u64,
    agreed: bool,
    waits: bool,
}

impl Watch {
    fn new(gauge: &Arc<Gauge>) -> Self {
        let mut streams = locked(&gauge.streams);
        let number = streams.open();
        streams.waiting.insert(number, Instant::now());
        drop(streams);
        Self { gauge: Arc::clone(gauge), number, agreed: false, waits: true }
    }

    fn waits(&mut self, waits: bool) {
        if self.waits == waits || !self.agreed {
            return;
        }
        self.waits = waits;
        let mut streams = locked(&self.gauge.streams);
        if waits {
            streams.waiting.insert(self.number, Instant::now());
        } else {
            streams.waiting.remove(&self.number);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        locked(&self.gauge.streams).waiting.remove(&self.number);
    }
}

/// A stream that the other end opened.
struct Ear {
    gauge: Arc<Gauge>,
    number: u64,
    /// Bytes it has brought.
    read: usize,
}

impl Ear {
    fn new(gauge: &Arc<Gauge>) -> Self {
        let number = locked(&gauge.streams).open();
        Self { gauge: Arc::clone(gauge), number, read: 0 }
    }

    /// Whether it is read. If not, the task is woken when it is again.
    fn listens(&self, cx: &Context<'_>) -> bool {
        if self.read <= HEARD || !self.gauge.silenced.load(Ordering::Acquire) {
            return true;
        }
        let mut streams = locked(&self.gauge.streams);
        let silenced = self.gauge.silenced.load(Ordering::Acquire);
        if silenced {
            streams.unheard.insert(self.number, cx.waker().clone());
        }
        !silenced
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        locked(&self.gauge.streams).unheard.remove(&self.number);
    }
}

/// Who opened a stream, and what is to be known of it.
enum End {
    Ours(Watch),
    Theirs(Ear),
}

struct WatchedStream<S> {
    stream: S,
    end: End,
}

impl<S> WatchedStream<S> {
    fn written<T>(&mut self, result: Poll<io::Result<T>>, flushed: bool) -> Poll<io::Result<T>> {
        if let End::Ours(watch) = &mut self.end
            && (flushed || result.is_pending())
        {
            watch.waits(result.is_pending());
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let End::Theirs(ear) = &self.end
            && !ear.listens(cx)
        {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(bytes @ 1..)) = read {
            match &mut self.end {
                End::Ours(watch) if !watch.agreed => {
                    watch.agreed = true;
                    watch.waits(false);
                }
                End::Ours(_) => {}
                End::Theirs(ear) => ear.read = ear.read.saturating_add(bytes),
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
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

    fn unread() -> Unread {
        Unread::new(GossipConfig {
            send_queue_bytes: (8 * MIB).try_into().unwrap(),
            send_stall: Duration::from_secs(8),
            queue_time: Duration::from_secs(5),
            ..GossipConfig::default()
        })
    }

    /// A wait with nothing known from before it.
    fn waits(since: Instant) -> Waits {
        Waits { since, drained: None }
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
        let (unread, start) = (unread(), Instant::now());
        assert_eq!(unread.judge(waits(start), start + Duration::from_millis(7999)), None);
        assert_eq!(unread.judge(waits(start), start + Duration::from_secs(8)), Some(Why::Stalled));
    }

    #[test]
    fn a_peer_has_room_for_half_of_its_queue_since_it_had_nothing_to_read() {
        let (mut unread, start) = (unread(), Instant::now());
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        assert!(unread.has_room(None, 100 * MIB), "it waits alone");
        for _ in 0..63 {
            unread.given(1, start);
        }
        assert!(unread.has_room(None, 1));
        unread.given(1, start);
        assert!(!unread.has_room(None, 1) && !unread.has_room(at(0), 1));
        assert!(unread.has_room(at(1), 1));
        unread.given(3 * MIB, start + Duration::from_secs(2));
        assert!(unread.has_room(at(1), MIB) && !unread.has_room(at(1), MIB + 1));
    }

    #[test]
    fn what_may_wait_behind_a_message_is_bounded_by_bytes() {
        let (mut unread, start) = (unread(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // Whatever waited before the message in writing is read, or dropped after five seconds.
        unread.given(100 * MIB, at(0));
        unread.given(4 * MIB, at(6));
        assert_eq!(unread.judge(waits(at(10)), at(11)), None);
        unread.given(4 * MIB, at(11));
        assert_eq!(unread.judge(waits(at(10)), at(11)), None);
        unread.given(1, at(12));
        assert_eq!(unread.judge(waits(at(10)), at(12)), Some(Why::TooMuch));
        // A peer that has read on holds less.
        assert_eq!(unread.judge(waits(at(12)), at(12)), None);
    }

    #[test]
    fn what_was_read_before_a_message_does_not_wait_behind_it() {
        let (mut unread, start) = (unread(), Instant::now());
        unread.given(100 * MIB, start);
        let since = start + Duration::from_millis(20);
        assert_eq!(unread.judge(waits(since), since), Some(Why::TooMuch));
        let drained = Some(start + Duration::from_millis(10));
        assert_eq!(unread.judge(Waits { since, drained }, since), None);
        // What came at that moment may not have been written yet.
        assert_eq!(unread.judge(Waits { since, drained: Some(start) }, since), Some(Why::TooMuch));
    }

    #[test]
    fn nothing_is_drained_while_a_stream_waits() {
        let (gauge, start) = (Arc::new(Gauge::default()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        gauge.written(at(1));
        let mut stream = Watch::new(&gauge);
        gauge.written(at(2));
        assert_eq!(gauge.waits().map(|waits| waits.drained), Some(Some(at(1))));
        stream.agreed = true;
        stream.waits(false);
        assert!(gauge.waits().is_none());
        gauge.written(at(3));
        stream.waits(true);
        assert_eq!(gauge.waits().map(|waits| waits.drained), Some(Some(at(3))));
    }

    #[test]
    fn a_silenced_stream_is_read_as_far_as_a_request_goes_and_again_when_it_is_over() {
        let (gauge, count) = (Arc::new(Gauge::default()), Arc::new(Woken::default()));
        let mut ear = Ear::new(&gauge);
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        gauge.silence(true);
        ear.read = HEARD;
        assert!(ear.listens(&cx));
        ear.read += 1;
        assert!(!ear.listens(&cx) && !ear.listens(&cx));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        gauge.silence(false);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(ear.listens(&cx));
        // One that goes is not remembered.
        gauge.silence(true);
        assert!(!ear.listens(&cx));
        drop(ear);
        assert!(locked(&gauge.streams).unheard.is_empty());
    }

    #[test]
    fn what_is_too_old_to_wait_is_forgotten() {
        let (mut unread, start) = (unread(), Instant::now());
        for second in 0..1000 {
            unread.given(1, start + Duration::from_secs(second));
        }
        assert_eq!(unread.given.len(), 14);
    }
}
