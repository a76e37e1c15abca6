//! docs/supply-chain.md says of each direct dependency of what is published why it is there and under which licence, and how
//! many blocks of `unsafe` are where: neither more nor less than there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::{
    error::Error,
    source::{self, Source},
    workspace::{Crate, Metadata},
};

const DOCUMENT: &str = "docs/supply-chain.md";

/// Where our own code is.
const FOLDERS: [&str; 4] = ["benches", "crates", "fuzz", "xtask"];

/// A row of a table: what its first cell has in backticks, and its other cells.
struct Row<'a> {
    line: usize,
    name: &'a str,
    cells: Vec<&'a str>,
}

impl Row<'_> {
    fn cell(&self, index: usize) -> &str {
        self.cells.get(index).copied().unwrap_or_default()
    }
}

/// The rows of the tables below a heading.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Row<'a>> {
    let lines = (1..).zip(text.lines());
    let section = lines.skip_while(|(_, line)| *line != heading).skip(1);
    section
        .take_while(|(_, line)| !line.starts_with("## "))
        .filter_map(|(line, text)| {
            let (name, rest) = text.strip_prefix("| `")?.split_once("` |")?;
            Some(Row { line, name, cells: rest.split('|').map(str::trim).collect() })
        })
        .collect()
}

/// What is published depends on directly, each with who does.
fn direct<'a>(members: &[&'a Crate]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut direct: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for member in members.iter().filter(|member| member.is_published()) {
        let of_others =
            |d: &&crate::workspace::Dependency| d.kind.as_deref() != Some("dev") && d.path.is_none();
        for dependency in member.dependencies.iter().filter(of_others) {
            direct.entry(dependency.name.as_str()).or_default().insert(member.name.as_str());
        }
    }
    direct
}

/// Where the rows and the manifests disagree. `licences` has what is built on this platform, in each of its versions.
fn dependencies(
    rows: &[Row<'_>],
    direct: &BTreeMap<&str, BTreeSet<&str>>,
    licences: &BTreeMap<&str, BTreeSet<&str>>,
) -> Vec<String> {
    let missing = direct.iter().filter(|(name, _)| rows.iter().all(|row| row.name != **name));
    let mut found: Vec<_> = missing
        .map(|(name, users)| {
            let users: Vec<_> = users.iter().copied().collect();
            format!("{DOCUMENT}: {} depends on {name}: say why", users.join(", "))
        })
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let Row { line, name, .. } = row;
        let mut say = |problem: String| found.push(format!("{DOCUMENT}:{line}: {problem}"));
        if !direct.contains_key(name) {
            say(format!("nothing that is published depends on {name}"));
        }
        if rows.iter().take(index).any(|other| other.name == *name) {
            say(format!("{name} has a row already"));
        }
        if let Some(known) = licences.get(name).filter(|known| !known.contains(row.cell(0))) {
            let known: Vec<_> = known.iter().copied().collect();
            say(format!("the licence of {name} is {}", known.join(" or ")));
        }
        if row.cell(1).is_empty() || row.cell(2).is_empty() {
            say(format!("why {name} is there, and what would be written without it?"));
        }
    }
    found
}

/// How many blocks, functions and implementations of a file are `unsafe`; a line of comment is none.
fn unsafes(text: &str) -> usize {
    let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let begins =
        |rest: &&str| ["{", "fn ", "impl ", "trait ", "extern "].iter().any(|what| rest.starts_with(what));
    code.map(|line| line.split("unsafe ").skip(1).filter(begins).count()).sum()
}

/// Where the rows and the code disagree.
fn counts(rows: &[Row<'_>], counted: &BTreeMap<String, usize>) -> Vec<String> {
    let unnamed = counted.keys().filter(|path| rows.iter().all(|row| row.name != **path));
    let mut found: Vec<_> =
        unnamed.map(|path| format!("{DOCUMENT}: {path} has `unsafe`: say how often, and why")).collect();
    for row in rows {
        let count = counted.get(row.name).copied().unwrap_or_default();
        if row.cell(0) != count.to_string() {
            found.push(format!("{DOCUMENT}:{}: {} has {count} of `unsafe`", row.line, row.name));
        }
    }
    found
}

/// Checks the document.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let text = Source::read(Path::new(DOCUMENT))?.text;
    let metadata = Metadata::with_dependencies()?;
    let members = metadata.members();
    let mut licences: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.packages() {
        licences.entry(&package.name).or_default().extend(package.license.as_deref());
    }
    let direct = direct(&members);
    let mut found = dependencies(&rows(&text, "## Direct dependencies"), &direct, &licences);
    let mut counted = BTreeMap::new();
    for folder in FOLDERS {
        let files = source::rust_files(Path::new(folder))?.into_iter();
        let files = files.map(|file| (file.path.display().to_string(), unsafes(&file.text)));
        counted.extend(files.filter(|(_, count)| *count > 0));
    }
    found.extend(counts(&rows(&text, "## Unsafe code"), &counted));
    println!("{} direct dependencies, {} times `unsafe`", direct.len(), counted.values().sum::<usize>());
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    const TEXT: &str = "## Direct dependencies\n### A\n| crate | licence | why | without |\n|---|---|---|---|\n\
        | `one` | MIT | it is fast | a loop |\n### B\n| `two` | MIT OR Apache-2.0 | why | a lot |\n## Unsafe code\n\
        | `crates/a.rs` | 2 | vectors |\n## Else\n| `three` | MIT | why | much |\n";

    fn depends(name: &str, kind: Option<&str>, path: Option<&str>) -> Dependency {
        let (kind, path) = (kind.map(str::to_owned), path.map(Into::into));
        Dependency { name: name.into(), req: "1".into(), kind, path }
    }

    fn set<'a>(items: &[&'a str]) -> BTreeSet<&'a str> {
        items.iter().copied().collect()
    }

    #[test]
    fn a_section_is_read_and_no_other() {
        let names = |heading| rows(TEXT, heading).into_iter().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names("## Direct dependencies"), ["one", "two"]);
        assert_eq!(names("## Unsafe code"), ["crates/a.rs"]);
    }

    #[test]
    fn what_tests_and_the_workspace_itself_need_is_no_direct_dependency() {
        let ours = Crate::test(
            "ours",
            vec![
                depends("one", None, None),
                depends("cc", Some("build"), None),
                depends("proptest", Some("dev"), None),
                depends("beside", None, Some("/beside")),
            ],
        );
        assert_eq!(direct(&[&ours]).into_keys().collect::<Vec<_>>(), ["cc", "one"]);
    }

    #[test]
    fn rows_and_manifests_agree_or_it_fails() {
        let rows = rows(TEXT, "## Direct dependencies");
        let licences = BTreeMap::from([("one", set(&["MIT"])), ("two", set(&["ISC", "MIT OR Apache-2.0"]))]);
        let direct = |names: &[&'static str]| -> BTreeMap<_, _> {
            names.iter().map(|name| (*name, set(&["ours"]))).collect()
        };
        assert_eq!(dependencies(&rows, &direct(&["one", "two"]), &licences), [""; 0]);
        let found = dependencies(&rows, &direct(&["one", "two", "new"]), &licences);
        assert_eq!(found, ["docs/supply-chain.md: ours depends on new: say why"]);
        let found = dependencies(&rows, &direct(&["one"]), &licences);
        assert_eq!(found, ["docs/supply-chain.md:7: nothing that is published depends on two"]);
        let other = BTreeMap::from([("one", set(&["GPL-3.0"]))]);
        let found = dependencies(&rows, &direct(&["one", "two"]), &other);
        assert_eq!(found, ["docs/supply-chain.md:5: the licence of one is GPL-3.0"]);
        let twice = TEXT.replace("`two` | MIT OR Apache-2.0 | why", "`one` | MIT |");
        let found =
            dependencies(&super::rows(&twice, "## Direct dependencies"), &direct(&["one"]), &licences);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn unsafe_code_is_counted_and_comments_are_not() {
        let block = ["unsafe", "{ f() }"].join(" ");
        let text = format!(
            "// {block}\n    {block}; {block}\n{}\nforbid(unsafe_code)",
            ["unsafe", "fn f() {}"].join(" ")
        );
        assert_eq!(unsafes(&text), 3);
        let rows = rows(TEXT, "## Unsafe code");
        let counted = |path: &str, count| BTreeMap::from([(path.to_owned(), count)]);
        assert_eq!(counts(&rows, &counted("crates/a.rs", 2)), [""; 0]);
        assert_eq!(counts(&rows, &counted("crates/a.rs", 3)).len(), 1);
        assert_eq!(counts(&rows, &counted("crates/b.rs", 1)).len(), 2);
    }
}
