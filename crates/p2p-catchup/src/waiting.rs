//! Blocks that are known but not applied: commitments that wait for a parent, and blocks that could not be stored. Decides for
//! how long they keep the node from being live.

use std::time::Instant;

use p2p_types::BlockNumber;

use crate::{
    CatchUpConfig,
    deadlines::{Deadlines, after},
};

/// How far the wait for something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Gossip may still bring it.
    Grace,
    /// It is missing; `ends` where it keeps the node from being live for no longer than `waiting_ttl`.
    Missing { ends: bool },
    /// Heads were requested, and no claim that counts reaches it.
    Expired,
}

/// The phase of what waits since `since`, where the last round of heads with an answer that counts began at `asked`.
pub(crate) fn phase(
    config: &CatchUpConfig,
    deadlines: &mut Deadlines,
    since: Instant,
    asked: Option<Instant>,
) -> Phase {
    if !deadlines.due(after(since, config.gap_grace)) {
        Phase::Grace
    } else if !deadlines.due(after(since, config.waiting_ttl)) {
        Phase::Missing { ends: true }
    } else if asked.is_some_and(|asked| asked > since) {
        Phase::Expired
    } else {
        Phase::Missing { ends: false }
    }
}

/// What is missing, as far as it keeps the node from being live.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Missing {
    /// The highest height known of; 0 if none.
    pub(crate) seen: BlockNumber,
    /// The highest height that is missing beyond its grace; 0 if none.
    pub(crate) height: BlockNumber,
    /// A parent is missing at a height that is applied.
    pub(crate) sibling: bool,
    /// When the newest of it began to wait. Heads that were requested before that do not answer it.
    pub(crate) since: Option<Instant>,
    /// Some of it may still come by itself, or expire: no peer has failed to deliver that.
    pub(crate) in_grace: bool,
}

impl Missing {
    /// Adds something at `height`.
    pub(crate) fn note(&mut self, phase: Phase, height: BlockNumber, since: Instant) {
        match phase {
            Phase::Expired => {}
            Phase::Grace => {
                self.in_grace = true;
                self.seen = self.seen.max(height);
            }
            Phase::Missing { ends } => {
                self.in_grace |= ends;
                self.seen = self.seen.max(height);
                self.height = self.height.max(height);
                self.since = self.since.max(Some(since));
            }
        }
    }
}

/// A block that could not be stored.
#[derive(Debug, Clone, Copy)]
struct Unstored {
    block: BlockNumber,
    since: Instant,
}

/// The highest block that waits, and the highest one that could not be stored.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    level: Option<BlockNumber>,
    /// When the level was first above the head, if it still is. Raising it does not start the wait again.
    since: Option<Instant>,
    /// Up to this height, the wait has expired. Telling it again does not start the wait again.
    expired: Option<BlockNumber>,
    unstored: Option<Unstored>,
}

impl Waiting {
    /// Replaces the level. Whether it is newly above the head.
    pub(crate) fn set(&mut self, now: Instant, applied: BlockNumber, level: Option<BlockNumber>) -> bool {
        let before = self.since;
        self.level = level;
        self.update(now, applied);
        before.is_none() && self.since.is_some()
    }

    /// The head has moved, or time has.
    fn update(&mut self, now: Instant, applied: BlockNumber) {
        let above = self.level.is_some_and(|level| level > applied);
        self.since = above.then(|| self.since.unwrap_or(now));
        self.expired = self.expired.filter(|expired| *expired > applied);
        self.unstored = self.unstored.filter(|unstored| unstored.block > applied);
    }

    /// A block could not be stored. Whether it is the highest of these.
    pub(crate) fn not_stored(&mut self, now: Instant, applied: BlockNumber, block: BlockNumber) -> bool {
        let highest = self.unstored.map_or(applied, |unstored| unstored.block);
        if block > applied {
            self.unstored = Some(Unstored { block: block.max(highest), since: now });
        }
        block > highest
    }

    /// What is missing above `applied`, where the highest claim that counts is `claim`.
    pub(crate) fn missing(
        &mut self,
        config: &CatchUpConfig,
        deadlines: &mut Deadlines,
        (applied, claim): (BlockNumber, BlockNumber),
        asked: Option<Instant>,
    ) -> Missing {
        self.update(deadlines.now(), applied);
        let mut missing = Missing::default();
        if let (Some(level), Some(since)) = (self.level, self.since) {
            let phase = phase(config, deadlines, since, asked);
            if phase == Phase::Expired {
                self.expired = self.expired.max(Some(level));
            }
            if self.expired.is_none_or(|expired| expired < level) {
                missing.note(phase, level, since);
            }
        }
        if let Some(Unstored { block, since }) = self.unstored {
            let asked = asked.is_some_and(|asked| asked > since);
            if deadlines.due(after(since, config.not_stored_ttl)) && asked && claim < block {
                self.unstored = None;
            } else {
                missing.note(Phase::Missing { ends: false }, block, since);
            }
        }
        missing
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> CatchUpConfig {
        CatchUpConfig::recommended()
    }

    fn missing(waiting: &mut Waiting, now: Instant, applied: BlockNumber, asked: Option<Instant>) -> Missing {
        waiting.missing(&config(), &mut Deadlines::new(now), (applied, applied), asked)
    }

    #[test]
    fn a_level_is_in_its_grace_then_missing_then_expired() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!waiting.set(start, 10, Some(10)), "not above the head");
        assert!(waiting.set(start, 10, Some(12)));
        assert!(!waiting.set(at(400), 10, Some(13)), "higher, and nothing begins");
        let grace = missing(&mut waiting, at(499), 10, None);
        assert_eq!((grace.seen, grace.height, grace.since, grace.in_grace), (13, 0, None, true));
        let gap = missing(&mut waiting, at(500), 10, Some(start));
        assert_eq!((gap.seen, gap.height, gap.since, gap.in_grace), (13, 13, Some(start), true));
        let unasked = missing(&mut waiting, at(4_000), 10, Some(start));
        assert_eq!((unasked.height, unasked.in_grace), (13, false));
        let asked = missing(&mut waiting, at(4_000), 10, Some(at(600)));
        assert_eq!((asked.seen, asked.height, asked.in_grace), (0, 0, false));
        // Told again after it was gone, it stays expired; a higher one begins a new wait.
        waiting.set(at(5_000), 10, None);
        waiting.set(at(5_000), 10, Some(13));
        assert_eq!(missing(&mut waiting, at(6_000), 10, None).seen, 0);
        waiting.set(at(6_000), 10, None);
        waiting.set(at(6_000), 10, Some(14));
        assert_eq!(missing(&mut waiting, at(7_000), 10, None).height, 14);
        // An expired height is forgotten when it is reached.
        missing(&mut waiting, at(8_000), 14, None);
        waiting.set(at(9_000), 12, Some(13));
        assert_eq!(missing(&mut waiting, at(10_000), 12, None).height, 13);
    }

    #[test]
    fn a_block_not_stored_is_missing_until_reached_or_expired() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        let ttl = config().not_stored_ttl;
        assert!(!waiting.not_stored(start, 10, 10));
        assert_eq!(missing(&mut waiting, start, 10, None).height, 0);
        assert!(waiting.not_stored(start, 10, 12));
        assert!(!waiting.not_stored(start, 10, 12));
        assert!(!waiting.not_stored(start, 10, 11), "the highest stays");
        let gap = missing(&mut waiting, start, 10, None);
        assert_eq!((gap.seen, gap.height, gap.since, gap.in_grace), (12, 12, Some(start), false));
        let asked = Some(start + ttl / 2);
        assert_eq!(missing(&mut waiting, start + ttl - Duration::from_millis(1), 10, asked).height, 12);
        assert_eq!(missing(&mut waiting, start + ttl, 10, Some(start)).height, 12, "not asked since");
        let claimed = waiting.missing(&config(), &mut Deadlines::new(start + ttl), (10, 12), asked);
        assert_eq!(claimed.height, 12, "somebody claims it");
        assert_eq!(missing(&mut waiting, start + ttl, 10, asked).height, 0);
        assert!(waiting.not_stored(start, 10, 11));
        assert_eq!(missing(&mut waiting, start, 11, None).height, 0, "reached");
    }
}
