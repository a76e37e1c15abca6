//! What is known of blocks that are not applied, but for the claims of peers: commitments that wait, and blocks
//! that could not be stored. Says for how long that keeps the node from being live.

use std::time::Instant;

use p2p_types::BlockNumber;

use crate::{
    CatchUpConfig,
    time::{Agenda, after},
};

/// How far the wait for something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Gossip may still bring it.
    Grace,
    /// It is missing.
    Missing,
    /// Peers have been asked, and none of those whose word counts has it.
    Expired,
}

/// The phase of what waits since `since`, where the last heads that count were asked at `asked`.
pub(crate) fn phase(
    config: &CatchUpConfig,
    agenda: &mut Agenda,
    since: Instant,
    asked: Option<Instant>,
) -> Phase {
    if !agenda.due(after(since, config.gap_grace)) {
        Phase::Grace
    } else if agenda.due(after(since, config.waiting_ttl)) && asked.is_some_and(|asked| asked >= since) {
        Phase::Expired
    } else {
        Phase::Missing
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
    /// When the last of it began to wait: heads asked before that do not answer it.
    pub(crate) since: Option<Instant>,
    /// Something is in its grace.
    pub(crate) in_grace: bool,
}

impl Missing {
    /// Notes something at `height`.
    pub(crate) fn note(&mut self, phase: Phase, height: BlockNumber, since: Instant) {
        match phase {
            Phase::Expired => {}
            Phase::Grace => {
                self.in_grace = true;
                self.seen = self.seen.max(height);
            }
            Phase::Missing => {
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

/// The level of what waits, and what could not be stored.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    level: Option<BlockNumber>,
    /// When the level was first above the head, if it still is: raising it further is no reason to begin anew.
    since: Option<Instant>,
    /// Up to here, waiting has been in vain: telling it anew is no reason to begin anew.
    expired: Option<BlockNumber>,
    unstored: Option<Unstored>,
}

impl Waiting {
    /// Replaces the level. Whether it has just come to be above the head.
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
    pub(crate) fn see(&mut self, now: Instant, applied: BlockNumber, block: BlockNumber) -> bool {
        let highest = self.unstored.map_or(applied, |unstored| unstored.block);
        if block > applied {
            self.unstored = Some(Unstored { block: block.max(highest), since: now });
        }
        block > highest
    }

    /// What is missing above `applied`, where peers whose word counts claim `claim`.
    pub(crate) fn missing(
        &mut self,
        config: &CatchUpConfig,
        agenda: &mut Agenda,
        (applied, claim): (BlockNumber, BlockNumber),
        asked: Option<Instant>,
    ) -> Missing {
        self.update(agenda.now(), applied);
        let mut missing = Missing::default();
        if let (Some(level), Some(since)) = (self.level, self.since) {
            let phase = phase(config, agenda, since, asked);
            if phase == Phase::Expired {
                self.expired = self.expired.max(Some(level));
            }
            if self.expired.is_none_or(|expired| expired < level) {
                missing.note(phase, level, since);
            }
        }
        if let Some(Unstored { block, since }) = self.unstored {
            let asked = asked.is_some_and(|asked| asked >= since);
            if agenda.due(after(since, config.seen_ttl)) && asked && claim < block {
                self.unstored = None;
            } else {
                missing.note(Phase::Missing, block, since);
            }
        }
        missing
    }
}
