//! A local Ethereum node for tests, and contracts to put on it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// By name, the ABI and the bytecode of the contracts in `contracts/Mocks.sol`: `Inbox`, `Whitelist`, `StoreV1`, `StoreV2`.
pub const CONTRACTS: &str = include_str!("../contracts/mocks.json");

/// The program of anvil: the one that `cargo xtask anvil` has installed, or the first in `PATH`. None where there is none,
/// which a test says and passes.
///
/// # Panics
/// Where there is none and `CI` is `true`: a gate tests everything.
#[must_use]
pub fn anvil() -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/anvil/node_modules/@foundry-rs");
    let installed = fs::read_dir(packages).into_iter().flatten().flatten().map(|package| package.path());
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<_> = env::split_paths(&path).map(|folder| folder.join("anvil")).collect();
    let found = installed.map(|package| package.join("bin/anvil")).chain(in_path).find(|file| file.is_file());
    let is_gate = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(found.is_some() || !is_gate, "no anvil: `cargo xtask anvil` installs it");
    if found.is_none() {
        eprintln!("skipped: no anvil; `cargo xtask anvil` installs it");
    }
    found
}
