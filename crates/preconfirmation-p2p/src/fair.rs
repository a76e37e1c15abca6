//! A socket whose task lets others run in time. tokio counts operations, and allows 128 of them before a task has to let others run;
//! one operation on an encrypted stream may be of 64 KiB, so that a single connection could keep its thread for 8 MiB, ten
//! milliseconds and more. Here they are counted by their bytes.

use std::{
    future::Future as _,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use tokio::task::coop::consume_budget;

/// Bytes that count as one operation: 512 KiB until others run.
const UNIT: usize = 4096;

/// A socket whose operations count by their bytes.
#[derive(Debug)]
pub(crate) struct Fair<S>(pub(crate) S);

/// Counts what the socket itself has not counted. Where nothing is left, the socket's next operation waits.
fn count(done: &Poll<io::Result<usize>>, cx: &mut Context<'_>) {
    let Poll::Ready(Ok(bytes)) = done else { return };
    for _ in 0..bytes / UNIT {
        if pin!(consume_budget()).poll(cx).is_pending() {
            return;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fair<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.0).poll_read(cx, buf);
        count(&done, cx);
        done
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.0).poll_write(cx, buf);
        count(&done, cx);
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::ready,
    };

    use futures::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Always has bytes and room, and counts operations as tokio's sockets do.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            self.poll_write(cx, buf)
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            ready!(pin!(consume_budget()).poll(cx));
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn other_tasks_run_after_each_half_megabyte() {
        static OTHERS: AtomicUsize = AtomicUsize::new(0);
        let _other = tokio::spawn(async {
            loop {
                OTHERS.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut bytes = vec![7; 64 * 1024];
        for _ in 0..128 {
            Fair(Endless).write_all(&bytes).await.unwrap();
        }
        assert!((14..20).contains(&OTHERS.swap(0, Ordering::Relaxed)));
        for _ in 0..128 {
            Fair(Endless).read_exact(&mut bytes).await.unwrap();
        }
        assert!((14..20).contains(&OTHERS.load(Ordering::Relaxed)));
    }
}
