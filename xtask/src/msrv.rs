//! The lowest Rust version that a crate states is enough for all that it is built from.

use crate::{
    error::Error,
    tree::{Graph, Package},
    workspace::{Crate, Metadata},
};

/// A Rust version, as `rust-version` has it: two or three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RustVersion([u32; 3]);

impl RustVersion {
    fn parse(text: &str) -> Option<Self> {
        let mut version = [0; 3];
        let mut parts = text.split('.');
        for place in &mut version {
            match parts.next() {
                Some(part) => *place = part.parse().ok()?,
                None => break,
            }
        }
        (parts.next().is_none() && text.contains('.')).then_some(Self(version))
    }
}

/// Optional dependencies that need a newer Rust than their crate states. Whoever turns on their feature needs it, too.
const NEWER: &[(&str, &str)] = &[("p2p-client", "alloy-signer")];

/// What is wrong with the stated version of a crate, given what its dependencies state.
fn problem(member: &Crate, dependencies: &[(Package, RustVersion)]) -> Option<String> {
    let name = &member.name;
    let Some(stated) = &member.rust_version else {
        return Some(format!("{name} states no rust-version"));
    };
    let Some(ours) = RustVersion::parse(stated) else {
        return Some(format!("{name} states rust-version {stated}, which is none"));
    };
    let (package, RustVersion([major, minor, patch])) =
        dependencies.iter().max_by_key(|(_, version)| *version).filter(|(_, version)| *version > ours)?;
    Some(format!(
        "{name} states rust-version {stated}, but {} {} needs {major}.{minor}.{patch}",
        package.name, package.version
    ))
}

/// Checks every crate of the workspace.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let metadata = Metadata::with_dependencies()?;
    let needs = |package: &Package| {
        let found =
            metadata.packages().iter().find(|p| p.name == package.name && p.version == package.version);
        found?.rust_version.as_deref().and_then(RustVersion::parse)
    };
    let mut found = Vec::new();
    for member in metadata.members() {
        let mut graph = Graph::of(&member.name, "normal,build")?;
        for (_, dependency) in NEWER.iter().filter(|(name, _)| *name == member.name) {
            graph.unlink(dependency);
        }
        let dependencies: Vec<_> = graph
            .reached()
            .into_keys()
            .filter_map(|package| needs(&package).map(|version| (package, version)))
            .collect();
        let highest = dependencies.iter().max_by_key(|(_, version)| *version);
        if let Some((package, RustVersion([major, minor, patch]))) = highest {
            println!(
                "{:<24} states {:<7} needs {major}.{minor}.{patch} ({} {})",
                member.name,
                member.rust_version.as_deref().unwrap_or("nothing"),
                package.name,
                package.version
            );
        }
        found.extend(problem(member, &dependencies));
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stating(version: Option<&str>) -> Crate {
        let mut member = Crate::test("ours", vec![]);
        member.rust_version = version.map(str::to_owned);
        member
    }

    fn needing(name: &str, version: &str) -> (Package, RustVersion) {
        let package = Package { name: name.into(), version: "3.2.1".into() };
        (package, RustVersion::parse(version).unwrap())
    }

    #[test]
    fn versions_compare_as_numbers() {
        let parse = |text| RustVersion::parse(text).unwrap();
        assert!(parse("1.9") < parse("1.85"));
        assert!(parse("1.85") < parse("1.85.1"));
        assert_eq!(parse("1.85"), parse("1.85.0"));
        for none in ["", "1", "1.x", "1.2.3.4", "stable"] {
            assert_eq!(RustVersion::parse(none), None, "{none}");
        }
    }

    #[test]
    fn enough_is_enough() {
        let dependencies = [needing("low", "1.60"), needing("high", "1.90.0")];
        assert_eq!(problem(&stating(Some("1.90")), &dependencies), None);
        assert_eq!(problem(&stating(Some("1.90")), &[]), None);
    }

    #[test]
    fn the_dependency_that_needs_most_is_named() {
        let dependencies = [needing("low", "1.60"), needing("high", "1.91.2"), needing("mid", "1.91")];
        assert_eq!(
            problem(&stating(Some("1.90")), &dependencies).unwrap(),
            "ours states rust-version 1.90, but high 3.2.1 needs 1.91.2"
        );
    }

    #[test]
    fn a_crate_must_state_one() {
        assert!(problem(&stating(None), &[]).is_some());
        assert!(problem(&stating(Some("new")), &[]).is_some());
    }
}
