//! The result of a devnet: a table, or one JSON object.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use p2p_types::Head;
use serde_json::{Value, json};

/// What a node has of what was promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Commitments, handovers and transaction lists that it should have.
    pub(crate) expected: u64,
    /// Commitments of blocks in its chain.
    pub(crate) commitments: u64,
    /// Handovers without a block. The late joiner is not asked for those before its time: pages carry blocks.
    pub(crate) handovers: u64,
    /// Transaction lists.
    pub(crate) txlists: u64,
}

impl Standing {
    pub(crate) const fn delivered(&self) -> u64 {
        self.commitments + self.handovers + self.txlists
    }

    pub(crate) const fn missing(&self) -> u64 {
        self.expected - self.delivered()
    }
}

/// Times from publishing to the event, sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The smallest time that is at least as long as this share of all (nearest rank); none without any.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.checked_sub(1)?).copied()
    }
}

/// A node at the end.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) head: Option<Head>,
    pub(crate) standing: Standing,
    /// Messages that broke a rule.
    pub(crate) rejected: u64,
    pub(crate) latencies: Latencies,
    /// Events that the observer was too slow for.
    pub(crate) missed_events: u64,
}

/// How the late joiner caught up.
#[derive(Debug)]
pub(crate) struct LateJoiner {
    /// Commitments that it fetched.
    pub(crate) commitments: u64,
    /// Transaction lists that it fetched.
    pub(crate) txlists: u64,
    /// From its start to the moment when it had all that there was at its start; none if it never had, or if
    /// there was nothing.
    pub(crate) elapsed: Option<Duration>,
}

/// What became of the liars.
#[derive(Debug, Default)]
pub(crate) struct LiarsFate {
    /// How many there are.
    pub(crate) peers: u64,
    /// Messages that their networks took.
    pub(crate) sent: u64,
    /// Lies found in an honest node's store.
    pub(crate) accepted: u64,
    /// The lowest score that an honest node gives one; none if none knows any.
    pub(crate) score: Option<f64>,
    /// How many bans of honest nodes they are under.
    pub(crate) banned_by: u64,
}

/// What a devnet has cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Processor time of the whole process, from the first window on.
    pub(crate) cpu: Duration,
    /// What each node has in memory, liars included.
    pub(crate) kib_per_node: u64,
    /// Copies of gossip messages that all nodes have received.
    pub(crate) copies: u64,
}

/// How a devnet went.
#[derive(Debug)]
pub(crate) struct Report {
    /// Blocks that were promised.
    pub(crate) blocks: u64,
    /// Blocks that were asked for.
    pub(crate) wanted: u64,
    /// Handovers without a block.
    pub(crate) handovers: u64,
    /// Messages that found no peer when they were published.
    pub(crate) queued: u64,
    /// The last block promised.
    pub(crate) head: Option<Head>,
    pub(crate) rows: Vec<Row>,
    pub(crate) late: Option<LateJoiner>,
    pub(crate) liar: LiarsFate,
    /// Bans of honest peers by honest nodes.
    pub(crate) honest_banned: u64,
    /// None where the system does not tell.
    pub(crate) cost: Option<Cost>,
}

impl Report {
    /// Whether all nodes are on the last block.
    fn converged(&self) -> bool {
        self.rows.iter().all(|row| row.head == self.head)
    }

    fn total(&self, of: impl Fn(&Standing) -> u64) -> u64 {
        self.rows.iter().map(|row| of(&row.standing)).sum()
    }

    /// Whether everything promised is everywhere, and nothing else.
    pub(crate) fn is_good(&self) -> bool {
        self.converged()
            && self.total(Standing::missing) == 0
            && self.liar.accepted == 0
            && self.honest_banned == 0
    }

    /// What has come to nodes, by gossip or by catching up.
    fn deliveries(&self) -> f64 {
        self.total(Standing::delivered).max(1) as f64
    }

    fn latencies(&self) -> Latencies {
        Latencies::new(self.rows.iter().flat_map(|row| row.latencies.0.iter().copied()).collect())
    }

    fn json(&self) -> Value {
        let latencies = self.latencies();
        json!({
            "nodes": self.rows.len(),
            "blocks": self.blocks,
            "handovers": self.handovers,
            "converged": self.converged(),
            "head": self.head.map(|head| json!({ "number": head.number, "hash": head.hash })),
            "delivered": self.total(Standing::delivered),
            "expected": self.total(|standing| standing.expected),
            "missing": self.total(Standing::missing),
            "latency_ms": { "p50": millis(latencies.percentile(50)), "p99": millis(latencies.percentile(99)), "last": millis(latencies.percentile(100)) },
            "late_joiner": self.late.as_ref().map(|late| json!({
                "commitments": late.commitments,
                "txlists": late.txlists,
                "elapsed_ms": millis(late.elapsed),
            })),
            "honest_banned": self.honest_banned,
            "cost": self.cost.map(|cost| json!({
                "cpu_us_per_delivery": cost.cpu.as_micros() as f64 / self.deliveries(),
                "copies_per_delivery": cost.copies as f64 / self.deliveries(),
                "kib_per_node": cost.kib_per_node,
            })),
            "liar": {
                "peers": self.liar.peers,
                "sent": self.liar.sent,
                "accepted": self.liar.accepted,
                "score": self.liar.score,
                "banned_by": self.liar.banned_by,
            },
        })
    }

    /// Writes the result to stdout.
    pub(crate) fn write(&self, json: bool) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if json { writeln!(stdout, "{}", self.json()) } else { writeln!(stdout, "\n{self}") }
    }
}

/// Milliseconds, to the microsecond.
fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time| millis(time).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        writeln!(
            f,
            "{:<8} {:<20} {:>11} {:>9} {:>7} {:>8} {:>7} {:>7}",
            "node", "head", "commitments", "handovers", "txlists", "rejected", "p50 ms", "p99 ms"
        )?;
        for row in &self.rows {
            let head = row
                .head
                .map_or_else(|| "-".to_owned(), |h| format!("{} {:.10}", h.number, h.hash.to_string()));
            writeln!(
                f,
                "{:<8} {head:<20} {:>11} {:>9} {:>7} {:>8} {:>7} {:>7}",
                row.name,
                row.standing.commitments,
                row.standing.handovers,
                row.standing.txlists,
                row.rejected,
                time(row.latencies.percentile(50)),
                time(row.latencies.percentile(99)),
            )?;
            if row.missed_events > 0 {
                writeln!(f, "         (its observer missed {} events)", row.missed_events)?;
            }
        }
        writeln!(f)?;
        if let Some(late) = &self.late {
            writeln!(
                f,
                "late     caught up on {} commitments and {} txlists in {} ms",
                late.commitments,
                late.txlists,
                time(late.elapsed)
            )?;
        }
        let score = self.liar.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.1}"));
        writeln!(
            f,
            "liars    {}, sent {}, accepted {}, lowest score {score}, {} bans",
            self.liar.peers, self.liar.sent, self.liar.accepted, self.liar.banned_by
        )?;
        if let Some(cost) = self.cost {
            let (cpu, copies) = (cost.cpu.as_micros() as f64, cost.copies as f64);
            writeln!(
                f,
                "cost     {:.0} us of processor time and {:.1} copies a delivery, {} KiB a node",
                cpu / self.deliveries(),
                copies / self.deliveries(),
                cost.kib_per_node
            )?;
        }
        if self.honest_banned > 0 {
            writeln!(f, "banned   {} honest peers", self.honest_banned)?;
        }
        if self.queued > 0 {
            writeln!(f, "queued   {} messages found no peer when they were published", self.queued)?;
        }
        let missing = self.total(Standing::missing);
        let verdict = match (self.is_good(), self.blocks == self.wanted) {
            (true, true) => "every node has everything",
            (true, false) => "every node has everything, as far as it went",
            (false, _) => "NOT every node has everything, or a lie was accepted, or an honest peer banned",
        };
        write!(f, "result   {} of {} blocks, {missing} missing: {verdict}", self.blocks, self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = Latencies::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(times.percentile(50), Some(Duration::from_millis(100)));
        assert_eq!(times.percentile(99), Some(Duration::from_millis(198)));
        assert_eq!(Latencies::new(vec![Duration::from_secs(1)]).percentile(99), Some(Duration::from_secs(1)));
        assert_eq!(Latencies::default().percentile(50), None);
    }

    fn report() -> Report {
        let head = Some(Head { number: 7, hash: Default::default() });
        let standing = Standing { expected: 5, commitments: 2, handovers: 1, txlists: 2 };
        let (rejected, latencies, missed_events) = (0, Latencies::default(), 0);
        let row = Row { name: "node 0".into(), head, standing, rejected, latencies, missed_events };
        let (late, liar, cost) = (None, LiarsFate::default(), None);
        let (blocks, wanted, handovers, queued, honest_banned) = (2, 2, 1, 0, 0);
        Report { blocks, wanted, handovers, queued, head, rows: vec![row], late, liar, honest_banned, cost }
    }

    #[test]
    fn only_a_whole_and_honest_result_is_good() {
        assert!(report().is_good());
        let mut missing = report();
        missing.rows[0].standing.txlists = 1;
        let mut behind = report();
        behind.rows[0].head = None;
        let mut fooled = report();
        fooled.liar.accepted = 1;
        let mut unjust = report();
        unjust.honest_banned = 1;
        let all = [(missing, true, 1), (behind, false, 0), (fooled, true, 0), (unjust, true, 0)];
        for (bad, converged, gap) in all {
            assert!(!bad.is_good());
            assert_eq!(
                (bad.json()["converged"].clone(), bad.json()["missing"].clone()),
                (converged.into(), gap.into())
            );
            assert!(bad.to_string().contains("NOT"));
        }
    }
}
