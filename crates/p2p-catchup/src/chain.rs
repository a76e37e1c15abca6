//! This node's chain as catch-up knows it: the settled base, and the head above it.

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

/// The head at some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    applied: BlockNumber,
    head: Option<Head>,
}

#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) started: bool,
    pub(crate) base: BlockNumber,
    head: Option<Head>,
}

impl Chain {
    /// Sets the base. The head falls or rises only where the base passes it.
    pub(crate) fn settle(&mut self, base: BlockNumber) -> Moved {
        let before = self.mark();
        (self.started, self.base) = (true, base);
        self.head = self.head.filter(|head| head.number > base);
        self.moved_since(before)
    }

    pub(crate) const fn head(&self) -> Option<Head> {
        self.head
    }

    /// The highest height that is linked down to the base; the base itself while nothing is.
    pub(crate) fn applied(&self) -> BlockNumber {
        self.head.map_or(self.base, |head| head.number)
    }

    /// The first height that is not applied; none after the highest number.
    pub(crate) fn next(&self) -> Option<BlockNumber> {
        self.applied().checked_add(1)
    }

    pub(crate) fn move_head(&mut self, head: Option<Head>) -> Moved {
        let before = self.mark();
        self.head = head.filter(|head| head.number > self.base);
        self.moved_since(before)
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { applied: self.applied(), head: self.head }
    }

    /// How the head has moved since then, in however many steps. A base that reaches the head does not move it.
    pub(crate) fn moved_since(&self, before: Mark) -> Moved {
        let applied = self.applied();
        let other = before.head.zip(self.head).is_some_and(|(before, now)| before != now);
        if applied > before.applied {
            Moved::Up
        } else if applied < before.applied || other {
            Moved::Back
        } else {
            Moved::No
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_types::B256;

    use super::*;

    fn head(number: BlockNumber, fill: u8) -> Option<Head> {
        Some(Head { number, hash: B256::repeat_byte(fill) })
    }

    #[test]
    fn the_head_moves_up_back_or_not_at_all() {
        let mut chain = Chain::default();
        for (to, moved) in [
            (head(5, 1), Moved::Up),
            (head(5, 1), Moved::No),
            (head(5, 2), Moved::Back),
            (head(4, 3), Moved::Back),
            (None, Moved::Back),
            (None, Moved::No),
            (head(1, 4), Moved::Up),
        ] {
            assert_eq!(chain.move_head(to), moved, "{to:?}");
        }
    }

    #[test]
    fn a_head_at_the_base_is_none() {
        let mut chain = Chain::default();
        assert_eq!(chain.settle(5), Moved::Up);
        assert_eq!(chain.move_head(head(5, 1)), Moved::No);
        assert_eq!((chain.head(), chain.applied()), (None, 5));
        assert_eq!(chain.move_head(head(6, 1)), Moved::Up);
        assert_eq!(chain.settle(6), Moved::No, "the base has reached it");
        assert_eq!((chain.head(), chain.applied()), (None, 6));
    }
}
