//! What goes in and what comes out.

use std::num::NonZeroU32;

use p2p_types::{Address, B256, BlockNumber, Head, HeadSyncStatus, Offence, PeerId, TxList};
use p2p_validation::Authenticated;

use crate::Pace;

/// Names one request, or the import of one page. Never used twice by one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The L2 execution has reached the on-chain tip (§6): catch-up may begin. Coming again, it acts as
    /// [`Input::Settled`] followed by [`Input::Applied`].
    Start {
        /// The settled block. Nothing at or below it is asked for.
        base: BlockNumber,
        /// The head of what is stored above it; none while there is nothing.
        head: Option<Head>,
    },
    /// The settled tip has moved. What has been heard and fetched stays valid; the cost does not depend on the
    /// length of the chain. If the head is another one because of it, [`Input::Applied`] follows. Ignored before
    /// [`Input::Start`].
    Settled {
        /// The settled block. Nothing at or below it is asked for.
        base: BlockNumber,
    },
    /// A peer can be asked.
    PeerUp(PeerId),
    /// It cannot be asked any more. Its open requests end with this; no further reply is needed.
    PeerDown(PeerId),
    /// The end of a request. Ignored if the request is not open, or is another peer's.
    Reply {
        /// The request.
        id: RequestId,
        /// Who answered.
        from: PeerId,
        /// What.
        reply: Reply,
    },
    /// The end of an [`Output::Import`]; each must get exactly one. Transaction lists that the page's
    /// blocks lack are named with [`Input::TxListWanted`] *before* this. [`Input::Applied`] may tell of the same
    /// head before or after this.
    Imported {
        /// The import.
        id: RequestId,
        /// The store's head now. It may have moved whatever the verdict.
        head: Option<Head>,
        /// What came of the page.
        verdict: ImportVerdict,
    },
    /// The head has moved: by live gossip, the application, a reorg or an import; it may have fallen. What the new
    /// blocks lack is named with [`Input::TxListWanted`] before this.
    Applied {
        /// The store's head now.
        head: Option<Head>,
    },
    /// A valid block that links could not be stored now, for instance because the store is full. Keeps the node
    /// from being live until the height is reached, or until peers have been asked for it in vain for
    /// [`CatchUpConfig::seen_ttl`](crate::CatchUpConfig::seen_ttl).
    Seen {
        /// The height.
        block: BlockNumber,
    },
    /// A commitment by an elected preconfer waits for a parent that is not stored. The parent is looked for.
    Orphan {
        /// The height of the commitment that waits. Its parent's, one less, may be one that is applied: a
        /// sibling is missing then.
        block: BlockNumber,
        /// The hash of the parent that it waits for.
        parent: B256,
        /// Who has signed the commitment that waits. What is looked for is bounded for each signer.
        signer: Address,
    },
    /// Nothing waits for this parent any more.
    OrphanGone {
        /// The hash of the parent.
        parent: B256,
    },
    /// The highest block that elected, plausible commitments which wait promise now; a handover at a height counts
    /// as the height before. A level: it replaces the one told before. Tell it after every change of what waits.
    Waiting {
        /// The height; none if nothing waits.
        highest: Option<BlockNumber>,
    },
    /// A stored block lacks its transaction list.
    TxListWanted {
        /// The block.
        block: BlockNumber,
        /// keccak256 of the list.
        hash: B256,
        /// Whether it came by gossip, so that its list can be expected to follow by itself.
        live: bool,
    },
    /// The list is stored, however it came.
    TxListArrived {
        /// keccak256 of the list.
        hash: B256,
    },
    /// A block that wanted it has been dropped or settled.
    TxListUnwanted {
        /// The block.
        block: BlockNumber,
        /// keccak256 of the list.
        hash: B256,
    },
    /// By the schedule no block can be above this height: higher claims count as this. Rises as time goes by.
    Ceiling {
        /// The height.
        block: BlockNumber,
    },
    /// A peer has shown that it takes requests at another pace than the configured one, on each protocol.
    Pace {
        /// Who.
        peer: PeerId,
        /// How many requests in how long.
        pace: Pace,
    },
    /// Nothing happened but that time went by.
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
    /// To [`Request::Page`]: what came, each commitment authenticated, whatever the heights. What counts is the good
    /// prefix: the blocks that follow each other from the first height asked for, no more than were asked for. It
    /// ends at a gap, at an EOP-only commitment in place of a block, or at the end. That it is shorter than the
    /// peer's claim, or empty, is an offence in no case.
    Page(Vec<Authenticated>),
    /// To [`Request::TxList`].
    TxList(TxList),
    /// To [`Request::TxList`]: the peer does not have it, for which nobody is to blame (§11).
    TxListNotFound,
    /// No usable answer.
    Failed(Failure),
}

/// Why there is no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Time-out, closed stream, refusal, disconnect: nobody's fault, but the peer is asked less while it goes on.
    NotAnswered,
    /// Our own: the request could not be sent, or its answer could not be judged. Costs the peer nothing; it is
    /// asked again after a pause.
    Local,
    /// The caller found the answer faulty and has **not** charged the peer: the machine does, with an
    /// [`Output::Report`].
    Misbehaved(Offence),
    /// The network found the answer faulty and has charged the peer already. Counts as a strike here;
    /// there is no [`Output::Report`].
    Charged(Offence),
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportVerdict {
    /// Every commitment is linked and stored, or was already.
    Linked,
    /// The parent of the one at `index` is not known; those before it are linked. Nobody's fault: the
    /// peer's chain may have left ours below.
    Unlinked {
        /// Its position in the page that was handed out.
        index: usize,
    },
    /// The one at `index` is refused by a rule that its parent has no part in (its signer, its time, how much it may still
    /// promise); those before it are linked. Nobody's fault, as a peer serves what it was told; but no reason to look for
    /// a fork either: anybody can sign such blocks.
    Unusable {
        /// Its position in the page that was handed out.
        index: usize,
    },
    /// The schedule is not known for a window that has begun, or our own store or lookahead failed. Costs the peer
    /// nothing, whatever was stored of the page before; it is asked again after a pause. (A window that no
    /// schedule will ever know is no reason to wait: a peer could hold us off live with it.)
    Deferred,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Ask a peer; answer with [`Input::Reply`].
    Send {
        /// Names the request.
        id: RequestId,
        /// Whom.
        to: PeerId,
        /// What.
        request: Request,
    },
    /// Judge and store a page; answer with [`Input::Imported`]. There is one at a time. Its commitments are
    /// consecutive, but need not follow the head: earlier heights come where a fork is looked for.
    Import {
        /// Names the import.
        id: RequestId,
        /// Who sent the page.
        from: PeerId,
        /// The page; never empty.
        page: Vec<Authenticated>,
    },
    /// Store a transaction list that was wanted; answer with [`Input::TxListArrived`] when that is done. If it
    /// cannot be stored, say [`Input::TxListWanted`] again, for the same block: it is fetched again after a
    /// pause.
    TxList {
        /// Who sent it.
        from: PeerId,
        /// The list; its hash is the one asked for.
        txlist: TxList,
    },
    /// Charge a peer.
    Report {
        /// Whom.
        peer: PeerId,
        /// For what.
        offence: Offence,
    },
    /// The status is another than the last one that came out.
    Status(HeadSyncStatus),
}

/// A question to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// How far it has come.
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
