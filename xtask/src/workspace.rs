//! The workspace and its lock file, as `cargo metadata` tells them.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{error::Error, shell::cargo};

/// What `cargo metadata` answers, as far as it is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Crate>,
    workspace_members: Vec<String>,
}

/// One crate of the workspace or of its dependencies.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Crate {
    id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// What it says to be.
    pub(crate) description: Option<String>,
    /// Where its source is.
    pub(crate) repository: Option<String>,
    /// What it is found by.
    pub(crate) keywords: Vec<String>,
    /// Where a registry lists it.
    pub(crate) categories: Vec<String>,
    /// Under what it may be used.
    pub(crate) license: Option<String>,
    /// The oldest Rust that it says to need.
    pub(crate) rust_version: Option<String>,
    /// The registries it may go to: none at all means never published.
    publish: Option<Vec<String>>,
    /// Its manifest.
    pub(crate) manifest_path: PathBuf,
    /// What its manifest asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency as a manifest asks for it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    /// The crate.
    pub(crate) name: String,
    /// The versions that fit.
    pub(crate) req: String,
    /// `dev`, `build`, or nothing for a normal one.
    pub(crate) kind: Option<String>,
    /// Where it lives, for one that is in the workspace.
    pub(crate) path: Option<PathBuf>,
}

impl Metadata {
    /// The workspace alone; asks no registry.
    pub(crate) fn of_workspace() -> Result<Self, Error> {
        Self::ask(&["--no-deps"])
    }

    /// The workspace and everything that it is built from on this platform.
    pub(crate) fn with_dependencies() -> Result<Self, Error> {
        let version = std::process::Command::new("rustc").arg("-vV").output();
        let host = version.ok().and_then(|out| {
            let text = String::from_utf8(out.stdout).ok()?;
            text.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        });
        match host {
            Some(host) => Self::ask(&["--filter-platform", &host]),
            None => Self::ask(&[]),
        }
    }

    fn ask(args: &[&str]) -> Result<Self, Error> {
        let command = ["metadata", "--format-version", "1", "--all-features"];
        let answer = cargo(command.into_iter().chain(args.iter().copied())).read()?;
        serde_json::from_str(&answer)
            .map_err(|problem| Error::Answer { command: command.join(" "), problem: problem.to_string() })
    }

    /// Everything known.
    pub(crate) fn packages(&self) -> &[Crate] {
        &self.packages
    }

    /// The crates of the workspace, by name.
    pub(crate) fn members(&self) -> Vec<&Crate> {
        let mut members: Vec<_> =
            self.packages.iter().filter(|package| self.workspace_members.contains(&package.id)).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }
}

impl Crate {
    /// Whether it may be published.
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }
}

#[cfg(test)]
impl Crate {
    /// A crate that may be published, for tests.
    pub(crate) fn test(name: &str, dependencies: Vec<Dependency>) -> Self {
        Self {
            id: name.into(),
            name: name.into(),
            version: "0.1.0".into(),
            description: Some("Words.".into()),
            repository: Some("https://example.org".into()),
            keywords: vec!["word".into()],
            categories: vec!["word".into()],
            license: Some("MIT".into()),
            rust_version: None,
            publish: None,
            manifest_path: PathBuf::new(),
            dependencies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_has_its_tools_and_they_stay_at_home() {
        let metadata = Metadata::of_workspace().unwrap();
        let members = metadata.members();
        let find = |name: &str| members.iter().find(|member| member.name == name).copied();
        assert!(!find("xtask").unwrap().is_published());
        assert!(!find("preconfirmation-benches").unwrap().is_published());
        assert!(find("preconfirmation-types").unwrap().is_published());
    }
}
