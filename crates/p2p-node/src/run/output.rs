//! Events as JSON lines on stdout.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use p2p_client::{Lagged, Subscription};
use p2p_types::{Head, PeerId, SdkEvent};
use preconfirmation_p2p::Multiaddr;
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::{interval, timeout},
};

use super::{error::RunError, progress::Progress};

/// Lines that wait for a slow reader. Behind them the client's own queue of events fills, and then the reader
/// is told how many it has missed.
const LINES: usize = 1024;

/// How long the last lines may take to be read.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Lines of this command beside the client's events.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Notice<'a> {
    /// The first line: the node runs.
    Started {
        /// Who it is.
        peer: &'a PeerId,
        /// Where it listens.
        listen: &'a [Multiaddr],
        /// Its record, where it looks for peers.
        enr: Option<&'a str>,
        /// Where `/metrics` is.
        metrics: Option<std::net::SocketAddr>,
        /// Where `/status` is.
        status: Option<std::net::SocketAddr>,
        /// Where JSON-RPC is.
        rpc: Option<std::net::SocketAddr>,
        /// The newest block that was in the store already.
        head: Option<Head>,
    },
    /// stdout was read too slowly.
    Lagged {
        /// Events that were dropped.
        missed: u64,
    },
}

/// A thread that writes to stdout, so that a slow reader delays nothing else.
pub(super) struct Output {
    lines: mpsc::Sender<Vec<u8>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

/// Nobody reads stdout any more.
pub(super) struct Closed;

impl Output {
    /// Starts to write.
    pub(super) fn start(mut stdout: impl Write + Send + 'static) -> Self {
        let (lines, mut waiting) = mpsc::channel::<Vec<u8>>(LINES);
        let (end, ended) = oneshot::channel();
        thread::spawn(move || {
            let mut write = || -> io::Result<()> {
                while let Some(line) = waiting.blocking_recv() {
                    stdout.write_all(&line)?;
                    // What comes close together is flushed together.
                    if waiting.is_empty() {
                        stdout.flush()?;
                    }
                }
                stdout.flush()
            };
            let written = write();
            drop(waiting);
            drop(end.send(written));
        });
        Self { lines, ended }
    }

    /// Writes one object; waits while the reader is behind.
    pub(super) async fn write(&self, object: &impl Serialize) -> Result<(), Closed> {
        let mut line = match serde_json::to_vec(object) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "an event cannot be written as JSON");
                return Ok(());
            }
        };
        line.push(b'\n');
        self.lines.send(line).await.map_err(|_| Closed)
    }

    /// Writes events until there are no more, or nobody reads them.
    pub(super) async fn follow(&self, mut events: Subscription, progress: &Progress) -> Result<(), Closed> {
        loop {
            match events.next_event().await {
                Ok(Some(event)) => {
                    if let SdkEvent::Status { status } = &event {
                        progress.show(status);
                    }
                    self.write(&event).await?;
                }
                Ok(None) => return Ok(()),
                Err(Lagged { missed }) => self.write(&Notice::Lagged { missed }).await?,
            }
        }
    }

    /// Waits until the last line is written, for a while. A reader that has gone is no failure.
    pub(super) async fn finish(self) -> Result<(), RunError> {
        let Self { lines, ended } = self;
        drop(lines);
        match timeout(FLUSH_TIMEOUT, ended).await {
            Ok(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => Err(RunError::Output(error)),
            Ok(Err(_)) => Err(RunError::Died("stdout")),
            Ok(Ok(_)) => Ok(()),
            Err(_) => {
                tracing::warn!("nobody reads stdout: its last lines are lost");
                Ok(())
            }
        }
    }
}

/// Between two looks at whether anybody still reads stdout.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until the reader of stdout has gone: on a quiet network nothing is written that would fail. Never ends where
/// stdout is a file, or the system does not report it.
pub(super) async fn reader_gone() {
    let mut look = interval(LOOK);
    while !has_no_reader(&io::stdout()) {
        look.tick().await;
    }
}

#[cfg(unix)]
fn has_no_reader(stdout: &io::Stdout) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    // What is asked for is nothing: that the other end is closed is told anyway.
    let mut polled = [PollFd::new(stdout, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP;
    let now = rustix::time::Timespec::default();
    poll(&mut polled, Some(&now)).is_ok() && polled.iter().any(|stdout| stdout.revents().intersects(gone))
}

#[cfg(not(unix))]
const fn has_no_reader(_: &io::Stdout) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Remembers what is written, or fails.
    #[derive(Clone)]
    struct Reader(Option<Arc<Mutex<Vec<u8>>>>, io::ErrorKind);

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match &self.0 {
                Some(read) => read.lock().unwrap().write(bytes),
                None => Err(self.1.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_object_is_a_line() {
        let read = Arc::new(Mutex::new(Vec::new()));
        let output = Output::start(Reader(Some(read.clone()), io::ErrorKind::Other));
        for missed in 0..3 {
            assert!(output.write(&Notice::Lagged { missed }).await.is_ok());
        }
        output.finish().await.unwrap();
        let lines = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().nth(2), Some(r#"{"event":"lagged","missed":2}"#));
        assert_eq!(lines.lines().count(), 3);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_ends_it_quietly_and_a_full_disk_does_not() {
        for (kind, quiet) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let output = Output::start(Reader(None, kind));
            while output.write(&Notice::Lagged { missed: 1 }).await.is_ok() {}
            assert_eq!(output.finish().await.is_ok(), quiet);
        }
    }
}
