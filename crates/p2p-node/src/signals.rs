//! The signals that stop the process.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C and, where there is such a thing, SIGTERM. From [`listen`](Self::listen) on, neither ends the process by
/// itself, and what came before [`requested`](Self::requested) was called is not lost.
pub(crate) struct Stop {
    #[cfg(unix)]
    signals: [Signal; 2],
    #[cfg(windows)]
    signals: tokio::signal::windows::CtrlC,
    received: usize,
}

impl Stop {
    /// Begins to listen. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The system's, if signals cannot be received.
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        #[cfg(windows)]
        let signals = tokio::signal::windows::ctrl_c()?;
        Ok(Self { signals, received: 0 })
    }

    /// Waits for a second signal: somebody does not want to wait for the end of a shutdown, whatever has begun it. Cancel-safe.
    #[cfg(feature = "operator")]
    pub(crate) async fn insisted(&mut self) {
        while self.received < 2 {
            self.requested().await;
        }
    }

    /// Waits for the next signal. Cancel-safe.
    pub(crate) async fn requested(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(windows)]
        self.signals.recv().await;
        self.received += 1;
    }
}
