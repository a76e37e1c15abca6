//! Where this node stands: the base, what is applied, what has been seen above.

use p2p_types::{BlockNumber, Head};

/// How the head moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Not at all.
    No,
    /// To a greater height.
    Up,
    /// To another block of no greater height: a reorg.
    Back,
}

/// Applied and seen, kept apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub(crate) applied: BlockNumber,
    pub(crate) seen: BlockNumber,
}

#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) started: bool,
    pub(crate) base: BlockNumber,
    head: Option<Head>,
    /// The highest height seen that is not reached so far.
    ahead: Option<BlockNumber>,
}

impl Chain {
    pub(crate) fn start(&mut self, base: BlockNumber, head: Option<Head>) {
        (self.started, self.base) = (true, base);
        self.move_head(head);
    }

    pub(crate) const fn head(&self) -> Option<Head> {
        self.head
    }

    /// The highest height that is linked down to the base; the base itself while nothing is.
    pub(crate) fn applied(&self) -> BlockNumber {
        self.head.map_or(self.base, |head| head.number)
    }

    /// The first height that is not applied; none at the end of all numbers.
    pub(crate) fn next(&self) -> Option<BlockNumber> {
        self.applied().checked_add(1)
    }

    pub(crate) fn move_head(&mut self, head: Option<Head>) -> Moved {
        let head = head.filter(|head| head.number > self.base);
        let (before, was) = (self.applied(), self.head);
        self.head = head;
        let applied = self.applied();
        self.ahead = self.ahead.filter(|&ahead| ahead > applied);
        if applied > before {
            Moved::Up
        } else if head == was {
            Moved::No
        } else {
            Moved::Back
        }
    }

    /// Whether this is news: higher than what was applied and seen before.
    pub(crate) fn see(&mut self, block: BlockNumber) -> bool {
        let news = block > self.seen();
        if news {
            self.ahead = Some(block);
        }
        news
    }

    pub(crate) fn unsee(&mut self, highest: Option<BlockNumber>) {
        let applied = self.applied();
        self.ahead = self.ahead.and(highest).filter(|&highest| highest > applied);
    }

    pub(crate) fn stand(&self) -> Stand {
        Stand { applied: self.applied(), seen: self.seen() }
    }

    /// Whether something above the head has been seen.
    pub(crate) const fn is_behind_seen(&self) -> bool {
        self.ahead.is_some()
    }

    /// The highest height that an elected preconfer is known to have signed.
    pub(crate) fn seen(&self) -> BlockNumber {
        self.ahead.unwrap_or_else(|| self.applied())
    }
}
