//! Ours and the baseline in turns, and what their ratio is.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::pairs::{Pair, Work};

/// What one pair came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figure {
    /// The pair's name.
    pub name: &'static str,
    /// Our way, in the least disturbed turn, nanoseconds.
    pub ours_ns: f64,
    /// The naive way, in the least disturbed turn, nanoseconds.
    pub baseline_ns: f64,
    /// How many times faster ours is: the quotient of the two.
    pub ratio: f64,
    /// The median of the rounds' own quotients: what a busy machine made of it.
    pub median_ratio: f64,
    /// What our way keeps for it, where that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

/// How long one turn takes at least: shorter than what a scheduler gives a neighbour, so that some turns are
/// not disturbed at all.
const TURN: Duration = Duration::from_millis(1);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds go on until this is over.
    pub time: Duration,
    /// And until there have been so many.
    pub rounds: usize,
    /// Commitments of one turn where it is their latency that is measured.
    pub commitments: u32,
}

impl Effort {
    /// Enough for figures.
    pub const FULL: Self = Self { time: Duration::from_secs(3), rounds: 12, commitments: 500 };
    /// Enough to see that it works.
    pub const ONCE: Self = Self { time: Duration::ZERO, rounds: 1, commitments: 3 };
}

/// Measures a pair. In each round both ways have a turn right after each other, and every other round the
/// baseline goes first. Noise only ever adds time, so the fastest turn is the truest.
#[must_use]
pub fn measure(pair: &mut Pair, effort: Effort) -> Figure {
    let (ours_times, baseline_times) = (calibrate(&mut pair.ours), calibrate(&mut pair.baseline));
    let (mut ours, mut baseline) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while ours.len() < effort.rounds || start.elapsed() < effort.time {
        if ours.len() % 2 == 0 {
            ours.push(each(&mut pair.ours, ours_times));
            baseline.push(each(&mut pair.baseline, baseline_times));
        } else {
            baseline.push(each(&mut pair.baseline, baseline_times));
            ours.push(each(&mut pair.ours, ours_times));
        }
    }
    let mut ratios: Vec<f64> = baseline.iter().zip(&ours).map(|(baseline, ours)| baseline / ours).collect();
    ratios.sort_by(f64::total_cmp);
    let fastest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let (ours_ns, baseline_ns) = (fastest(&ours), fastest(&baseline));
    let median_ratio = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    Figure {
        name: pair.name,
        ours_ns,
        baseline_ns,
        ratio: baseline_ns / ours_ns,
        median_ratio,
        bytes: pair.bytes,
    }
}

/// How often a way has to run to fill a turn.
fn calibrate(work: &mut Work) -> u64 {
    let mut times = 1;
    while work(times) < TURN {
        times *= 2;
    }
    times
}

/// Nanoseconds of one run.
fn each(work: &mut Work, times: u64) -> f64 {
    work(times).as_secs_f64() * 1e9 / times as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_quotient_of_the_fastest_turns() {
        let constant = |each: u64| -> Work { Box::new(move |times| Duration::from_nanos(each * times)) };
        let mut pair =
            Pair { name: "constant", ours: constant(1_000), baseline: constant(3_000), bytes: None };
        let figure = measure(&mut pair, Effort { rounds: 5, ..Effort::ONCE });
        assert!((figure.ratio - 3.0).abs() < 1e-9 && (figure.median_ratio - 3.0).abs() < 1e-9);
        assert!((figure.ours_ns - 1_000.0).abs() < 1e-6 && (figure.baseline_ns - 3_000.0).abs() < 1e-6);
    }
}
