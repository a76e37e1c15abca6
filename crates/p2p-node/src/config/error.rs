//! What is wrong with a configuration, in one line that says where.

use std::{io, path::PathBuf};

use crate::run::RunError;

/// Why file and environment are no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("--config {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in the file.
    #[error("--config {}, line {line}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: FileProblem,
    },
    /// A value in the environment.
    #[error("{variable}{}: {reason}", shown(.value))]
    Variable {
        /// The variable.
        variable: String,
        /// Its value; none where it may be a secret.
        value: Option<String>,
        /// Why it is none for this option.
        reason: String,
    },
}

/// What is wrong with a line of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileProblem {
    /// No TOML.
    #[error("{0}")]
    Toml(String),
    /// No option has this name.
    #[error("there is no option `{key}`{}", nearest.as_ref().map_or_else(
        || "; `p2p-node config sample` has all of them".to_owned(),
        |nearest| format!("; did you mean `{nearest}`?")
    ))]
    Unknown {
        /// The key.
        key: String,
        /// What it resembles.
        nearest: Option<String>,
    },
    /// The same key in two notations.
    #[error("{0} is given twice")]
    Twice(String),
    /// The value's type.
    #[error("{key}: of type {found}, must be {wanted}")]
    Type {
        /// The key.
        key: String,
        /// TOML's name of the type.
        found: &'static str,
        /// What it takes.
        wanted: &'static str,
    },
    /// The value.
    #[error("{key}{}: {reason}", shown(.value))]
    Value {
        /// The key.
        key: String,
        /// None where it may be a secret.
        value: Option<String>,
        /// Why it is none for this option.
        reason: String,
    },
}

fn shown(value: &Option<String>) -> String {
    value.as_ref().map(|value| format!(" = {value:?}")).unwrap_or_default()
}

/// Why `p2p-node config` has no good news.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// What a node would end with.
    #[error(transparent)]
    Run(#[from] RunError),
    /// stdout failed.
    #[error("writing stdout: {0}")]
    Output(#[source] io::Error),
}
