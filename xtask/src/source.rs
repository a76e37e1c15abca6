//! The workspace's Rust files, for the checks that read them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{error::Error, shell::root};

/// A Rust file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Where it is, below the root of the workspace.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) text: String,
}

impl Source {
    /// Reads a file; the path is below the root.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(root().join(path))
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), text })
    }
}

/// The Rust files in a folder below the root, in the order of their paths.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<Source>, Error> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    paths.iter().map(|path| Source::read(path)).collect()
}

/// The crates below `crates/`: each one's name and folder, in order.
pub(crate) fn crates() -> Result<Vec<(String, PathBuf)>, Error> {
    let mut crates: Vec<_> = entries(Path::new("crates"))?
        .into_iter()
        .filter(|path| root().join(path).join("Cargo.toml").is_file())
        .filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)))
        .collect();
    crates.sort();
    Ok(crates)
}

/// The numbers of a file's lines without its modules of tests, which begin with `#[cfg(test)]` or more conditions at the margin.
pub(crate) fn lines_of_code(text: &str) -> BTreeSet<usize> {
    let (mut code, mut in_tests) = (BTreeSet::new(), false);
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        let opens = (line == "#[cfg(test)]" || line.starts_with("#[cfg(all(test, "))
            && lines.peek().is_some_and(|(next, _)| next.starts_with("mod ") && next.ends_with('{'));
        in_tests |= opens;
        if !in_tests {
            code.insert(number);
        }
        in_tests &= line != "}";
    }
    code
}

/// Whether a file holds nothing but tests: those of the module that it is named for.
pub(crate) fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for path in entries(folder)? {
        if root().join(&path).is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// What is in a folder, below the root as the folder is.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    fs::read_dir(root().join(folder))
        .map_err(failed)?
        .map(|entry| Ok(folder.join(entry.map_err(failed)?.file_name())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_file_is_among_the_files_of_its_folder() {
        let here = Path::new("xtask/src/source.rs");
        let files = rust_files(Path::new("xtask/src")).unwrap();
        assert!(files.iter().any(|file| file.path == here && file.text.contains("fn rust_files")));
        assert!(files.is_sorted_by_key(|file| file.path.clone()));
    }

    #[test]
    fn modules_of_tests_are_no_code() {
        let text = "use a;\n\n#[cfg(test)]\nmod tests {\n    fn f() {\n    }\n}\n\nfn g() {}\n";
        assert_eq!(lines_of_code(text), BTreeSet::from([1, 2, 8, 9]));
        assert_eq!(lines_of_code("#[cfg(test)]\nuse a;\n#[cfg(test)]\nmod tests;\n").len(), 4);
        assert_eq!(lines_of_code("#[cfg(all(test, unix))]\nmod tests {\n}\nuse a;\n"), BTreeSet::from([4]));
        assert_eq!(lines_of_code("").len(), 0);
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
    fn each_crate_is_found_with_its_folder() {
        let crates = crates().unwrap();
        assert!(crates.contains(&("p2p-types".into(), "crates/p2p-types".into())));
    }

    #[test]
    fn a_missing_folder_is_an_error_with_its_path() {
        let error = rust_files(Path::new("no/such/folder")).unwrap_err();
        assert!(error.to_string().contains("no/such/folder"));
    }
}
