//! A short run of `cargo xtask crash`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed() {
    let out = Command::new(env!("CARGO_BIN_EXE_storage-crash"))
        .args(["--cycles", "20", "--seed", "7", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    println!("{report}");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!((&report["cycles"], &report["lost"]), (&20.into(), &0.into()));
    assert!(report["acknowledged"].as_u64().unwrap() > 100);
}
