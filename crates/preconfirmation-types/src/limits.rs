//! The bounds of the wire (§2, §10, §11). All are defaults of configuration: a chain may set less.

/// Most commitments in one `get_commitments_by_number` response.
pub const MAX_COMMITMENTS_PER_RESPONSE: usize = 256;

/// Largest transaction list, in bytes: 2 MiB.
pub const MAX_TXLIST_BYTES: usize = 2 * 1024 * 1024;

/// Most bytes that a transaction list is unpacked to, where somebody looks into it: 32 MiB. As calldata they would cost 10 gas
/// each at the least (EIP-7623), so 335 M gas in all, more than a block has.
pub const MAX_UNPACKED_TXLIST_BYTES: usize = 32 * 1024 * 1024;

/// Largest gossip frame, in bytes: 10 MiB.
pub const MAX_GOSSIP_BYTES: usize = 10 * 1024 * 1024;

/// SSZ length of a [`Preconfirmation`](crate::Preconfirmation): a bool, six u256, two hashes, two addresses.
pub const PRECONFIRMATION_BYTES: usize = 1 + 6 * 32 + 2 * 32 + 2 * 20;

/// SSZ length of a [`PreconfCommitment`](crate::PreconfCommitment): the preconfirmation and the slasher address.
pub const COMMITMENT_BYTES: usize = PRECONFIRMATION_BYTES + 20;

/// SSZ length of a [`SignedCommitment`](crate::SignedCommitment): the commitment and `r ‖ s ‖ v`.
pub const SIGNED_COMMITMENT_BYTES: usize = COMMITMENT_BYTES + 65;

/// SSZ length of a txlist container without its list: the hash and the offset.
pub const TXLIST_HEADER_BYTES: usize = 32 + 4;
