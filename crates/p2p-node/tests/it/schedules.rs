//! Schedules that are not for now.

use std::{fs, process::Stdio};

use serde_json::json;

use crate::rig::{LOOPBACK, NODE, Node, ZERO, expect, now};

#[test]
fn a_schedule_in_milliseconds_is_refused_and_one_for_another_time_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schedule.json");
    let source = |kind: &str| format!("{kind}:{}", path.display());
    let file = |start: u64, end: u64| {
        fs::write(&path, json!([{ "signer": ZERO, "start": start, "end": end }]).to_string()).unwrap();
    };
    let rotation = |genesis: u64| {
        let rotation = json!({ "genesis": genesis, "window": 12, "operators": [ZERO] });
        fs::write(&path, rotation.to_string()).unwrap();
    };
    let options = |lookahead: &str| {
        ["run", "--domain", "placeholder", "--slasher", ZERO, "--lookahead", lookahead, "--base=10"]
            .iter()
            .chain(&LOOPBACK)
            .map(|option| (*option).to_owned())
            .collect::<Vec<_>>()
    };
    let run = |lookahead: &str| {
        let options = options(lookahead);
        Node::spawn(NODE, &options.iter().map(String::as_str).collect::<Vec<_>>(), Stdio::null())
    };
    let refuse = |lookahead: &str, words: &[&str]| {
        let options = options(lookahead);
        expect(1, &options.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };

    file(now() * 1000, now() * 1000 + 12_000);
    refuse(&source("file"), &["--lookahead file:", "[0].start", "milliseconds", "unix seconds"]);
    rotation(now() * 1000);
    refuse(&source("rotating"), &["--lookahead rotating:", "genesis", "milliseconds"]);

    file(now() + 3600, now() + 7200);
    let node = run(&source("file"));
    node.logs(&["WARN", "--lookahead file:", "begins in 3"]);
    node.stop();
    rotation(now() + 3600);
    let node = run(&source("rotating"));
    node.logs(&["WARN", "--lookahead rotating:", "begins in 3"]);
    node.stop();
    file(1000, 2000);
    let node = run(&source("file"));
    node.logs(&["WARN", "--lookahead file:", "ended"]);
    node.stop();
    // One that never ends, and one that runs, are neither.
    for last in [now() + 3600, u64::MAX] {
        file(1000, last);
        let node = run(&source("file"));
        let said = node.log_until("running");
        assert!(!said.contains("--lookahead"), "{said}");
        node.stop();
    }
}
