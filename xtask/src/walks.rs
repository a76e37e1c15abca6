//! The walks that ARCHITECTURE.md traces through the code lead through files and functions that exist.
//!
//! A walk is a heading below `## Walks` and a numbered list; each stop begins with a file and a function in backticks:
//! ``1. `crates/p2p-client/src/client.rs` `P2pClient::publish`: why``.

use std::path::{Path, PathBuf};

use crate::{
    error::Error,
    source::{self, Source},
};

/// Most stops of a walk.
const STOPS: usize = 30;

/// Most times that a walk goes back to a file that it has left before.
const RETURNS: usize = 10;

/// The walks that there are.
const WALKS: usize = 3;

#[derive(Debug, PartialEq, Eq)]
struct Stop {
    path: PathBuf,
    function: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Walk {
    name: String,
    stops: Vec<Stop>,
}

/// The walks of a document, or what cannot be read in it.
fn parse(document: &str) -> Result<Vec<Walk>, String> {
    let mut walks: Vec<Walk> = Vec::new();
    let section = document.lines().skip_while(|line| *line != "## Walks").skip(1);
    for line in section.take_while(|line| !line.starts_with("## ")) {
        if let Some(name) = line.strip_prefix("### ") {
            walks.push(Walk { name: name.to_owned(), stops: Vec::new() });
        }
        let Some(stop) = numbered(line) else { continue };
        let unreadable = || format!("no file and function in backticks: {line}");
        let walk = walks.last_mut().ok_or_else(|| format!("a stop outside of a walk: {line}"))?;
        let mut quoted = stop.split('`').skip(1).step_by(2);
        let path = quoted.next().ok_or_else(unreadable)?.into();
        let function = quoted.next().ok_or_else(unreadable)?.trim_end_matches("()").to_owned();
        walk.stops.push(Stop { path, function });
    }
    Ok(walks)
}

/// What stands behind the number of a line that has one.
fn numbered(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(". ")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// How many stops are in a file that was left before.
fn returns(stops: &[Stop]) -> usize {
    let back = |(index, pair): (usize, &[Stop])| {
        let [before, here] = pair else { return false };
        here.path != before.path && stops.iter().take(index).any(|stop| stop.path == here.path)
    };
    stops.windows(2).enumerate().filter(|pair| back(*pair)).count()
}

/// Whether a file defines a function, `name` or `Type::name`.
pub(crate) fn defines(text: &str, function: &str) -> bool {
    let (owner, name) = function.rsplit_once("::").map_or((None, function), |(o, n)| (Some(o), n));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let has = |what: &str| {
        text.match_indices(what).any(|(at, _)| {
            !text.get(at + what.len()..).is_some_and(|rest| rest.starts_with(is_word))
                && !text.get(..at).is_some_and(|before| before.ends_with(is_word))
        })
    };
    has(&format!("fn {name}")) && owner.is_none_or(has)
}

/// What is wrong with a walk. `read` gives the text of a file, if there is one.
fn problems(walk: &Walk, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let name = &walk.name;
    let mut found = Vec::new();
    for (number, Stop { path, function }) in (1..).zip(&walk.stops) {
        let shown = path.display();
        match read(path) {
            None => found.push(format!("{name}, stop {number}: there is no {shown}")),
            Some(text) if !defines(&text, function) => {
                found.push(format!("{name}, stop {number}: {shown} defines no {function}"));
            }
            Some(_) => {}
        }
    }
    let (stops, returns) = (walk.stops.len(), returns(&walk.stops));
    if stops == 0 || stops > STOPS {
        found.push(format!("{name} has {stops} stops, {STOPS} at most"));
    }
    if returns > RETURNS {
        found.push(format!("{name} goes back to a file {returns} times, {RETURNS} at most"));
    }
    found
}

/// Checks the walks of ARCHITECTURE.md.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let document = Source::read(Path::new("ARCHITECTURE.md"))?.text;
    let walks = parse(&document).map_err(|problem| Error::Found(vec![problem]))?;
    let read = |path: &Path| source::Source::read(path).ok().map(|file| file.text);
    let mut found: Vec<_> = walks.iter().flat_map(|walk| problems(walk, read)).collect();
    for Walk { name, stops } in &walks {
        println!("{name}: {} stops, {} returns", stops.len(), returns(stops));
    }
    if walks.len() != WALKS {
        found.push(format!("ARCHITECTURE.md traces {} walks below `## Walks`, not {WALKS}", walks.len()));
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Title\n1. `not/here.rs` `f`\n## Walks\n\n### Gossip\n\n1. `a.rs` `A::f`: begins\n2. `b.rs` \
        `g()`: goes on\n   and on\n3. `a.rs` `h`\n\n### Page\n\n1. `a.rs` `f`\n\n## Next\n1. `not/here.rs` `f`\n";

    fn walks() -> Vec<Walk> {
        parse(DOCUMENT).unwrap()
    }

    fn files(path: &Path) -> Option<String> {
        match path.to_str()? {
            "a.rs" => Some("struct A; impl A { pub fn f(&self) {} } fn h<T>() {} fn longer() {}".into()),
            "b.rs" => Some("async fn g() {}".into()),
            _ => None,
        }
    }

    fn of(stops: &[(&str, &str)]) -> Walk {
        let stop = |(path, function): &(&str, &str)| Stop { path: path.into(), function: (*function).into() };
        Walk { name: "Test".into(), stops: stops.iter().map(stop).collect() }
    }

    #[test]
    fn a_walk_is_read_from_its_section_alone() {
        let walks = walks();
        assert_eq!(walks.iter().map(|walk| walk.stops.len()).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(walks[0].stops[1], Stop { path: "b.rs".into(), function: "g".into() });
        assert!(walks.iter().all(|walk| problems(walk, files).is_empty()));
    }

    #[test]
    fn a_stop_that_does_not_exist_fails() {
        for (path, function) in [("c.rs", "f"), ("a.rs", "g"), ("a.rs", "long"), ("a.rs", "B::f")] {
            assert_eq!(problems(&of(&[(path, function)]), files).len(), 1, "{path} {function}");
        }
    }

    #[test]
    fn a_stop_without_file_or_function_fails() {
        for line in ["1. words", "1. `a.rs` alone"] {
            assert!(parse(&format!("## Walks\n### A\n{line}\n")).is_err(), "{line}");
        }
        assert!(parse("## Walks\n1. `a.rs` `f`\n").is_err());
    }

    #[test]
    fn returns_are_stops_in_files_that_were_left() {
        let f = |path| (path, "f");
        assert_eq!(returns(&of(&["a", "a", "b", "b", "c"].map(f)).stops), 0);
        assert_eq!(returns(&of(&["a", "b", "a", "a", "b"].map(f)).stops), 2);
    }

    #[test]
    fn a_walk_that_is_too_long_or_goes_back_too_often_fails() {
        assert_eq!(problems(&of(&[("a.rs", "f"); STOPS]), files).len(), 0);
        assert_eq!(problems(&of(&[("a.rs", "f"); STOPS + 1]), files).len(), 1);
        assert_eq!(problems(&of(&[]), files).len(), 1);
        let there_and_back = [("a.rs", "f"), ("b.rs", "g")].repeat(7);
        assert_eq!(problems(&of(&there_and_back), files).len(), 1);
    }
}
