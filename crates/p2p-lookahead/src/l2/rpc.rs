//! What is asked of an execution node of L2, and how an answer looks.

use std::future::Future;

use alloy_primitives::{Address, B256, Bytes, U64};
use p2p_types::{SettledBlock, UnixSeconds};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    L1Error, L1Head,
    rpc::{L1 as _, Pool},
};

/// The code of JSON-RPC for a method that is not served.
pub(super) const NO_METHOD: i64 = -32_601;

/// L2, as far as the base needs it. A pool of endpoints implements it, and a chain in memory in tests.
pub(super) trait L2: Send + Sync {
    /// Which endpoint is in use.
    fn endpoint(&self) -> usize;

    /// The last block that came from L1 (`taiko_headL1Origin`); none if none did. Refused with [`NO_METHOD`] where that
    /// is not served.
    fn origin(&self) -> impl Future<Output = Result<Option<u64>, L1Error>> + Send;

    /// The block that the node calls safe; none if it calls none so.
    fn safe(&self) -> impl Future<Output = Result<Option<L1Head>, L1Error>> + Send;

    /// The header at a height; none if there is none.
    fn header(&self, number: u64) -> impl Future<Output = Result<Option<L1Head>, L1Error>> + Send;

    /// The height that the node has reached.
    fn reached(&self) -> impl Future<Output = Result<u64, L1Error>> + Send;

    /// Whether the node is synchronizing itself.
    fn is_syncing(&self) -> impl Future<Output = Result<bool, L1Error>> + Send;

    /// The block at a height; none if there is none.
    fn block(&self, number: u64) -> impl Future<Output = Result<Option<RawBlock>, L1Error>> + Send;

    /// Calldata of the first transaction of a block; none if it has none.
    fn first_input(&self, block: B256) -> impl Future<Output = Result<Option<Bytes>, L1Error>> + Send;

    /// A settled block has been read: an endpoint whose blocks are far older than others that were read has failed.
    fn came(&self, head: L1Head) -> impl Future<Output = Result<L1Head, L1Error>> + Send;
}

/// A block as JSON-RPC has it, with the hashes of its transactions.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawBlock {
    pub(super) number: U64,
    pub(super) hash: B256,
    pub(super) timestamp: U64,
    pub(super) miner: Address,
    pub(super) gas_limit: U64,
    pub(super) transactions: Vec<B256>,
}

impl RawBlock {
    pub(super) fn settled(self, anchor_gas: Option<u64>, anchor: Option<u64>) -> SettledBlock {
        SettledBlock {
            number: self.number.to(),
            hash: self.hash,
            timestamp: UnixSeconds::new(self.timestamp.to()),
            fee_recipient: self.miner,
            gas_limit: anchor_gas.map(|gas| self.gas_limit.to::<u64>().saturating_sub(gas)),
            anchor,
            transactions: self.transactions,
        }
    }
}

/// Where a block came from, as far as it is read.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Origin {
    #[serde(rename = "blockID", alias = "blockId")]
    pub(super) block: Number,
}

/// A number as nodes have it: hexadecimal or decimal, in quotes or without.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    pub(super) fn get(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(*number),
            Self::Text(text) => match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            },
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
struct RawTransaction {
    input: Bytes,
}

fn at(number: u64) -> Value {
    json!([format!("{number:#x}"), false])
}

impl L2 for Pool {
    fn endpoint(&self) -> usize {
        self.current()
    }

    async fn origin(&self) -> Result<Option<u64>, L1Error> {
        match self.request::<Option<Origin>>("taiko_headL1Origin", json!([])).await {
            Ok(origin) => Ok(origin.and_then(|origin| origin.block.get())),
            // What a node says that has no block from L1 yet.
            Err(L1Error::Refused { message, .. }) if message.eq_ignore_ascii_case("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn safe(&self) -> Result<Option<L1Head>, L1Error> {
        let safe = Self::header(self, "eth_getBlockByNumber", json!(["safe", false]), |_| true).await;
        match safe {
            // What a node says that calls no block safe yet.
            Err(L1Error::Refused { message, .. }) if message.contains("not found") => Ok(None),
            safe => safe,
        }
    }

    async fn header(&self, number: u64) -> Result<Option<L1Head>, L1Error> {
        self.by_number(number).await
    }

    async fn reached(&self) -> Result<u64, L1Error> {
        Ok(self.request::<U64>("eth_blockNumber", json!([])).await?.to())
    }

    async fn is_syncing(&self) -> Result<bool, L1Error> {
        Ok(self.request::<Value>("eth_syncing", json!([])).await? != Value::Bool(false))
    }

    async fn block(&self, number: u64) -> Result<Option<RawBlock>, L1Error> {
        let block: Option<RawBlock> = self.request("eth_getBlockByNumber", at(number)).await?;
        match block {
            Some(block) if block.number.to::<u64>() != number => {
                Err(self.fail_current(L1Error::OtherBlock).await)
            }
            block => Ok(block),
        }
    }

    async fn first_input(&self, block: B256) -> Result<Option<Bytes>, L1Error> {
        let first: Option<RawTransaction> =
            self.request("eth_getTransactionByBlockHashAndIndex", json!([block, "0x0"])).await?;
        Ok(first.map(|first| first.input))
    }

    async fn came(&self, head: L1Head) -> Result<L1Head, L1Error> {
        Self::came(self, self.current(), head).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_nodes_write_them() {
        for (json, number) in [
            (r#"{"blockID":"0x1f4","l1BlockHeight":"0x1"}"#, Some(500)),
            (r#"{"blockID":"500"}"#, Some(500)),
            (r#"{"blockId":500}"#, Some(500)),
            (r#"{"blockID":"0x1ffffffffffffffff"}"#, None),
            (r#"{"blockID":""}"#, None),
        ] {
            let origin: Origin = serde_json::from_str(json).unwrap();
            assert_eq!(origin.block.get(), number, "{json}");
        }
    }
}
