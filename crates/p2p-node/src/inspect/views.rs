//! The JSON form of each container: its fields, and what is computed from them (hashes, signer). Containers of which nothing
//! is computed are shown as they are.

use preconfirmation_types::{
    Address, B256, Bytes, GetCommitmentsByNumberResponse, GetRawTxListResponse, KECCAK256_EMPTY,
    PreconfCommitment, Preconfirmation, RawTxListGossip, Recovered, SignedCommitment, SigningDomain,
    keccak256,
};
use serde::Serialize;

use super::{args::Carrier, error::LineError};

/// Where a container travels on a chain. Both absent where no chain id was given.
#[derive(Debug, Default, Serialize)]
pub(super) struct TopicOrProtocol {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
}

impl TopicOrProtocol {
    /// The topic or protocol that the chain id makes of a carrier.
    pub(super) fn of(carrier: &Carrier, chain_id: u64) -> Self {
        match carrier {
            Carrier::None => Self::default(),
            Carrier::Gossip(topic) => Self { topic: Some(topic.on_chain(chain_id)), protocol: None },
            Carrier::Rpc { protocol, .. } => Self { topic: None, protocol: Some(protocol(chain_id)) },
        }
    }
}

/// A preconfirmation with the name that its child calls it by.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreconfirmationView {
    #[serde(flatten)]
    preconfirmation: Preconfirmation,
    preconfirmation_hash: B256,
}

pub(super) fn preconfirmation(preconfirmation: Preconfirmation) -> PreconfirmationView {
    PreconfirmationView { preconfirmation_hash: preconfirmation.hash(), preconfirmation }
}

/// A commitment with what its preconfer signs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommitmentView {
    preconfirmation: Preconfirmation,
    slasher_address: Address,
    preconfirmation_hash: B256,
    signing_hash: B256,
}

pub(super) fn commitment(commitment: PreconfCommitment, domain: &SigningDomain) -> CommitmentView {
    CommitmentView {
        preconfirmation_hash: commitment.preconf.hash(),
        signing_hash: commitment.signing_hash(domain),
        slasher_address: commitment.slasher_address,
        preconfirmation: commitment.preconf,
    }
}

/// A signed commitment with its hashes and its signer.
pub(super) fn signed(signed: SignedCommitment, domain: &SigningDomain) -> Result<Recovered, LineError> {
    Ok(signed.recover(domain)?)
}

/// A page whose every commitment has a signer.
#[derive(Serialize)]
pub(super) struct PageView {
    commitments: Vec<Recovered>,
}

pub(super) fn page(
    page: GetCommitmentsByNumberResponse,
    domain: &SigningDomain,
) -> Result<PageView, LineError> {
    let recover = |(index, signed): (usize, SignedCommitment)| {
        signed.recover(domain).map_err(|source| LineError::Item { index, source })
    };
    let commitments =
        page.into_commitments().into_iter().enumerate().map(recover).collect::<Result<_, _>>()?;
    Ok(PageView { commitments })
}

/// A transaction list with the hash of its bytes next to the hash that it claims.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TxListView<T> {
    /// The claimed hash and the list.
    #[serde(flatten)]
    container: T,
    txlist_hash: B256,
    matches: bool,
    bytes: usize,
    /// For a response: whether the peer has the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<bool>,
}

impl<T> TxListView<T> {
    fn new(container: T, claimed: B256, txlist: &Bytes, found: Option<bool>) -> Self {
        let txlist_hash = keccak256(txlist);
        let (matches, bytes) = (txlist_hash == claimed, txlist.len());
        Self { container, txlist_hash, matches, bytes, found }
    }
}

pub(super) fn gossip(gossip: RawTxListGossip) -> TxListView<RawTxListGossip> {
    let (claimed, txlist) = (gossip.raw_tx_list_hash, gossip.txlist.clone());
    TxListView::new(gossip, claimed, &txlist, None)
}

/// An empty list is *not found*, but for the one hash that empty bytes have.
pub(super) fn response(response: GetRawTxListResponse) -> TxListView<GetRawTxListResponse> {
    let (claimed, txlist) = (response.raw_tx_list_hash, response.txlist.clone());
    let found = !txlist.is_empty() || claimed == KECCAK256_EMPTY;
    TxListView::new(response, claimed, &txlist, Some(found))
}
