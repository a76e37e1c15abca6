//! `cargo xtask without`: takes one rule at a time out of a copy of the workspace. A fuzz target has to notice each within a minute;
//! with all rules in place, none may find anything.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    error::Error,
    shell::{Task, cargo, program, root},
};

/// How long a target may take to notice.
const WITHIN: Duration = Duration::from_secs(60);

/// Inputs for each target, besides those that are committed.
const CASES: &str = "2000";

/// Which rules.
#[derive(Debug, Clone, Args)]
pub(crate) struct Without {
    /// Only the rules whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
}

/// A rule, and what the code is without it.
struct Rule {
    name: &'static str,
    file: &'static str,
    with: &'static str,
    without: &'static str,
    /// The target that notices.
    target: &'static str,
}

const RULES: [Rule; 6] = [
    Rule {
        name: "parent",
        file: "crates/p2p-validation/src/validator.rs",
        with: "None => ValidationOutcome::Defer(Missing::Parent(named)),",
        without: "None => ValidationOutcome::Accept(None),",
        target: "chain",
    },
    Rule {
        name: "election",
        file: "crates/p2p-validation/src/validator.rs",
        with: "if !signers.contains(signer) && !self.lookahead.elects_anyone() {",
        without: "if false && !signers.contains(signer) {",
        target: "chain",
    },
    Rule {
        name: "low-s",
        file: "crates/preconfirmation-types/src/recovery.rs",
        with: "if s > &HALF_ORDER[..] && s < &ORDER[..] {",
        without: "if s > &ORDER[..] && s < &HALF_ORDER[..] {",
        target: "signature",
    },
    Rule {
        name: "guard",
        file: "crates/p2p-client/src/chain/guard.rs",
        with: "let (kind, signed) = broken.or_else(|| witness.conflict(new))?;",
        without: "let (kind, signed) = broken.or_else(|| witness.conflict(new)).filter(|_| false)?;",
        target: "chain",
    },
    Rule {
        name: "release of the base",
        file: "crates/p2p-client/src/chain/mod.rs",
        with: "self.pending.take_up_to(base.next())",
        without: "self.pending.take_up_to(0)",
        target: "chain",
    },
    Rule {
        name: "byte bound of the pending pool",
        file: "crates/p2p-storage/src/pending.rs",
        with: "if wanted <= room {",
        without: "if wanted > 0 {",
        target: "chain",
    },
];

impl Rule {
    /// The file without the rule; none where the rule is not in it just once.
    fn taken_out(&self, text: &str) -> Option<String> {
        (text.matches(self.with).count() == 1).then(|| text.replacen(self.with, self.without, 1))
    }
}

/// Takes them out; an error if that was not noticed.
pub(crate) fn run(without: &Without) -> Result<(), Error> {
    let copy = Copy::new()?;
    for target in ["chain", "signature"] {
        copy.targets(target, CASES).run_quietly()?;
    }
    let mut unnoticed = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.name.contains(&without.only)) {
        let took = copy.without(rule)?;
        println!(
            "without {}: {}",
            rule.name,
            match took {
                Some(took) => format!("{} fails after {:.1} s", rule.target, took.as_secs_f64()),
                None => format!("{} finds nothing", rule.target),
            }
        );
        if took.is_none_or(|took| took > WITHIN) {
            unnoticed.push(rule.name.to_owned());
        }
    }
    Error::unless_empty(unnoticed)
}

/// A copy of the workspace with a target directory of its own.
struct Copy(PathBuf);

impl Copy {
    fn new() -> Result<Self, Error> {
        let copy = root().join("target/without");
        let files = program("git", ["ls-files", "-z"]).read()?;
        for file in files.split_terminator('\0').map(Path::new).filter(|file| root().join(file).is_file()) {
            let text = read(&root().join(file))?;
            let to = copy.join(file);
            // What has not changed is not built again.
            if fs::read(&to).is_ok_and(|there| there == text) {
                continue;
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)
                    .map_err(|source| Error::Write { path: folder.to_owned(), source })?;
            }
            write(&to, &text)?;
        }
        Ok(Self(copy))
    }

    /// A target on its seeds and so many other inputs.
    fn targets(&self, name: &str, cases: &str) -> Task {
        let test =
            ["test", "--quiet", "--package", "preconfirmation-fuzz", "--test", "targets", "--", "--exact"];
        let target = self.0.join("target");
        cargo(test)
            .arg(name)
            .within(&self.0)
            .env("CARGO_TARGET_DIR", &target.to_string_lossy())
            .env("FUZZ_CASES", cases)
    }

    /// How long it takes to notice that a rule is missing, the build left out; none if nothing is noticed.
    fn without(&self, rule: &Rule) -> Result<Option<Duration>, Error> {
        let path = self.0.join(rule.file);
        let with = read(&path)?;
        let text = String::from_utf8_lossy(&with);
        let without = rule.taken_out(&text).ok_or_else(|| Error::Answer {
            command: format!("without {}", rule.name),
            problem: format!("{} has it not just once", rule.file),
        })?;
        write(&path, without.as_bytes())?;
        let built = self.targets("none", CASES).run_quietly();
        let begun = Instant::now();
        let noticed = built.is_ok() && self.targets(rule.target, CASES).run_quietly().is_err();
        let took = begun.elapsed();
        write(&path, &with)?;
        built.map(|()| noticed.then_some(took))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn write(path: &Path, text: &[u8]) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_where_it_is_taken_out() {
        for rule in &RULES {
            let text = fs::read_to_string(root().join(rule.file)).unwrap();
            let without = rule.taken_out(&text).expect(rule.name);
            assert!(!without.contains(rule.with) && without.contains(rule.without), "{}", rule.name);
        }
    }
}
