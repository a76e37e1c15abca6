//! Where and when something was measured.

use std::{fs, process::Command};

/// The compiler.
pub(crate) fn compiler() -> String {
    output("rustc", "--version")
}

/// The date, in UTC.
pub(crate) fn today() -> String {
    output("date", "--utc +%F")
}

/// The processor's name, where Linux tells it.
pub(crate) fn processor() -> String {
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
