//! How values look to people: numbers as decimal strings, bytes as 0x-hex. The wire has SSZ.

/// A u256 as a decimal string; a 0x-hex string is read too.
pub(crate) mod decimal {
    use alloy_primitives::U256;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &U256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (radix, digits) = text.strip_prefix("0x").map_or((10, text.as_str()), |hex| (16, hex));
        // `from_str_radix` skips underscores and reads nothing as zero.
        let whole = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        let value = whole.then(|| U256::from_str_radix(digits, radix.into()).ok()).flatten();
        value.ok_or_else(|| D::Error::custom(format_args!("not a decimal or 0x-hex u256: {text:.80}")))
    }
}

/// Bytes as 0x-hex.
pub(crate) mod hex_bytes {
    use alloy_primitives::hex;
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        hex::serialize(value, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        hex::deserialize::<_, Vec<u8>>(deserializer).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Number(#[serde(with = "super::decimal")] U256);

    #[test]
    fn numbers_are_decimal_or_hex_digits_and_nothing_else() {
        let read = |text: &str| serde_json::from_value::<Number>(text.into()).map(|number| number.0);
        assert_eq!(read("10").unwrap(), U256::from(10));
        assert_eq!(read("0x1f").unwrap(), U256::from(31));
        assert_eq!(read(&U256::MAX.to_string()).unwrap(), U256::MAX);
        let beyond = format!("{}0", U256::MAX);
        for bad in ["", "_", "0x", "1_0", "0b11", "-1", "+1", " 1", "1f", "0x0g", &beyond] {
            assert!(read(bad).unwrap_err().to_string().contains("not a decimal or 0x-hex u256"), "{bad}");
        }
    }
}
