//! Commitments, blocks, transaction lists and evidence, from the store.

use std::sync::Arc;

use p2p_client::{
    Address, BlockNumber, Misbehaviour, Recovered, SignedCommitment, StoredCommitment, StoredEvidence, U256,
    keccak256,
    wire::{Container as _, MAX_COMMITMENTS_PER_RESPONSE},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Code, Failure},
    method::{Maybe, One},
    node::Node,
    value::{Account, BlockId, Data, Hash, Quantity},
};

/// Most pieces of evidence of an answer.
const EVIDENCE: usize = 1000;

/// A commitment that is linked to the settled block and stored.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Commitment {
    /// Its height; of a handover, the height that it declines.
    block: Quantity,
    /// The preconfirmation hash, by which a child names it.
    hash: Hash,
    /// The parent that it names.
    parent_hash: Hash,
    /// Who signed it.
    signer: Account,
    /// The hash of its transaction list; zero in a handover without a block.
    tx_list_hash: Hash,
    /// The SSZ of the SignedCommitment.
    commitment: Data,
    /// keccak256 of that.
    commitment_hash: Hash,
}

impl Commitment {
    pub(super) fn new(block: BlockNumber, recovered: &Recovered) -> Self {
        let (ssz, preconf) = (recovered.signed().to_ssz(), recovered.signed().preconf());
        Self {
            block: block.into(),
            hash: Hash(recovered.hash()),
            parent_hash: Hash(preconf.parent_preconfirmation_hash),
            signer: Account(recovered.signer()),
            tx_list_hash: Hash(preconf.raw_tx_list_hash),
            commitment_hash: Hash(keccak256(&ssz)),
            commitment: Data(ssz.into()),
        }
    }
}

impl From<&StoredCommitment> for Commitment {
    fn from(stored: &StoredCommitment) -> Self {
        Self::new(stored.block, &stored.recovered)
    }
}

/// A commitment, and its transaction list where that is here.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block {
    #[serde(flatten)]
    commitment: Commitment,
    /// Null while it is missing, and in a handover.
    tx_list: Option<Data>,
}

async fn find(node: &Node, id: BlockId) -> Result<Option<StoredCommitment>, Failure> {
    let chain = node.client.chain();
    match id {
        BlockId::Hash(hash) => Ok(chain.commitment(hash).await?),
        // There is no block beyond 64 bits.
        BlockId::Height(height) => match height.try_into() {
            Ok(height) => Ok(chain.block(height).await?),
            Err(_) => Ok(None),
        },
    }
}

pub(super) async fn get_commitment(
    node: Arc<Node>,
    One(id): One<BlockId>,
) -> Result<Option<Commitment>, Failure> {
    Ok(find(&node, id).await?.as_ref().map(Commitment::from))
}

pub(super) async fn get_block(node: Arc<Node>, One(id): One<BlockId>) -> Result<Option<Block>, Failure> {
    let Some(stored) = find(&node, id).await? else { return Ok(None) };
    let tx_list = get_tx_list(node, One(Hash(stored.txlist_hash()))).await?;
    Ok(Some(Block { commitment: Commitment::from(&stored), tx_list }))
}

pub(super) async fn get_tx_list(node: Arc<Node>, One(hash): One<Hash>) -> Result<Option<Data>, Failure> {
    let list = node.client.chain().txlist(hash.0).await?;
    Ok(list.map(|list| Data(list.bytes().clone().into())))
}

/// Which commitments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommitmentsRequest {
    /// The first height.
    from: Quantity,
    /// How many at most; 256 if absent, and never more.
    #[serde(default)]
    limit: Option<usize>,
}

pub(super) async fn get_commitments(
    node: Arc<Node>,
    One(CommitmentsRequest { from, limit }): One<CommitmentsRequest>,
) -> Result<Vec<Commitment>, Failure> {
    let limit = limit.unwrap_or(MAX_COMMITMENTS_PER_RESPONSE).min(MAX_COMMITMENTS_PER_RESPONSE);
    let Ok(from) = height(from.0) else { return Ok(Vec::new()) };
    let stored = node.client.chain().blocks(from, limit).await?;
    Ok(stored.iter().map(Commitment::from).collect())
}

/// A height from a number that may be anything.
pub(super) fn height(number: U256) -> Result<BlockNumber, Failure> {
    let height = BlockNumber::try_from(number);
    height
        .map_err(|_| Failure::new(Code::InvalidParams, format_args!("{number} is no height: beyond 64 bits")))
}

/// Which evidence.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EvidenceRequest {
    /// Only of this signer.
    signer: Option<Account>,
    /// Pieces to skip.
    offset: usize,
    /// How many at most; 1,000 if absent, and never more.
    limit: Option<usize>,
}

/// Two commitments of one signer that contradict each other.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    /// `equivocation` or `block_after_eop`.
    kind: &'static str,
    signer: Account,
    /// The height of the second commitment.
    block: Quantity,
    /// The SSZ of the commitment that came first, or of the handover.
    first: Data,
    /// The SSZ of the one that should not be.
    second: Data,
}

impl Evidence {
    pub(super) fn new(
        kind: Misbehaviour,
        signer: Address,
        block: BlockNumber,
        [first, second]: [&SignedCommitment; 2],
    ) -> Self {
        let ssz = |signed: &SignedCommitment| Data(signed.to_ssz().into());
        let (first, second) = (ssz(first), ssz(second));
        Self { kind: kind.label(), signer: Account(signer), block: block.into(), first, second }
    }
}

pub(super) async fn get_evidence(
    node: Arc<Node>,
    Maybe(request): Maybe<EvidenceRequest>,
) -> Result<Vec<Evidence>, Failure> {
    let EvidenceRequest { signer, offset, limit } = request.unwrap_or_default();
    let of_signer = |evidence: &StoredEvidence| signer.is_none_or(|signer| signer.0 == evidence.signer);
    let stored = node.client.chain().evidence().await?.into_iter().filter(of_signer);
    let page = stored.skip(offset).take(limit.unwrap_or(EVIDENCE).min(EVIDENCE));
    let evidence = page.map(|StoredEvidence { signer, block, record }| {
        Evidence::new(record.kind, signer, block, [&record.first, &record.second])
    });
    Ok(evidence.collect())
}
