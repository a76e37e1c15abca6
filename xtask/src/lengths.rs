//! No source file is longer than one can keep in mind: 500 lines without its tests.

use std::path::Path;

use crate::{
    error::Error,
    source::{self, is_test, lines_of_code},
};

/// Most lines of a file without its unit tests. About 400 are the aim.
const MOST: usize = 500;

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
        found.extend(problem(&file.path, lines_of_code(&file.text).len()));
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_file_fails() {
        let path = Path::new("src/a.rs");
        assert_eq!(problem(path, MOST), None);
        assert_eq!(problem(path, MOST + 1).unwrap(), "src/a.rs has 501 lines without its tests, 500 at most");
    }
}
