//! The monitored connection: a muxer wrapper that sees what its streams wait for, keeps gossip of graylisted peers unread, and lets
//! large messages take turns ([`Outbound`]).

use std::{
    collections::{HashMap, HashSet},
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncWrite, task::AtomicWaker};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use tokio::time::Sleep;

use crate::{
    frames::Frames,
    send_turns::{Outbound, SendTurns, Unwanted},
};

/// How long an orderly close of a connection may take. One whose other end does not read does not close in order.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Bytes that a stream brings before the read gate applies to it. No request is as long (§10), so it is gossip's.
const UNGATED_BYTES: usize = 4096;

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection whose other end does not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocked {
    /// Since when its longest blocked stream is.
    pub(crate) since: Instant,
    /// When all streams were flushed last. What gossip enqueues at that very moment may still be on its way.
    pub(crate) last_flushed: Option<Instant>,
}

/// What is seen of one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionIo {
    streams: Mutex<Streams>,
    /// The read gate: what its peer's gossip brings is left unread. Changes while `streams` is locked.
    gate_closed: AtomicBool,
    cut: AtomicBool,
    cutting: AtomicWaker,
    /// What its peer does not want.
    unwanted: Arc<Unwanted>,
}

/// The streams of one connection, by number.
#[derive(Debug, Default)]
struct Streams {
    opened: u64,
    /// Blocked streams that we opened, each since when.
    blocked: HashMap<u64, Instant>,
    /// Those that we opened with a large message that waits for its turn: not the peer's doing.
    waiting: HashSet<u64>,
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
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    pub(crate) fn blocked(&self) -> Option<Blocked> {
        let streams = locked(&self.streams);
        let since = streams.blocked.values().min().copied()?;
        Some(Blocked { since, last_flushed: streams.last_flushed })
    }

    /// When the oldest unfinished frame began. What we leave unread has all the time there is.
    pub(crate) fn begun(&self) -> Option<Instant> {
        let streams = locked(&self.streams);
        let closed = self.gate_closed.load(Ordering::Acquire);
        streams.begun.values().min().copied().filter(|_| !closed)
    }

    pub(crate) fn last_flushed(&self) -> Option<Instant> {
        locked(&self.streams).last_flushed
    }

    /// The connection is flushed, but for what is blocked or waits.
    pub(crate) fn written(&self, now: Instant) {
        let mut streams = locked(&self.streams);
        if streams.blocked.is_empty() && streams.waiting.is_empty() {
            streams.last_flushed = Some(now);
        }
    }

    pub(crate) fn set_gate(&self, closed: bool) {
        let mut streams = locked(&self.streams);
        let before = self.gate_closed.swap(closed, Ordering::AcqRel);
        if before && !closed {
            let now = Instant::now();
            streams.begun.values_mut().for_each(|begun| *begun = now);
            streams.gated.drain().for_each(|(_, waker)| waker.wake());
        }
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.cutting.wake();
    }
}

/// Monitors a connection from here on; its large messages take these turns.
pub(crate) fn monitor<M>(muxer: M, io: Arc<ConnectionIo>, turns: SendTurns) -> StreamMuxerBox
where
    M: StreamMuxer + Send + Unpin + 'static,
    M::Substream: Send + Unpin + 'static,
    M::Error: Send + Sync + 'static,
{
    StreamMuxerBox::new(MonitoredMuxer { muxer, io, turns, outbound: Vec::new(), closing: None })
}

struct MonitoredMuxer<M: StreamMuxer> {
    muxer: M,
    io: Arc<ConnectionIo>,
    turns: SendTurns,
    /// The streams that we opened.
    outbound: Vec<Weak<Mutex<OutboundStream<M::Substream>>>>,
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
        let stream = ready!(Pin::new(&mut self.muxer).poll_inbound(cx)).map_err(io::Error::other)?;
        let stream = InboundStream::new(stream, &self.io, self.turns.are_taken());
        Poll::Ready(Ok(MonitoredStream::Inbound(stream)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_outbound(cx)).map_err(io::Error::other)?;
        let stream = Arc::new(Mutex::new(OutboundStream::new(stream, &self.io, &self.turns)));
        if self.turns.are_taken() {
            self.outbound.retain(|stream| stream.strong_count() > 0);
            self.outbound.push(Arc::downgrade(&stream));
        }
        Poll::Ready(Ok(MonitoredStream::Outbound(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let over = self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_WITHIN)));
        if over.as_mut().poll(cx).is_ready() || self.io.is_cut() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.muxer).poll_close(cx).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.io.cutting.register(cx.waker());
        if self.io.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // Polled after all streams, when these can do no more.
        let now = Instant::now();
        for stream in self.outbound.iter().filter_map(Weak::upgrade) {
            locked(&stream).poll_held(now, cx);
        }
        self.io.written(now);
        Pin::new(&mut self.muxer).poll(cx).map_err(io::Error::other)
    }
}

/// A stream that we opened. It is blocked from its opening until the other end says its first byte, which it does
/// when it agrees to a protocol; later from the first write that found no room until all is flushed.
struct OutboundStream<S> {
    stream: Outbound<S>,
    io: Arc<ConnectionIo>,
    number: u64,
    agreed: bool,
    blocked: bool,
    /// Whether a large message waits for its turn.
    waiting: bool,
}

impl<S> OutboundStream<S> {
    fn new(stream: S, io: &Arc<ConnectionIo>, turns: &SendTurns) -> Self {
        let mut streams = locked(&io.streams);
        let number = streams.open();
        streams.blocked.insert(number, Instant::now());
        drop(streams);
        let stream = Outbound::new(stream, turns, &io.unwanted);
        Self { stream, io: Arc::clone(io), number, agreed: false, blocked: true, waiting: false }
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

    fn set_waiting(&mut self, waiting: bool) {
        if self.waiting == waiting {
            return;
        }
        self.waiting = waiting;
        let mut streams = locked(&self.io.streams);
        if waiting {
            streams.waiting.insert(self.number);
        } else {
            streams.waiting.remove(&self.number);
        }
    }
}

impl<S: AsyncWrite + Unpin> OutboundStream<S> {
    /// Writes a large message whose turn has come.
    fn poll_held(&mut self, now: Instant, cx: &mut Context<'_>) {
        if self.stream.is_waiting() || self.stream.is_writing() {
            let written = self.stream.poll_held(now, cx);
            self.set_waiting(self.stream.is_waiting());
            // Its peer is not what it waits for before its turn.
            if !self.waiting {
                self.set_blocked(written.is_pending());
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let held = ready!(self.stream.poll_hold(buf, cx));
        if held > 0 {
            self.set_waiting(true);
            return Poll::Ready(Ok(held));
        }
        let written = self.stream.poll_write(buf, Instant::now(), cx);
        if written.is_pending() {
            self.set_blocked(true);
        }
        written
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(self.stream.stream()).poll_flush(cx);
        if !self.stream.is_writing() {
            self.set_blocked(flushed.is_pending());
        }
        flushed
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(self.stream.stream()).poll_close(cx);
        self.set_blocked(closed.is_pending());
        closed
    }
}

impl<S: AsyncRead + Unpin> OutboundStream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(self.stream.stream()).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(1..))) && !self.agreed {
            self.agreed = true;
            self.set_blocked(false);
        }
        read
    }
}

impl<S> Drop for OutboundStream<S> {
    fn drop(&mut self) {
        let mut streams = locked(&self.io.streams);
        streams.blocked.remove(&self.number);
        streams.waiting.remove(&self.number);
    }
}

/// A stream that the other end opened.
struct InboundStream<S> {
    stream: S,
    io: Arc<ConnectionIo>,
    number: u64,
    /// Bytes it has brought.
    read: usize,
    frames: Frames,
    /// Whether it is known to be in the middle of a frame.
    begun: bool,
}

impl<S> InboundStream<S> {
    fn new(stream: S, io: &Arc<ConnectionIo>, with_controls: bool) -> Self {
        let number = locked(&io.streams).open();
        let frames = if with_controls { Frames::with_controls() } else { Frames::default() };
        Self { stream, io: Arc::clone(io), number, read: 0, frames, begun: false }
    }

    fn on_read(&mut self, bytes: &[u8], now: Instant) {
        self.read = self.read.saturating_add(bytes.len());
        let begun = self.frames.read(bytes, now);
        for control in self.frames.take_controls() {
            self.io.unwanted.on_control(&control, now);
        }
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

impl<S> Drop for InboundStream<S> {
    fn drop(&mut self) {
        let mut streams = locked(&self.io.streams);
        streams.gated.remove(&self.number);
        streams.begun.remove(&self.number);
    }
}

impl<S: AsyncRead + Unpin> InboundStream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.may_read(cx) {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(bytes @ 1..)) = read {
            self.on_read(buf.get(..bytes).unwrap_or_default(), Instant::now());
        }
        read
    }
}

/// A stream, by who has opened it.
enum MonitoredStream<S> {
    /// Its connection has it, too.
    Outbound(Arc<Mutex<OutboundStream<S>>>),
    Inbound(InboundStream<S>),
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Outbound(stream) => locked(stream).poll_read(cx, buf),
            Self::Inbound(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Outbound(stream) => locked(stream).poll_write(cx, buf),
            Self::Inbound(stream) => Pin::new(&mut stream.stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Outbound(stream) => locked(stream).poll_flush(cx),
            Self::Inbound(stream) => Pin::new(&mut stream.stream).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Outbound(stream) => locked(stream).poll_close(cx),
            Self::Inbound(stream) => Pin::new(&mut stream.stream).poll_close(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn nothing_is_flushed_while_a_stream_is_blocked() {
        let (io, start) = (Arc::new(ConnectionIo::default()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        io.written(at(1));
        let mut stream = OutboundStream::new((), &io, &SendTurns::new(0));
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
        let mut stream = InboundStream::new((), &io, false);
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
}
