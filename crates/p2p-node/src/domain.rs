//! The chain's signing domain as an option.

use std::{fmt, str::FromStr};

use alloy_primitives::hex;
use preconfirmation_types::SigningDomain;

use crate::hexadecimal::{self, HexError};

/// A signing domain as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Domain(pub(crate) SigningDomain);

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0.as_bytes()))
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if text == "placeholder" {
            return Ok(Self(SigningDomain::PLACEHOLDER));
        }
        let bytes = hexadecimal::decode(text.trim().as_bytes())?;
        let actual = bytes.len();
        let domain: [u8; 32] = bytes.try_into().map_err(|_| DomainError::Length { actual })?;
        Ok(Self(SigningDomain::new(domain.into())))
    }
}

/// Why an option is no signing domain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DomainError {
    /// Not hexadecimal.
    #[error(transparent)]
    Hex(#[from] HexError),
    /// Another length.
    #[error("a signing domain has exactly 32 bytes, got {actual}")]
    Length {
        /// Bytes given.
        actual: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_read_as_it_is_shown() {
        let shown = Domain(SigningDomain::PLACEHOLDER).to_string();
        assert_eq!(shown.parse::<Domain>().unwrap().0, SigningDomain::PLACEHOLDER);
        assert_eq!("placeholder".parse::<Domain>().unwrap().0, SigningDomain::PLACEHOLDER);
        assert!(matches!("0x00".parse::<Domain>(), Err(DomainError::Length { actual: 1 })));
        assert!(matches!("domain".parse::<Domain>(), Err(DomainError::Hex(_))));
    }
}
