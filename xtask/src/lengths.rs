//! No source file is longer than one can keep in mind: 500 lines without its tests.

use std::path::Path;

use crate::{error::Error, source};

/// Most lines of a file without its unit tests. About 400 are the aim.
const MOST: usize = 500;

/// The lines of a file without its modules of tests, which begin with `#[cfg(test)]` at the margin.
fn lines_without_tests(text: &str) -> usize {
    let (mut count, mut in_tests) = (0, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = line == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        in_tests |= opens;
        count += usize::from(!in_tests);
        in_tests &= line != "}";
    }
    count
}

/// Whether a file holds nothing but tests: those of the module that it is named for.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

/// What is wrong with a file of this many lines.
fn problem(path: &Path, lines: usize) -> Option<String> {
    (lines > MOST).then(|| format!("{} has {lines} lines without its tests, {MOST} at most", path.display()))
}

/// Checks every source file.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let mut folders: Vec<_> = source::crates()?.into_iter().map(|(_, folder)| folder.join("src")).collect();
    folders.extend(["xtask/src".into(), "benches".into()]);
    let mut found = Vec::new();
    let mut files = Vec::new();
    for folder in folders {
        files.extend(source::rust_files(&folder)?.into_iter().filter(|file| !is_test(&file.path)));
    }
    for file in &files {
        found.extend(problem(&file.path, lines_without_tests(&file.text)));
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_tests_do_not_count() {
        let text = "use a;\n\n#[cfg(test)]\nmod tests {\n    fn f() {\n    }\n}\n\nfn g() {}\n";
        assert_eq!(lines_without_tests(text), 4);
        assert_eq!(lines_without_tests("#[cfg(test)]\nuse a;\n#[cfg(test)]\nmod tests;\n"), 4);
        assert_eq!(lines_without_tests(""), 0);
    }

    #[test]
    fn a_file_of_tests_is_one() {
        for path in ["crates/a/src/chain/tests/liars.rs", "crates/a/src/feed/tests.rs", "a/src/disk_tests.rs"]
        {
            assert!(is_test(Path::new(path)), "{path}");
        }
        assert!(!is_test(Path::new("crates/a/src/test_net.rs")));
    }

    #[test]
    fn a_longer_file_fails() {
        let path = Path::new("src/a.rs");
        assert_eq!(problem(path, MOST), None);
        assert_eq!(problem(path, MOST + 1).unwrap(), "src/a.rs has 501 lines without its tests, 500 at most");
    }
}
