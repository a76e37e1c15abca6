//! Values as JSON has them: numbers as minimal lower-case hexadecimal digits, bytes as digits behind `0x`.

use std::borrow::Cow;

use alloy_primitives::{Address, B256, Bytes, U256};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// A number. Given as hexadecimal digits behind `0x`, as decimal digits, or as a JSON number; answered as the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Quantity(pub(crate) U256);

impl From<u64> for Quantity {
    fn from(value: u64) -> Self {
        Self(U256::from(value))
    }
}

/// 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hash(pub(crate) B256);

/// 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Account(pub(crate) Address);

/// Any number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Data(pub(crate) Bytes);

/// A block: 64 hexadecimal digits behind `0x` are a preconfirmation hash, anything else is a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockId {
    Height(U256),
    Hash(B256),
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Text(String),
            Number(u64),
        }
        match Given::deserialize(deserializer)? {
            Given::Number(height) => Ok(Self::Height(U256::from(height))),
            Given::Text(text) if text.len() == 2 + 2 * 32 => text
                .parse()
                .map(Self::Hash)
                .map_err(|_| D::Error::custom("not 32 bytes as hexadecimal digits")),
            Given::Text(text) => {
                text.parse().map(Self::Height).map_err(|_| D::Error::custom("neither a height nor a hash"))
            }
        }
    }
}

/// Describes a type by a name and a schema that stands on its own.
macro_rules! described {
    ($($type:ty, $name:literal, $schema:tt;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

described! {
    Quantity, "Quantity", {
        "description": "A number. Answers have minimal lower-case hexadecimal digits behind 0x; a parameter may have decimal digits or be a JSON number, too.",
        "oneOf": [{ "type": "string", "pattern": "^(0x[0-9a-fA-F]{1,64}|[0-9]+)$" }, { "type": "integer", "minimum": 0 }]
    };
    Hash, "Hash", { "description": "32 bytes.", "type": "string", "pattern": "^0x[0-9a-fA-F]{64}$" };
    Account, "Address", { "description": "20 bytes.", "type": "string", "pattern": "^0x[0-9a-fA-F]{40}$" };
    Data, "Bytes", { "description": "Bytes.", "type": "string", "pattern": "^0x([0-9a-fA-F]{2})*$" };
    BlockId, "BlockId", {
        "description": "A block: 64 hexadecimal digits behind 0x are a preconfirmation hash, anything else is a height.",
        "oneOf": [{ "type": "string", "pattern": "^(0x[0-9a-fA-F]{1,64}|[0-9]+)$" }, { "type": "integer", "minimum": 0 }]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_minimal_out_and_in_any_of_three_forms_in() {
        for (value, text) in [(0, r#""0x0""#), (255, r#""0xff""#), (4096, r#""0x1000""#)] {
            assert_eq!(serde_json::to_string(&Quantity::from(value)).unwrap(), text);
        }
        for text in [r#""0x1f""#, r#""0x1F""#, r#""0x001f""#, r#""31""#, "31"] {
            assert_eq!(serde_json::from_str::<Quantity>(text).unwrap(), Quantity::from(31), "{text}");
        }
        let max: Quantity = serde_json::from_str(&format!("\"{}\"", U256::MAX)).unwrap();
        assert_eq!(max.0, U256::MAX);
        for bad in [r#""0xg""#, r#""-1""#, "-1", "1.5", "null", "[]", &format!("\"{}0\"", U256::MAX)] {
            assert!(serde_json::from_str::<Quantity>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_block_is_named_by_height_or_hash() {
        let read = |text: &str| serde_json::from_str::<BlockId>(text).ok();
        let hash = B256::repeat_byte(7);
        assert_eq!(read(&format!("\"{hash}\"")), Some(BlockId::Hash(hash)));
        for text in ["17", r#""17""#, r#""0x11""#] {
            assert_eq!(read(text), Some(BlockId::Height(U256::from(17))), "{text}");
        }
        for bad in [r#""latest""#, "-1", "{}", &format!("\"{}g\"", "0x".to_owned() + &"0".repeat(63))] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
