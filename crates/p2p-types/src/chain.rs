//! Block numbers, the head and the base of the chain of preconfirmations.

use std::fmt;

use preconfirmation_types::B256;
use serde::{Deserialize, Serialize};

/// An L2 block number that has been checked to fit 64 bits.
pub type BlockNumber = u64;

/// The head: the last canonical block, linked to the base without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub number: BlockNumber,
    /// Its preconfirmation hash.
    pub hash: B256,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.hash)
    }
}

/// The base: the latest L2 block that the contracts on L1 have settled, as the application declares it.
///
/// The chain of preconfirmations is linked from the base upwards. Blocks at or below it are final here: fork choice and
/// reorgs change only what is above, and only what is settled may be pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Base {
    /// Its number.
    pub number: BlockNumber,
    /// Its preconfirmation hash, where the application knows it. Without it, the first commitment above
    /// the base may name any parent (§5).
    pub hash: Option<B256>,
}

impl Base {
    /// A base of which only the number is known.
    #[must_use]
    pub const fn at(number: BlockNumber) -> Self {
        Self { number, hash: None }
    }

    /// The first height that commitments may take.
    #[must_use]
    pub const fn next(&self) -> BlockNumber {
        self.number.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commitments_stand_above_the_base_and_heights_do_not_wrap() {
        assert_eq!(Base::at(7), Base { number: 7, hash: None });
        assert_eq!([0, 7, u64::MAX].map(|number| Base::at(number).next()), [1, 8, u64::MAX]);
    }

    #[test]
    fn a_head_is_shown_by_number_and_hash() {
        let head = Head { number: 7, hash: B256::repeat_byte(0xab) };
        assert_eq!(head.to_string(), format!("7 0x{}", "ab".repeat(32)));
    }
}
