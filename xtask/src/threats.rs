//! The tests that docs/threat-model.md names as evidence exist.
//!
//! A cell of its tables names a file below `crates/` in backticks, then tests in it: `` `a/tests/b.rs`: `c`, `d` ``.

use std::path::{Path, PathBuf};

use crate::{error::Error, source::Source, walks::defines};

const DOCUMENT: &str = "docs/threat-model.md";

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
fn problems(text: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let missing = |(number, file, test): (usize, PathBuf, &str)| {
        let exists = read(&file).is_some_and(|text| defines(&text, test.rsplit("::").next().unwrap_or(test)));
        (!exists).then(|| format!("{DOCUMENT}:{number}: there is no test {test} in {}", file.display()))
    };
    named(text).into_iter().filter_map(missing).collect()
}

/// Checks the document.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let document = Source::read(Path::new(DOCUMENT))?;
    let read = |path: &Path| Source::read(path).ok().map(|file| file.text);
    println!("{} tests are named in {DOCUMENT}", named(&document.text).len());
    Error::unless_empty(problems(&document.text, read))
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
        assert_eq!(problems(ROW, read), ["docs/threat-model.md:2: there is no test one in crates/a/c.rs"]);
        let without = |_: &Path| Some("fn one() {}".to_owned());
        assert_eq!(problems(ROW, without).len(), 1);
    }
}
