//! What the owner of the chain is asked to do, and what comes of it.

use p2p_catchup::{Input, RequestId};
use p2p_storage::StorageError;
use p2p_types::{
    B256, Base, BlockNumber, HeadSyncStatus, MessageId, Origin, PeerId, SdkEvent, TxList, UnixSeconds,
};
use p2p_validation::{Authenticated, IgnoreReason, LookaheadError, Missing, Rejection, Slot};
use preconfirmation_p2p::VerdictToken;
use tokio::sync::oneshot;
use tracing::Span;

use super::{Arrived, Conflict, L1Reorg};
use crate::skew::Timing;

/// What became of a commitment that the application published.
#[derive(Debug)]
pub(crate) enum Judged {
    Stored,
    /// All of it was in the store already.
    Known,
    /// So it was, but nobody else can be expected to have it.
    Unsent,
    /// Stored, but another branch is the chain.
    Side,
    /// Its signer has promised something else.
    Conflict(Conflict),
    Deferred(Missing),
    Ignored(IgnoreReason),
    Rejected(Rejection),
    Failed(StorageError),
    /// Too much waits for a slow handler already.
    Busy,
    /// The client does not know what it would build on.
    NotLive(HeadSyncStatus),
}

impl Judged {
    /// Why nothing is stored, in a word.
    pub(super) const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Stored | Self::Side => None,
            Self::Known => Some("known"),
            Self::Unsent => Some("unsent"),
            Self::Conflict(_) => Some("conflict"),
            Self::Deferred(missing) => Some(missing.label()),
            Self::Ignored(reason) => Some(reason.label()),
            Self::Rejected(rejection) => Some(rejection.label()),
            Self::Failed(_) => Some("store_full"),
            Self::Busy => Some("busy"),
            Self::NotLive(_) => Some("not_live"),
        }
    }
}

/// A verified transaction list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) txlist: TxList,
    pub(crate) origin: Origin,
    /// Owed to the network, if it is gossip of a network.
    pub(crate) verdict: Option<VerdictToken>,
    /// Goes with the message from its arrival to its event.
    pub(crate) span: Span,
}

/// Where the answer to a job goes. Whoever asked may have gone.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What the application asked for, answered. Given after everything else that a batch brought about, so that
/// whoever has the answer reads a handle that knows of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Judged(Reply<Judged>, Judged),
    Base(Reply<Result<(), StorageError>>, Result<(), StorageError>),
    L1Reorg(Reply<Result<L1Reorg, StorageError>>, Result<L1Reorg, StorageError>),
}

impl Answer {
    pub(crate) fn give(self) {
        match self {
            Self::Judged(reply, judged) => drop(reply.send(judged)),
            Self::Base(reply, done) => drop(reply.send(done)),
            Self::L1Reorg(reply, reorg) => drop(reply.send(reorg)),
        }
    }
}

/// Something for the chain to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Commitments of gossip, in the order in which they came.
    Gossip(Vec<Arrived>),
    /// A commitment of the application, whose transaction list, if given, comes first.
    Local {
        commitment: Box<Authenticated>,
        txlist: Option<TxList>,
        acknowledged: Option<Conflict>,
        reply: Reply<Judged>,
        span: Span,
    },
    /// Verified transaction lists.
    TxLists(Vec<Listed>),
    /// A page of catch-up.
    Import { id: RequestId, from: PeerId, page: Vec<Authenticated> },
    /// The application declares what is settled, and maybe that catch-up may start.
    SetBase { base: Base, open: bool, reply: Reply<Result<(), StorageError>> },
    /// The head of L1 has moved.
    L1Head(BlockNumber),
    /// L1 has replaced its blocks from `anchor` on.
    L1Reorg { anchor: BlockNumber, reply: Reply<Result<L1Reorg, StorageError>> },
    /// They are canonical again.
    L1Restored { anchor: BlockNumber, reply: Reply<Result<(), StorageError>> },
    /// The list of a block cannot be read: it is fetched again.
    Unreadable { block: BlockNumber, hash: B256 },
    /// Who is to be expected at a moment?
    Expected { moment: UnixSeconds, reply: Reply<Result<Option<Slot>, LookaheadError>> },
    /// Catch-up says where it stands. Told after everything that was handed in before it.
    Status(HeadSyncStatus),
    /// Time went by: what waits may be judged again, or be given up.
    Tick,
    /// A client has started: what is in the store from the time before is remembered.
    Recall,
}

impl Job {
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
            Self::Local { .. } => Some(STORED),
            Self::Status(_) | Self::L1Head(_) | Self::Expected { .. } => Some(1),
            Self::Import { .. }
            | Self::SetBase { .. }
            | Self::L1Reorg { .. }
            | Self::L1Restored { .. }
            | Self::Unreadable { .. }
            | Self::Tick
            | Self::Recall => None,
        }
    }
}

/// What a batch of jobs brought about.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Vec<SdkEvent>,
    pub(crate) inputs: Vec<Input>,
    /// When what elected preconfers sign came.
    pub(crate) timings: Vec<Timing>,
    /// Given last.
    pub(crate) answers: Vec<Answer>,
    /// Messages that count as seen.
    pub(crate) seen: Vec<MessageId>,
    /// Messages that were not judged after all: they count as seen no more.
    pub(crate) unseen: Vec<MessageId>,
    /// The store is broken: the client must end.
    pub(crate) fatal: Option<StorageError>,
}
