//! Transaction lists: opaque compressed bytes, named by their keccak256, shared and never copied.

use alloy_primitives::{B256, KECCAK256_EMPTY, keccak256};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    MAX_TXLIST_BYTES, TXLIST_HEADER_BYTES,
    container::{Container, error, variable_tail},
    error::{DecodeError, DecodeErrorKind, TxListError},
    hex_bytes,
};

/// A transaction list whose hash has been computed from its bytes. Only hashing builds one, so its two
/// halves always belong together. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TxList {
    #[serde(rename = "rawTxListHash")]
    hash: B256,
    #[serde(rename = "txlist", with = "hex_bytes")]
    bytes: Bytes,
}

impl TxList {
    /// Hashes `bytes`, which may have up to `limit` bytes ([`MAX_TXLIST_BYTES`], or the chain's smaller cap).
    ///
    /// # Errors
    /// [`TxListError::TooLarge`], decided before hashing.
    pub fn new(bytes: Bytes, limit: usize) -> Result<Self, TxListError> {
        if bytes.len() > limit {
            return Err(TxListError::TooLarge { limit, actual: bytes.len() });
        }
        Ok(Self { hash: keccak256(&bytes), bytes })
    }

    /// Hashes `bytes` and compares with what a peer says that they hash to.
    ///
    /// # Errors
    /// [`TxListError::TooLarge`], decided before hashing; [`TxListError::HashMismatch`].
    pub fn verify(claimed: B256, bytes: Bytes, limit: usize) -> Result<Self, TxListError> {
        Self::new(bytes, limit)?.claimed_as(claimed)
    }

    /// Lists and what peers say that they hash to, each as [`verify`](Self::verify) has it, hashed together by code of the
    /// caller's. Its hashes are believed: with others than keccak256, what comes back proves nothing.
    #[cfg(feature = "trusted-hash")]
    #[must_use]
    pub fn verify_all(
        lists: Vec<(B256, Bytes)>,
        limit: usize,
        hash_all: crate::HashAll,
    ) -> Vec<Result<Self, TxListError>> {
        let is_good = |bytes: &Bytes| bytes.len() <= limit;
        let good: Vec<&[u8]> =
            lists.iter().filter(|(_, bytes)| is_good(bytes)).map(|(_, bytes)| &bytes[..]).collect();
        let mut hashes = hash_all(&good).into_iter();
        let verify = |(claimed, bytes): (B256, Bytes)| {
            let hash = if is_good(&bytes) { hashes.next() } else { None };
            let too_large = TxListError::TooLarge { limit, actual: bytes.len() };
            let hash = hash.ok_or(too_large)?;
            Self { hash, bytes }.claimed_as(claimed)
        };
        lists.into_iter().map(verify).collect()
    }

    fn claimed_as(self, claimed: B256) -> Result<Self, TxListError> {
        if self.hash == claimed {
            Ok(self)
        } else {
            Err(TxListError::HashMismatch { claimed, actual: self.hash })
        }
    }

    /// keccak256 of the bytes: the `rawTxListHash` of its block.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// The compressed bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

macro_rules! txlist_container {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $type {
            /// The hash next to the list: a claim until it is verified.
            pub raw_tx_list_hash: B256,
            /// The list, sharing the memory of the message that it came in.
            #[serde(with = "hex_bytes")]
            pub txlist: Bytes,
        }

        impl Container for $type {
            const NAME: &'static str = stringify!($type);
            const MIN_SSZ_BYTES: usize = TXLIST_HEADER_BYTES;
            const MAX_SSZ_BYTES: usize = TXLIST_HEADER_BYTES + MAX_TXLIST_BYTES;

            fn from_ssz(bytes: &Bytes) -> Result<Self, DecodeError> {
                let actual = variable_tail::<Self>(bytes, "txlist")?;
                if actual > MAX_TXLIST_BYTES {
                    let (field, limit) = ("txlist", MAX_TXLIST_BYTES);
                    return Err(error::<Self>(DecodeErrorKind::ListTooLong { field, limit, actual }));
                }
                let (hash, _) = bytes.split_at(32);
                Ok(Self { raw_tx_list_hash: B256::from_slice(hash), txlist: bytes.slice(TXLIST_HEADER_BYTES..) })
            }

            fn to_ssz(&self) -> Vec<u8> {
                let mut ssz = Vec::with_capacity(TXLIST_HEADER_BYTES + self.txlist.len());
                ssz.extend_from_slice(self.raw_tx_list_hash.as_slice());
                ssz.extend_from_slice(&ssz::encode_length(TXLIST_HEADER_BYTES));
                ssz.extend_from_slice(&self.txlist);
                ssz
            }

            fn to_ssz_parts(&self) -> (Vec<u8>, Bytes) {
                let offset = ssz::encode_length(TXLIST_HEADER_BYTES);
                ([self.raw_tx_list_hash.as_slice(), &offset].concat(), self.txlist.clone())
            }
        }

        impl From<TxList> for $type {
            fn from(list: TxList) -> Self {
                Self { raw_tx_list_hash: list.hash, txlist: list.bytes }
            }
        }
    };
}

txlist_container! {
    /// A transaction list on the gossip topic (§2).
    RawTxListGossip
}

txlist_container! {
    /// The answer to a [`GetRawTxListRequest`](crate::GetRawTxListRequest): the echoed hash and the list, or
    /// an empty list for *not found* (§11).
    GetRawTxListResponse
}

impl RawTxListGossip {
    /// Checks the size, then the hash.
    ///
    /// # Errors
    /// As [`TxList::verify`].
    pub fn verify(self, limit: usize) -> Result<TxList, TxListError> {
        TxList::verify(self.raw_tx_list_hash, self.txlist, limit)
    }
}

impl GetRawTxListResponse {
    /// The answer of a peer that does not have the list.
    #[must_use]
    pub const fn not_found(raw_tx_list_hash: B256) -> Self {
        Self { raw_tx_list_hash, txlist: Bytes::new() }
    }

    /// Checks the size, then the hash; `None` is *not found*, for which nobody is to blame. (The one list
    /// whose bytes are empty is found by its hash alone.)
    ///
    /// # Errors
    /// As [`TxList::verify`].
    pub fn verify(self, limit: usize) -> Result<Option<TxList>, TxListError> {
        if self.txlist.is_empty() && self.raw_tx_list_hash != KECCAK256_EMPTY {
            return Ok(None);
        }
        TxList::verify(self.raw_tx_list_hash, self.txlist, limit).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_shares_the_bytes() {
        let list = TxList::new(vec![9; MAX_TXLIST_BYTES].into(), MAX_TXLIST_BYTES).unwrap();
        let wire = Bytes::from(RawTxListGossip::from(list).to_ssz());
        let decoded = RawTxListGossip::from_ssz(&wire).unwrap();
        assert_eq!(decoded.txlist.as_ptr(), wire[TXLIST_HEADER_BYTES..].as_ptr());
        let verified = decoded.verify(MAX_TXLIST_BYTES).unwrap();
        assert_eq!(verified.bytes().as_ptr(), wire[TXLIST_HEADER_BYTES..].as_ptr());
    }

    #[test]
    fn size_is_decided_before_the_hash() {
        let gossip = RawTxListGossip { raw_tx_list_hash: B256::ZERO, txlist: vec![1; 11].into() };
        assert_eq!(gossip.verify(10), Err(TxListError::TooLarge { limit: 10, actual: 11 }));
        assert!(TxList::new(vec![1; 10].into(), 10).is_ok());
    }

    #[test]
    #[cfg(feature = "trusted-hash")]
    fn lists_are_verified_together_as_each_would_be_alone() {
        let lists: Vec<(B256, Bytes)> = (0..6_u8)
            .map(|fill| {
                let bytes = Bytes::from(vec![fill; usize::from(fill) * 3]);
                (if fill == 2 { B256::ZERO } else { keccak256(&bytes) }, bytes)
            })
            .collect();
        let together = TxList::verify_all(lists.clone(), 12, |all| all.iter().map(keccak256).collect());
        let alone: Vec<_> =
            lists.into_iter().map(|(claimed, bytes)| TxList::verify(claimed, bytes, 12)).collect();
        assert_eq!(together, alone);
        assert!(matches!(together[5], Err(TxListError::TooLarge { limit: 12, actual: 15 })));
        assert!(together[4].is_ok() && together[2].is_err());
    }

    #[test]
    fn one_byte_over_the_limit_does_not_decode() {
        let mut wire =
            RawTxListGossip { raw_tx_list_hash: B256::ZERO, txlist: vec![0; MAX_TXLIST_BYTES].into() }
                .to_ssz();
        assert!(RawTxListGossip::from_ssz(&wire.clone().into()).is_ok());
        wire.push(0);
        let kind = RawTxListGossip::from_ssz(&wire.into()).unwrap_err().kind;
        assert!(matches!(kind, DecodeErrorKind::ListTooLong { limit: MAX_TXLIST_BYTES, .. }));
    }

    #[test]
    fn an_empty_answer_is_not_found_and_no_lie() {
        let hash = B256::repeat_byte(3);
        assert_eq!(GetRawTxListResponse::not_found(hash).verify(10), Ok(None));
        let empty = GetRawTxListResponse::not_found(KECCAK256_EMPTY).verify(10).unwrap().unwrap();
        assert!(empty.bytes().is_empty());
        let lie = GetRawTxListResponse { raw_tx_list_hash: hash, txlist: vec![1].into() };
        assert!(matches!(lie.verify(10), Err(TxListError::HashMismatch { claimed, .. }) if claimed == hash));
    }
}
