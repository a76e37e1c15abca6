//! L2 blocks that the contracts have settled, and what had been promised for their heights.

use std::{future::Future, sync::Arc};

use preconfirmation_types::{Address, B256, Recovered, TxList};
use serde::Serialize;

use crate::{BlockNumber, UnixSeconds};

/// The last settled block, as an execution node of L2 tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L2Tip {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash on L2; no preconfirmation hash.
    pub hash: B256,
    /// Whether the node has finished its own synchronization and reached this block.
    pub synced: bool,
    /// When the node last said that a lower block was the last settled one. None where it has not been asked since the start,
    /// or not without interruption.
    pub lower_at: Option<UnixSeconds>,
}

/// A settled L2 block, as far as a promise says something about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettledBlock {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash on L2; no preconfirmation hash.
    pub hash: B256,
    /// Its timestamp.
    pub timestamp: UnixSeconds,
    /// Who receives its fees.
    pub fee_recipient: Address,
    /// Its gas limit, without what the execution layer adds for the anchor transaction; none where that is not known.
    pub gas_limit: Option<u64>,
    /// The L1 block that its anchor transaction names; none where that is not read.
    pub anchor: Option<BlockNumber>,
    /// Hashes of its transactions, in order; the anchor transaction is the first.
    pub transactions: Vec<B256>,
}

/// What a preconfer has promised for a height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promised {
    /// The commitment.
    pub commitment: Arc<Recovered>,
    /// The transaction list that it names, where it is at hand.
    pub txlist: Option<TxList>,
}

/// A value that was promised, and the one that was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Difference<T> {
    /// What was promised.
    pub promised: T,
    /// What was settled.
    pub settled: T,
}

/// How the transactions of a settled block differ from the promised ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TransactionsBreach {
    /// The promised bytes are no list of transactions, so no block can have them.
    Unreadable,
    /// The block has other transactions, or the same ones in another order.
    Differ {
        /// How many were promised.
        promised: usize,
        /// How many of them are not in the block.
        missing: usize,
        /// How many of the block's were not promised.
        added: usize,
        /// Index of the first one that differs.
        first: usize,
    },
}

/// How a settled block differs from what was promised: at least one field is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// Another timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Difference<u64>>,
    /// Another receiver of the fees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_recipient: Option<Difference<Address>>,
    /// Another gas limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gas_limit: Option<Difference<u64>>,
    /// Another L1 block that it is anchored to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Difference<u64>>,
    /// Other transactions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactions: Option<TransactionsBreach>,
}

impl Breach {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.timestamp.is_none()
            && self.fee_recipient.is_none()
            && self.gas_limit.is_none()
            && self.anchor.is_none()
            && self.transactions.is_none()
    }

    /// The main difference in a word, for metrics and logs. `not_settled`: another block has taken the height, with another
    /// timestamp and none of the promised transactions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self {
                timestamp: Some(_),
                transactions: Some(TransactionsBreach::Differ { promised: promised @ 1.., missing, .. }),
                ..
            } if *missing == *promised => "not_settled",
            Self { transactions: Some(TransactionsBreach::Unreadable), .. } => "unreadable",
            Self { transactions: Some(_), .. } => "transactions",
            Self { timestamp: Some(_), .. } => "timestamp",
            Self { fee_recipient: Some(_), .. } => "fee_recipient",
            Self { gas_limit: Some(_), .. } => "gas_limit",
            _ => "anchor",
        }
    }
}

/// What became of the promise for the height of a settled block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PromiseOutcome {
    /// No promise for this height is known here.
    None,
    /// The block is as promised.
    Kept,
    /// The block differs from what was promised.
    Broken(Breach),
    /// As far as could be compared the block is as promised; its transactions could not, as the list is not here or is too
    /// large to be unpacked.
    Unproven,
}

impl PromiseOutcome {
    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kept => "kept",
            Self::Broken(_) => "broken",
            Self::Unproven => "unproven",
        }
    }
}

/// The view of L2 that an application has: which block was settled last, and what settled blocks hold.
///
/// The client follows one (`ChainApi::follow_l2`) and moves its base with it. `L2Follower` of `p2p-lookahead` is one that asks an
/// execution node; an application that has its own implements this, or declares its base by `ChainApi::update_head`.
pub trait L2View: Send + Sync {
    /// What was settled when the client stopped: told before the first [`next_tip`](Self::next_tip), where something was. A lower
    /// tip takes it back, so a view whose node may be behind waits with one until it is sure.
    fn resume(&mut self, settled: BlockNumber) {
        let _ = settled;
    }

    /// Waits for the next tip: the first one, one that differs from the last, or the same again after
    /// [`block`](Self::block) had no answer. A lower one says that L2 has taken settled blocks back: it is the highest that still
    /// stands, whatever has been settled above it since. None: the view has ended. May be cancelled.
    fn next_tip(&mut self) -> impl Future<Output = Option<L2Tip>> + Send;

    /// The settled block at a height up to that of the last tip. None: it cannot be told now, and
    /// [`next_tip`](Self::next_tip) returns again.
    fn block(&mut self, number: BlockNumber) -> impl Future<Output = Option<SettledBlock>> + Send;

    /// Compares a settled block with a promise for its height. Never [`PromiseOutcome::None`]. A promise beside the chain is compared
    /// without its list first, and with it where that is [`PromiseOutcome::Unproven`].
    fn compare(
        &self,
        block: &SettledBlock,
        promised: Promised,
    ) -> impl Future<Output = PromiseOutcome> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_one_name_in_metrics_and_in_json() {
        for (outcome, name) in [
            (PromiseOutcome::None, "none"),
            (PromiseOutcome::Kept, "kept"),
            (PromiseOutcome::Broken(Breach::default()), "broken"),
            (PromiseOutcome::Unproven, "unproven"),
        ] {
            assert_eq!(outcome.label(), name);
            assert_eq!(serde_json::to_value(outcome).unwrap()["outcome"], name);
        }
    }

    #[test]
    fn a_breach_says_its_main_reason() {
        let other = Some(Difference { promised: 1, settled: 2 });
        let differ =
            |promised, missing| Some(TransactionsBreach::Differ { promised, missing, added: 0, first: 0 });
        let unreadable = Some(TransactionsBreach::Unreadable);
        let fee_recipient = Some(Difference { promised: Address::ZERO, settled: Address::repeat_byte(1) });
        let none = Breach::default();
        assert!(none.is_none());
        for (breach, reason) in [
            (Breach { timestamp: other, transactions: differ(3, 3), ..none }, "not_settled"),
            (Breach { transactions: differ(3, 3), ..none }, "transactions"),
            (Breach { timestamp: other, transactions: differ(3, 2), ..none }, "transactions"),
            (Breach { timestamp: other, transactions: differ(0, 0), ..none }, "transactions"),
            (Breach { timestamp: other, transactions: unreadable, ..none }, "unreadable"),
            (Breach { timestamp: other, gas_limit: other, ..none }, "timestamp"),
            (Breach { fee_recipient, gas_limit: other, ..none }, "fee_recipient"),
            (Breach { gas_limit: other, anchor: other, ..none }, "gas_limit"),
            (Breach { anchor: other, ..none }, "anchor"),
        ] {
            assert_eq!((breach.reason(), breach.is_none()), (reason, false), "{breach:?}");
        }
    }
}
