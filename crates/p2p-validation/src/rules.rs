//! Chain rules on block parameters (§5, rule 6): a trait, with Taiko's rules as the default.

use p2p_types::{BlockNumber, Preconfirmation, U256};
use serde::{Deserialize, Serialize};

use crate::Rejection;

/// What a chain asks of a block. Pure: the same question always gets the same answer. A handover is never
/// asked about: the parameters of a block that never was bind nobody.
///
/// Whoever wraps other rules passes all three questions on.
pub trait BlockRules: Send + Sync + 'static {
    /// Judges a block against the block before it.
    ///
    /// # Errors
    /// The rule that the block breaks.
    fn check(&self, child: &Preconfirmation, parent: &Preconfirmation) -> Result<(), Rejection>;

    /// Judges what a block shows by itself. Called before its signer is recovered, so it has to be cheap.
    ///
    /// # Errors
    /// The rule that the block breaks.
    fn check_alone(&self, _block: &Preconfirmation) -> Result<(), Rejection> {
        Ok(())
    }

    /// Judges a block that has arrived live against the head of L1, where that is known.
    ///
    /// # Errors
    /// The rule that the block breaks.
    fn check_anchor(&self, _block: &Preconfirmation, _l1_head: BlockNumber) -> Result<(), Rejection> {
        Ok(())
    }
}

/// The limits in [`TaikoRules`]. All are the chain's; the defaults bind where the protocol does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TaikoLimits {
    /// The lowest gas limit.
    pub gas_limit_floor: u64,
    /// The highest gas limit.
    pub gas_limit_ceiling: u64,
    /// How much the gas limit may differ from the parent's, in parts of a million of that.
    pub gas_limit_change_ppm: u32,
    /// How many L1 blocks the anchor of a live block may be behind the head of L1.
    pub max_anchor_offset: u64,
    /// The highest proposal that a block may belong to.
    pub max_proposal_id: u64,
    /// Whether a block has to name a fee recipient.
    pub nonzero_coinbase: bool,
}

impl Default for TaikoLimits {
    /// Gas limits of any height that move by 200 ppm a block, anchors up to 128 L1 blocks old, proposals
    /// below 2^48, any coinbase.
    fn default() -> Self {
        Self {
            gas_limit_floor: 0,
            gas_limit_ceiling: u64::MAX,
            gas_limit_change_ppm: 200,
            max_anchor_offset: 128,
            max_proposal_id: (1 << 48) - 1,
            nonzero_coinbase: false,
        }
    }
}

/// Limits that no block could keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// The floor of the gas limit is above its ceiling.
    #[error("the gas limit's floor {floor} is above its ceiling {ceiling}")]
    GasLimit {
        /// `gas_limit_floor`.
        floor: u64,
        /// `gas_limit_ceiling`.
        ceiling: u64,
    },
}

/// Taiko's rules: time grows, the L1 anchor and the proposal never go back, the gas limit moves slowly and
/// within bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaikoRules {
    limits: TaikoLimits,
}

impl TaikoRules {
    /// The rules with a chain's limits.
    ///
    /// # Errors
    /// [`LimitsError`] for limits that no block could keep.
    pub const fn new(limits: TaikoLimits) -> Result<Self, LimitsError> {
        let (floor, ceiling) = (limits.gas_limit_floor, limits.gas_limit_ceiling);
        if floor > ceiling { Err(LimitsError::GasLimit { floor, ceiling }) } else { Ok(Self { limits }) }
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &TaikoLimits {
        &self.limits
    }
}

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
        rule(now >= before, "proposalId", "it must not shrink", before, now)?;
        let (now, before) = (child.gas_limit, parent.gas_limit);
        // Less than 2^64 · 2^32: wide enough for a gas limit of 64 bits, which a known parent has.
        let change = u128::from(now.abs_diff(before).saturating_to::<u64>()) * 1_000_000;
        let allowed =
            u128::from(before.saturating_to::<u64>()) * u128::from(self.limits.gas_limit_change_ppm);
        rule(change <= allowed, "gasLimit", "it must not move further than the chain allows", before, now)
    }

    fn check_alone(&self, block: &Preconfirmation) -> Result<(), Rejection> {
        let limits = &self.limits;
        if limits.nonzero_coinbase && block.coinbase.is_zero() {
            return Err(Rejection::ZeroCoinbase);
        }
        let within = |field, actual: U256, lowest: u64, highest: u64| {
            if actual >= U256::from(lowest) && actual <= U256::from(highest) {
                Ok(())
            } else {
                Err(Rejection::Parameter { field, actual, lowest, highest })
            }
        };
        within("gasLimit", block.gas_limit, limits.gas_limit_floor, limits.gas_limit_ceiling)?;
        within("proposalId", block.proposal_id, 0, limits.max_proposal_id)
    }

    fn check_anchor(&self, block: &Preconfirmation, l1_head: BlockNumber) -> Result<(), Rejection> {
        let (anchor, max_offset) = (block.anchor_block_number, self.limits.max_anchor_offset);
        // An anchor above the head is one that our L1 node has not seen yet.
        if anchor >= U256::from(l1_head.saturating_sub(max_offset)) {
            Ok(())
        } else {
            Err(Rejection::StaleAnchor { anchor, l1_head, max_offset })
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_types::Address;

    use super::*;

    const GAS: u64 = 240_000_000;
    /// 200 ppm of it.
    const STEP: u64 = 48_000;

    fn block(timestamp: u64, anchor: u64, proposal: u64, gas: u64) -> Preconfirmation {
        Preconfirmation {
            timestamp: U256::from(timestamp),
            anchor_block_number: U256::from(anchor),
            proposal_id: U256::from(proposal),
            gas_limit: U256::from(gas),
            ..Default::default()
        }
    }

    #[test]
    fn each_rule_against_the_parent_holds_at_its_boundary_and_fails_beyond() {
        let parent = block(10, 20, 30, GAS);
        let broken = |child: Preconfirmation| match TaikoRules::default().check(&child, &parent) {
            Err(Rejection::Block { field, .. }) => Some(field),
            other => other.map(|()| None).unwrap(),
        };
        assert_eq!(broken(block(11, 20, 30, GAS)), None);
        assert_eq!(broken(block(12, 21, 31, GAS)), None);
        assert_eq!(broken(block(10, 20, 30, GAS)), Some("timestamp"));
        assert_eq!(broken(block(9, 20, 30, GAS)), Some("timestamp"));
        assert_eq!(broken(block(11, 19, 30, GAS)), Some("anchorBlockNumber"));
        assert_eq!(broken(block(11, 20, 29, GAS)), Some("proposalId"));
        for within in [GAS - STEP, GAS + STEP] {
            assert_eq!(broken(block(11, 20, 30, within)), None);
        }
        for beyond in [GAS - STEP - 1, GAS + STEP + 1, 0, u64::MAX] {
            assert_eq!(broken(block(11, 20, 30, beyond)), Some("gasLimit"));
        }
    }

    #[test]
    fn gas_limits_at_the_ends_of_their_range_do_not_overflow() {
        let at = |gas| block(gas, 0, 0, gas);
        let check = |child: u64, parent: u64| {
            let child = Preconfirmation { timestamp: U256::MAX, ..at(child) };
            TaikoRules::default().check(&child, &at(parent)).is_ok()
        };
        assert!(check(0, 0) && check(u64::MAX, u64::MAX) && check(u64::MAX - 1, u64::MAX));
        assert!(!check(1, 0) && !check(u64::MAX, 0) && !check(0, u64::MAX));
    }

    #[test]
    fn each_rule_on_a_block_alone_holds_at_its_boundary_and_fails_beyond() {
        let limits = TaikoLimits {
            gas_limit_floor: 100,
            gas_limit_ceiling: 200,
            nonzero_coinbase: true,
            ..Default::default()
        };
        let rules = TaikoRules::new(limits).unwrap();
        assert_eq!(rules.limits(), &limits);
        let judge = |gas, proposal| {
            let coinbase = Address::repeat_byte(1);
            rules.check_alone(&Preconfirmation { coinbase, ..block(0, 0, proposal, gas) })
        };
        let last = (1 << 48) - 1;
        for (gas, proposal) in [(100, 0), (200, last)] {
            assert_eq!(judge(gas, proposal), Ok(()));
        }
        for gas in [99, 201] {
            let (field, actual) = ("gasLimit", U256::from(gas));
            let broken = Rejection::Parameter { field, actual, lowest: 100, highest: 200 };
            assert_eq!(judge(gas, 0), Err(broken));
        }
        let (field, actual) = ("proposalId", U256::from(last + 1));
        let broken = Rejection::Parameter { field, actual, lowest: 0, highest: last };
        assert_eq!(judge(100, last + 1), Err(broken));
        assert_eq!(rules.check_alone(&block(0, 0, 0, 100)), Err(Rejection::ZeroCoinbase));
        assert_eq!(TaikoRules::default().check_alone(&block(0, 0, 0, 100)), Ok(()), "not asked by default");
    }

    #[test]
    fn an_anchor_may_be_so_far_behind_the_head_of_l1_and_no_further() {
        let rules = TaikoRules::new(TaikoLimits { max_anchor_offset: 10, ..Default::default() }).unwrap();
        let judge = |anchor, l1_head| rules.check_anchor(&block(0, anchor, 0, 0), l1_head);
        for (anchor, l1_head) in [(90, 100), (100, 100), (101, 100), (0, 10), (0, 9), (u64::MAX, u64::MAX)] {
            assert_eq!(judge(anchor, l1_head), Ok(()), "{anchor} {l1_head}");
        }
        let stale = Rejection::StaleAnchor { anchor: U256::from(89), l1_head: 100, max_offset: 10 };
        assert_eq!(judge(89, 100), Err(stale));
        assert!(judge(0, 11).is_err() && judge(0, u64::MAX).is_err());
    }

    #[test]
    fn limits_that_no_block_can_keep_are_refused() {
        let limits = |floor, ceiling| TaikoLimits {
            gas_limit_floor: floor,
            gas_limit_ceiling: ceiling,
            ..Default::default()
        };
        assert!(TaikoRules::new(limits(5, 5)).is_ok());
        assert_eq!(TaikoRules::new(limits(6, 5)), Err(LimitsError::GasLimit { floor: 6, ceiling: 5 }));
    }

    #[test]
    fn other_rules_need_only_judge_against_the_parent() {
        struct Lax;
        impl BlockRules for Lax {
            fn check(&self, _: &Preconfirmation, _: &Preconfirmation) -> Result<(), Rejection> {
                Ok(())
            }
        }
        let any = block(0, 0, u64::MAX, 0);
        assert_eq!(
            (Lax.check(&any, &any), Lax.check_alone(&any), Lax.check_anchor(&any, 9)),
            (Ok(()), Ok(()), Ok(()))
        );
    }

    #[test]
    fn limits_are_read_from_configuration_with_defaults() {
        let read: TaikoLimits = serde_json::from_str(r#"{"nonzeroCoinbase":true}"#).unwrap();
        assert_eq!(read, TaikoLimits { nonzero_coinbase: true, ..Default::default() });
        assert!(serde_json::from_str::<TaikoLimits>(r#"{"noSuchLimit":1}"#).is_err());
    }
}
