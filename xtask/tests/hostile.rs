//! A short run of `cargo xtask hostile`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

/// Most memory that honest nodes may take: they hold what was published in the last six seconds, and 32 MiB
/// for a peer that does not read.
const PEAK_MIB: u64 = 256;

/// Most time until a newcomer has been answered a head, a page and a list.
const NEWCOMER_MS: f64 = 5000.0;

/// Who may take every place of those who are not connected yet.
const FILLS: [&str; 2] = ["ConnectionFlood", "IdleSockets"];

/// Most invalid messages of one attacker that may reach the check of signatures at one neighbour.
const CHECKED: u64 = 300;

#[test]
fn no_adversary_costs_an_honest_message_and_each_is_scored_as_the_table_says() {
    let out = Command::new(env!("CARGO_BIN_EXE_network-hostile")).arg("--quick").output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    let line = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{stderr}");
    let reports: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    assert_eq!(reports.as_object().unwrap().len(), 27, "{stderr}");
    for (name, report) in reports.as_object().unwrap() {
        assert_eq!(report["honest_lost"], 0, "{name}: {report}");
        assert_eq!(report["scored"], true, "{name}: {report}");
        // Somebody new is answered in the middle of it, on a busy machine too, where there is a place.
        let newcomer = report["newcomer_ms"].as_f64();
        assert_eq!(newcomer.is_none(), FILLS.contains(&name.as_str()), "{name}: {report}");
        assert!(newcomer.is_none_or(|ms| ms < NEWCOMER_MS), "{name}: {report}");
        // All honest nodes of a case together.
        assert!(report["peak_mib"].as_u64().unwrap() < PEAK_MIB, "{name}: {report}");
    }
    let flood = &reports["InvalidFloodBy4Of20"];
    assert!(flood["checked"].as_u64().unwrap() < CHECKED, "{flood}");
    // Who has been shut out is not read any more and gets rid of no more than fills its window, some 450
    // messages. That shows where the machine is fast enough for a flood of as many a second as is read.
    let written = |name: &str| reports[name]["written"].as_u64().unwrap();
    let (shut_out, read) = (written("InvalidFlood"), written("IdenticalFlood"));
    assert!(read < 1500 || shut_out < 1000, "{shut_out} of the shut out, {read} read");
}
