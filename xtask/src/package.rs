//! Every crate packages by itself.

use std::fs;

use crate::{
    error::Error,
    shell::cargo,
    workspace::{Crate, Metadata},
};

/// Files that every package has.
const REQUIRED: [&str; 4] = ["Cargo.toml", "CHANGELOG.md", "LICENSE", "README.md"];

/// The dependencies of a crate that no registry has: those of this workspace. A dev-dependency without a
/// version does not count, cargo leaves it out of the package.
fn unpublished(member: &Crate) -> Vec<&str> {
    member
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_some())
        .filter(|dependency| dependency.kind.as_deref() != Some("dev") || dependency.req != "*")
        .map(|dependency| dependency.name.as_str())
        .collect()
}

/// What is missing from a package, given its files and its changelog.
fn missing(member: &Crate, files: &str, readme: &str, changelog: &str) -> Vec<String> {
    let name = &member.name;
    let mut found: Vec<_> = REQUIRED
        .iter()
        .filter(|required| files.lines().all(|file| file != **required))
        .map(|required| format!("the package of {name} has no {required}"))
        .collect();
    if readme.trim().is_empty() {
        found.push(format!("the README.md of {name} is empty"));
    }
    let heading = format!("## {}", member.version);
    let is_heading =
        |line: &str| line.strip_prefix(&heading).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    if !changelog.lines().any(is_heading) {
        found.push(format!("the CHANGELOG.md of {name} has no section `{heading}`"));
    }
    found
}

/// What a registry shows of a crate that its manifest does not have.
fn unsaid(member: &Crate) -> Vec<String> {
    let said = [
        ("description", member.description.is_some()),
        ("repository", member.repository.is_some()),
        ("keywords", !member.keywords.is_empty()),
        ("categories", !member.categories.is_empty()),
    ];
    let unsaid = said.iter().filter(|(_, is_said)| !is_said);
    unsaid.map(|(field, _)| format!("the manifest of {} has no {field}", member.name)).collect()
}

/// Checks every crate of the workspace that may be published.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let metadata = Metadata::of_workspace()?;
    let members: Vec<_> = metadata.members().into_iter().filter(|member| member.is_published()).collect();
    let mut found = Vec::new();
    let mut verified = cargo(["package", "--quiet", "--allow-dirty"]);
    for member in members {
        // A dirty tree is fine here: this checks what would be packaged, and publishes nothing.
        let list = cargo(["package", "--quiet", "--allow-dirty", "--list", "--package", &member.name]);
        let read = |file| fs::read_to_string(member.manifest_path.with_file_name(file)).unwrap_or_default();
        found.extend(unsaid(member));
        found.extend(missing(member, &list.read()?, &read("README.md"), &read("CHANGELOG.md")));
        let blockers = unpublished(member);
        if blockers.is_empty() {
            println!("{:<22} is packaged and built", member.name);
            verified = verified.arg("--package").arg(&member.name);
        } else {
            println!("{:<22} is listed (unpublished: {})", member.name, blockers.join(", "));
        }
    }
    Error::unless_empty(found)?;
    verified.run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn dependency(name: &str, kind: Option<&str>, req: &str, in_workspace: bool) -> Dependency {
        Dependency {
            name: name.into(),
            req: req.into(),
            kind: kind.map(str::to_owned),
            path: in_workspace.then(|| name.into()),
        }
    }

    #[test]
    fn a_dependency_in_the_workspace_is_unpublished() {
        let member = Crate::test(
            "ours",
            vec![
                dependency("bytes", None, "^1", false),
                dependency("p2p-types", None, "^0.1.0", true),
                dependency("p2p-storage", Some("dev"), "^0.1.0", true),
                dependency("p2p-fixtures", Some("dev"), "*", true),
            ],
        );
        assert_eq!(unpublished(&member), ["p2p-types", "p2p-storage"]);
        assert!(unpublished(&Crate::test("free", vec![])).is_empty());
    }

    #[test]
    fn a_package_has_its_papers() {
        let member = Crate::test("ours", vec![]);
        let files = "CHANGELOG.md\nCargo.toml\nLICENSE\nREADME.md\nsrc/lib.rs";
        let changelog = "# Changelog\n\n## 0.1.0 (unreleased)\n";
        assert!(missing(&member, files, "Words.", changelog).is_empty());
        for paper in REQUIRED {
            assert_eq!(missing(&member, &files.replace(paper, "x"), "Words.", changelog).len(), 1, "{paper}");
        }
        assert_eq!(missing(&member, files, "\n", changelog).len(), 1);
        assert_eq!(missing(&member, files, "Words.", "## 0.1.01").len(), 1);
    }

    #[test]
    fn a_manifest_says_what_a_registry_shows() {
        let good = Crate::test("ours", vec![]);
        assert!(unsaid(&good).is_empty());
        let without = |remove: fn(&mut Crate)| {
            let mut bad = good.clone();
            remove(&mut bad);
            unsaid(&bad).len()
        };
        assert_eq!(without(|member| member.description = None), 1);
        assert_eq!(without(|member| member.repository = None), 1);
        assert_eq!(without(|member| member.keywords.clear()), 1);
        assert_eq!(without(|member| member.categories.clear()), 1);
    }

    #[test]
    fn the_wire_depends_on_nothing_unpublished() {
        let metadata = Metadata::of_workspace().unwrap();
        let members = metadata.members();
        let wire = members.iter().find(|member| member.name == "preconfirmation-types").unwrap();
        assert!(unpublished(wire).is_empty());
    }
}
