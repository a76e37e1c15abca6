//! The tables of the database: their keys and values.

use p2p_types::BlockNumber;
use redb::TableDefinition;

/// Key of a commitment: its height, then [`CANONICAL`] or its arrival number, which may have the flag [`WITHDRAWN`].
pub(super) type RowKey = (BlockNumber, u64);
/// Second half of the key of the canonical block of a height. Arrival numbers begin at 1.
pub(super) const CANONICAL: u64 = 0;
/// Flag in the second half of the key of a non-canonical block: L1 has replaced its anchor.
pub(super) const WITHDRAWN: u64 = 1 << 63;

pub(super) type Commitments = TableDefinition<'static, RowKey, &'static [u8]>;
pub(super) type Heights = TableDefinition<'static, (u64, u64), ()>;
pub(super) type TxLists = TableDefinition<'static, &'static [u8; 32], &'static [u8]>;
pub(super) type TxListBlocks = TableDefinition<'static, &'static [u8; 32], (BlockNumber, u64)>;
pub(super) type TxListOrder = TableDefinition<'static, (BlockNumber, &'static [u8; 32]), ()>;
/// End of the window, signer, height and preconfirmation hash.
pub(super) type PromiseKey<'a> = (u64, &'a [u8; 20], BlockNumber, &'a [u8; 32]);
/// Signer, height and label of the kind.
pub(super) type EvidenceRowKey<'a> = (&'a [u8; 20], BlockNumber, &'a str);

/// Schema, domain and state.
pub(super) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
/// Canonical blocks, non-canonical blocks and handovers, sorted by height, so that a range is one scan.
pub(super) const COMMITMENTS: Commitments = TableDefinition::new("linked");
/// Heights by preconfirmation hash; the entries are described in `index`.
pub(super) const HEIGHTS: Heights = TableDefinition::new("heights");
/// Bytes of the transaction lists that have no file.
pub(super) const TXLISTS: TxLists = TableDefinition::new("txlists");
/// The newest block that names a list, and its length.
pub(super) const TXLIST_BLOCKS: TxListBlocks = TableDefinition::new("txlist_blocks");
/// Lists by that block: the order of eviction.
pub(super) const TXLIST_ORDER: TxListOrder = TableDefinition::new("txlist_order");
/// Evidence: both commitments and a checksum.
pub(super) const EVIDENCE: TableDefinition<'static, EvidenceRowKey<'static>, &'static [u8]> =
    TableDefinition::new("evidence");

/// What the application's own signers have promised.
pub(super) const PROMISES: TableDefinition<'static, PromiseKey<'static>, &'static [u8]> =
    TableDefinition::new("promises");

pub(super) const SCHEMA_KEY: &str = "schema";
pub(super) const DOMAIN_KEY: &str = "domain";
