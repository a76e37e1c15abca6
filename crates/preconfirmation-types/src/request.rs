//! Requests and responses (§10, §11), and the three protocols that carry them.

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ssz_derive::{Decode, Encode};

use crate::{
    GetRawTxListResponse, MAX_COMMITMENTS_PER_RESPONSE, MAX_TXLIST_BYTES, SIGNED_COMMITMENT_BYTES,
    SignedCommitment,
    container::{Container, error, fixed, fixed_container, variable_tail},
    decimal,
    error::{DecodeError, DecodeErrorKind, PageTooLong},
};

/// Asks a peer for its head. Its one field is an empty list that is reserved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetHeadRequest {}

impl Container for GetHeadRequest {
    const NAME: &'static str = "GetHeadRequest";
    const MIN_SSZ_BYTES: usize = 4;
    const MAX_SSZ_BYTES: usize = 4;

    fn from_ssz(bytes: &Bytes) -> Result<Self, DecodeError> {
        match variable_tail::<Self>(bytes, "reserved")? {
            0 => Ok(Self {}),
            actual => {
                Err(error::<Self>(DecodeErrorKind::ListTooLong { field: "reserved", limit: 0, actual }))
            }
        }
    }

    fn to_ssz(&self) -> Vec<u8> {
        ssz::encode_length(Self::MIN_SSZ_BYTES).to_vec()
    }
}

/// How far a peer says that it has come. A claim, not a fact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreconfHead {
    /// Number of its latest preconfirmed block.
    #[serde(with = "decimal")]
    pub block_number: U256,
    /// End of the submission window that block was signed in, unix seconds.
    #[serde(with = "decimal")]
    pub submission_window_end: U256,
}

fixed_container!(PreconfHead, 64);

/// Asks for commitments in block order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetCommitmentsByNumberRequest {
    /// First block, inclusive.
    #[serde(with = "decimal")]
    pub start_block_number: U256,
    /// Most commitments wanted; a responder gives at most [`MAX_COMMITMENTS_PER_RESPONSE`].
    pub max_count: u32,
}

fixed_container!(GetCommitmentsByNumberRequest, 36);

/// Commitments in block order without gaps from the first block asked for; shorter, or empty, where the
/// responder has no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GetCommitmentsByNumberResponse {
    commitments: Vec<SignedCommitment>,
}

impl GetCommitmentsByNumberResponse {
    /// A response with these commitments.
    ///
    /// # Errors
    /// [`PageTooLong`] for more than [`MAX_COMMITMENTS_PER_RESPONSE`].
    pub fn new(commitments: Vec<SignedCommitment>) -> Result<Self, PageTooLong> {
        let (limit, actual) = (MAX_COMMITMENTS_PER_RESPONSE, commitments.len());
        if actual > limit { Err(PageTooLong { limit, actual }) } else { Ok(Self { commitments }) }
    }

    /// The same commitments, each [with a low s](SignedCommitment::with_low_s).
    #[must_use]
    pub fn with_low_s(self) -> Self {
        Self { commitments: self.commitments.into_iter().map(SignedCommitment::with_low_s).collect() }
    }

    /// The commitments, first block first.
    #[must_use]
    pub fn commitments(&self) -> &[SignedCommitment] {
        &self.commitments
    }

    /// The commitments, by value.
    #[must_use]
    pub fn into_commitments(self) -> Vec<SignedCommitment> {
        self.commitments
    }
}

impl<'de> Deserialize<'de> for GetCommitmentsByNumberResponse {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Page {
            commitments: Vec<SignedCommitment>,
        }
        Self::new(Page::deserialize(deserializer)?.commitments).map_err(serde::de::Error::custom)
    }
}

impl Container for GetCommitmentsByNumberResponse {
    const NAME: &'static str = "GetCommitmentsByNumberResponse";
    const MIN_SSZ_BYTES: usize = 4;
    const MAX_SSZ_BYTES: usize = 4 + MAX_COMMITMENTS_PER_RESPONSE * SIGNED_COMMITMENT_BYTES;

    fn from_ssz(bytes: &Bytes) -> Result<Self, DecodeError> {
        let (field, item) = ("commitments", SIGNED_COMMITMENT_BYTES);
        let tail = variable_tail::<Self>(bytes, field)?;
        if tail % item != 0 {
            return Err(error::<Self>(DecodeErrorKind::PartialItem { field, item, bytes: tail }));
        }
        let (limit, actual) = (MAX_COMMITMENTS_PER_RESPONSE, tail / item);
        if actual > limit {
            return Err(error::<Self>(DecodeErrorKind::ListTooLong { field, limit, actual }));
        }
        let mut commitments = Vec::with_capacity(actual);
        for (index, item) in bytes.slice(Self::MIN_SSZ_BYTES..).chunks_exact(item).enumerate() {
            // Its length is right, so only its boolean can be wrong.
            commitments.push(fixed(item).map_err(|_| {
                let (field, byte) =
                    ("commitments.preconfirmation.eop", item.first().copied().unwrap_or_default());
                error::<Self>(DecodeErrorKind::Item { field, index, byte })
            })?);
        }
        Ok(Self { commitments })
    }

    fn to_ssz(&self) -> Vec<u8> {
        let mut ssz =
            Vec::with_capacity(Self::MIN_SSZ_BYTES + self.commitments.len() * SIGNED_COMMITMENT_BYTES);
        ssz.extend_from_slice(&ssz::encode_length(Self::MIN_SSZ_BYTES));
        for commitment in &self.commitments {
            ssz::Encode::ssz_append(commitment, &mut ssz);
        }
        ssz
    }
}

/// Asks for the transaction list with this hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetRawTxListRequest {
    /// keccak256 of the list.
    pub raw_tx_list_hash: B256,
}

fixed_container!(GetRawTxListRequest, 32);

/// A well-formed answer to another question than the one asked: the answering peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// More commitments than asked for.
    #[error("{actual} commitments, {asked} asked for")]
    TooMany {
        /// `max_count` of the request.
        asked: u32,
        /// Commitments in the response.
        actual: usize,
    },
    /// The echoed hash is not the one asked for.
    #[error("txlist {actual}, asked for {expected}")]
    Hash {
        /// The hash asked for.
        expected: B256,
        /// The hash echoed.
        actual: B256,
    },
}

/// One request/response protocol (§10): one container each way, each in one frame. One generic handler
/// serves all three.
pub trait Rpc: Send + Sync + 'static {
    /// What is asked.
    type Request: Container + Clone + Send + Sync + 'static;
    /// What is answered.
    type Response: Container + Send + Sync + 'static;

    /// The last part of the protocol id, also the label in metrics.
    const NAME: &'static str;
    /// Most bytes of a request frame behind its length prefix; judged before anything is allocated.
    const REQUEST_CAP: usize;
    /// Most bytes of a response frame behind its length prefix; judged before anything is allocated.
    const RESPONSE_CAP: usize;

    /// The protocol id on a chain: `/taiko/<chainId>/preconf/1/<name>`.
    #[must_use]
    fn protocol(chain_id: u64) -> String {
        format!("/taiko/{chain_id}/preconf/1/{}", Self::NAME)
    }

    /// Whether a response answers the request, as far as the two alone can tell and any responder must know.
    ///
    /// # Errors
    /// [`Mismatch`] names what differs.
    fn matches(request: &Self::Request, response: &Self::Response) -> Result<(), Mismatch>;
}

/// `get_head`: how far a peer says it has come.
#[derive(Debug, Clone, Copy)]
pub enum GetHead {}

impl Rpc for GetHead {
    type Request = GetHeadRequest;
    type Response = PreconfHead;
    const NAME: &'static str = "get_head";
    const REQUEST_CAP: usize = 128;
    const RESPONSE_CAP: usize = 64 * 1024;

    fn matches(_: &GetHeadRequest, _: &PreconfHead) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// `get_commitments_by_number`: commitments in block order.
#[derive(Debug, Clone, Copy)]
pub enum GetCommitmentsByNumber {}

impl Rpc for GetCommitmentsByNumber {
    type Request = GetCommitmentsByNumberRequest;
    type Response = GetCommitmentsByNumberResponse;
    const NAME: &'static str = "get_commitments_by_number";
    const REQUEST_CAP: usize = 512;
    const RESPONSE_CAP: usize = 1024 * 1024;

    fn matches(
        request: &GetCommitmentsByNumberRequest,
        response: &GetCommitmentsByNumberResponse,
    ) -> Result<(), Mismatch> {
        // Its heights are for the asker to judge: deployed peers answer with the next commitments at or above the start,
        // with gaps, and with an EOP-only one in place of a block.
        let (asked, actual) = (request.max_count, response.commitments().len());
        if usize::try_from(asked).is_ok_and(|asked| actual > asked) {
            return Err(Mismatch::TooMany { asked, actual });
        }
        Ok(())
    }
}

/// `get_raw_txlist`: one transaction list by hash.
#[derive(Debug, Clone, Copy)]
pub enum GetRawTxList {}

impl Rpc for GetRawTxList {
    type Request = GetRawTxListRequest;
    type Response = GetRawTxListResponse;
    const NAME: &'static str = "get_raw_txlist";
    const REQUEST_CAP: usize = 256;
    const RESPONSE_CAP: usize = MAX_TXLIST_BYTES + 4 * 1024;

    fn matches(request: &GetRawTxListRequest, response: &GetRawTxListResponse) -> Result<(), Mismatch> {
        let (expected, actual) = (request.raw_tx_list_hash, response.raw_tx_list_hash);
        if expected == actual { Ok(()) } else { Err(Mismatch::Hash { expected, actual }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::ORDER;

    fn at(block: u64) -> SignedCommitment {
        let mut signed = SignedCommitment { commitment: Default::default(), signature: Default::default() };
        signed.commitment.preconf.block_number = U256::from(block);
        signed
    }

    fn judge(start: u64, max_count: u32, blocks: &[u64]) -> Result<(), Mismatch> {
        let request = GetCommitmentsByNumberRequest { start_block_number: U256::from(start), max_count };
        let page = GetCommitmentsByNumberResponse::new(blocks.iter().copied().map(at).collect()).unwrap();
        GetCommitmentsByNumber::matches(&request, &page)
    }

    #[test]
    fn a_page_is_a_wrong_answer_only_where_it_is_too_long() {
        for blocks in [&[5, 6, 7][..], &[5], &[], &[6, 7], &[5, 7], &[5, 5]] {
            assert_eq!(judge(5, 3, blocks), Ok(()));
        }
        assert_eq!(judge(5, 2, &[5, 6, 7]), Err(Mismatch::TooMany { asked: 2, actual: 3 }));
    }

    #[test]
    fn a_page_holds_at_most_256() {
        let page = GetCommitmentsByNumberResponse::new(vec![at(1); 256]).unwrap();
        let mut wire = page.to_ssz();
        assert_eq!(wire.len(), GetCommitmentsByNumberResponse::MAX_SSZ_BYTES);
        assert_eq!(GetCommitmentsByNumberResponse::from_ssz(&wire.clone().into()), Ok(page));
        wire.extend_from_slice(&at(1).to_ssz());
        let kind = GetCommitmentsByNumberResponse::from_ssz(&wire.into()).unwrap_err().kind;
        assert_eq!(kind, DecodeErrorKind::ListTooLong { field: "commitments", limit: 256, actual: 257 });
        assert_eq!(
            GetCommitmentsByNumberResponse::new(vec![at(1); 257]),
            Err(PageTooLong { limit: 256, actual: 257 })
        );
    }

    #[test]
    fn a_page_in_json_holds_at_most_256() {
        let page = GetCommitmentsByNumberResponse::new(vec![at(1); 256]).unwrap();
        let mut json = serde_json::to_value(&page).unwrap();
        let read = serde_json::from_value::<GetCommitmentsByNumberResponse>;
        assert_eq!(read(json.clone()).unwrap().into_commitments(), page.commitments());
        json["commitments"].as_array_mut().unwrap().push(serde_json::to_value(at(1)).unwrap());
        assert_eq!(read(json).unwrap_err().to_string(), PageTooLong { limit: 256, actual: 257 }.to_string());
    }

    #[test]
    fn each_signature_of_a_page_takes_its_low_form() {
        let (mut high, mut low) = (at(1), at(1));
        let s = |s: U256| s.to_be_bytes::<32>();
        high.signature[32..64].copy_from_slice(&s(U256::from_be_bytes(ORDER) - U256::from(5)));
        low.signature[32..64].copy_from_slice(&s(U256::from(5)));
        low.signature[64] = 1;
        let page = GetCommitmentsByNumberResponse::new(vec![at(2), high]).unwrap();
        assert_eq!(page.with_low_s().commitments(), [at(2), low]);
    }

    #[test]
    fn every_cap_holds_the_largest_message() {
        fn fits<R: Rpc>() {
            assert!(R::Request::MAX_SSZ_BYTES <= R::REQUEST_CAP);
            assert!(R::Response::MAX_SSZ_BYTES <= R::RESPONSE_CAP);
        }
        fits::<GetHead>();
        fits::<GetCommitmentsByNumber>();
        fits::<GetRawTxList>();
    }
}
