//! A progress bar of catching up, where stderr is a terminal.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::OnceLock,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use p2p_types::HeadSyncStatus;

/// The bar that is on the terminal, if there is one.
static SHOWN: OnceLock<ProgressBar> = OnceLock::new();

/// stderr for logs: a bar makes room for what is written.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write(bytes);
        SHOWN.get().map_or_else(write, |bar| bar.suspend(write))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar on stderr where that is a terminal; nothing elsewhere.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(SHOWN.get_or_init(|| bar).clone())
    }

    pub(super) fn show(&self, status: &HeadSyncStatus) {
        let (applied, target) = match status {
            HeadSyncStatus::Syncing { applied, target, .. }
            | HeadSyncStatus::Stalled { applied, target, .. } => (*applied, *target),
            HeadSyncStatus::Live { head } => {
                let head = head.map_or(0, |head| head.number);
                (head, head)
            }
            _ => (0, 0),
        };
        self.0.set_length(target);
        self.0.set_position(applied);
        self.0.set_message(status.to_string());
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
