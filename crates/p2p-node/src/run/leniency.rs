//! Rules that an operator loosens by name.

use std::str::FromStr;

use p2p_client::P2pClientConfig;
use p2p_validation::ZeroParent;

/// A rule that can be loosened. `--lookahead open` has a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leniency {
    /// A zero parent hash follows the height.
    ZeroParent,
    /// Invalid gossip is ignored.
    InvalidGossip,
}

impl Leniency {
    /// Loosens the rule.
    pub(super) const fn apply(self, config: &mut P2pClientConfig) {
        match self {
            Self::ZeroParent => config.validation.zero_parent = ZeroParent::FollowsHeight,
            Self::InvalidGossip => config.gossipsub_validation_soft_fail = true,
        }
    }
}

impl FromStr for Leniency {
    type Err = LeniencyError;

    fn from_str(text: &str) -> Result<Self, LeniencyError> {
        match text {
            "zero-parent" => Ok(Self::ZeroParent),
            "invalid-gossip" => Ok(Self::InvalidGossip),
            _ => Err(LeniencyError { given: text.into() }),
        }
    }
}

/// A name of no rule.
#[derive(Debug, thiserror::Error)]
#[error("`{given}` is no leniency; there are `zero-parent` and `invalid-gossip`")]
pub(crate) struct LeniencyError {
    given: Box<str>,
}
