//! `cargo xtask bench`: what is measured, suite by suite, and `docs/benchmarks.md`.

mod spread;
mod text;

use std::{fs, thread::available_parallelism};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use spread::Runs;
use text::{
    BASE, CATCHUP, CATCHUP_TARGETS, GOSSIP, GUARD, RPC, RPC_TARGETS, STORAGE, STORAGE_TARGETS, VALIDATION,
};

use crate::{
    error::Error,
    machine::{compiler, processor, today},
    shell::{cargo, root},
};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Decoding, hashing, recovering, judging, alone and by the page, and transaction lists.
    Validation,
    /// Catching up from peers over real sockets, against the ceilings of the same machine.
    Catchup,
    /// Whole clients against raw gossipsub on the same mesh.
    Gossip,
    /// The store on disk, against the database and the file system that it stands on.
    Storage,
    /// A base that moves every second under a long chain on disk.
    Base,
    /// Publishing over JSON-RPC against the client's own API.
    Rpc,
    /// A publication with each signing guard.
    Guard,
}

impl Suite {
    /// Its name on the command line and in the document.
    const fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Catchup => "catchup",
            Self::Gossip => "gossip",
            Self::Storage => "storage",
            Self::Base => "base",
            Self::Rpc => "rpc",
            Self::Guard => "guard",
        }
    }

    /// The bench target that measures it. It prints one line of JSON at the end.
    const fn target(self) -> &'static str {
        match self {
            Self::Validation => "ratios",
            Self::Catchup => "catchup",
            Self::Gossip => "gossip",
            Self::Storage => "storage",
            Self::Base => "base",
            Self::Rpc => "rpc",
            Self::Guard => "guard",
        }
    }

    /// Runs it so many times: the section of the last run, with the spread over all of them.
    fn measure_each(self, runs: u8) -> Result<(String, Value), Error> {
        let (mut section, mut summary) = self.measure()?;
        let mut summaries = vec![summary.clone()];
        for _ in 1..runs {
            (section, summary) = self.measure()?;
            summaries.push(summary.clone());
        }
        if runs > 1 {
            let runs = Runs::new(&summaries);
            section = format!("{section}\n{}", runs.table());
            summary = runs.middle();
        }
        Ok((section, summary))
    }

    /// Runs it: its section of the document, and its summary.
    fn measure(self) -> Result<(String, Value), Error> {
        let command = ["bench", "--quiet", "--package", "preconfirmation-benches", "--bench", self.target()];
        let answer = cargo(command).read()?;
        let unreadable = |error: serde_json::Error| Error::Answer {
            command: format!("cargo {}", command.join(" ")),
            problem: error.to_string(),
        };
        let line = answer.lines().last().unwrap_or_default();
        match self {
            Self::Validation => {
                let rows: Vec<Row> = serde_json::from_str(line).map_err(unreadable)?;
                let text = VALIDATION.replace("{table}", &table(&rows));
                Ok((section(self, "Validation", &text), summary(&rows)))
            }
            Self::Catchup => {
                let figures: Figures = serde_json::from_str(line).map_err(unreadable)?;
                let text = CATCHUP.replace("{table}", &figures.table("a second", &CATCHUP_TARGETS));
                Ok((section(self, "Catch-up", &text), figures.summary()))
            }
            Self::Gossip => {
                let figures: GossipFigures = serde_json::from_str(line).map_err(unreadable)?;
                let text = GOSSIP
                    .replace("{table}", &figures.table())
                    .replace("{p50_vs_same}", &times(figures.p50_vs_same))
                    .replace("{cpu_vs_same}", &times(figures.cpu_vs_same))
                    .replace(
                        "{cpu_extra_recovering_us}",
                        &format!("{:.0} µs", figures.cpu_extra_recovering_us),
                    )
                    .replace("{cpu_saved_us}", &format!("{:.0} µs", figures.cpu_saved_us));
                Ok((section(self, "Gossip", &text), figures.summary()))
            }
            Self::Storage => {
                let figures: Figures = serde_json::from_str(line).map_err(unreadable)?;
                let text = STORAGE.replace("{table}", &figures.table("of which", &STORAGE_TARGETS));
                Ok((section(self, "Storage", &text), figures.summary()))
            }
            Self::Base => {
                let figures: BaseFigures = serde_json::from_str(line).map_err(unreadable)?;
                let text = BASE.replace("{table}", &figures.table());
                Ok((section(self, "Base", &text), json!(figures)))
            }
            Self::Rpc => {
                let figures: Figures = serde_json::from_str(line).map_err(unreadable)?;
                let text = RPC.replace("{table}", &figures.table("of which", &RPC_TARGETS));
                Ok((section(self, "JSON-RPC", &text), figures.summary()))
            }
            Self::Guard => {
                let figures: GuardFigures = serde_json::from_str(line).map_err(unreadable)?;
                let text = GUARD.replace("{table}", &figures.table());
                Ok((section(self, "Signing guard", &text), json!(figures)))
            }
        }
    }
}

/// A section: its title, where and when it was measured, and what it says.
fn section(suite: Suite, title: &str, text: &str) -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    format!(
        "## {title}\n\n\
         | machine | {cpu}, {cores} cores, load {load} |\n|---|---|\n\
         | compiler | {rustc} |\n| date | {date} |\n| command | `cargo xtask bench --suite {suite}` |\n\n\
         {text}",
        cpu = processor(),
        rustc = compiler(),
        date = today(),
        suite = suite.name(),
    )
}

/// What the bench of a moving base prints.
#[derive(Debug, Serialize, Deserialize)]
struct BaseFigures {
    calls: u64,
    median_ms: f64,
    p99_ms: f64,
    sync_ms: f64,
    owner_ms: f64,
    live_flaps: u64,
}

impl BaseFigures {
    fn table(&self) -> String {
        let Self { calls, median_ms, p99_ms, sync_ms, owner_ms, live_flaps } = self;
        format!(
            "| of {calls} calls | | target |\n|---|---:| ---: |\n| `median_ms` | {median_ms:.3} |  |\n\
             | `p99_ms` | {p99_ms:.3} |  |\n| `sync_ms` | {sync_ms:.3} |  |\n| `owner_ms` | {owner_ms:.3} | < 1 |\n\
             | `live_flaps` | {live_flaps} | 0 |\n"
        )
    }
}

/// What the bench of signing guards prints.
#[derive(Debug, Serialize, Deserialize)]
struct GuardFigures {
    none_us: GuardTimes,
    disk_us: GuardTimes,
    postgres_us: GuardTimes,
    publications: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct GuardTimes {
    p50: f64,
    p99: f64,
}

impl GuardFigures {
    fn table(&self) -> String {
        let rows = [("none", self.none_us), ("disk", self.disk_us), ("postgres", self.postgres_us)];
        let row = |(name, GuardTimes { p50, p99 }): (&str, GuardTimes)| {
            format!("| `{name}_us` | {p50:.0} | {p99:.0} |\n")
        };
        let head = format!("| of {} publications each | p50 | p99 |\n|---|---:|---:|\n", self.publications);
        rows.into_iter().map(row).fold(head, |table, row| table + &row)
    }
}

/// What a bench prints: the figures asked for, and what they are made of.
#[derive(Debug, Deserialize)]
struct Figures {
    #[serde(flatten)]
    figures: Map<String, Value>,
    details: Map<String, Value>,
}

impl Figures {
    /// Both tables, with what is aimed at next to each figure that has a target.
    fn table(&self, of_details: &str, targets: &[(&str, &str)]) -> String {
        let third = |cell: &str| if targets.is_empty() { String::new() } else { format!(" {cell} |") };
        let head = |what: &str| format!("| {what} | |{}\n|---|---:|{}\n", third("target"), third("---:"));
        let row = |(name, value): (&String, &Value)| {
            let target = targets.iter().find(|(of, _)| of == name).map_or("", |(_, target)| target);
            format!("| `{name}` | {} |{}\n", three_digits(value), third(target))
        };
        let figures: String = self.figures.iter().map(row).collect();
        let details: String = self.details.iter().map(row).collect();
        format!("{}{figures}\n{}{details}", head("what"), head(of_details))
    }

    fn summary(self) -> Value {
        self.figures.into()
    }
}

/// A number as a human reads it.
fn three_digits(value: &Value) -> String {
    match value.as_f64() {
        _ if value.is_u64() => value.to_string(),
        Some(number) if number >= 100.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.3}"),
        None => value.to_string(),
    }
}

/// What the bench of gossip prints.
#[derive(Debug, Deserialize)]
struct GossipFigures {
    p50_ratio: f64,
    p99_ratio: f64,
    p50_vs_same: f64,
    cpu_vs_same: f64,
    cpu_extra_us: f64,
    cpu_extra_recovering_us: f64,
    cpu_saved_us: f64,
    raw_p50_ms: f64,
    ours_p50_ms: f64,
    raw_p99_ms: f64,
    ours_p99_ms: f64,
    raw_cpu_us: f64,
    ours_cpu_us: f64,
    all_p50_ms: f64,
    all_p99_ms: f64,
    all_cpu_us: f64,
    network_p50_ms: f64,
    network_p99_ms: f64,
    network_cpu_us: f64,
    raw_bytes: Option<f64>,
    all_bytes: Option<f64>,
    network_bytes: Option<f64>,
    ours_bytes: Option<f64>,
    deliveries: usize,
}

impl GossipFigures {
    fn table(&self) -> String {
        let [ours_bytes, network_bytes, all_bytes, raw_bytes] =
            [self.ours_bytes, self.network_bytes, self.all_bytes, self.raw_bytes]
                .map(|told| told.unwrap_or(f64::NAN));
        format!(
            "| of {} deliveries | ours | network | all | raw | ratio |\n|---|---:|---:|---:|---:|---:|\n\
             | the middle one | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2}× |\n\
             | the slowest in a hundred | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2}× |\n\
             | processor time of one | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} µs | {:+.0} µs |\n\
             | bytes on the loopback interface for one | {:.0} | {:.0} | {:.0} | {:.0} | {:.2}× |\n",
            self.deliveries,
            self.ours_p50_ms,
            self.network_p50_ms,
            self.all_p50_ms,
            self.raw_p50_ms,
            self.p50_ratio,
            self.ours_p99_ms,
            self.network_p99_ms,
            self.all_p99_ms,
            self.raw_p99_ms,
            self.p99_ratio,
            self.ours_cpu_us,
            self.network_cpu_us,
            self.all_cpu_us,
            self.raw_cpu_us,
            self.cpu_extra_us,
            ours_bytes,
            network_bytes,
            all_bytes,
            raw_bytes,
            ours_bytes / raw_bytes,
        )
    }

    fn summary(&self) -> Value {
        json!({
            "p50_ratio": self.p50_ratio,
            "p99_ratio": self.p99_ratio,
            "p50_vs_same": self.p50_vs_same,
            "cpu_vs_same": self.cpu_vs_same,
            "cpu_extra_us": self.cpu_extra_us,
            "cpu_extra_recovering_us": self.cpu_extra_recovering_us,
            "cpu_saved_us": self.cpu_saved_us,
            "raw_p50_ms": self.raw_p50_ms,
            "ours_p50_ms": self.ours_p50_ms,
        })
    }
}

/// One row, as the bench prints it.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    figure: Figure,
    median_ratio: f64,
    bytes: Option<u64>,
}

/// How long both ways took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Figure {
    ours_ns: f64,
    baseline_ns: f64,
    ratio: f64,
}

/// The rows that are asked for most, by name.
fn summary(rows: &[Row]) -> Value {
    const ASKED: [&str; 14] = [
        "single",
        "single_known",
        "page_256",
        "page_256_known",
        "page_256_known_one_core",
        "page_256_cold",
        "flood_unknown",
        "single_beside_pages_p99",
        "keccak_8x10kib",
        "keccak_8x2mib",
        "decode",
        "signing_hash",
        "txlist_check_2mib",
        "txlist_decode_2mib",
    ];
    let asked = rows.iter().filter(|row| ASKED.contains(&row.name.as_str()));
    let mut summary: Map<_, _> = asked.map(|row| (row.name.clone(), json!(row.figure))).collect();
    if let Some(table) = rows.iter().find(|row| row.name == "table_build") {
        summary.insert("table_build_us".into(), json!(table.figure.ours_ns / 1e3));
        summary.insert("table_kib".into(), json!(table.bytes.map(|bytes| bytes / 1024)));
    }
    summary.into()
}

/// Measures, prints the tables, writes each to its section of `docs/benchmarks.md`, and, if asked, ends with one
/// line of JSON: of the one suite, or of each by its name. Of several runs, the JSON has the middle of each figure.
pub(crate) fn run(suite: Option<Suite>, runs: u8, json: bool) -> Result<(), Error> {
    let suites = suite.map_or_else(|| Suite::value_variants().to_vec(), |suite| vec![suite]);
    let mut summaries = Map::new();
    for suite in &suites {
        let (section, summary) = suite.measure_each(runs)?;
        println!("{section}");
        let path = root().join("docs/benchmarks.md");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let written = fs::create_dir_all(root().join("docs"))
            .and_then(|()| fs::write(&path, replace_section(&before, suite.name(), &section)));
        written.map_err(|source| Error::Write { path, source })?;
        summaries.insert(suite.name().into(), summary);
    }
    if json {
        let one = suite.and_then(|suite| summaries.remove(suite.name()));
        println!("{}", one.unwrap_or(Value::Object(summaries)));
    }
    Ok(())
}

/// What stands before the section of a suite.
fn marker(suite: &str) -> String {
    format!("<!-- suite: {suite} -->\n")
}

/// The document with one section in the place of that suite's last one, or at its end.
fn replace_section(document: &str, suite: &str, section: &str) -> String {
    let marker = marker(suite);
    let (before, after) = match document.split_once(&marker) {
        Some((before, rest)) => (before, rest.find("<!-- suite: ").map_or("", |next| rest.split_at(next).1)),
        None if document.is_empty() => ("# Benchmarks\n\n", ""),
        None => (document, ""),
    };
    let gap = if before.ends_with("\n\n") { "" } else { "\n" };
    let end = if after.is_empty() { "" } else { "\n" };
    format!("{before}{gap}{marker}{section}{end}{after}")
}

/// The rows of ours against the naive way as a Markdown table.
fn table(rows: &[Row]) -> String {
    let row = |Row { name, figure, median_ratio, .. }: &Row| {
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
    }

    #[test]
    fn the_summary_has_the_rows_that_are_asked_for() {
        let json = summary(&rows(&["page_256", "encode", "single"]));
        assert_eq!(json["single"]["ratio"], 2000.0);
        assert_eq!(json["page_256"]["ours_ns"], 1500.0);
        assert!(json.get("encode").is_none());
    }

    #[test]
    fn figures_are_shown_with_what_they_are_made_of_and_summed_up_without() {
        let line = r#"{"txlists_vs_raw":0.71234,"refusals":0,"details":{"txlists_10kib":5123.4}}"#;
        let figures: Figures = serde_json::from_str(line).unwrap();
        let aimed = figures.table("a second", &[("txlists_vs_raw", "≥ 0.7")]);
        assert!(aimed.contains("| `refusals` | 0 |  |\n| `txlists_vs_raw` | 0.712 | ≥ 0.7 |\n"), "{aimed}");
        assert!(aimed.contains("| a second | | target |\n|---|---:| ---: |\n"), "{aimed}");
        let table = figures.table("a second", &[]);
        assert!(table.contains("| `txlists_vs_raw` | 0.712 |\n"), "{table}");
        assert!(
            table.contains("| `refusals` | 0 |") && table.contains("| `txlists_10kib` | 5123 |"),
            "{table}"
        );
        assert_eq!(figures.summary(), json!({"txlists_vs_raw": 0.71234, "refusals": 0}));
    }

    #[test]
    fn gossip_is_shown_whole_and_summed_up() {
        let line = r#"{"p50_ratio":1.25,"p99_ratio":1.5,"p50_vs_same":1.1,"cpu_vs_same":1.05,"cpu_extra_us":90.4,
            "cpu_extra_recovering_us":120.2,"cpu_saved_us":29.8,"raw_p50_ms":2.0,"ours_p50_ms":2.5,
            "raw_p99_ms":4.0,"ours_p99_ms":6.0,"raw_cpu_us":300.0,"ours_cpu_us":390.0,
            "all_p50_ms":2.1,"all_p99_ms":4.5,"all_cpu_us":340.0,"network_p50_ms":2.2,"network_p99_ms":5.0,
            "network_cpu_us":330.0,"raw_bytes":4000.0,"all_bytes":4100.0,"network_bytes":4200.0,"ours_bytes":3600.0,
            "deliveries":380}"#;
        let figures: GossipFigures = serde_json::from_str(line).unwrap();
        assert!(
            figures
                .table()
                .contains("| processor time of one | 390 µs | 330 µs | 340 µs | 300 µs | +90 µs |")
        );
        assert!(figures.table().ends_with(" for one | 3600 | 4200 | 4100 | 4000 | 0.90× |\n"));
        let summary = figures.summary();
        assert_eq!((&summary["p50_ratio"], &summary["cpu_vs_same"]), (&json!(1.25), &json!(1.05)));
    }

    #[test]
    fn a_moving_base_is_shown_with_its_targets() {
        let line =
            r#"{"calls":100,"median_ms":1.5,"p99_ms":2.5,"sync_ms":1.0,"owner_ms":0.5,"live_flaps":0}"#;
        let figures: BaseFigures = serde_json::from_str(line).unwrap();
        assert!(figures.table().contains("| `owner_ms` | 0.500 | < 1 |"), "{}", figures.table());
        assert_eq!(json!(figures), serde_json::from_str::<Value>(line).unwrap());
    }

    #[test]
    fn a_section_takes_the_place_of_its_last_one_and_of_no_other() {
        let one = replace_section("", "one", "first\n");
        let both = replace_section(&one, "two", "second\n");
        assert_eq!(both, "# Benchmarks\n\n<!-- suite: one -->\nfirst\n\n<!-- suite: two -->\nsecond\n");
        let again = replace_section(&both, "one", "third\n");
        assert_eq!(again, both.replace("first", "third"));
        assert_eq!(replace_section(&again, "two", "second\n"), again);
    }
}
