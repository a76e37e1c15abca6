//! The endpoints of a chain, what is asked of L1, and how an answer looks.

mod config;
mod endpoint;
mod http;
mod pool;

pub(crate) use config::{Layer, PoolConfig};
pub use pool::EndpointStatus;
pub(crate) use pool::{Heads, Pool};

use std::future::Future;

use alloy_primitives::{Address, B256, Bytes, U64};
use serde::Deserialize;

use crate::{L1Error, L1Head};

/// L1, as far as the schedule needs it. A pool of endpoints implements it, and a chain in memory in tests.
pub(crate) trait L1: Send + Sync {
    /// The newest block.
    fn latest(&self) -> impl Future<Output = Result<L1Head, L1Error>> + Send;

    /// The block at a height; none if there is none.
    fn by_number(&self, number: u64) -> impl Future<Output = Result<Option<L1Head>, L1Error>> + Send;

    /// The block with a hash; none if it is not known.
    fn by_hash(&self, hash: B256) -> impl Future<Output = Result<Option<L1Head>, L1Error>> + Send;

    /// What a contract answers at a block; none if it reverts or there is none.
    fn call(
        &self,
        to: Address,
        data: Bytes,
        at: B256,
    ) -> impl Future<Output = Result<Option<Bytes>, L1Error>> + Send;

    /// The events of contracts in blocks, in the order of L1.
    fn logs(&self, filter: &Filter, blocks: Blocks)
    -> impl Future<Output = Result<Vec<Log>, L1Error>> + Send;

    /// The calldata of a transaction; none if it is not known.
    fn input(&self, transaction: B256) -> impl Future<Output = Result<Option<Bytes>, L1Error>> + Send;
}

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Of which contracts.
    pub(crate) addresses: Vec<Address>,
    /// Any of these.
    pub(crate) topics: Vec<B256>,
}

/// Where events are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocks {
    /// In one block, of whatever branch.
    One(B256),
    /// In the chain, both ends included.
    Range(u64, u64),
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    pub(crate) address: Address,
    pub(crate) topics: Vec<B256>,
    pub(crate) data: Bytes,
    pub(crate) block_number: U64,
    pub(crate) block_hash: B256,
    pub(crate) transaction_hash: B256,
}

impl Log {
    pub(crate) fn block(&self) -> u64 {
        self.block_number.to()
    }
}

/// A header as JSON-RPC has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawHeader {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
}

impl From<RawHeader> for L1Head {
    fn from(RawHeader { number, hash, parent_hash, timestamp }: RawHeader) -> Self {
        Self { number: number.to(), hash, parent: parent_hash, timestamp: timestamp.to() }
    }
}

/// A transaction, as far as it is read.
#[derive(Debug, Clone, Deserialize)]
struct RawTransaction {
    input: Bytes,
}
