//! `cargo xtask coverage`: how much of each inner crate its own tests run, in lines. Code for tests does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use crate::{
    error::Error,
    layering,
    shell::{cargo, has, root},
    source::{Source, is_test, lines_of_code},
};

/// What each crate has to reach, in percent.
const LEAST: f64 = 92.0;

/// Files and folders that the feature `test-utils` adds.
const FOR_TESTS: [&str; 3] = ["conformance", "fixtures", "fuzz"];

/// Line coverage of the inner crates.
#[derive(Debug, Clone, Args)]
pub(crate) struct Coverage {
    /// Only the crates whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Name the lines that no test runs.
    #[arg(long)]
    lines: bool,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// The lines of one crate that have code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    covered: usize,
    missed: BTreeMap<PathBuf, BTreeSet<usize>>,
}

/// Measures; an error if a crate reaches too little.
pub(crate) fn run(coverage: &Coverage) -> Result<(), Error> {
    if !has("llvm-cov") {
        return Err(Error::Missing { what: "cargo-llvm-cov" });
    }
    let (mut found, mut answer) = (Vec::new(), serde_json::Map::new());
    for package in layering::inner_crates().filter(|package| package.contains(&coverage.only)) {
        let lines = Lines::of(package)?;
        let (percent, missed) = (lines.percent(), lines.missed());
        println!("{package:<22} {percent:5.1} % of {} lines", lines.covered + missed);
        if coverage.lines {
            for (path, numbers) in &lines.missed {
                println!("  {}: {}", path.display(), ranges(numbers));
            }
        }
        if percent < LEAST {
            found.push(format!(
                "{package}: {percent:.1} % of its lines are run by its tests, {LEAST} % at least"
            ));
        }
        answer
            .insert(package.into(), json!({"covered": lines.covered, "missed": missed, "percent": percent}));
    }
    if coverage.json {
        println!("{}", serde_json::Value::Object(answer));
    }
    Error::unless_empty(found)
}

impl Lines {
    /// Runs the tests of a package.
    fn of(package: &str) -> Result<Self, Error> {
        let of_package = ["--package", package, "--all-features", "--lib", "--tests", "--quiet"];
        let report = cargo(["llvm-cov", "--lcov"].into_iter().chain(of_package)).read()?;
        let folder = Path::new("crates").join(package).join("src");
        Self::in_report(&report, |path| {
            let path = path.strip_prefix(root()).unwrap_or(path);
            let counts = path.starts_with(&folder) && !is_test(path) && !is_for_tests(path);
            counts.then(|| Source::read(path)).transpose()
        })
    }

    /// From a report in the form of LCOV: `SF:` and a path, then `DA:` and a line with how often it ran.
    fn in_report(
        report: &str,
        source: impl Fn(&Path) -> Result<Option<Source>, Error>,
    ) -> Result<Self, Error> {
        let (mut lines, mut of) = (Self::default(), None);
        for line in report.lines() {
            if let Some(path) = line.strip_prefix("SF:") {
                of = source(Path::new(path))?.map(|source| (lines_of_code(&source.text), source.path));
            }
            let (Some((code, path)), Some(data)) = (&of, line.strip_prefix("DA:")) else { continue };
            let mut numbers = data.split(',').map_while(|number| number.parse::<usize>().ok());
            let (Some(number), Some(times)) = (numbers.next(), numbers.next()) else { continue };
            match times {
                _ if !code.contains(&number) => {}
                0 => {
                    lines.missed.entry(path.clone()).or_default().insert(number);
                }
                _ => lines.covered += 1,
            }
        }
        Ok(lines)
    }

    fn missed(&self) -> usize {
        self.missed.values().map(BTreeSet::len).sum()
    }

    #[allow(clippy::cast_precision_loss, reason = "thousands of lines")]
    fn percent(&self) -> f64 {
        100.0 * self.covered as f64 / (self.covered + self.missed()).max(1) as f64
    }
}

fn is_for_tests(path: &Path) -> bool {
    path.with_extension("").iter().any(|part| FOR_TESTS.iter().any(|name| part == *name))
}

/// Numbers that follow each other, as one.
fn ranges(numbers: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_and_of_other_crates_do_not_count() {
        let report =
            "SF:/a.rs\nFN:1,f\nDA:1,3\nDA:2,0\nDA:3,0\nDA:6,9\nend_of_record\nSF:/other.rs\nDA:1,0\n";
        let text = "fn f() {\n    g()\n}\n#[cfg(test)]\nmod tests {\n    fn h() {}\n}\n";
        let lines = Lines::in_report(report, |path| {
            let source = Source { path: path.to_owned(), text: text.into() };
            Ok((path == Path::new("/a.rs")).then_some(source))
        })
        .unwrap();
        let missed = BTreeMap::from([("/a.rs".into(), BTreeSet::from([2, 3]))]);
        assert_eq!(lines, Lines { covered: 1, missed });
        assert!((lines.percent() - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(ranges(&BTreeSet::from([2, 3, 5])), "2-3, 5");
    }

    #[test]
    fn what_a_feature_adds_for_tests_does_not_count() {
        for path in ["crates/a/src/fuzz.rs", "crates/a/src/conformance/heads.rs"] {
            assert!(is_for_tests(Path::new(path)), "{path}");
        }
        assert!(!is_for_tests(Path::new("crates/a/src/frames.rs")));
    }
}
