//! The file of `--config`: TOML, whose keys are the names of the options.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    path::Path,
};

use toml::{
    Spanned,
    de::{DeArray, DeInteger, DeTable, DeValue},
};

use super::{
    error::{ConfigError, FileProblem},
    options::{FILE, NodeOption, Takes},
};

/// Longest file: 1 MiB. The sample has 20 KiB.
const MOST: u64 = 1 << 20;

/// How alike a key and an option have to be for one to be taken for the other's misspelling.
const ALIKE: f64 = 0.7;

/// What the file says of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// From 1.
    pub(super) line: usize,
    /// As on the command line; none of an option that takes nothing and is not to be given.
    pub(super) values: Vec<String>,
}

/// Reads a file.
pub(super) fn read(path: &Path, options: &[NodeOption]) -> Result<Vec<Entry>, ConfigError> {
    let text = load(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, options).map_err(|(line, problem)| ConfigError::File {
        path: path.to_owned(),
        line,
        problem,
    })
}

fn load(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// A problem, and the line that has it.
type Problem = (usize, FileProblem);

pub(super) fn parse(text: &str, options: &[NodeOption]) -> Result<Vec<Entry>, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = line(text, error.span().map_or(0, |span| span.start));
        (line, FileProblem::Toml(error.message().replace('\n', "; ")))
    })?;
    let mut reader = Reader { text, options, seen: BTreeSet::new(), entries: Vec::new() };
    reader.table("", table.get_ref())?;
    reader.entries.sort_by_key(|entry| entry.line);
    Ok(reader.entries)
}

/// The line of a byte.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
    options: &'a [NodeOption],
    seen: BTreeSet<String>,
    entries: Vec<Entry>,
}

impl Reader<'_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Result<(), Problem> {
        for (name, value) in table {
            let key = if path.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{path}.{}", name.get_ref())
            };
            let line = line(self.text, name.span().start);
            let option = self.options.iter().find(|option| option.key() == key && key != FILE);
            match (option, value.get_ref()) {
                (Some(option), value) => {
                    let values = values(option, value).map_err(|problem| (line, problem))?;
                    if !self.seen.insert(key.clone()) {
                        return Err((line, FileProblem::Twice(key)));
                    }
                    self.entries.push(Entry { key, line, values });
                }
                (None, DeValue::Table(inner)) if !inner.is_empty() => self.table(&key, inner)?,
                (None, _) => {
                    let nearest = nearest(&key, self.options);
                    return Err((line, FileProblem::Unknown { key, nearest }));
                }
            }
        }
        Ok(())
    }
}

/// The option whose name is most like a key.
pub(super) fn nearest(key: &str, options: &[NodeOption]) -> Option<String> {
    let keys = options.iter().map(NodeOption::key).filter(|option| *option != FILE);
    let rated = keys.map(|option| (strsim::jaro_winkler(key, option), option));
    let (_, nearest) = rated.filter(|(alike, _)| *alike > ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    Some(nearest.to_owned())
}

/// The values of an option, as the command line would have them.
fn values(option: &NodeOption, value: &DeValue<'_>) -> Result<Vec<String>, FileProblem> {
    let wrong = |value: &DeValue<'_>, wanted| FileProblem::Type {
        key: option.key().to_owned(),
        found: value.type_str(),
        wanted,
    };
    match (option.takes(), value) {
        (Takes::Nothing, DeValue::Boolean(given)) => {
            Ok(given.then(|| "true".to_owned()).into_iter().collect())
        }
        (Takes::Nothing, _) => Err(wrong(value, "true or false")),
        (Takes::Several, DeValue::Array(items)) => {
            several(items).map_err(|item| wrong(item, "strings in a list"))
        }
        (takes, _) => scalar(value).map(|text| vec![text]).ok_or_else(|| {
            let is_list = takes == Takes::Several;
            wrong(value, if is_list { "a list of strings, or one string" } else { "a string or a number" })
        }),
    }
}

fn several<'a, 'i>(items: &'a DeArray<'i>) -> Result<Vec<String>, &'a DeValue<'i>> {
    items.iter().map(Spanned::get_ref).map(|item| scalar(item).ok_or(item)).collect()
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// In decimal, as options are read.
fn integer(number: &DeInteger<'_>) -> Option<String> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}
