//! The workspace's Rust files, for the checks that read them.

use std::{
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
