//! The chain's slasher as an option.

use std::str::FromStr;

use alloy_primitives::hex::FromHexError;
use p2p_types::Address;

/// A slasher as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slasher(pub(super) Address);

/// Why an option names no slasher.
#[derive(Debug, thiserror::Error)]
#[error("a slasher is an address, or `none` for the zero address of chains without one: {0}")]
pub(crate) struct SlasherError(#[source] FromHexError);

impl FromStr for Slasher {
    type Err = SlasherError;

    fn from_str(text: &str) -> Result<Self, SlasherError> {
        if text == "none" {
            return Ok(Self(Address::ZERO));
        }
        text.parse().map(Self).map_err(SlasherError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_without_a_slasher_says_so_by_name() {
        assert_eq!("none".parse::<Slasher>().unwrap().0, Address::ZERO);
        let address = Address::repeat_byte(3);
        assert_eq!(address.to_string().parse::<Slasher>().unwrap().0, address);
        for text in ["", "zero", "0x00"] {
            let error = text.parse::<Slasher>().unwrap_err().to_string();
            assert!(error.contains("`none`"), "{error}");
        }
    }
}
