//! Which endpoints are asked, and with which deadlines.

use std::time::Duration;

use url::Url;

use crate::ConfigError;

/// Whose endpoints these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    L1,
    L2,
}

impl Layer {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}

/// What is asked, and with which deadlines.
pub(crate) struct PoolConfig<'a> {
    pub(crate) layer: Layer,
    pub(crate) endpoints: &'a [Url],
    /// The chain that they must be on.
    pub(crate) chain_id: u64,
    pub(crate) call_timeout: Duration,
    pub(crate) poll_interval: Duration,
    /// How long an endpoint may be without a new block.
    pub(crate) silence: Duration,
}

impl PoolConfig<'_> {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoints);
        }
        for url in self.endpoints {
            if !matches!(url.scheme(), "http" | "https" | "ws" | "wss") {
                return Err(ConfigError::Scheme { scheme: url.scheme().into() });
            }
        }
        let durations = [
            ("call_timeout", self.call_timeout),
            ("poll_interval", self.poll_interval),
            ("silence", self.silence),
        ];
        if let Some((field, _)) = durations.into_iter().find(|(_, duration)| duration.is_zero()) {
            return Err(ConfigError::Zero { field });
        }
        if self.silence < self.poll_interval {
            let (silence, poll) = (self.silence, self.poll_interval);
            return Err(ConfigError::SilenceBelowPoll { silence, poll });
        }
        Ok(())
    }
}
