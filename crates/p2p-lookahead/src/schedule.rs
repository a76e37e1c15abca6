//! Windows and signers from what the contracts tell: a pure function of an epoch's posting, the whitelist, the
//! registrations that do not count, and a moment.
//!
//! Three generations of contracts differ in where a slot's window begins and who signs where nobody is elected. All
//! three have in common that a window is known by its last second, so a question looks at three windows at most: the
//! slot that ends there, the first slot of the next epoch, and the *tail* of the epoch, which belongs to the whitelist.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256};
use p2p_types::UnixSeconds;
use p2p_validation::{Admission, L1Time, Signers, Slot, Window};
use serde::{Deserialize, Serialize};

/// Which contracts tell the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Generation {
    /// The whitelist alone: one operator an epoch.
    Whitelist,
    /// `LookaheadStore` with the slots in its events, the whitelist where nobody is elected. Windows do not overlap.
    #[serde(rename = "v1")]
    StoreV1,
    /// `LookaheadStore` with the slots in the proposing transaction. Windows overlap by one slot of L1.
    #[serde(rename = "v2")]
    StoreV2,
}

impl Generation {
    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Whitelist => "whitelist",
            Self::StoreV1 => "v1",
            Self::StoreV2 => "v2",
        }
    }
}

/// A slot as a lookahead was posted with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Posted {
    /// Who was elected.
    pub(crate) committer: Address,
    /// First second of its slot of L1: the end of its window.
    pub(crate) timestamp: u64,
    /// Its registration. While that does not count, the whitelist signs.
    pub(crate) root: B256,
}

/// What is known of an epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Whether L1 was read from the beginning of the epoch before, when a posting can come first.
    pub(crate) scanned: bool,
    /// The slots that were posted, in the order of time.
    pub(crate) slots: Vec<Posted>,
    /// The whitelist's operators with the second from which each one is, in the order of time; the first from 0.
    pub(crate) operators: Vec<(u64, Address)>,
}

/// All that is known, as of a head of L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) generation: Generation,
    pub(crate) time: L1Time,
    /// Time of L1's head.
    pub(crate) head: u64,
    pub(crate) epochs: BTreeMap<u64, Epoch>,
    /// Registrations by root: from which second on each one counts, or does not.
    pub(crate) standing: BTreeMap<B256, Vec<(u64, bool)>>,
    /// Everybody on the whitelist.
    pub(crate) whitelisted: BTreeSet<Address>,
}

/// A window, the seconds in which it is open, and whose it is.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    window: Window,
    /// The last second of it, which the tail of an epoch has beyond its window's end.
    until: u64,
    /// The slot that was posted; the whitelist's if none.
    slot: Option<&'a Posted>,
}

impl Entry<'_> {
    fn has(&self, timestamp: u64) -> bool {
        self.window.start.get() <= timestamp && timestamp <= self.until
    }
}

/// An epoch's first second, that of the next, and the seconds of a slot.
#[derive(Debug, Clone, Copy)]
struct Span {
    epoch: u64,
    start: u64,
    next: u64,
    slot: u64,
}

impl Schedule {
    pub(crate) fn new(generation: Generation, time: L1Time) -> Self {
        let (epochs, standing, whitelisted) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { generation, time, head: 0, epochs, standing, whitelisted }
    }

    /// Who may sign with this timestamp and window end.
    pub(crate) fn admissible(&self, timestamp: UnixSeconds, window_end: UnixSeconds) -> Admission {
        let (t, end) = (timestamp.get(), window_end.get());
        let Some(span) = self.span_at(timestamp) else { return Admission::NotKnown };
        if !self.decided(span) {
            return Admission::NotKnown;
        }
        let mut open: Option<(Window, Signers)> = None;
        let mut unknown = false;
        for entry in self.ending_at(span, end, t).into_iter().flatten().filter(|entry| entry.has(t)) {
            match self.signers(span, entry, t) {
                None => unknown = true,
                Some(signers) => {
                    let (window, mut all) = open.unwrap_or((entry.window, signers));
                    for signer in signers.as_slice() {
                        all = all.and(*signer).unwrap_or(all);
                    }
                    open = Some((window, all));
                }
            }
        }
        match open {
            Some((window, signers)) => Admission::Open { window, signers },
            None if unknown || self.may_be_posted(span, t, end) => Admission::NotKnown,
            None => self.refused(span, t, end),
        }
    }

    /// Whose turn it is, or whose it is next.
    pub(crate) fn turn(&self, moment: UnixSeconds) -> Option<Slot> {
        let (t, span) = (moment.get(), self.span_at(moment)?);
        if !self.decided(span) {
            return None;
        }
        let slots = self.slots(span.epoch);
        let from = slots.partition_point(|slot| slot.timestamp < t);
        let of_epoch = (from < slots.len()).then(|| self.slot_entry(span, from)).flatten();
        let entry = of_epoch.or_else(|| self.tail(span, t)).filter(|entry| entry.window.end >= moment);
        if let Some(entry) = entry {
            return self.slot_of(span, entry, t);
        }
        let next = self.span(span.epoch.checked_add(1)?)?;
        if let Some(first) = self.slot_entry(next, 0) {
            return self.slot_of(span, first, t);
        }
        let tail = self.decided(next).then(|| self.tail(next, next.start)).flatten()?;
        self.slot_of(next, tail, next.start)
    }

    /// The past epoch that has to be learned to tell of a moment.
    pub(crate) fn lacks(&self, moment: UnixSeconds) -> Option<u64> {
        let span = self.span_at(moment)?;
        let known = self.epochs.get(&span.epoch);
        let complete = known.is_some_and(|epoch| epoch.scanned && !epoch.operators.is_empty());
        (!complete && span.start <= self.head).then_some(span.epoch)
    }

    /// The beginning of the first epoch that is known here and that the other, which may have dropped old ones, tells
    /// differently.
    pub(crate) fn differs(&self, other: &Self) -> Option<UnixSeconds> {
        let roots_differ = |epoch: &Epoch| {
            epoch.slots.iter().any(|slot| self.standing.get(&slot.root) != other.standing.get(&slot.root))
        };
        let (oldest, nothing) = (*other.epochs.keys().next()?, Epoch::default());
        let differing = self.epochs.range(oldest..).find(|(index, epoch)| {
            let there = other.epochs.get(index).unwrap_or(&nothing);
            let known = !epoch.operators.is_empty() || !epoch.slots.is_empty();
            known && (there.slots != epoch.slots || there.operators != epoch.operators || roots_differ(epoch))
        });
        Some(self.time.epoch_window(*differing?.0)?.start)
    }

    fn span(&self, epoch: u64) -> Option<Span> {
        let Window { start, end } = self.time.epoch_window(epoch)?;
        let slot = self.time.slot_seconds.get();
        Some(Span { epoch, start: start.get(), next: end.get().checked_add(1)?, slot })
    }

    fn span_at(&self, moment: UnixSeconds) -> Option<Span> {
        self.span(self.time.epoch_at(moment)?)
    }

    fn slots(&self, epoch: u64) -> &[Posted] {
        self.epochs.get(&epoch).map_or(&[], |epoch| &epoch.slots)
    }

    fn last_slot(&self, epoch: Option<u64>) -> Option<u64> {
        Some(self.slots(epoch?).last()?.timestamp)
    }

    /// Whether it is known which slots an epoch has. A posting comes in the epoch before, so the head has to have
    /// reached the last slot of that one.
    fn decided(&self, span: Span) -> bool {
        let Some(epoch) = self.epochs.get(&span.epoch) else { return false };
        let read = self.head.saturating_add(span.slot) >= span.start;
        epoch.scanned && (self.generation == Generation::Whitelist || read || !epoch.slots.is_empty())
    }

    /// The windows with this end that a timestamp of this epoch may mean.
    fn ending_at(&self, span: Span, end: u64, t: u64) -> [Option<Entry<'_>>; 3] {
        let index = self.slots(span.epoch).binary_search_by_key(&end, |slot| slot.timestamp).ok();
        let of_epoch = index.and_then(|index| self.slot_entry(span, index));
        let of_next = self.first_of_next(span, t).filter(|first| first.window.end.get() == end);
        let tail = self.tail(span, t).filter(|tail| tail.window.end.get() == end);
        [of_epoch, of_next, tail]
    }

    /// The window of a slot that was posted.
    fn slot_entry(&self, span: Span, index: usize) -> Option<Entry<'_>> {
        let slots = self.slots(span.epoch);
        let slot = slots.get(index)?;
        let before = match index.checked_sub(1) {
            Some(before) => slots.get(before).map(|slot| slot.timestamp),
            None => self.last_slot(span.epoch.checked_sub(1)),
        };
        let start = match (self.generation, before) {
            (Generation::StoreV2, Some(before)) => before.saturating_sub(span.slot),
            (Generation::StoreV2, None) => span.start,
            (_, Some(before)) => before.saturating_add(1),
            (_, None) => span.start.saturating_sub(span.slot).saturating_add(1),
        };
        Some(entry(start, slot.timestamp, slot.timestamp, Some(slot)))
    }

    /// The first slot of the next epoch, as far as it is open in this one.
    fn first_of_next(&self, span: Span, t: u64) -> Option<Entry<'_>> {
        let next = self.span(span.epoch.checked_add(1)?)?;
        let first = self.slot_entry(next, 0)?;
        // Across epochs, v2 gives the window of one that does not count to the whitelist's tail.
        let handed_on = self.generation == Generation::StoreV2 && !self.counts(first.slot?.root, t);
        (!handed_on).then_some(first)
    }

    /// The window of the whitelist at the end of an epoch, or in all of one that has no slots. It ends with the last slot
    /// of L1 in the epoch. Before v2 it is open, under that same end, in that slot's seconds too.
    fn tail(&self, span: Span, t: u64) -> Option<Entry<'_>> {
        let end = span.next.saturating_sub(span.slot);
        let v2 = self.generation == Generation::StoreV2;
        let until = if v2 { end } else { span.next.saturating_sub(1) };
        let start = match self.last_slot(Some(span.epoch)) {
            None => span.start,
            Some(_) if self.first_of_next(span, t).is_some() => return None,
            Some(last) if v2 && last >= end => return None,
            Some(last) if v2 => last.saturating_sub(span.slot),
            Some(last) => last.saturating_add(1),
        };
        Some(entry(start, end, until, None))
    }

    /// Whether a registration counts at a moment. One that nothing was told of does.
    pub(crate) fn counts(&self, root: B256, t: u64) -> bool {
        let changes = self.standing.get(&root).map_or(&[][..], Vec::as_slice);
        changes.iter().rev().find(|(from, _)| *from <= t).is_none_or(|(_, counts)| *counts)
    }

    /// Who may sign in a window at a moment of an epoch; none if that is not known.
    fn signers(&self, span: Span, entry: Entry<'_>, t: u64) -> Option<Signers> {
        if let Some(slot) = entry.slot.filter(|slot| self.counts(slot.root, t)) {
            return Some(Signers::one(slot.committer));
        }
        self.operator(span, t)
    }

    /// The whitelist's operator at a moment of an epoch, and beside it who was removed as such just before.
    fn operator(&self, span: Span, t: u64) -> Option<Signers> {
        let operators = &self.epochs.get(&span.epoch)?.operators;
        let from = operators.partition_point(|(from, _)| *from <= t);
        let mut so_far = operators.get(..from)?.iter().rev();
        let (since, signer) = so_far.next()?;
        let signers = Signers::one(*signer);
        // Who has just been removed may not know it yet.
        let before = so_far.next().filter(|_| t < since.saturating_add(span.slot));
        before.map_or(Some(signers), |(_, signer)| signers.and(*signer))
    }

    fn slot_of(&self, span: Span, entry: Entry<'_>, t: u64) -> Option<Slot> {
        Some(Slot { signer: self.signers(span, entry, t)?.first(), window: entry.window })
    }

    /// Whether a window in the next epoch may still be posted that reaches back to this timestamp.
    fn may_be_posted(&self, span: Span, t: u64, end: u64) -> bool {
        let free_from = match (self.generation, self.last_slot(Some(span.epoch))) {
            (Generation::Whitelist, _) | (Generation::StoreV2, None) => return false,
            (Generation::StoreV2, Some(last)) => last.saturating_sub(span.slot),
            (_, Some(last)) => last.saturating_add(1),
            (_, None) => span.next.saturating_sub(span.slot).saturating_add(1),
        };
        let next = span.epoch.checked_add(1).and_then(|next| self.span(next));
        let open = next.is_some_and(|next| {
            self.slots(next.epoch).is_empty() && !self.decided(next) && (next.start..next.next).contains(&end)
        });
        open && t >= free_from
    }

    /// Why nobody may sign: the window with this end is not open then, or another one is there.
    fn refused(&self, span: Span, t: u64, end: u64) -> Admission {
        if let Some(entry) = self.ending_at(span, end, t).into_iter().flatten().next() {
            return Admission::Outside { window: entry.window };
        }
        let slots = self.slots(span.epoch);
        let there = self.slot_entry(span, slots.partition_point(|slot| slot.timestamp < t));
        let there = there.or_else(|| self.tail(span, t)).or_else(|| self.first_of_next(span, t));
        match there {
            Some(entry) => Admission::NoWindow { scheduled: entry.window.end },
            None => Admission::NotKnown,
        }
    }

    /// Whether a signer may be elected at a timestamp by what has not been seen yet: a change of the whitelist, or of the
    /// registration of somebody who was posted. In v2 a registration may also count no longer without our knowledge, and
    /// then the whitelist's operator of that epoch signs.
    pub(crate) fn may_be_elected(&self, signer: Address, timestamp: UnixSeconds) -> bool {
        let (t, unseen) = (timestamp.get(), self.head < timestamp.get());
        if self.whitelisted.contains(&signer) {
            let instead = || self.span_at(timestamp).and_then(|span| self.operator(span, t));
            let is_v2 = self.generation == Generation::StoreV2;
            return unseen || is_v2 && instead().is_none_or(|operator| operator.contains(signer));
        }
        let epoch = self.time.epoch_at(timestamp);
        let posted = epoch.into_iter().flat_map(|epoch| [Some(epoch), epoch.checked_add(1)]).flatten();
        let mut slots = posted.flat_map(|epoch| self.slots(epoch));
        unseen && slots.any(|slot| slot.committer == signer && !self.counts(slot.root, t))
    }
}

fn entry(start: u64, end: u64, until: u64, slot: Option<&Posted>) -> Entry<'_> {
    Entry { window: Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) }, until, slot }
}

#[cfg(test)]
mod tests;
