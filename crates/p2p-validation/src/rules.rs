//! Chain rules on a block's parameters (§5, rule 6): a hook with defaults.

use p2p_types::{Preconfirmation, U256};

use crate::Rejection;

/// What a chain asks of a block given its parent. Pure: the same two always give the same answer.
pub trait BlockRules: Send + Sync + 'static {
    /// Judges a block against the block before it.
    ///
    /// # Errors
    /// The rule that the block breaks.
    fn check(&self, child: &Preconfirmation, parent: &Preconfirmation) -> Result<(), Rejection>;
}

/// Taiko's rules: time grows, the L1 anchor and the proposal never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaikoRules;

impl BlockRules for TaikoRules {
    fn check(&self, child: &Preconfirmation, parent: &Preconfirmation) -> Result<(), Rejection> {
        let rule = |holds: bool, field, rule, parent: U256, actual: U256| {
            if holds { Ok(()) } else { Err(Rejection::Block { field, rule, parent, actual }) }
        };
        let (now, before) = (child.timestamp, parent.timestamp);
        rule(now > before, "timestamp", "it must grow", before, now)?;
        let (now, before) = (child.anchor_block_number, parent.anchor_block_number);
        rule(now >= before, "anchorBlockNumber", "it must not shrink", before, now)?;
        let (now, before) = (child.proposal_id, parent.proposal_id);
        rule(now >= before, "proposalId", "it must not shrink", before, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(timestamp: u64, anchor: u64, proposal: u64) -> Preconfirmation {
        Preconfirmation {
            timestamp: U256::from(timestamp),
            anchor_block_number: U256::from(anchor),
            proposal_id: U256::from(proposal),
            ..Default::default()
        }
    }

    #[test]
    fn each_rule_holds_at_its_boundary_and_fails_beyond() {
        let parent = block(10, 20, 30);
        let broken = |child: Preconfirmation| match TaikoRules.check(&child, &parent) {
            Err(Rejection::Block { field, .. }) => Some(field),
            other => other.map(|()| None).unwrap(),
        };
        assert_eq!(broken(block(11, 20, 30)), None);
        assert_eq!(broken(block(10, 20, 30)), Some("timestamp"));
        assert_eq!(broken(block(11, 19, 30)), Some("anchorBlockNumber"));
        assert_eq!(broken(block(11, 20, 29)), Some("proposalId"));
    }
}
