//! Links in the documentation lead to files and headings that exist. What is on the web is not asked for.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::{error::Error, shell::root};

/// The lines of a document outside of fenced code, each with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The targets of a line's links: `[text](target)` and `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    targets.extend(definition.filter(|(name, _)| !name.contains(']')).map(|(_, target)| target.trim()));
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once("](") {
        let is_code = before.matches('`').count() % 2 == 1 && !before.contains('[');
        if let Some((target, _)) = behind.split_once(')').filter(|_| !is_code) {
            targets.push(target);
        }
        rest = behind;
    }
    targets
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Whether a document has a heading with this anchor.
pub(crate) fn has_anchor(text: &str, wanted: &str) -> bool {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .any(|(_, line)| anchor(line.trim_start_matches('#')) == wanted)
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// What is wrong with the links of a document. `read` gives the text of a file, empty for a folder, if there is one.
fn problems(path: &Path, text: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (number, target) in
        prose(text).flat_map(|(number, line)| targets(line).into_iter().map(move |t| (number, t)))
    {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let there = if file.is_empty() {
            Some(text.to_owned())
        } else {
            read(&normal(&path.parent().unwrap_or(Path::new("")).join(file)))
        };
        let place = format!("{}:{number}", path.display());
        match there {
            None => found.push(format!("{place}: there is no {target}")),
            Some(text) if !heading.is_empty() && !has_anchor(&text, heading) => {
                found.push(format!("{place}: there is no heading for {target}"));
            }
            Some(_) => {}
        }
    }
    found
}

/// The documents of the workspace.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(root().join(folder)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = folder.join(entry.file_name());
        let hidden_or_built =
            path == Path::new("target") || entry.file_name().to_string_lossy().starts_with('.');
        if entry.file_type().map_err(failed)?.is_dir() {
            if !hidden_or_built {
                documents(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

/// Checks every document.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let mut paths = Vec::new();
    documents(Path::new(""), &mut paths)?;
    paths.sort();
    let read = |path: &Path| {
        let path = root().join(path);
        if path.is_dir() { Some(String::new()) } else { fs::read_to_string(path).ok() }
    };
    let mut found = Vec::new();
    for path in &paths {
        let text = read(path).unwrap_or_default();
        found.extend(problems(path, &text, read));
    }
    println!("{} documents", paths.len());
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        let read = |path: &Path| match path.to_str()? {
            "docs/a.md" => Some("# Top\n## Two words, and `code`\n```\n# No heading\n```\n".to_owned()),
            "README.md" | "docs" => Some(String::new()),
            _ => None,
        };
        problems(Path::new("docs/here.md"), text, read)
    }

    #[test]
    fn links_to_what_exists_are_good() {
        for text in [
            "[a](a.md) and [b](a.md#two-words-and-code), [c](../README.md)",
            "[a]: a.md#top",
            "[web](https://example.org/x)",
            "# Here\n[up](#here)",
            "[folder](../docs)",
            "```\n[code](none.md)\n```",
        ] {
            assert!(problems_of(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn links_to_what_does_not_exist_fail_with_their_line() {
        for text in ["[a](b.md)", "[a]: b.md", "[a](a.md#no-heading)", "[a](#here)", "[a](../a.md)"] {
            assert_eq!(problems_of(text).len(), 1, "{text}");
        }
        assert_eq!(problems_of("\n[a](b.md)"), ["docs/here.md:2: there is no b.md"]);
    }

    #[test]
    fn the_documents_of_this_workspace_are_found() {
        let mut found = Vec::new();
        documents(Path::new(""), &mut found).unwrap();
        for path in ["README.md", "docs/threat-model.md", "crates/p2p-types/README.md"] {
            assert!(found.contains(&path.into()), "{path}");
        }
    }
}
