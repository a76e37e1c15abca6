//! The tests that docs/threat-model.md and docs/field-reports.md name as evidence exist, and each report has one and a source.
//!
//! A cell of their tables names a file below `crates/` in backticks, then tests in it: `` `a/tests/b.rs`: `c`, `d` ``.

use std::path::{Path, PathBuf};

use crate::{error::Error, source::Source, walks::defines};

const THREATS: &str = "docs/threat-model.md";

/// Each row of its tables is a report of others: where it is, what happened there, and the test here that fails if it happens.
const REPORTS: &str = "docs/field-reports.md";

/// The tests that a document names, each with its file and line.
fn named(text: &str) -> Vec<(usize, PathBuf, &str)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.starts_with('|')) {
        let mut file: Option<PathBuf> = None;
        let mut parts = line.split('`');
        while let (Some(before), Some(quoted)) = (parts.next(), parts.next()) {
            // What ends a list of tests: another kind of evidence, another cell.
            if before.contains(['|', ';']) {
                file = None;
            }
            match &file {
                _ if quoted.ends_with(".rs") && quoted.contains('/') => {
                    file = Some(Path::new("crates").join(quoted));
                }
                Some(file) if matches!(before, ": " | ", ") => found.push((number, file.clone(), quoted)),
                _ => file = None,
            }
        }
    }
    found
}

/// The tests that do not exist. `read` gives the text of a file, if there is one.
fn problems(document: &str, text: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let missing = |(number, file, test): (usize, PathBuf, &str)| {
        let exists = read(&file).is_some_and(|text| defines(&text, test.rsplit("::").next().unwrap_or(test)));
        (!exists).then(|| format!("{document}:{number}: there is no test {test} in {}", file.display()))
    };
    named(text).into_iter().filter_map(missing).collect()
}

/// The reports without a source on the web or without a test.
fn unproven(text: &str) -> Vec<String> {
    let tests = named(text);
    let is_report = |line: &str| line.starts_with("| ") && line.contains("](");
    let is_proven =
        |number: usize, line: &str| line.contains("](https://") && tests.iter().any(|(at, ..)| *at == number);
    (1..)
        .zip(text.lines())
        .filter(|(number, line)| is_report(line) && !is_proven(*number, line))
        .map(|(number, _)| format!("{REPORTS}:{number}: a report needs a source on the web and a test"))
        .collect()
}

/// Checks both documents.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let read = |path: &Path| Source::read(path).ok().map(|file| file.text);
    let mut found = Vec::new();
    for document in [THREATS, REPORTS] {
        let text = Source::read(Path::new(document))?.text;
        println!("{} tests are named in {document}", named(&text).len());
        found.extend(problems(document, &text, read));
        if document == REPORTS {
            found.extend(unproven(&text));
        }
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "`a/b.rs`: `one`\n| it can `do` | it holds | `a/b.rs`: `one`, `two`; hostile: `X`; `a/c.rs`: `one` |\n";

    #[test]
    fn tests_are_named_behind_their_file() {
        let named: Vec<_> = named(ROW).into_iter().map(|(_, file, test)| (file, test)).collect();
        let b = PathBuf::from("crates/a/b.rs");
        assert_eq!(named, [(b.clone(), "one"), (b, "two"), ("crates/a/c.rs".into(), "one")]);
    }

    #[test]
    fn a_test_that_does_not_exist_fails() {
        let read =
            |path: &Path| (path == Path::new("crates/a/b.rs")).then(|| "fn one() {} fn two() {}".to_owned());
        let found = problems(THREATS, ROW, read);
        assert_eq!(found, ["docs/threat-model.md:2: there is no test one in crates/a/c.rs"]);
        let without = |_: &Path| Some("fn one() {}".to_owned());
        assert_eq!(problems(THREATS, ROW, without).len(), 1);
    }

    #[test]
    fn a_report_without_a_source_or_a_test_fails() {
        let good = "| report | here |\n|---|---|\n| [a#1](https://a.org/1) | `a/b.rs`: `one` |\n";
        assert_eq!(unproven(good), [""; 0]);
        for bad in ["| [a#1](https://a.org/1) | it holds |", "| [a#1](b.md) | `a/b.rs`: `one` |"] {
            assert_eq!(
                unproven(bad),
                ["docs/field-reports.md:1: a report needs a source on the web and a test"]
            );
        }
    }
}
