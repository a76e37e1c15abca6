//! What can be wrong with bytes, frames, signatures and transaction lists from an untrusted peer.

use alloy_primitives::B256;

/// Why bytes are not the SSZ of a container. Decoding is total and exact: every byte string is either
/// one value or one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{container}: {kind}")]
pub struct DecodeError {
    /// The container that was asked for, as the specification names it.
    pub container: &'static str,
    /// What is wrong.
    pub kind: DecodeErrorKind,
}

/// The rule of SSZ, or the bound of the protocol, that the bytes break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A fixed-size container has another length.
    #[error("expected exactly {expected} bytes, got {actual}")]
    Length {
        /// SSZ length of the container.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The fixed part is cut off.
    #[error("expected at least {minimum} bytes, got {actual}")]
    TooShort {
        /// Length of the fixed part.
        minimum: usize,
        /// Bytes given.
        actual: usize,
    },
    /// A boolean is neither 0 nor 1.
    #[error("field {field}: a boolean is 0 or 1, got {byte}")]
    Bool {
        /// The field, as JSON names it.
        field: &'static str,
        /// The byte found.
        byte: u8,
    },
    /// The offset of the one variable field does not point right behind the fixed part.
    #[error("field {field}: offset must be {expected}, got {actual}")]
    Offset {
        /// The field, as JSON names it.
        field: &'static str,
        /// Length of the fixed part.
        expected: usize,
        /// The offset found.
        actual: u32,
    },
    /// A list is longer than its bound. Decided on the length alone, before anything is allocated.
    #[error("field {field}: at most {limit} items, got {actual}")]
    ListTooLong {
        /// The field, as JSON names it.
        field: &'static str,
        /// The bound.
        limit: usize,
        /// Items found.
        actual: usize,
    },
    /// The bytes of a list are no whole number of items.
    #[error("field {field}: {bytes} bytes are no whole number of {item}-byte items")]
    PartialItem {
        /// The field, as JSON names it.
        field: &'static str,
        /// SSZ length of one item.
        item: usize,
        /// Bytes found.
        bytes: usize,
    },
    /// The boolean of one item of a list is neither 0 nor 1.
    #[error("field {field}[{index}]: a boolean is 0 or 1, got {byte}")]
    Item {
        /// The list and the field in its items.
        field: &'static str,
        /// Position in the list.
        index: usize,
        /// The byte found.
        byte: u8,
    },
}

/// Why bytes are not one length-prefixed frame (§10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes end inside the length prefix.
    #[error("frame: the length prefix is cut off")]
    PrefixCutOff,
    /// The length prefix is not a minimal unsigned varint, or longer than five bytes.
    #[error("frame: the length prefix is not a minimal unsigned varint of at most five bytes")]
    Prefix,
    /// The announced length is over the cap of the message. Decided before anything is allocated.
    #[error("frame: {length} bytes announced, at most {cap} allowed")]
    TooLarge {
        /// Announced length.
        length: u64,
        /// The cap of this message.
        cap: usize,
    },
    /// Fewer or more bytes follow than announced.
    #[error("frame: {announced} bytes announced, {actual} follow")]
    Length {
        /// Announced length.
        announced: usize,
        /// Bytes that follow the prefix.
        actual: usize,
    },
    /// The frame is whole, its content is not the container.
    #[error(transparent)]
    Content(#[from] DecodeError),
}

/// Why a signature does not name a signer (§4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// `v` is not a recovery id of Ethereum's kind.
    #[error("signature: v must be 0 or 1, got {0}")]
    RecoveryId(u8),
    /// `r` or `s` is zero or not below the group order.
    #[error("signature: r or s is out of range")]
    OutOfRange,
    /// `s` is in the upper half: a second byte string for the same promise, refused on L1 too.
    #[error("signature: s is in the upper half of the group order")]
    HighS,
    /// No public key produces this signature over this hash.
    #[error("signature: no public key recovers from it")]
    Unrecoverable,
}

/// Why wire bytes are no signed commitment with a signer: they do not decode, or do not recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Not the SSZ of a `SignedCommitment`.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Well formed, but nobody signed it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Why a transaction list is not the one that its hash names (§5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxListError {
    /// Over the chain's cap; decided before hashing.
    #[error("txlist: {actual} bytes, at most {limit} allowed")]
    TooLarge {
        /// The cap.
        limit: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The bytes hash to something else.
    #[error("txlist: rawTxListHash is {claimed}, but the bytes hash to {actual}")]
    HashMismatch {
        /// The hash next to the list.
        claimed: B256,
        /// keccak256 of the bytes.
        actual: B256,
    },
}

/// A secret key that is zero or not below the group order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret key is a number from 1 to the order of secp256k1 less one")]
pub struct InvalidSecretKey;

/// More commitments than one response may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{actual} commitments, at most {limit} in a response")]
pub struct PageTooLong {
    /// [`MAX_COMMITMENTS_PER_RESPONSE`](crate::MAX_COMMITMENTS_PER_RESPONSE).
    pub limit: usize,
    /// Commitments given.
    pub actual: usize,
}
