//! Tools that a step needs and that do not come with Rust.
//!
//! Without them a developer's run still says something: it goes on without and names what it left out. A run with
//! `CI=true` is a gate, so there a missing tool is installed, and is a failure where that fails.

use crate::{
    error::Error,
    shell::{cargo, has, installed, program, root},
};

/// A tool that is built from crates.io in less than three minutes on two cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    /// The command that shows that it is there.
    command: &'static str,
    /// Whether it is a cargo subcommand.
    is_subcommand: bool,
    /// What `cargo install` is told.
    package: &'static [&'static str],
}

/// Runs tests, each in a process of its own, and names the slow ones.
pub(crate) const NEXTEST: Tool = Tool {
    command: "nextest",
    is_subcommand: true,
    package: &["cargo-nextest@0.9.128", "--no-default-features", "--features", "default-no-update"],
};

/// Builds the book.
pub(crate) const MDBOOK: Tool =
    Tool { command: "mdbook", is_subcommand: false, package: &["mdbook@0.5.4", "--no-default-features"] };

/// The version of anvil that the tests were written against.
const ANVIL: &str = "1.7.1";

/// Whether there is an Ethereum node for tests, installed if npm is there. A gate fails without it.
pub(crate) fn anvil() -> Result<bool, Error> {
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let processor = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let package = format!("@foundry-rs/anvil-{system}-{processor}");
    let binary = root().join("target/anvil/node_modules").join(&package).join("bin/anvil");
    let is_there = || binary.is_file() || installed("anvil").is_some();
    // The binary alone, without any script of the package.
    let options = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", "target/anvil"];
    let package = format!("{package}@{ANVIL}");
    let install = || program("npm", options.into_iter().chain([package.as_str()])).run();
    decide(is_there, is_gate() || installed("npm").is_some(), install)
}

/// The version of Node.js that the example clients were written against: it runs TypeScript as it is.
const NODE_JS: &str = "24";

/// The version of Python's WebSocket client, likewise.
const WEBSOCKETS: &str = "15.0.1";

/// Whether there is what the example clients need: Python's `websockets`, installed if pip is there, and Node.js, if npm is.
/// A gate fails without them.
pub(crate) fn clients() -> Result<bool, Error> {
    let python = root().join("target/clients/python/websockets");
    let requirement = format!("websockets=={WEBSOCKETS}");
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        "target/clients/python",
    ];
    let install = || program("python3", pip.into_iter().chain([requirement.as_str()])).run();
    let has_python = decide(|| python.is_dir(), is_gate() || installed("pip").is_some(), install)?;
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let processor = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let package = format!("node-{system}-{processor}");
    let binary = root().join("target/clients/node_modules").join(&package).join("bin/node");
    let npm = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", "target/clients"];
    let package = format!("{package}@{NODE_JS}");
    let install = || program("npm", npm.into_iter().chain([package.as_str()])).run();
    let has_node = decide(|| binary.is_file(), is_gate() || installed("npm").is_some(), install)?;
    Ok(has_python && has_node)
}

/// Whether there is a PostgreSQL server for tests, and what makes the clock of a node go wrong, installed as Debian's packages if there
/// is apt-get. A gate fails without them.
pub(crate) fn postgres() -> Result<bool, Error> {
    // Debian keeps the server's programs out of `PATH`.
    let packaged = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions.map(|version| version.path().join("bin/initdb")).any(|program| program.is_file())
    };
    let has_clock = || !cfg!(target_os = "linux") || installed("faketime").is_some();
    let apt = |arguments: &[&'static str]| {
        // An account without rights over the host may have sudo.
        let command = match installed("sudo") {
            Some(_) => program("sudo", ["DEBIAN_FRONTEND=noninteractive", "apt-get"]),
            None => program("apt-get", []).env("DEBIAN_FRONTEND", "noninteractive"),
        };
        arguments.iter().fold(command, |command, argument| command.arg(argument)).run()
    };
    let install = || {
        let install = || apt(&["install", "--yes", "--no-install-recommends", "postgresql", "faketime"]);
        // On a new machine nobody has fetched the lists of packages yet.
        install().or_else(|_| apt(&["update"]).and_then(|()| install()))
    };
    decide(|| (packaged() || installed("initdb").is_some()) && has_clock(), is_gate(), install)
}

impl Tool {
    /// Whether the tool can be used. Installs it where the run is a gate.
    pub(crate) fn is_there(self) -> Result<bool, Error> {
        let looked_for =
            || if self.is_subcommand { has(self.command) } else { installed(self.command).is_some() };
        decide(looked_for, is_gate(), || self.install())
    }

    fn install(self) -> Result<(), Error> {
        // Unoptimised, as it is built for one run.
        cargo(["install", "--locked", "--debug"].into_iter().chain(self.package.iter().copied())).run()
    }
}

fn decide(
    is_there: impl FnOnce() -> bool,
    is_gate: bool,
    install: impl FnOnce() -> Result<(), Error>,
) -> Result<bool, Error> {
    match is_there() {
        true => Ok(true),
        false if is_gate => install().map(|()| true),
        false => Ok(false),
    }
}

/// Whether this run decides about a change, as those of CI do.
pub(crate) fn is_gate() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_installed_by_a_gate_and_by_nobody_else() {
        assert!(decide(|| true, true, || panic!("it is there")).unwrap());
        assert!(!decide(|| false, false, || panic!("nobody asked for it")).unwrap());
        assert!(decide(|| false, true, || Ok(())).unwrap());
    }

    #[test]
    fn a_tool_that_cannot_be_installed_fails_the_gate() {
        let failed = || Err(Error::Failed { command: "cargo install".into() });
        assert!(decide(|| false, true, failed).is_err());
    }
}
