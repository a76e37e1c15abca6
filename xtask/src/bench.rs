//! `cargo xtask bench`: our way against the naive one, and `docs/benchmarks.md`.

use std::{fs, process::Command, thread::available_parallelism};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    shell::{cargo, root},
};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Decoding, hashing, recovering, judging, alone and by the page, and transaction lists.
    Validation,
}

/// One row, as the bench prints it.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    figure: Figure,
    median_ratio: f64,
}

/// How long both ways took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Figure {
    ours_ns: f64,
    baseline_ns: f64,
    ratio: f64,
}

/// The rows that are asked for most.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    single: Figure,
    page_256: Figure,
    decode: Figure,
    signing_hash: Figure,
    txlist_check_2mib: Figure,
    txlist_decode_2mib: Figure,
}

impl Summary {
    fn of(rows: &[Row]) -> Option<Self> {
        let row = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.figure);
        Some(Self {
            single: row("single")?,
            page_256: row("page_256")?,
            decode: row("decode")?,
            signing_hash: row("signing_hash")?,
            txlist_check_2mib: row("txlist_check_2mib")?,
            txlist_decode_2mib: row("txlist_decode_2mib")?,
        })
    }
}

/// What the bench runs as; the document names the command that a reader would type.
const BENCH: [&str; 6] = ["bench", "--quiet", "--package", "preconfirmation-benches", "--bench", "ratios"];

/// Measures, prints the table, writes it to `docs/benchmarks.md`, and, if asked, ends with one line of JSON.
pub(crate) fn run(suite: Option<Suite>, json: bool) -> Result<(), Error> {
    let Suite::Validation = suite.unwrap_or(Suite::Validation);
    let answer = cargo(BENCH).read()?;
    let unreadable =
        |problem: String| Error::Answer { command: format!("cargo {}", BENCH.join(" ")), problem };
    let rows: Vec<Row> = serde_json::from_str(answer.lines().last().unwrap_or_default())
        .map_err(|error| unreadable(error.to_string()))?;
    let table = table(&rows);
    println!("{table}");
    let path = root().join("docs/benchmarks.md");
    let written = fs::create_dir_all(root().join("docs")).and_then(|()| fs::write(&path, document(&table)));
    written.map_err(|source| Error::Write { path, source })?;
    if json {
        let summary = Summary::of(&rows).ok_or_else(|| unreadable("a row is missing".into()))?;
        println!("{}", serde_json::to_string(&summary).map_err(|error| unreadable(error.to_string()))?);
    }
    Ok(())
}

/// The rows as a Markdown table.
fn table(rows: &[Row]) -> String {
    let row = |Row { name, figure, median_ratio }: &Row| {
        let (ours, naive) = (time(figure.ours_ns), time(figure.baseline_ns));
        format!("| `{name}` | {ours} | {naive} | {} | {} |\n", times(figure.ratio), times(*median_ratio))
    };
    let head = "| what | ours | naive | ratio | median |\n|---|---:|---:|---:|---:|\n";
    rows.iter().map(row).fold(head.to_owned(), |table, row| table + &row)
}

/// Nanoseconds with three digits or so.
fn time(ns: f64) -> String {
    if ns < 1e3 {
        format!("{ns:.0} ns")
    } else if ns < 1e6 {
        format!("{:.2} µs", ns / 1e3)
    } else {
        format!("{:.2} ms", ns / 1e6)
    }
}

fn times(ratio: f64) -> String {
    if ratio < 100.0 { format!("{ratio:.2}×") } else { format!("{ratio:.0}×") }
}

fn document(table: &str) -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    format!(
        "# Benchmarks\n\n\
         Our way against the naive one of `benches/src/baseline.rs` (ssz_rs, sha3, a new secp256k1 context a\n\
         call, encoding again before each hash), on the same bytes in the same run. Both take turns of a\n\
         millisecond, or of one run where that takes longer, for three seconds; a time is that of the least\n\
         disturbed turn, *ratio* is the quotient of the two, and *median* is the middle of the quotients of\n\
         neighbouring turns, which shows how busy the machine was.\n\n\
         | machine | {cpu}, {cores} cores, load {load} |\n|---|---|\n\
         | compiler | {rustc} |\n| date | {date} |\n| command | `cargo xtask bench --suite validation` |\n\n\
         {table}\n\
         `single` is a commitment from its bytes to accepted; `page_256` a page from its bytes to authenticated, on\n\
         all cores (the naive way on one); `reject_…` what is refused; `txlist_hash_…` is the hash alone,\n\
         `txlist_check_…` a list from the bytes of its message to verified. Decoding a list shares its bytes, so its\n\
         ratio grows with the list. `reject_duplicate` and `txlist_hash_…` show one keccak against the other.\n\
         A page needs all cores at once: on a busy machine its ratio says more about the neighbours.\n",
        cpu = cpu(),
        rustc = output("rustc", "--version"),
        date = output("date", "--utc +%F"),
    )
}

/// The processor's name, where Linux tells it.
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// What a small command says, or that it says nothing.
fn output(command: &str, args: &str) -> String {
    let output = Command::new(command).args(args.split(' ')).output();
    let said = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    said.map_or_else(|| "unknown".into(), |said| said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(names: &[&str]) -> Vec<Row> {
        let row = |name: &&str| {
            format!(
                r#"{{"name":"{name}","ours_ns":1500.0,"baseline_ns":3e6,"ratio":2000.0,"median_ratio":1.5}}"#
            )
        };
        serde_json::from_str(&format!("[{}]", names.iter().map(row).collect::<Vec<_>>().join(","))).unwrap()
    }

    #[test]
    fn a_row_shows_both_times_and_both_ratios() {
        let table = table(&rows(&["decode"]));
        assert_eq!(table.lines().last(), Some("| `decode` | 1.50 µs | 3.00 ms | 2000× | 1.50× |"));
        assert!(document(&table).contains(&table));
    }

    #[test]
    fn the_summary_has_the_rows_that_are_asked_for() {
        let names =
            ["single", "page_256", "decode", "signing_hash", "txlist_check_2mib", "txlist_decode_2mib"];
        let json = serde_json::to_value(Summary::of(&rows(&names)).unwrap()).unwrap();
        for name in names {
            assert_eq!(json[name]["ratio"], 2000.0, "{name}");
        }
        assert_eq!(Summary::of(&rows(&names[1..])), None);
    }
}
