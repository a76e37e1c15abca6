//! The tests of the report: how they are run, and which of their figures stand in which column.

#![allow(
    clippy::indexing_slicing,
    reason = "there is an answer, and a field of JSON that is missing is null"
)]

use serde_json::Value;

use super::Size;

/// A row without its name, command and date. What a test has nothing to say about is a dash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) load: String,
    pub(super) faults: String,
    pub(super) bad_inputs: String,
    pub(super) lost: String,
    pub(super) banned: String,
    pub(super) memory: String,
}

pub(super) struct Test {
    pub(super) name: &'static str,
    /// What cargo is told to do, word by word.
    small: &'static str,
    large: &'static str,
    /// From the lines of JSON that it prints.
    pub(super) row: fn(&[Value]) -> Row,
}

impl Test {
    pub(super) const fn command(&self, size: Size) -> &'static str {
        match size {
            Size::Small => self.small,
            Size::Large => self.large,
        }
    }
}

pub(super) const TESTS: [Test; 11] = [
    Test {
        name: "Store killed",
        small: "xtask crash --cycles 20 --json",
        large: "xtask crash --cycles 1000 --json",
        row: |of| Row {
            load: format!("{} acknowledged writes", of[0]["acknowledged"]),
            faults: format!("{} × kill −9", of[0]["cycles"]),
            lost: number(&of[0]["lost"]),
            ..none()
        },
    },
    Test {
        name: "Node killed",
        small: "xtask crash --node --cycles 10 --json",
        large: "xtask crash --node --cycles 1000 --json",
        row: |of| Row {
            load: format!("{} acknowledged blocks over JSON-RPC", of[0]["acknowledged"]),
            faults: format!("{} × kill −9 and SIGTERM", of[0]["cycles"]),
            lost: number(&of[0]["lost"]),
            ..none()
        },
    },
    Test {
        name: "Two nodes with one key",
        small: "xtask crash --shared-key --cycles 5 --outages 1 --heights 100 --json",
        large: "xtask crash --shared-key --cycles 200 --heights 10000 --json",
        row: |of| Row {
            load: format!("{} heights, {} acknowledged", of[0]["heights"], of[0]["acknowledged"]),
            faults: format!(
                "{} kills of nodes, {} kills and freezes of their database",
                of[0]["kills"], of[0]["outages"]
            ),
            bad_inputs: format!("{} second promises, refused", of[0]["conflicts_refused"]),
            lost: number(&of[0]["lost"]),
            ..none()
        },
    },
    Test {
        name: "Damaged files",
        small: "xtask damage --copies 50 --json",
        large: "xtask damage --copies 1000 --json",
        row: |of| Row {
            bad_inputs: format!(
                "{} damaged stores: {} refused, {} sound, {} wrongly called sound",
                of[0]["copies"], of[0]["clean_errors"], of[0]["sound"], of[0]["false_sound"]
            ),
            ..none()
        },
    },
    Test {
        name: "Hostile peers",
        small: "xtask hostile --quick --json",
        large: "xtask hostile --json",
        row: hostile,
    },
    Test {
        name: "Simulator",
        small: "xtask sim --seeds 0..200 --json",
        large: "xtask sim --seeds 0..20000 --json",
        row: |of| Row {
            load: format!(
                "{} runs of {} nodes and 30 % adversaries, {} s of virtual time, {} blocks",
                of[0]["seeds"], of[0]["nodes"], of[0]["virtual_seconds"], of[0]["published"]
            ),
            faults: number(&of[0]["faults"]),
            lost: failures(&of[0]["failures"]),
            banned: failures(&of[0]["failures"]),
            ..none()
        },
    },
    Test {
        name: "Fuzzing",
        small: "xtask fuzz --runs 20000 --json",
        large: "xtask fuzz --runs 10000000 --json",
        row: |of| Row {
            bad_inputs: format!(
                "{} inputs to {} targets, {} crashes",
                sum(of, "executions"),
                of.len(),
                sum(of, "crashes")
            ),
            memory: format!("{} MiB", most(of, "peakMib")),
            ..none()
        },
    },
    Test {
        name: "Many nodes",
        small: "run --quiet --release --package p2p-node -- devnet --json --transport memory \
                --window 12 --nodes 50 --hostile 12 --sybils 16 --blocks 20",
        large: "run --quiet --release --package p2p-node -- devnet --json --transport memory \
                --window 12 --nodes 200 --hostile 50 --sybils 16 --blocks 60",
        row: |of| Row {
            load: format!(
                "{} nodes in memory, {} blocks; p50 {} ms, p99 {} ms",
                of[0]["nodes"],
                of[0]["blocks"],
                tenths(&of[0]["latency_ms"]["p50"]),
                tenths(&of[0]["latency_ms"]["p99"])
            ),
            faults: format!("{} hostile nodes, four to one around a late one", of[0]["liar"]["peers"]),
            bad_inputs: format!("{} messages, {} accepted", of[0]["liar"]["sent"], of[0]["liar"]["accepted"]),
            lost: number(&of[0]["missing"]),
            banned: number(&of[0]["honest_banned"]),
            memory: format!("{} KiB a node", of[0]["cost"]["kib_per_node"]),
        },
    },
    Test {
        name: "Hosts",
        small: "xtask netns faults --partition 10 --json",
        large: "xtask netns faults --json",
        row: |of| Row {
            load: format!("{} nodes in namespaces, {} blocks", of[0]["hosts"], of[0]["blocks"]),
            faults: format!(
                "a partition ({} s to converge), a line that flaps ({} s), a killed host ({} s)",
                tenths(&of[0]["after_partition_s"]),
                tenths(&of[0]["after_flapping_s"]),
                tenths(&of[0]["after_kill_s"])
            ),
            lost: number(&of[0]["gaps"]),
            banned: number(&of[0]["penalties"]),
            ..none()
        },
    },
    Test {
        name: "Soak",
        small: "xtask soak --minutes 2 --json",
        large: "xtask soak --minutes 60 --json",
        row: |of| Row {
            load: format!("{} blocks in {} min", of[0]["blocks"], of[0]["minutes"]),
            faults: format!(
                "{} kills, {} full disks, {} newcomers",
                of[0]["restarts"], of[0]["full_disks"], of[0]["newcomers"]
            ),
            lost: number(&of[0]["lost"]),
            banned: number(&of[0]["penalties"]),
            memory: format!(
                "{} MiB, {} MiB an hour",
                tenths(&of[0]["measured"][1]["memory_mib"]["most"]),
                tenths(&of[0]["measured"][1]["memory_mib"]["an_hour"])
            ),
            ..none()
        },
    },
    Test {
        name: "Coverage",
        small: "xtask coverage --json",
        large: "xtask coverage --json",
        row: |of| Row { load: coverage(&of[0]), ..none() },
    },
];

/// Lines that run, by crate.
fn coverage(of: &Value) -> String {
    let crates = of.as_object().into_iter().flatten();
    let shown = crates.map(|(name, lines)| format!("{name} {} %", tenths(&lines["percent"])));
    format!("lines: {}", shown.collect::<Vec<_>>().join(", "))
}

fn none() -> Row {
    let dash = || "–".to_owned();
    Row { load: dash(), faults: dash(), bad_inputs: dash(), lost: dash(), banned: dash(), memory: dash() }
}

fn number(value: &Value) -> String {
    value.to_string()
}

fn tenths(value: &Value) -> String {
    format!("{:.1}", value.as_f64().unwrap_or(f64::NAN))
}

/// None failed, or how many.
fn failures(value: &Value) -> String {
    value.as_array().map_or_else(|| "?".to_owned(), |failed| failed.len().to_string())
}

fn values(of: &[Value], name: &str) -> impl Iterator<Item = u64> {
    of.iter().filter_map(move |row| row[name].as_u64())
}

fn sum(of: &[Value], name: &str) -> u64 {
    values(of, name).sum()
}

fn most(of: &[Value], name: &str) -> u64 {
    values(of, name).max().unwrap_or_default()
}

/// One object, of adversaries by name.
fn hostile(of: &[Value]) -> Row {
    let rows: Vec<Value> = of[0].as_object().into_iter().flatten().map(|(_, row)| row.clone()).collect();
    Row {
        load: format!("{} messages of honest peers", sum(&rows, "honest_sent")),
        faults: format!("{} adversaries over sockets", rows.len()),
        bad_inputs: format!("{} frames", sum(&rows, "written")),
        lost: sum(&rows, "honest_lost").to_string(),
        memory: format!("{} MiB", most(&rows, "peak_mib")),
        ..none()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_crate_has_its_coverage() {
        let of = json!({"p2p-a": {"percent": 93.25}, "p2p-b": {"percent": 100.0}});
        assert_eq!(coverage(&of), "lines: p2p-a 93.2 %, p2p-b 100.0 %");
    }

    #[test]
    fn adversaries_are_added_up() {
        let row = |sent, lost, peak| json!({"honest_sent": sent, "honest_lost": lost, "peak_mib": peak, "written": 5});
        let all = json!({"Flood": row(10, 0, 80), "Sybil": row(20, 1, 90)});
        let row = hostile(&[all]);
        assert_eq!((row.lost.as_str(), row.memory.as_str()), ("1", "90 MiB"));
        assert_eq!(
            (row.load.as_str(), row.bad_inputs.as_str()),
            ("30 messages of honest peers", "10 frames")
        );
    }
}
