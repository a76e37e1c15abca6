//! How well preconfers have kept their promises, as far as the view of L2 has shown.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use p2p_types::{Address, BlockNumber, Breach, PromiseOutcome, Recovered, SettledBlock, UnixSeconds};

use crate::metrics::Metrics;

/// A block counts as late if it is not settled so long after its window's end: three slots of L1, for the proposal in the last
/// slot of the window to be included, and for the execution node to take it in.
pub(crate) const LATE_AFTER: Duration = Duration::from_secs(36);

/// Signers that are counted one by one; all others are counted together. Also the bound of the metric's labels.
const SIGNERS: usize = 64;
/// Broken promises that are kept, the newest.
const BROKEN: usize = 64;
/// Heights whose outcome is remembered, so that they do not count twice when L2 settles them anew.
const JUDGED: usize = 4_096;

/// What became of the promises of one signer, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromiseCounts {
    /// Settled as promised.
    pub kept: u64,
    /// Settled otherwise.
    pub broken: u64,
    /// Settled, and what could be compared is as promised; the transactions could not.
    pub unproven: u64,
    /// Of all these, settled late.
    pub late: u64,
}

impl PromiseCounts {
    fn add(&mut self, outcome: &PromiseOutcome, late: bool) {
        if let Some(count) = self.of(outcome) {
            *count = count.saturating_add(1);
            self.late = self.late.saturating_add(u64::from(late));
        }
    }

    fn take(&mut self, outcome: &PromiseOutcome, late: bool) {
        if let Some(count) = self.of(outcome) {
            *count = count.saturating_sub(1);
            self.late = self.late.saturating_sub(u64::from(late));
        }
    }

    fn of(&mut self, outcome: &PromiseOutcome) -> Option<&mut u64> {
        match outcome {
            PromiseOutcome::Kept => Some(&mut self.kept),
            PromiseOutcome::Broken(_) => Some(&mut self.broken),
            PromiseOutcome::Unproven => Some(&mut self.unproven),
            _ => None,
        }
    }
}

/// A promise that was not kept, with both sides.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BrokenPromise {
    /// What was promised, and by whom.
    pub commitment: Arc<Recovered>,
    /// What was settled.
    pub settled: Arc<SettledBlock>,
    /// How it differs.
    pub breach: Breach,
}

/// Promises that the view of L2 has shown to be kept or broken, since the start.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PromiseStats {
    /// Of all signers.
    pub total: PromiseCounts,
    /// By signer, the first 64.
    pub signers: BTreeMap<Address, PromiseCounts>,
    /// Settled blocks that nobody is known to have promised.
    pub unpromised: u64,
    /// Blocks of the chain that should have been settled: their window has been over for some time. At most 1,024 are counted.
    pub overdue: usize,
    /// The newest broken promises, oldest first, at most 64.
    pub broken: Vec<BrokenPromise>,
}

/// The outcome of one height.
#[derive(Debug, Clone)]
pub(crate) struct HeightOutcome {
    pub(crate) block: BlockNumber,
    pub(crate) outcome: PromiseOutcome,
    /// Both sides, where something was promised.
    pub(crate) sides: Option<(Arc<Recovered>, Arc<SettledBlock>)>,
    pub(crate) late: bool,
}

impl HeightOutcome {
    fn signer(&self) -> Option<Address> {
        self.sides.as_ref().map(|(commitment, _)| commitment.signer())
    }
}

/// Whose promise was judged, how it ended, and whether late.
type Verdict = (Option<Address>, PromiseOutcome, bool);

/// The record of promises. Empty until a view of L2 is followed.
#[derive(Debug, Default)]
pub(crate) struct PromiseBook {
    follows: bool,
    judged: BTreeMap<BlockNumber, Verdict>,
    total: PromiseCounts,
    signers: BTreeMap<Address, PromiseCounts>,
    unpromised: u64,
    broken: VecDeque<BrokenPromise>,
}

impl PromiseBook {
    pub(crate) const fn begin(&mut self) {
        self.follows = true;
    }

    /// Records the outcome of a height, in place of an earlier one.
    pub(crate) fn record(&mut self, judged: HeightOutcome, metrics: &Metrics) {
        let before = self.forget(judged.block);
        let (signer, HeightOutcome { block, outcome, sides, late }) = (judged.signer(), judged);
        self.judged.insert(block, (signer, outcome, late));
        while self.judged.len() > JUDGED {
            self.judged.pop_first();
        }
        let Some((signer, (commitment, settled))) = signer.zip(sides) else {
            self.unpromised = self.unpromised.saturating_add(1);
            return;
        };
        self.total.add(&outcome, late);
        let is_counted = self.signers.len() < SIGNERS || self.signers.contains_key(&signer);
        if is_counted {
            self.signers.entry(signer).or_default().add(&outcome, late);
        }
        if before != Some((Some(signer), outcome, late)) {
            metrics.promise(is_counted.then_some(signer), outcome.label(), late);
        }
        if let PromiseOutcome::Broken(breach) = outcome {
            self.broken.push_back(BrokenPromise { commitment, settled, breach });
            if self.broken.len() > BROKEN {
                self.broken.pop_front();
            }
        }
    }

    /// L2 has taken back what it had settled from a height on.
    pub(crate) fn take_back(&mut self, from: BlockNumber) {
        let gone: Vec<BlockNumber> = self.judged.range(from..).map(|(block, _)| *block).collect();
        for block in gone {
            self.forget(block);
        }
    }

    /// Forgets the outcome of a height, and returns it.
    fn forget(&mut self, block: BlockNumber) -> Option<Verdict> {
        let judged = self.judged.remove(&block)?;
        let (Some(signer), outcome, late) = judged else {
            self.unpromised = self.unpromised.saturating_sub(1);
            return Some(judged);
        };
        self.total.take(&outcome, late);
        if let Some(counts) = self.signers.get_mut(&signer) {
            counts.take(&outcome, late);
        }
        self.broken.retain(|broken| broken.settled.number != block);
        Some(judged)
    }

    /// None before a view is followed.
    pub(crate) fn stats(&self) -> Option<PromiseStats> {
        self.follows.then(|| PromiseStats {
            total: self.total,
            signers: self.signers.clone(),
            unpromised: self.unpromised,
            overdue: 0,
            broken: self.broken.iter().cloned().collect(),
        })
    }
}

/// Whether a block should have been settled at a moment.
pub(crate) fn is_overdue(commitment: &Recovered, at: UnixSeconds) -> bool {
    let end: u64 = commitment.signed().preconf().submission_window_end.saturating_to();
    UnixSeconds::new(end).saturating_add(LATE_AFTER) < at
}

#[cfg(test)]
mod tests {
    use p2p_types::{B256, Difference};

    use super::*;

    fn commitment(signer: u8) -> Arc<Recovered> {
        let signed =
            p2p_fixtures::sign(&p2p_fixtures::key(signer), p2p_fixtures::preconf(11, B256::ZERO, B256::ZERO));
        Arc::new(signed.recover(&p2p_fixtures::DOMAIN).unwrap())
    }

    fn settled(number: BlockNumber) -> Arc<SettledBlock> {
        Arc::new(SettledBlock {
            number,
            hash: B256::repeat_byte(1),
            timestamp: UnixSeconds::new(5),
            fee_recipient: Address::ZERO,
            gas_limit: None,
            anchor: None,
            transactions: vec![],
        })
    }

    fn judged(block: BlockNumber, signer: u8, outcome: PromiseOutcome, late: bool) -> HeightOutcome {
        HeightOutcome { block, outcome, sides: Some((commitment(signer), settled(block))), late }
    }

    fn broken() -> PromiseOutcome {
        let timestamp = Some(Difference { promised: 1, settled: 5 });
        PromiseOutcome::Broken(Breach { timestamp, ..Breach::default() })
    }

    fn book() -> PromiseBook {
        let mut book = PromiseBook::default();
        book.begin();
        book
    }

    #[test]
    fn a_book_that_follows_nothing_claims_nothing() {
        assert_eq!(PromiseBook::default().stats(), None);
        assert_eq!(book().stats(), Some(PromiseStats::default()));
    }

    #[test]
    fn outcomes_count_by_signer_and_in_total() {
        let (mut book, metrics) = (book(), Metrics::default());
        book.record(judged(1, 1, PromiseOutcome::Kept, true), &metrics);
        book.record(judged(2, 1, broken(), false), &metrics);
        book.record(judged(3, 2, PromiseOutcome::Unproven, false), &metrics);
        book.record(
            HeightOutcome { block: 4, outcome: PromiseOutcome::None, sides: None, late: false },
            &metrics,
        );
        let stats = book.stats().unwrap();
        assert_eq!(stats.total, PromiseCounts { kept: 1, broken: 1, unproven: 1, late: 1 });
        let of = |signer| stats.signers[&p2p_fixtures::key(signer).address()];
        assert_eq!(of(1), PromiseCounts { kept: 1, broken: 1, late: 1, ..PromiseCounts::default() });
        assert_eq!(of(2), PromiseCounts { unproven: 1, ..PromiseCounts::default() });
        assert_eq!((stats.unpromised, stats.broken.len(), stats.broken[0].settled.number), (1, 1, 2));
    }

    #[test]
    fn what_l2_takes_back_counts_no_more() {
        let (mut book, metrics) = (book(), Metrics::default());
        book.record(judged(1, 1, PromiseOutcome::Kept, false), &metrics);
        book.record(judged(2, 1, broken(), true), &metrics);
        book.record(
            HeightOutcome { block: 3, outcome: PromiseOutcome::None, sides: None, late: false },
            &metrics,
        );
        book.take_back(2);
        let stats = book.stats().unwrap();
        assert_eq!(stats.total, PromiseCounts { kept: 1, ..PromiseCounts::default() });
        assert_eq!((stats.unpromised, stats.broken.len()), (0, 0));
        book.record(judged(1, 1, broken(), false), &metrics);
        let total = book.stats().unwrap().total;
        assert_eq!(total, PromiseCounts { broken: 1, ..PromiseCounts::default() }, "judged again");
    }

    #[test]
    fn the_record_of_promises_is_bounded() {
        let (mut book, metrics) = (book(), Metrics::default());
        for signer in 1..=69 {
            book.record(judged(u64::from(signer), signer, broken(), false), &metrics);
        }
        let stats = book.stats().unwrap();
        assert_eq!((stats.signers.len(), stats.broken.len()), (SIGNERS, BROKEN));
        assert_eq!(stats.total.broken, 69);
        for block in 1_000..1_000 + JUDGED as u64 + 9 {
            book.record(judged(block, 1, PromiseOutcome::Kept, false), &metrics);
        }
        assert_eq!(book.judged.len(), JUDGED);
    }

    #[test]
    fn a_block_is_overdue_after_its_window_and_three_slots() {
        let end = p2p_fixtures::WINDOW - 1;
        assert!(!is_overdue(&commitment(1), UnixSeconds::new(end + 36)));
        assert!(is_overdue(&commitment(1), UnixSeconds::new(end + 37)));
    }
}
