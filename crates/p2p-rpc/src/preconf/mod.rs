//! `preconf_*`: the methods that existing preconfer software calls, and ours beside them.
//!
//! | module | what lives there |
//! |---|---|
//! | [`field`] | what existing software calls: publishBlock, getStatus, tip, getPreconfSlotInfo |
//! | [`publish`] | the checks of a publication, in their order, and publishCommitment |
//! | [`txlist`] | the form of a transaction list |
//! | [`schedule`] | whose turn it is |
//! | [`chain`] | commitments, blocks, lists, evidence |
//! | [`status`] | everything that an operator asks about, and whether the node may be stopped |
//! | [`settled`] | what the caller tells of L1 and L2 |
//! | [`subscribe`] | blocks and events as they come |

mod chain;
mod field;
mod publish;
mod schedule;
mod settled;
mod status;
mod subscribe;
mod txlist;

use jsonrpsee::core::RegisterMethodError;

use crate::{
    failure::Code,
    method::{About, Registry},
};

/// What a publication can be refused for, in the order of the checks.
const PUBLISHING: &[Code] = &[
    Code::Commitment,
    Code::Signer,
    Code::Schedule,
    Code::WindowEnd,
    Code::Settled,
    Code::TxListForm,
    Code::NotPublisher,
    Code::NotLive,
    Code::Conflict,
    Code::Rule,
    Code::Parent,
    Code::Guard,
    Code::Busy,
];

#[cfg(feature = "test-utils")]
pub(crate) fn fuzz_txlist(compressed: &[u8]) -> bool {
    txlist::check(compressed).is_ok()
}

/// Registers all methods.
pub(crate) fn register(registry: &mut Registry) -> Result<(), RegisterMethodError> {
    let about = |name, summary, errors| About { name, summary, errors };
    registry.method(
        about(
            "preconf_publishBlock",
            "Checks a signed block, stores it and sends it with its transaction list. With eop and an empty list it hands over.",
            PUBLISHING,
        ),
        field::publish_block,
    )?;
    registry.method(
        about("preconf_getStatus", "The settled block, the head, and how many peers can be asked.", &[]),
        field::get_status,
    )?;
    registry.method(about("preconf_tip", "The height of the head.", &[]), field::tip)?;
    registry.method(
        about(
            "preconf_getPreconfSlotInfo",
            "Who signs an L2 block of this timestamp, and when that window ends.",
            &[Code::Schedule],
        ),
        field::get_preconf_slot_info,
    )?;

    registry.method(
        about(
            "preconf_publishCommitment",
            "As preconf_publishBlock, and tells what became of it. Without txList: a handover, or a block whose list was published before.",
            PUBLISHING,
        ),
        publish::publish_commitment,
    )?;
    registry.method(
        about("preconf_getCommitment", "The canonical commitment at a height, or any by its hash.", &[]),
        chain::get_commitment,
    )?;
    registry.method(
        about("preconf_getCommitments", "Canonical commitments from a height on, without a gap.", &[]),
        chain::get_commitments,
    )?;
    registry
        .method(about("preconf_getTxList", "A transaction list by its hash.", &[]), chain::get_tx_list)?;
    registry.method(
        about("preconf_getBlock", "A commitment with its transaction list.", &[]),
        chain::get_block,
    )?;
    registry.method(
        about("preconf_getEvidence", "Proofs of misbehaviour, by signer and height.", &[]),
        chain::get_evidence,
    )?;
    registry.method(
        about("preconf_getSchedule", "The turns from a moment on.", &[Code::Schedule]),
        schedule::get_schedule,
    )?;
    registry.method(about("preconf_status", "Where this node stands.", &[]), status::status)?;
    registry.method(
        about(
            "preconf_notifyL2Synced",
            "The L2 execution has reached the settled block: catching up starts above it.",
            &[],
        ),
        settled::notify_l2_synced,
    )?;
    registry
        .method(about("preconf_updateHead", "The settled block has moved.", &[]), settled::update_head)?;
    registry.method(
        about("preconf_notifyReorg", "L1 has replaced its blocks from this one on.", &[]),
        settled::notify_reorg,
    )?;
    subscribe::register(registry)
}
