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
        text.parse()
            .map_err(|_| D::Error::custom(format_args!("not a decimal or 0x-hex u256: {text:.80}")))
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
