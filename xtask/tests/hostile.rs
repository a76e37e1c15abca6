//! A short run of `cargo xtask hostile`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

#[test]
fn no_adversary_costs_an_honest_message_and_each_is_scored_as_the_table_says() {
    let out = Command::new(env!("CARGO_BIN_EXE_network-hostile")).arg("--quick").output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    let line = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{stderr}");
    let reports: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    assert_eq!(reports.as_object().unwrap().len(), 32, "{stderr}");
    // Who has been shut out is not read any more and gets rid of no more than fills its window, some 450
    // messages. That shows where the machine is fast enough for a flood of as many a second as is read.
    let written = |name: &str| reports[name]["written"].as_u64().unwrap();
    let (shut_out, read) = (written("InvalidFlood"), written("IdenticalFlood"));
    assert!(read < 1500 || shut_out < 1000, "{shut_out} of the shut out, {read} read");
}
