//! What each promise under a lease claims.

use std::sync::atomic::{AtomicI64, Ordering};

/// By what a promise shows that its node is the leader. The database compares it with the lease.
#[derive(Debug)]
pub(crate) struct Claim {
    session: i64,
    token: AtomicI64,
}

impl Claim {
    pub(crate) const fn new(session: i64) -> Self {
        Self { session, token: AtomicI64::new(0) }
    }

    /// Which run of which node it is. The database gives a new one to each, so that two nodes of one name are two.
    pub(crate) const fn session(&self) -> i64 {
        self.session
    }

    pub(crate) fn token(&self) -> i64 {
        self.token.load(Ordering::Relaxed)
    }

    pub(crate) fn renew(&self, token: i64) {
        self.token.store(token, Ordering::Relaxed);
    }
}
