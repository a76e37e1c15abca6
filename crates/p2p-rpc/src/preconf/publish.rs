//! Publishing: the checks in the order that callers know, then the client's own.

use std::sync::Arc;

use p2p_client::{
    Address, B256, PublishOutcome, Recovered, SignedCommitment, TxList, U256, UnixSeconds, keccak256,
    validation::{Admission, Validator},
    wire::{Container as _, MAX_TXLIST_BYTES},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{
    schedule,
    txlist::{self, FormError},
};
use crate::{
    failure::{Code, Failure},
    method::One,
    node::Node,
    value::{Data, Hash},
};

/// A commitment, with its list where it comes with one.
pub(super) struct Publication {
    pub(super) commitment: Data,
    /// With the hash that it is to have.
    pub(super) tx_list: Option<(B256, Data)>,
}

/// What became of it.
pub(super) struct Published {
    pub(super) commitment_hash: Hash,
    /// The preconfirmation hash.
    hash: Hash,
    outcome: PublishOutcome,
}

/// A commitment that may be published if it is above the settled block, and its list.
struct Checked {
    recovered: Recovered,
    tx_list: Option<TxList>,
    /// Whether the list has the form of one.
    form: Result<(), FormError>,
}

/// Checks a commitment, stores it and sends it.
pub(super) async fn publish(node: &Arc<Node>, publication: Publication) -> Result<Published, Failure> {
    let commitment_hash = Hash(keccak256(&publication.commitment.0));
    let rules = node.clone();
    let checking = spawn_blocking(move || check(rules.client.validator(), rules.client.now(), publication));
    // The store is read meanwhile.
    let chain = node.client.chain();
    let (checked, base) = tokio::join!(checking, chain.base());
    let checked = checked.map_err(|_| Failure::new(Code::Internal, "the check of a commitment panicked"))?;
    let Checked { recovered, tx_list, form } = checked?;
    let number = recovered.signed().preconf().block_number;
    if let Some(base) = base?
        && number <= U256::from(base.number)
    {
        let message = format_args!("block {number} is not above the settled block {}", base.number);
        return Err(Failure::new(Code::Settled, message));
    }
    form.map_err(|error| Failure::new(Code::TxListForm, error))?;
    // Before it is sent: a caller that hangs up ends what follows, and may have published all the same.
    node.on_published(recovered.signer());
    let hash = Hash(recovered.hash());
    // Whoever is told that too much waits can decide what to do; a deadline that passes here leaves no choice.
    let outcome = node.client.publisher().try_publish_recovered(recovered, tx_list).await?;
    Ok(Published { commitment_hash, hash, outcome })
}

/// The checks that callers know, in their order: the first that fails is told. Those of the settled block, and of the form of the
/// list, come after.
fn check(validator: &Validator, now: UnixSeconds, publication: Publication) -> Result<Checked, Failure> {
    let wrong = |message: String| Failure::new(Code::Commitment, message);
    let signed =
        SignedCommitment::from_ssz(&publication.commitment.0).map_err(|error| wrong(error.to_string()))?;
    let preconf = signed.preconf();
    let is_eop_only = preconf.is_eop_only();
    let mut tx_list = None;
    if let Some((hash, Data(list))) = publication.tx_list {
        let length = list.len();
        let list = TxList::new(list.0, MAX_TXLIST_BYTES).map_err(|_| {
            wrong(format!("the transaction list has {length} bytes, at most {MAX_TXLIST_BYTES} are allowed"))
        })?;
        let actual = list.hash();
        if actual != hash {
            return Err(wrong(format!("txListHash is {hash}, but the transaction list hashes to {actual}")));
        }
        if is_eop_only && length > 0 {
            return Err(wrong("a handover without a block has an empty transaction list".into()));
        }
        if !is_eop_only && preconf.raw_tx_list_hash != hash {
            let named = preconf.raw_tx_list_hash;
            return Err(wrong(format!(
                "the commitment names the transaction list {named}, txListHash is {hash}"
            )));
        }
        tx_list = Some(list).filter(|_| !is_eop_only);
    }
    if !preconf.eop && preconf.raw_tx_list_hash.is_zero() {
        return Err(wrong("eop is false and rawTxListHash is zero".into()));
    }
    let recovered =
        signed.clone().recover(&validator.config().domain).map_err(|error| wrong(error.to_string()))?;
    let signer = recovered.signer();
    let (expected, actual) = (validator.config().slasher, signed.commitment.slasher_address);
    if actual != expected {
        let message = format_args!("slasherAddress is {actual}, the chain's is {expected}");
        return Err(Failure::new(Code::Signer, message));
    }
    may_sign(validator, &signed, signer, now)?;
    let form = tx_list.as_ref().map_or(Ok(()), |list| txlist::check(list.bytes()));
    Ok(Checked { recovered, tx_list, form })
}

/// Whether its signer is elected for its timestamp, then whether the window ends when it says.
fn may_sign(
    validator: &Validator,
    signed: &SignedCommitment,
    signer: Address,
    now: UnixSeconds,
) -> Result<(), Failure> {
    let (lookahead, preconf) = (validator.lookahead(), signed.preconf());
    let timestamp = schedule::moment(preconf.timestamp)?;
    let slot = schedule::turn(lookahead, timestamp, now)?;
    // No window ends beyond 64 bits.
    let window_end = u64::try_from(preconf.submission_window_end).map(UnixSeconds::new).ok();
    let admission = window_end.map(|window_end| lookahead.admissible(timestamp, window_end)).transpose();
    let admission = admission.map_err(|error| Failure::new(Code::Schedule, error))?;
    let (signers, is_open) = match &admission {
        Some(Admission::Open { signers, .. }) => (signers.as_slice(), true),
        Some(Admission::NotKnown) => {
            return Err(Failure::new(Code::Schedule, "who may sign for this window is not known yet"));
        }
        _ => (&[slot.signer][..], false),
    };
    // Whoever may have been elected for an open window by what was not seen yet is left to the client, which waits for it.
    let is_elected =
        signers.contains(&signer) || lookahead.elects_anyone() || lookahead.may_be_elected(signer, timestamp);
    if !is_elected {
        let message = format_args!("signed by {signer}; elected for {timestamp} is {}", slot.signer);
        return Err(Failure::new(Code::Signer, message));
    }
    if !is_open {
        let (claimed, scheduled) = (preconf.submission_window_end, slot.window.end);
        let message =
            format_args!("submissionWindowEnd is {claimed}, the window of {timestamp} ends at {scheduled}");
        return Err(Failure::new(Code::WindowEnd, message));
    }
    Ok(())
}

/// A commitment, with its list or without.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublishCommitment {
    /// The SSZ of a SignedCommitment, 382 bytes.
    commitment: Data,
    /// Its transaction list. Absent in a handover, or where the list was published before.
    #[serde(default)]
    tx_list: Option<Data>,
}

/// What became of a commitment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublishedCommitment {
    /// keccak256 of the commitment as it was sent, its signature included.
    commitment_hash: Hash,
    /// The preconfirmation hash, by which a child names it.
    hash: Hash,
    /// What was done.
    outcome: Outcome,
    /// The peers that it was sent to. Those that connect later find it by catching up.
    peers: usize,
}

/// What was done with a commitment. It is stored in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// It was sent to peers.
    Published,
    /// It was sent, and another branch is canonical: it stands only if the next preconfer builds on it.
    NonCanonical,
    /// No peer could take it; it is sent when one can.
    Queued,
    /// It was sent before, or there is nothing left to do.
    AlreadyPublished,
}

pub(super) async fn publish_commitment(
    node: Arc<Node>,
    One(PublishCommitment { commitment, tx_list }): One<PublishCommitment>,
) -> Result<PublishedCommitment, Failure> {
    let tx_list = tx_list.map(|list| (keccak256(&list.0), list));
    let published = publish(&node, Publication { commitment, tx_list }).await?;
    let (outcome, peers) = match published.outcome {
        PublishOutcome::Published { peers } => (Outcome::Published, peers),
        PublishOutcome::NonCanonical { peers } => (Outcome::NonCanonical, peers),
        PublishOutcome::Queued => (Outcome::Queued, 0),
        PublishOutcome::AlreadyPublished => (Outcome::AlreadyPublished, 0),
    };
    let Published { commitment_hash, hash, .. } = published;
    Ok(PublishedCommitment { commitment_hash, hash, outcome, peers })
}
