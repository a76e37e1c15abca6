//! Plays seeds of the simulator by the thousand: a line a seed, a summary, and for a seed that fails the command that repeats it with
//! the fewest faults that still fail. `cargo xtask sim` runs it. With `RUST_LOG` the clients log to stderr.

#![allow(clippy::disallowed_methods, reason = "a tool that times its runs")]

use std::{
    env, io,
    ops::Range,
    panic::catch_unwind,
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use clap::Parser;
use p2p_sim::{Invariant, Outcome, Scenario, Violation, shrink, simulate};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// Plays seeds of the simulator.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// The seeds, as `A..B`: from A to B, B left out.
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// Honest nodes. Of all nodes, 30 % are adversaries.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(3..=48))]
    nodes: u8,
    /// Only these faults of the scenario, by their numbers.
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<usize>>,
    /// Seeds at a time, each on a thread of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// End after so many seeds that failed.
    #[arg(long, default_value_t = 3)]
    failures: usize,
    /// Print one line of JSON at the end, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

fn seeds(range: &str) -> Result<Range<u64>, String> {
    let parsed = range.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    parsed.filter(|range: &Range<u64>| !range.is_empty()).ok_or_else(|| "not a range such as 0..100".into())
}

/// What came of a seed.
struct Played {
    scenario: Scenario,
    result: Result<Outcome, Violation>,
    took: Duration,
}

/// A seed that failed.
#[derive(Debug, Serialize)]
struct Failure {
    violation: String,
    repeat: String,
    faults: Vec<String>,
}

/// What came of all.
#[derive(Debug, Default, Serialize)]
struct Report {
    nodes: u8,
    seeds: usize,
    failures: Vec<Failure>,
    faults: usize,
    published: usize,
    /// Blocks that clients have refused to publish for what their signers had promised before.
    refused: usize,
    frames: u64,
    virtual_seconds: u64,
    /// Over all seeds: on the thread of each.
    real_milliseconds: u128,
    slowest_milliseconds: u128,
    /// Most seconds after the last fault until all were live on one chain.
    converged_after_at_most: u64,
}

impl Options {
    fn scenario(&self, seed: u64) -> Scenario {
        let scenario = Scenario::draw(seed, usize::from(self.nodes));
        match &self.only {
            Some(only) => scenario.only(only),
            None => scenario,
        }
    }

    fn repeat(&self, scenario: &Scenario) -> String {
        let Scenario { seed, faults, .. } = scenario;
        let only: Vec<String> = faults.iter().map(|fault| fault.id.to_string()).collect();
        let only = if only.is_empty() { String::new() } else { format!(" --only {}", only.join(",")) };
        format!("cargo xtask sim --seeds {seed}..{} --nodes {}{only}", seed + 1, self.nodes)
    }
}

/// A run that panics is one in which something does not hold.
fn play(scenario: &Scenario) -> Result<Outcome, Violation> {
    catch_unwind(|| simulate(scenario)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Violation {
            seed: scenario.seed,
            at: 0,
            node: None,
            invariant: Invariant::Running,
            detail: said.unwrap_or("a panic").to_owned(),
        })
    })
}

/// Plays seeds on several threads; each result as it comes.
fn play_all(options: &Options, mut take: impl FnMut(Played) -> bool) {
    let (next, stop) = (AtomicU64::new(options.seeds.start), AtomicBool::new(false));
    let (results, played) = mpsc::sync_channel(64);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let (results, next, stop) = (results.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.seeds.end {
                        return;
                    }
                    let (scenario, started) = (options.scenario(seed), Instant::now());
                    let result = play(&scenario);
                    // The other end is there as long as this scope.
                    drop(results.send(Played { scenario, result, took: started.elapsed() }));
                }
            });
        }
        drop(results);
        for played in played {
            if !take(played) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
}

fn failed(options: &Options, scenario: &Scenario, violation: Violation) -> Failure {
    let (shrunk, violation) = shrink(scenario, violation, play);
    let failure = Failure {
        violation: violation.to_string(),
        repeat: options.repeat(&shrunk),
        faults: shrunk.faults.iter().map(ToString::to_string).collect(),
    };
    if !options.json {
        println!("FAILS  {}\n{shrunk}again: {}", failure.violation, failure.repeat);
    }
    failure
}

fn main() -> ExitCode {
    let options = Options::parse();
    if env::var_os("RUST_LOG").is_some() {
        let filter = EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    }
    let mut report = Report { nodes: options.nodes, ..Report::default() };
    play_all(&options, |Played { scenario, result, took }| {
        report.seeds += 1;
        report.faults += scenario.faults.len();
        report.real_milliseconds += took.as_millis();
        report.slowest_milliseconds = report.slowest_milliseconds.max(took.as_millis());
        match result {
            Ok(outcome) => {
                let Outcome { trace, seconds, converged_after, frames, published, refused } = outcome;
                report.virtual_seconds += seconds;
                report.frames += frames;
                report.published += published;
                report.refused += refused;
                report.converged_after_at_most = report.converged_after_at_most.max(converged_after);
                if !options.json {
                    let (seed, faults, millis) = (scenario.seed, scenario.faults.len(), took.as_millis());
                    println!(
                        "seed {seed:<6} trace {trace:016x}  {faults:>2} faults  {seconds:>3} s  {published:>3} blocks  {frames:>6} frames  converged after {converged_after:>2} s  {millis:>5} ms"
                    );
                }
            }
            Err(violation) => report.failures.push(failed(&options, &scenario, violation)),
        }
        report.failures.len() < options.failures
    });
    if options.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        let Report { seeds, faults, virtual_seconds, real_milliseconds, .. } = &report;
        let each = real_milliseconds / (*seeds).max(1) as u128;
        println!(
            "{seeds} seeds, {} failed; {faults} faults in {virtual_seconds} s of virtual time, {each} ms a seed; converged after {} s at most",
            report.failures.len(),
            report.converged_after_at_most
        );
    }
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
