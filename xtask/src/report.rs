//! `cargo xtask report`: every test under load and faults at a stated size, and `docs/reliability.md` from what they print.

mod rows;

use std::{fs, time::Instant};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{
    error::Error,
    machine::{processor, today},
    shell::{cargo, root},
};
use rows::{Row, TESTS, Test};

/// The file that is written.
const FILE: &str = "docs/reliability.md";

/// What stands before the table.
const BEGIN: &str = "<!-- rows -->\n\n";

/// How much, and of what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Report {
    /// How large the tests are.
    #[arg(long, value_enum, default_value_t = Size::Small)]
    size: Size,
    /// Only the tests whose names contain this. The rows of the others stay as they are.
    #[arg(long, default_value = "")]
    only: String,
}

/// How large the tests are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Minutes: to see that everything works.
    Small,
    /// Hours: what the table is for.
    Large,
}

/// Runs the tests and writes their rows; an error if one failed. What fails keeps none of the others from being run.
pub(crate) fn run(report: &Report) -> Result<(), Error> {
    let mut failed = Vec::new();
    for test in TESTS.iter().filter(|test| test.name.contains(&report.only)) {
        let command = test.command(report.size);
        let begun = Instant::now();
        match measure(test, command) {
            Ok(row) => write(test, &row, command, begun.elapsed().as_secs())?,
            Err(error) => failed.push(format!("{}: {error}", test.name)),
        }
    }
    Error::unless_empty(failed)
}

fn measure(test: &Test, command: &str) -> Result<Row, Error> {
    eprintln!("$ cargo {command}");
    let said = cargo(command.split(' ')).read()?;
    let lines = said.lines().filter_map(|line| serde_json::from_str(line).ok());
    let answers: Vec<Value> = lines.filter(Value::is_object).collect();
    if answers.is_empty() {
        // Where a test cannot run it says why, and prints nothing.
        let command = format!("cargo {command}");
        return Err(Error::Answer { command, problem: "it was skipped".into() });
    }
    Ok((test.row)(&answers))
}

/// Writes a row in the place of the test's last one.
fn write(test: &Test, row: &Row, command: &str, seconds: u64) -> Result<(), Error> {
    let path = root().join(FILE);
    let before = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let Row { load, faults, bad_inputs, lost, banned, memory } = row;
    let line = format!(
        "| {} | {load} | {faults} | {bad_inputs} | {lost} | {banned} | {memory} | `cargo {}` | {}, {}, {} |\n",
        test.name,
        command.replace(" --json", ""),
        today(),
        processor(),
        length(seconds),
    );
    println!("{line}");
    let after = replaced(&before, test.name, &line);
    fs::write(&path, after).map_err(|source| Error::Write { path, source })
}

fn length(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

/// The document with a row in the place of that test's last one, in the order of the tests.
fn replaced(document: &str, name: &str, line: &str) -> String {
    let Some((before, rest)) = document.split_once(BEGIN) else { return document.to_owned() };
    let end = rest.find("\n\n").map_or(rest.len(), |end| end + 1);
    let (table, after) = rest.split_at(end);
    let mut head: Vec<&str> = table.split_inclusive('\n').collect();
    let rows = head.split_off(head.len().min(2));
    let row_of = |test: &Test| {
        let last = || rows.iter().find(|row| row.starts_with(&format!("| {} |", test.name))).copied();
        if test.name == name { Some(line) } else { last() }
    };
    let rows: String = TESTS.iter().filter_map(row_of).collect();
    format!("{before}{BEGIN}{}{rows}{after}", head.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_the_place_of_the_last_one_of_its_test() {
        let document = format!("# Head\n\n{BEGIN}| test |\n|---|\n| Hosts | old |\n\nTail\n");
        let store = replaced(&document, "Store killed", "| Store killed | new |\n");
        let rows = "| test |\n|---|\n| Store killed | new |\n| Hosts | old |\n";
        assert_eq!(store, format!("# Head\n\n{BEGIN}{rows}\nTail\n"));
        let hosts = replaced(&store, "Hosts", "| Hosts | new |\n");
        assert_eq!(hosts, store.replace("old", "new"));
    }

    #[test]
    fn the_document_has_a_place_for_each_row() {
        let document = fs::read_to_string(root().join(FILE)).unwrap();
        for test in &TESTS {
            let line = format!("| {} | anew |\n", test.name);
            assert!(replaced(&document, test.name, &line).contains(&line), "{}", test.name);
        }
    }
}
