//! A short run of `cargo xtask hostile`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

/// Most memory that honest nodes may take: they hold what was published in the last six seconds, and 32 MiB
/// for a peer that does not read.
const PEAK_MIB: u64 = 256;

/// Most invalid messages of one attacker that may reach the check of signatures at one neighbour.
const CHECKED: u64 = 300;

/// Messages that a flood has prepared in a short run.
const OFFERED: u64 = 4000;

#[test]
fn no_adversary_costs_an_honest_message_and_each_is_scored_as_the_table_says() {
    let out = Command::new(env!("CARGO_BIN_EXE_network-hostile")).arg("--quick").output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    let line = String::from_utf8_lossy(&out.stdout);
    let reports: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    assert!(out.status.success(), "{stderr}");
    assert_eq!(reports.as_object().unwrap().len(), 15, "{stderr}");
    for (name, report) in reports.as_object().unwrap() {
        assert_eq!(report["honest_lost"], 0, "{name}: {report}");
        assert_eq!(report["scored"], true, "{name}: {report}");
        // All honest nodes of a case together.
        assert!(report["peak_mib"].as_u64().unwrap() < PEAK_MIB, "{name}: {report}");
    }
    let flood = &reports["InvalidFloodBy4Of20"];
    assert!(flood["checked"].as_u64().unwrap() < CHECKED, "{flood}");
    // Who has been shut out is not read any more, so that it gets rid of no more than fills the windows.
    let flood = &reports["InvalidFlood"];
    assert!(flood["written"].as_u64().unwrap() < OFFERED / 2, "{flood}");
}
