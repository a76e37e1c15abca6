//! The signing guard of the configuration, asked with a deadline.

use std::{sync::Arc, time::Duration};

use p2p_types::{GuardError, Promise, SigningGuard};
use tokio::time::timeout;

use crate::P2pClientError;

/// What is asked before a promise is published, beside the store's own guard.
#[derive(Debug)]
pub(crate) struct Guard {
    guard: Option<Arc<dyn SigningGuard>>,
    timeout: Duration,
}

impl Guard {
    pub(crate) const fn new(guard: Option<Arc<dyn SigningGuard>>, timeout: Duration) -> Self {
        Self { guard, timeout }
    }

    /// Whether there is one.
    pub(crate) const fn is_set(&self) -> bool {
        self.guard.is_some()
    }

    /// Records the promise, if the guard allows it. No answer in time is a no.
    pub(crate) async fn permit(&self, promise: Promise) -> Result<(), P2pClientError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let answer = timeout(self.timeout, guard.permit(promise)).await;
        answer
            .unwrap_or_else(|_| {
                let late = format!("none within {} s", self.timeout.as_secs_f64());
                Err(GuardError::Unavailable(late))
            })
            .inspect_err(|error| tracing::warn!(block = promise.block, %error, "the signing guard did not allow a commitment"))
            .map_err(P2pClientError::Guard)
    }
}
