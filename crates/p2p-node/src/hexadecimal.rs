//! Decoding of hex that people write: an optional `0x`, digits of either case, and an error with the position.

use alloy_primitives::hex;

/// Why text is not hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HexError {
    /// Something between the digits that is none.
    #[error("hex: character {position} is '{}', not a digit from 0 to f", byte.escape_ascii())]
    Digit {
        /// The first byte that is no digit.
        byte: u8,
        /// Where it is, from 1; the `0x` counts, blanks around the text do not.
        position: usize,
    },
    /// Half a byte at the end.
    #[error("hex: {digits} digits, an odd number; every byte has two")]
    Odd {
        /// Digits given.
        digits: usize,
    },
}

/// Decodes `text`, which has no blanks around it.
///
/// # Errors
/// [`HexError`] names the first character that is wrong, or else the odd number of digits.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, HexError> {
    hex::decode(text).map_err(|_| {
        let digits = text.strip_prefix(b"0x").unwrap_or(text);
        let prefix = text.len() - digits.len();
        match digits.iter().zip(1..).find(|(byte, _)| !byte.is_ascii_hexdigit()) {
            Some((&byte, at)) => HexError::Digit { byte, position: prefix + at },
            None => HexError::Odd { digits: digits.len() },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_optional_and_both_cases_are_read() {
        assert_eq!(decode(b"0x00aBfF"), Ok(vec![0, 0xab, 0xff]));
        assert_eq!(decode(b"00AbFf"), Ok(vec![0, 0xab, 0xff]));
        assert_eq!(decode(b"0x"), Ok(vec![]));
    }

    #[test]
    fn an_error_says_where_to_look() {
        assert_eq!(decode(b"0x00g0"), Err(HexError::Digit { byte: b'g', position: 5 }));
        assert_eq!(decode(b"00g"), Err(HexError::Digit { byte: b'g', position: 3 }), "before the odd number");
        assert_eq!(decode(b"0x0x00"), Err(HexError::Digit { byte: b'x', position: 4 }));
        assert_eq!(decode(b"0x000"), Err(HexError::Odd { digits: 3 }));
        let text = HexError::Digit { byte: 0xff, position: 1 }.to_string();
        assert_eq!(text, "hex: character 1 is '\\xff', not a digit from 0 to f");
    }
}
