//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, one after the other. Needs a nightly toolchain and cargo-fuzz; the same
//! bodies run on stable as the tests of `preconfirmation-fuzz`.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use clap::Args;
use serde_json::json;

use crate::{
    error::Error,
    shell::{installed, root},
};

/// Most memory of a run, in MiB.
const MEMORY: u32 = 512;

/// Targets in which elliptic curves make most of the comparisons: without a trace of these they are three to six times as fast.
const UNTRACED: [&str; 4] = ["chain", "enr", "intake", "signature"];

/// How much, and of what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Fuzz {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, conflicts_with = "runs")]
    seconds: u32,
    /// Executions of each target instead.
    #[arg(long)]
    runs: Option<u64>,
    /// Only this target; all without.
    #[arg(long)]
    target: Option<String>,
    /// Print a line of JSON for each target, and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// A target, as the table in `fuzz/src/lib.rs` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    name: String,
    /// Longest input that makes sense.
    longest: u32,
}

impl Target {
    fn is_untraced(&self) -> bool {
        UNTRACED.contains(&self.name.as_str())
    }
}

/// What libFuzzer says at the end of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stats {
    executions: u64,
    per_second: u64,
    peak_mib: u64,
}

/// Runs the targets; an error if one found something.
pub(crate) fn run(fuzz: &Fuzz) -> Result<(), Error> {
    if installed("rustup").is_none() || !has_nightly_fuzz() {
        return Err(Error::Missing {
            what: "nightly toolchain with cargo-fuzz: `rustup toolchain install nightly` and `cargo install cargo-fuzz`; \
                   `cargo test -p preconfirmation-fuzz` needs neither",
        });
    }
    let table = root().join("fuzz/src/lib.rs");
    let text = fs::read_to_string(&table).map_err(|source| Error::Read { path: table, source })?;
    let wanted = |target: &Target| fuzz.target.as_ref().is_none_or(|name| *name == target.name);
    let mut targets: Vec<Target> = targets(&text).into_iter().filter(wanted).collect();
    // Each kind is built once.
    targets.sort_by_key(Target::is_untraced);
    if targets.is_empty() {
        return Err(Error::Missing { what: "such target: the table in fuzz/src/lib.rs has all" });
    }
    let mut found = Vec::new();
    for target in &targets {
        let (stats, is_good) = fuzz_one(fuzz, target)?;
        let Target { name, .. } = target;
        let Stats { executions, per_second, peak_mib } = stats;
        if fuzz.json {
            let crashes = u8::from(!is_good);
            println!(
                "{}",
                json!({ "target": name, "executions": executions, "perSecond": per_second, "peakMib": peak_mib, "crashes": crashes })
            );
        } else {
            let outcome = if is_good { "no crash" } else { "CRASH" };
            println!("{name:<16} {executions:>12} executions {per_second:>8}/s {peak_mib:>5} MiB  {outcome}");
        }
        if !is_good {
            found.push(format!(
                "{name}: target/fuzz/{name}.log says what, fuzz/artifacts/{name} has the input"
            ));
        }
    }
    Error::unless_empty(found)
}

fn has_nightly_fuzz() -> bool {
    let mut version = Command::new("rustup");
    version.args(["run", "nightly", "cargo", "fuzz", "--version"]);
    version.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// Builds and runs a target. What it says goes to a file; new inputs stay out of the committed ones.
fn fuzz_one(fuzz: &Fuzz, target: &Target) -> Result<(Stats, bool), Error> {
    let (folder, name) = (root().join("target/fuzz"), target.name.as_str());
    let corpus = folder.join("corpus").join(name);
    create(&corpus)?;
    let log = folder.join(format!("{name}.log"));
    let file = fs::File::create(&log).map_err(|source| Error::Write { path: log.clone(), source })?;
    let mut command = Command::new("rustup");
    // Without a sanitizer: nothing here is unsafe, and overflows are checked anyway.
    command.args(["run", "nightly", "cargo", "fuzz", "run", "--sanitizer", "none"]);
    command.args(target.is_untraced().then_some("--no-trace-compares")).arg(name);
    command.arg(&corpus);
    for kind in ["corpus", "regressions"] {
        let seeds = root().join("fuzz").join(kind).join(name);
        command.args(seeds.is_dir().then_some(seeds));
    }
    command.arg("--").arg(match fuzz.runs {
        Some(runs) => format!("-runs={runs}"),
        None => format!("-max_total_time={}", fuzz.seconds),
    });
    command.arg(format!("-rss_limit_mb={MEMORY}")).arg(format!("-max_len={}", target.longest));
    command.arg("-print_final_stats=1").arg("-timeout=10");
    command.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let shown = format!("cargo +nightly fuzz run {name}");
    let status = command.status().map_err(|source| Error::Start { command: shown.clone(), source })?;
    let text = fs::read_to_string(&log).map_err(|source| Error::Read { path: log, source })?;
    match stats(&text) {
        Some(stats) => Ok((stats, status.success())),
        // It has not begun.
        None => Err(Error::Answer { command: shown, problem: format!("see target/fuzz/{name}.log") }),
    }
}

fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })
}

/// The lines `name, cases, longest;` of the table.
fn targets(source: &str) -> Vec<Target> {
    let table = source.split_once("\ntargets! {").and_then(|(_, rest)| rest.split_once('}'));
    let row = |line: &str| {
        let mut cells = line.trim().trim_end_matches(';').split(", ");
        let (name, _cases, longest) = (cells.next()?, cells.next()?, cells.next()?);
        Some(Target { name: name.to_owned(), longest: longest.replace('_', "").parse().ok()? })
    };
    table.map_or_else(Vec::new, |(table, _)| table.lines().filter_map(row).collect())
}

/// The final statistics in what libFuzzer has written.
fn stats(log: &str) -> Option<Stats> {
    let number = |name: &str| {
        let line = log.lines().rev().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    Some(Stats {
        executions: number("stat::number_of_executed_units")?,
        per_second: number("stat::average_exec_per_sec")?,
        peak_mib: number("stat::peak_rss_mb")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_targets_is_read() {
        let text = fs::read_to_string(root().join("fuzz/src/lib.rs")).unwrap();
        let targets = targets(&text);
        let binaries = fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap().count();
        assert_eq!(targets.len(), binaries);
        assert_eq!(targets[0], Target { name: "wire".into(), longest: 800 });
        assert_eq!(targets.iter().filter(|target| target.is_untraced()).count(), UNTRACED.len());
    }

    #[test]
    fn the_last_statistics_count() {
        let log = "stat::number_of_executed_units: 5\n\
                   Done 77 runs\n\
                   stat::number_of_executed_units: 77\n\
                   stat::average_exec_per_sec:     11\n\
                   stat::new_units_added:          3\n\
                   stat::peak_rss_mb:              40\n";
        assert_eq!(stats(log), Some(Stats { executions: 77, per_second: 11, peak_mib: 40 }));
        assert_eq!(stats("error: could not compile"), None);
    }
}
