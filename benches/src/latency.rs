//! How long one commitment waits for its verdict while pages are authenticated.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    pairs::{accepted, authenticate, warm, wire, wire_page},
    ratio::{Effort, Figure},
};

/// Between two commitments.
const EVERY: Duration = Duration::from_millis(1);

/// Pages that are authenticated at a time: as many as catch-up has in flight.
const PAGES: usize = 4;

/// A commitment each millisecond, alone and beside four pages of 256 at a time without a pause, from when it is due to its
/// verdict: the slowest in a hundred of both. *Ours* is beside pages, the baseline alone.
#[must_use]
pub fn single_beside_pages(effort: Effort) -> Figure {
    let (mut beside, mut alone) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while beside.len() < effort.rounds || start.elapsed() < effort.time {
        alone.push(slowest_in_a_hundred(effort));
        let done = AtomicBool::new(false);
        beside.push(thread::scope(|scope| {
            for _ in 0..PAGES {
                scope.spawn(|| {
                    let (validator, page) = (warm(), wire_page());
                    while !done.load(Ordering::Relaxed) {
                        authenticate(&validator, &page);
                    }
                });
            }
            let slowest = slowest_in_a_hundred(effort);
            done.store(true, Ordering::Relaxed);
            slowest
        }));
    }
    let mut ratios: Vec<f64> = beside.iter().zip(&alone).map(|(beside, alone)| alone / beside).collect();
    let middle = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (ours_ns, baseline_ns) = (middle(&mut beside), middle(&mut alone));
    Figure {
        name: "single_beside_pages_p99",
        ours_ns,
        baseline_ns,
        ratio: baseline_ns / ours_ns,
        median_ratio: middle(&mut ratios),
        bytes: None,
    }
}

/// Nanoseconds.
fn slowest_in_a_hundred(effort: Effort) -> f64 {
    let (validator, commitment) = (warm(), wire());
    let start = Instant::now();
    let mut times: Vec<Duration> = (1..=effort.commitments)
        .map(|number| {
            let due = start + EVERY * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            assert!(accepted(&validator, black_box(&commitment)));
            due.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1].as_secs_f64() * 1e9
}
