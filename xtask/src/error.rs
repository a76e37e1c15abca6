//! Why a step failed.

use std::{io, path::PathBuf};

/// Why a step failed, in words for the terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A command could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start { command: String, source: io::Error },
    /// A command ran and failed; what it had to say stands above.
    #[error("`{command}` failed")]
    Failed { command: String },
    /// A command answered something that we cannot read.
    #[error("cannot read the answer of `{command}`: {problem}")]
    Answer { command: String, problem: String },
    /// A file or a folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A program is not there.
    #[error("there is no {what}")]
    Missing { what: &'static str },
    /// A check of our own found something.
    #[error("{} found:\n  {}", if .0.len() == 1 { "a problem" } else { "problems" }, .0.join("\n  "))]
    Found(Vec<String>),
}

impl Error {
    /// Good if nothing was found.
    pub(crate) fn unless_empty(found: Vec<String>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self::Found(found)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_listed_and_none_is_good() {
        assert!(Error::unless_empty(vec![]).is_ok());
        let two = Error::unless_empty(vec!["one".into(), "two".into()]).unwrap_err();
        assert_eq!(two.to_string(), "problems found:\n  one\n  two");
    }
}
