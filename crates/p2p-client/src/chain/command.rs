//! The commands of the chain processor, and what the application's are replied with.

use p2p_catchup::RequestId;
use p2p_storage::StorageError;
use p2p_types::{
    B256, Base, BlockNumber, Bytes, Conflict, Head, HeadSyncStatus, Origin, PeerId, TxList, UnixSeconds,
};
use p2p_validation::{Arrival, Authenticated, Draft, IgnoreReason, LookaheadError, Missing, Rejection, Slot};
use preconfirmation_p2p::VerdictToken;
use tokio::sync::oneshot;
use tracing::Span;

use super::{L1Reorg, Rejudged, settlement::Settlement};

/// What the chain processor has decided about a commitment that the application publishes, or is to sign.
#[derive(Debug)]
pub(crate) enum PublishDecision {
    /// Nothing is stored: it was asked whether it could be.
    Allowed,
    /// Stored: it is in the chain.
    Stored,
    /// Stored, but another branch is the chain.
    NonCanonical,
    /// All of it was in the store already.
    AlreadyStored,
    /// So it was, but nobody else can be expected to have it.
    Unpublished,
    /// Its signer has promised something else.
    Conflict(Conflict),
    Deferred(Missing),
    Ignored(IgnoreReason),
    Rejected(Rejection),
    Failed(StorageError),
    /// Too many events wait for a slow handler.
    Busy,
    /// The client does not know what it would build on.
    NotLive(HeadSyncStatus),
    /// It was to stand on the head, and the head is another one.
    StaleHead(Option<Head>),
}

impl PublishDecision {
    /// Why nothing is stored, as a label.
    pub(super) const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Allowed | Self::Stored | Self::NonCanonical => None,
            Self::AlreadyStored => Some("known"),
            Self::Unpublished => Some("unpublished"),
            Self::Conflict(_) => Some("conflict"),
            Self::Deferred(missing) => Some(missing.label()),
            Self::Ignored(reason) => Some(reason.label()),
            Self::Rejected(rejection) => Some(rejection.label()),
            Self::Failed(_) => Some("store_full"),
            Self::Busy => Some("busy"),
            Self::NotLive(_) => Some("not_live"),
            Self::StaleHead(_) => Some("stale_head"),
        }
    }
}

/// A commitment of gossip that nobody has looked at.
#[derive(Debug)]
pub(crate) struct GossipCommitment {
    pub(crate) ssz: Bytes,
    pub(crate) arrival: Arrival,
    pub(crate) from: PeerId,
    /// Owed to the network, if it is gossip of a network.
    pub(crate) verdict: Option<VerdictToken>,
    /// Goes with the message from its arrival to its event.
    pub(crate) span: Span,
}

impl AsRef<[u8]> for GossipCommitment {
    fn as_ref(&self) -> &[u8] {
        &self.ssz
    }
}

/// A verified transaction list.
#[derive(Debug)]
pub(crate) struct VerifiedTxList {
    pub(crate) txlist: TxList,
    pub(crate) origin: Origin,
    /// Owed to the network, if it is gossip of a network.
    pub(crate) verdict: Option<VerdictToken>,
    /// Goes with the message from its arrival to its event.
    pub(crate) span: Span,
}

/// The reply to a command of the application. Sent after everything else that a batch brought about, so that whoever has
/// the reply reads a handle that knows of it.
#[derive(Debug)]
pub(crate) enum Response {
    Published(oneshot::Sender<PublishDecision>, PublishDecision),
    Base(oneshot::Sender<Result<(), StorageError>>, Result<(), StorageError>),
    L1Reorg(oneshot::Sender<Result<L1Reorg, StorageError>>, Result<L1Reorg, StorageError>),
    Rejudged(oneshot::Sender<Result<Rejudged, StorageError>>, Result<Rejudged, StorageError>),
}

impl Response {
    /// Sends it. Whoever asked may have gone.
    pub(crate) fn send(self) {
        match self {
            Self::Published(reply, decision) => drop(reply.send(decision)),
            Self::Base(reply, done) => drop(reply.send(done)),
            Self::L1Reorg(reply, reorg) => drop(reply.send(reorg)),
            Self::Rejudged(reply, rejudged) => drop(reply.send(rejudged)),
        }
    }
}

/// A command of the chain processor: of the application, of gossip, of catch-up, or of a timer.
#[derive(Debug)]
pub(crate) enum Command {
    /// Commitments of gossip, in the order in which they came.
    Gossip(Vec<GossipCommitment>),
    /// A commitment of the application, with its transaction list or without.
    Publish {
        commitment: Box<Authenticated>,
        txlist: Option<TxList>,
        /// The conflict that the application has been shown and waives.
        acknowledged: Option<Box<Conflict>>,
        /// The service is not to refuse it while the client is not live.
        allow_behind: bool,
        reply: oneshot::Sender<PublishDecision>,
        span: Span,
    },
    /// Asks whether a commitment of the application may be signed or published.
    Permit {
        draft: Box<Draft>,
        /// If so, the promise is recorded before the reply.
        record: bool,
        /// Only on the head.
        on_head: bool,
        /// As of `Publish`.
        acknowledged: Option<Box<Conflict>>,
        /// As of `Publish`.
        allow_behind: bool,
        reply: oneshot::Sender<PublishDecision>,
    },
    /// Verified transaction lists.
    TxLists(Vec<VerifiedTxList>),
    /// A page of catch-up.
    Import { id: RequestId, from: PeerId, page: Vec<Authenticated> },
    /// The application declares what is settled; `open`: catch-up may start.
    SetBase { base: Base, open: bool, reply: oneshot::Sender<Result<(), StorageError>> },
    /// The view of L2 has shown what was settled.
    Settle { settlement: Box<Settlement>, reply: oneshot::Sender<Result<(), StorageError>> },
    /// The head of L1 has moved.
    L1Head(BlockNumber),
    /// L1 has replaced its blocks from `anchor` on.
    L1Reorg { anchor: BlockNumber, reply: oneshot::Sender<Result<L1Reorg, StorageError>> },
    /// They are canonical again.
    L1Restored { anchor: BlockNumber, reply: oneshot::Sender<Result<(), StorageError>> },
    /// The schedule of what was signed at or after a second has changed: judges the next heights from one on again.
    ScheduleChanged {
        since: UnixSeconds,
        from: BlockNumber,
        reply: oneshot::Sender<Result<Rejudged, StorageError>>,
    },
    /// A transaction list in the store cannot be read: it is fetched again.
    Unreadable { hash: B256 },
    /// Asks which preconfer to expect at a moment.
    Expected { moment: UnixSeconds, reply: oneshot::Sender<Result<Option<Slot>, LookaheadError>> },
    /// Where catch-up stands. Emitted after everything that was handed in before it.
    Status(HeadSyncStatus),
    /// Time went by: what waits may be judged again, or be given up.
    Tick,
    /// A client has started: warms the caches up from the store.
    WarmUp,
}

impl Command {
    /// Whether this is done without the store.
    pub(crate) const fn is_silent(&self) -> bool {
        matches!(self, Self::Status(_))
    }

    /// About how many microseconds this takes with a store that waits for no device, less what it may set free; none
    /// where that cannot be told beforehand.
    pub(crate) fn micros(&self) -> Option<usize> {
        // A signature is recovered in 45, the rest of a message is rules, maps and events.
        const GOSSIP: usize = 60;
        const STORED: usize = 10;
        match self {
            Self::Gossip(arrived) => Some(arrived.len().saturating_mul(GOSSIP)),
            Self::TxLists(lists) => Some(lists.len().saturating_mul(STORED)),
            Self::Publish { .. } | Self::Permit { .. } => Some(STORED),
            Self::Status(_) | Self::L1Head(_) | Self::Expected { .. } => Some(1),
            Self::Import { .. }
            | Self::SetBase { .. }
            | Self::Settle { .. }
            | Self::L1Reorg { .. }
            | Self::L1Restored { .. }
            | Self::ScheduleChanged { .. }
            | Self::Unreadable { .. }
            | Self::Tick
            | Self::WarmUp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_says_why_nothing_is_stored() {
        for (decision, refusal) in [
            (PublishDecision::Stored, None),
            (PublishDecision::NonCanonical, None),
            (PublishDecision::AlreadyStored, Some("known")),
            (PublishDecision::Rejected(Rejection::EopOnlyParent), Some(Rejection::EopOnlyParent.label())),
            (PublishDecision::Failed(StorageError::NoSpace), Some("store_full")),
            (PublishDecision::Busy, Some("busy")),
        ] {
            assert_eq!(decision.refusal(), refusal, "{decision:?}");
        }
    }
}
