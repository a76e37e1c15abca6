//! Inputs and outputs of the state machine.

use std::num::NonZeroU32;

use p2p_types::{Address, B256, BlockNumber, Head, HeadSyncStatus, Offence, PeerId, TxList};
use p2p_validation::Authenticated;
use preconfirmation_types::rate_limit::RateLimit;

/// Names one request, or the import of one page. Never used twice by one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The L2 execution has reached the on-chain tip (§6): catch-up may begin. Coming again, it acts as
    /// [`Input::Settled`] followed by [`Input::Applied`].
    Start {
        /// The settled block. Nothing at or below it is requested.
        base: BlockNumber,
        /// The head of what is stored above it; none while there is nothing.
        head: Option<Head>,
    },
    /// The settled base has moved. What was told and fetched stays valid; the cost does not depend on the length of the chain. If
    /// that changes the head, [`Input::Applied`] follows. Ignored before [`Input::Start`].
    Settled {
        /// The settled block. Nothing at or below it is requested.
        base: BlockNumber,
    },
    /// A peer is connected and can be sent requests.
    PeerUp(PeerId),
    /// It has disconnected. Its pending requests end with this; no further reply is needed.
    PeerDown(PeerId),
    /// The end of a request. Ignored if the request is not pending, or was sent to another peer.
    Reply {
        /// The request.
        id: RequestId,
        /// The peer that responded.
        from: PeerId,
        /// The response, or why there is none.
        reply: Reply,
    },
    /// The end of an [`Output::Import`]; each must get exactly one. Transaction lists that the page's
    /// blocks lack are named with [`Input::TxListMissing`] *before* this. [`Input::Applied`] may tell of the same
    /// head before or after this.
    Imported {
        /// The import.
        id: RequestId,
        /// The store's head now. It may have moved whatever the verdict.
        head: Option<Head>,
        /// The result.
        verdict: ImportVerdict,
    },
    /// The head has moved: by live gossip, the application, a reorg or an import; it may have fallen. What the new
    /// blocks lack is named with [`Input::TxListMissing`] before this.
    Applied {
        /// The store's head now.
        head: Option<Head>,
    },
    /// A valid block that links could not be stored now, for instance because the store is full. Keeps the node
    /// from being live until the height is reached, or until heads have been requested and no peer has claimed it for
    /// [`CatchUpConfig::not_stored_ttl`](crate::CatchUpConfig::not_stored_ttl).
    NotStored {
        /// The height.
        block: BlockNumber,
    },
    /// A commitment by an elected preconfer waits for a parent that is not stored. The parent is searched for.
    Orphan {
        /// The height of the commitment that waits. Its parent's, one less, may be one that is applied: a
        /// sibling is missing then.
        block: BlockNumber,
        /// The hash of the parent that it waits for.
        parent: B256,
        /// The signer of the commitment that waits. Searches are bounded for each signer.
        signer: Address,
    },
    /// Nothing waits for this parent any more.
    OrphanGone {
        /// The hash of the parent.
        parent: B256,
    },
    /// The highest block that elected, plausible commitments which wait promise now; a handover at a height counts as the height
    /// before. It replaces the one told before. Tell it after every change of what waits.
    Waiting {
        /// The height; none if nothing waits.
        highest: Option<BlockNumber>,
    },
    /// A stored block lacks its transaction list.
    TxListMissing {
        /// The block.
        block: BlockNumber,
        /// keccak256 of the list.
        hash: B256,
        /// Whether it came by gossip, so that its list can be expected to follow by itself.
        live: bool,
    },
    /// The list is stored, however it came.
    TxListStored {
        /// keccak256 of the list.
        hash: B256,
    },
    /// A block that lacked it has been dropped or settled.
    TxListNotNeeded {
        /// The block.
        block: BlockNumber,
        /// keccak256 of the list.
        hash: B256,
    },
    /// By the schedule no block can be above this height. Higher claims count as this one. Rises with time.
    Ceiling {
        /// The height.
        block: BlockNumber,
    },
    /// A peer answers requests at another rate limit than the configured one, on each protocol: it advertises that, or the operator
    /// names it.
    RateLimit {
        /// The peer.
        peer: PeerId,
        /// Its limit.
        limit: RateLimit,
    },
    /// Nothing but time has passed.
    Tick,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To [`Request::Head`]: what the peer claims.
    Head {
        /// The height.
        block: BlockNumber,
    },
    /// To [`Request::Page`]: the commitments, each authenticated, whatever their heights. The usable prefix counts: consecutive
    /// blocks from the first requested height on, no more than were requested. It ends at a gap, or at an EOP-only commitment in
    /// place of a block. A page that is shorter than the peer's claim, or empty, is no offence.
    Page(Vec<Authenticated>),
    /// To [`Request::TxList`].
    TxList(TxList),
    /// To [`Request::TxList`]: the peer does not have it, which is no offence (§11).
    TxListNotFound,
    /// There is no usable response.
    Failed(Failure),
}

/// Why there is no usable response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Time-out, closed stream, refusal, disconnect: no offence, but the peer gets fewer requests while it goes on.
    NotAnswered,
    /// Our own failure: the request could not be sent, or its response could not be validated. Costs the peer nothing; it is asked
    /// again after a pause.
    Local,
    /// The caller found the response faulty and has **not** charged the peer: the machine does, with an [`Output::Report`].
    Misbehaved(Offence),
    /// The network found the response faulty and has charged the peer already. Counts as a fault here; there is no
    /// [`Output::Report`].
    Charged(Offence),
}

/// The result of validating and storing a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportVerdict {
    /// Every commitment is linked and stored, or was already.
    Linked,
    /// The parent of the one at `index` is not known; those before it are linked. No offence: the peer's
    /// chain may have forked from ours below.
    Unlinked {
        /// Its position in the page that was handed out.
        index: usize,
    },
    /// The one at `index` is refused by a rule that does not depend on its parent (its signer, its time, how much it may still
    /// promise); those before it are linked. No offence, as a peer serves what it was told; but no reason for an
    /// ancestor search either, as anybody can sign such blocks.
    Unusable {
        /// Its position in the page that was handed out.
        index: usize,
    },
    /// Only what is built on the one at `index` could show that it is of use, and nothing on the page does: its signer has promised
    /// too much for its height, or L1 has replaced its anchor. Those before it are linked. No offence: the peer's next page may
    /// have what is built on it.
    Unconfirmed {
        /// Its position in the page that was handed out.
        index: usize,
    },
    /// The schedule is not known for a window that has begun, or our own store or lookahead failed. Costs the peer
    /// nothing, whatever was stored of the page before; it is asked again after a pause. Not for a window that no schedule will ever
    /// know: a peer could keep the node from being live with it.
    Deferred,
}

/// Something that the caller has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a request; answer with [`Input::Reply`].
    Send {
        /// Names the request.
        id: RequestId,
        /// The peer.
        to: PeerId,
        /// The request.
        request: Request,
    },
    /// Validate and store a page; answer with [`Input::Imported`]. There is one at a time. Its commitments are consecutive, but need
    /// not follow the head: an ancestor search has earlier heights.
    Import {
        /// Names the import.
        id: RequestId,
        /// The peer that served it.
        from: PeerId,
        /// The page; never empty.
        page: Vec<Authenticated>,
    },
    /// Store a transaction list that was missing; answer with [`Input::TxListStored`] when that is done. If it
    /// cannot be stored, send [`Input::TxListMissing`] again, for the same block: it is requested again after a
    /// pause.
    TxList {
        /// The peer that served it.
        from: PeerId,
        /// The list; its hash is the requested one.
        txlist: TxList,
    },
    /// Report an offence of a peer.
    Report {
        /// The peer.
        peer: PeerId,
        /// Its offence.
        offence: Offence,
    },
    /// The status has changed.
    Status(HeadSyncStatus),
}

/// A request to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Its head.
    Head,
    /// Commitments by height.
    Page {
        /// The first height.
        from: BlockNumber,
        /// How many at most.
        count: NonZeroU32,
    },
    /// A transaction list.
    TxList {
        /// keccak256 of the list.
        hash: B256,
    },
}
