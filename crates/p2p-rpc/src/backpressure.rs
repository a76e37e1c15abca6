//! A connection that is not read while its caller does not read, or has many calls in flight: so that whoever only sends fills the
//! line and not the memory.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Calls of a connection whose answers are not on their way, from which on it is not read. Somewhat more can be in flight: what
/// had been read by then.
const CALLS: usize = 32;

/// What is in flight on a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<State>);

#[derive(Debug, Default)]
struct State {
    calls: AtomicUsize,
    /// The last write found no room.
    is_blocked: AtomicBool,
    /// Whoever wants to read.
    reader: AtomicWaker,
}

impl InFlight {
    /// A call, until its answer is on its way.
    pub(crate) fn begin(&self) -> Call {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        Call(self.clone())
    }

    fn holds_up(&self) -> bool {
        self.0.is_blocked.load(Ordering::Acquire) || self.0.calls.load(Ordering::Acquire) >= CALLS
    }
}

/// A call in flight.
#[derive(Debug)]
pub(crate) struct Call(InFlight);

impl Drop for Call {
    fn drop(&mut self) {
        let Self(InFlight(state)) = self;
        if state.calls.fetch_sub(1, Ordering::AcqRel) == CALLS {
            state.reader.wake();
        }
    }
}

/// A connection that is read only while there is room for what comes.
#[derive(Debug)]
pub(crate) struct Backpressured<T> {
    inner: T,
    in_flight: InFlight,
}

impl<T> Backpressured<T> {
    pub(crate) const fn new(inner: T, in_flight: InFlight) -> Self {
        Self { inner, in_flight }
    }

    /// Takes note of whether a write found room.
    fn wrote<R>(&self, written: Poll<R>) -> Poll<R> {
        let state = &self.in_flight.0;
        let was_blocked = state.is_blocked.swap(written.is_pending(), Ordering::AcqRel);
        if was_blocked && written.is_ready() {
            state.reader.wake();
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Backpressured<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.in_flight.holds_up() {
            self.in_flight.0.reader.register(context.waker());
            // It may have changed before anybody was there to be woken.
            if self.in_flight.holds_up() {
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Backpressured<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, poll};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_caller_that_does_not_read_is_not_read() {
        let (mut caller, server) = duplex(8);
        let mut server = Backpressured::new(server, InFlight::default());
        caller.write_all(b"question").await.unwrap();
        // Longer than what fits in between.
        assert!(server.write_all(b"a long answer").now_or_never().is_none());
        let mut read = [0; 8];
        assert!(server.read(&mut read).now_or_never().is_none());
        caller.read_exact(&mut read).await.unwrap();
        server.write_all(b"swer").await.unwrap();
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"question");
    }

    #[tokio::test]
    async fn a_caller_with_many_calls_in_flight_is_read_when_one_is_answered() {
        let (mut caller, server) = duplex(8);
        let in_flight = InFlight::default();
        let mut server = Backpressured::new(server, in_flight.clone());
        caller.write_all(b"question").await.unwrap();
        let mut calls: Vec<_> = (0..CALLS + 3).map(|_| in_flight.begin()).collect();
        let mut read = [0; 8];
        let reading = server.read_exact(&mut read);
        tokio::pin!(reading);
        for _ in 0..3 {
            calls.pop();
            assert!(poll!(&mut reading).is_pending());
        }
        let woken = async { (&mut reading).await.map(drop) };
        let answered = async { drop(calls.pop()) };
        let (read, ()) = tokio::join!(woken, answered);
        read.unwrap();
    }
}
