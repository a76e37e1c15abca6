//! How a user says that it is enough.

use std::io;

/// Waits for Ctrl-C or, where there is such a thing, SIGTERM. From the first call on, neither ends the process
/// by itself.
///
/// # Errors
/// The system's, if it cannot tell of signals.
pub(crate) async fn stop() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
