//! What goes in and what comes out.

use std::num::NonZeroU32;

use p2p_types::{B256, BlockNumber, Head, HeadSyncStatus, Offence, PeerId, TxList};
use p2p_validation::Authenticated;

use crate::Pace;

/// Names one request, or the import of one page. Never used twice by one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The L2 execution has reached the on-chain tip (§6): catch-up may begin. May come again with a
    /// higher base.
    Start {
        /// The settled block. Nothing at or below it is asked for.
        base: BlockNumber,
        /// The head of what is stored above it; none while there is nothing.
        head: Option<Head>,
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
    /// blocks lack are named with [`Input::TxListWanted`] *before* this.
    Imported {
        /// The import.
        id: RequestId,
        /// The store's head now. It may have moved whatever the verdict.
        head: Option<Head>,
        /// What came of the page.
        verdict: ImportVerdict,
    },
    /// Live gossip, the application or a reorg moved the head; it may have fallen. What the new blocks
    /// lack is named with [`Input::TxListWanted`] before this.
    Applied {
        /// The store's head now.
        head: Option<Head>,
    },
    /// An elected preconfer has signed this height. Needed for what does not link yet; for what links,
    /// [`Input::Applied`] says enough. The caller bounds it to a plausible distance from the head.
    Seen {
        /// The height.
        block: BlockNumber,
    },
    /// A commitment by an elected preconfer waits for a parent that nobody gossiped. Counts as
    /// [`Input::Seen`] too.
    Orphan {
        /// The height of the commitment that waits. Its parent's, one less, may be one that is applied: a
        /// sibling is missing then.
        block: BlockNumber,
        /// The hash of the parent that it waits for.
        parent: B256,
    },
    /// Commitments that waited have been given up (too late, or pushed out): none above `highest` waits
    /// any more. Takes back [`Input::Seen`] and [`Input::Orphan`] above it.
    Unseen {
        /// The highest that still waits; none if none does.
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
    /// To [`Request::Page`]: commitments from the first height asked for, without gaps, at most as many as
    /// asked for, each authenticated. (A page of another shape is charged as [`Offence::WrongAnswer`].)
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
    /// Time-out, closed stream, refusal, disconnect, no room of our own: nobody's fault.
    NotAnswered,
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
    /// One of them breaks a rule: the peer that sent the page is charged.
    Faulty(Offence),
    /// The schedule is not known for a window that has begun, or our own store or lookahead failed:
    /// nobody's fault, to be tried again. (A window in the far future is no reason to wait: a peer
    /// could hold us off live with it.)
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
