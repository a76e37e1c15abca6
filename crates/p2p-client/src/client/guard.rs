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

#[cfg(test)]
mod tests {
    use std::future;

    use p2p_types::{Address, B256, GuardFuture, UnixSeconds};

    use super::*;

    #[derive(Debug)]
    struct Silent;

    impl SigningGuard for Silent {
        fn permit(&self, _: Promise) -> GuardFuture<'_> {
            Box::pin(future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_in_time_is_a_no_and_no_guard_a_yes() {
        let promise = Promise {
            window_end: UnixSeconds::new(9),
            signer: Address::ZERO,
            block: 5,
            hash: B256::ZERO,
            eop: false,
            eop_only: false,
        };
        let limit = Duration::from_secs(2);
        let (none, silent) = (Guard::new(None, limit), Guard::new(Some(Arc::new(Silent)), limit));
        assert_eq!((none.is_set(), silent.is_set()), (false, true));
        assert!(none.permit(promise).await.is_ok());
        let refused = silent.permit(promise).await.unwrap_err();
        let P2pClientError::Guard(GuardError::Unavailable(late)) = refused else { panic!("{refused}") };
        assert_eq!(late, "none within 2 s");
    }
}
