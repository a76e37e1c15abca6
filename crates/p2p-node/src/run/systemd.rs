//! Tells systemd that the node has started, still works, and stops: for units of `Type=notify` with `WatchdogSec=`. Without
//! systemd nothing happens.

use std::convert::Infallible;

use p2p_client::P2pClient;

/// The node listens, and its store is open. Whether it is ready is another question: that may take hours.
pub(super) fn started() {
    #[cfg(target_os = "linux")]
    linux::tell(sd_notify::NotifyState::Ready);
}

/// The node shuts down.
pub(super) fn stopping() {
    #[cfg(target_os = "linux")]
    linux::tell(sd_notify::NotifyState::Stopping);
}

/// Tells, where systemd asks for it, that the network's task still answers.
pub(super) async fn watchdog(client: &P2pClient) -> Infallible {
    #[cfg(target_os = "linux")]
    linux::watchdog(client).await;
    std::future::pending().await
}

#[cfg(target_os = "linux")]
mod linux {
    use p2p_client::P2pClient;
    use sd_notify::NotifyState;
    use tokio::time::interval;

    /// Sends one datagram, without waiting for anybody.
    pub(super) fn tell(state: NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "systemd cannot be told of the node's state");
        }
    }

    /// Ends when the client does, and at once where nobody asks for it.
    pub(super) async fn watchdog(client: &P2pClient) {
        let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
        let mut period = interval(limit / 3);
        loop {
            period.tick().await;
            if client.network().listen_addrs().await.is_err() {
                return;
            }
            tell(NotifyState::Watchdog);
        }
    }
}
