//! A short run of `cargo xtask hostile`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

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
        // All nodes and adversaries of a run together.
        assert!(report["peak_mib"].as_u64().unwrap() < 1024, "{name}: {report}");
    }
}
