//! The limit of open files: raised as far as allowed, and shared with the HTTP endpoints.

/// What a node needs: 192 connections of peers and as many that are being made, 64 of HTTP, 192 of JSON-RPC, and some tens for
/// the store, the sockets and the names of hosts.
const NEEDED: u64 = 704;

/// More than any node uses.
const ENOUGH: u64 = 65_536;

/// Most connections of an HTTP endpoint. A scraper, a probe and a person use one each, for a moment.
const CONNECTIONS: u64 = 32;

/// Raises the limit of open files as far as the system lets this user, and says so where that is too low. Connections
/// that an HTTP endpoint may hold then: a sixteenth of the files, so that two of them leave seven eighths to the node.
pub(super) fn http_connections() -> usize {
    let files = raise();
    if files < NEEDED {
        tracing::warn!(
            files,
            "this process may open {files} files and needs up to {NEEDED}: raise the limit (`ulimit -n`, LimitNOFILE=)"
        );
    }
    usize::try_from((files / 16).clamp(2, CONNECTIONS)).unwrap_or(2)
}

/// Files that this process may have open from now on.
#[cfg(unix)]
fn raise() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    let current = limit.current.unwrap_or(u64::MAX);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(ENOUGH);
    if wanted <= current {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(_) => current,
    }
}

#[cfg(not(unix))]
const fn raise() -> u64 {
    ENOUGH
}
