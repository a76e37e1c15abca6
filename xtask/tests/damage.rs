//! A short run of `cargo xtask damage`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

#[test]
fn a_damaged_store_is_refused_in_one_line_or_sound() {
    // Each way once.
    let out = Command::new(env!("CARGO_BIN_EXE_storage-damage"))
        .args(["--copies", "29", "--seed", "7", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    println!("{report}");
    assert!(out.status.success(), "{report} {}", String::from_utf8_lossy(&out.stderr));
    for never in ["signals", "panics", "false_sound"] {
        assert_eq!(report[never], 0, "{never}");
    }
    assert!(
        report["clean_errors"].as_u64().unwrap() > 10 && report["sound"].as_u64().unwrap() > 0,
        "{report}"
    );
}
