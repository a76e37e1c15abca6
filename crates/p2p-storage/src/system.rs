//! Errors of the operating system that can be cloned and compared.

use std::{fmt, io};

/// A failed call of the operating system. Shown in the system's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemError {
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl SystemError {
    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// The system's number for it, where the system said so.
    #[must_use]
    pub const fn raw_os_error(&self) -> Option<i32> {
        self.code
    }

    /// Whether the same call can succeed a moment later: too many open files, a device that failed once, an
    /// interruption, a lack of memory.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        // Those that have no kind of their own, alike on every Unix.
        const EIO: i32 = 5;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        use io::ErrorKind::{
            BrokenPipe, Interrupted, OutOfMemory, ResourceBusy, StaleNetworkFileHandle, TimedOut, WouldBlock,
        };
        let known = matches!(
            self.kind,
            BrokenPipe
                | Interrupted
                | OutOfMemory
                | ResourceBusy
                | StaleNetworkFileHandle
                | TimedOut
                | WouldBlock
        );
        known || cfg!(unix) && matches!(self.code, Some(EIO | ENFILE | EMFILE))
    }
}

impl From<&io::Error> for SystemError {
    fn from(error: &io::Error) -> Self {
        Self { kind: error.kind(), code: error.raw_os_error() }
    }
}

impl From<io::ErrorKind> for SystemError {
    fn from(kind: io::ErrorKind) -> Self {
        Self { kind, code: None }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code).fmt(f),
            None => self.kind.fmt(f),
        }
    }
}

impl std::error::Error for SystemError {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_systems_text_is_shown_and_what_passes_is_transient() {
        let of = |code| SystemError::from(&io::Error::from_raw_os_error(code));
        assert_eq!(of(24).to_string(), io::Error::from_raw_os_error(24).to_string());
        assert!(of(24).to_string().contains("os error 24"));
        // EINTR, EIO, ENFILE, EMFILE; not ENOENT, EACCES, EROFS.
        assert!([4, 5, 23, 24].into_iter().all(|code| of(code).is_transient()));
        assert!(![2, 13, 30].into_iter().any(|code| of(code).is_transient()));
    }
}
