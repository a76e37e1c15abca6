//! Running steps: one after the other, timed, to the first failure.

use std::time::{Duration, Instant};

use crate::{
    error::Error,
    step::{Outcome, Scope, Step},
};

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passed,
    Skipped(&'static str),
    Failed,
    NotRun,
}

struct Row {
    step: Step,
    fate: Fate,
    time: Duration,
}

/// Runs the steps of a scope. Whether all is well.
pub(crate) fn run(scope: Scope) -> bool {
    drive(Step::all(scope), |step| step.run(scope))
}

/// Runs one step alone, in full. Whether all is well.
pub(crate) fn run_one(step: Step) -> bool {
    drive(&[step], |step| step.run(Scope::Full))
}

fn drive(steps: &[Step], mut run: impl FnMut(Step) -> Result<Outcome, Error>) -> bool {
    let mut rows = Vec::with_capacity(steps.len());
    let mut failure = None;
    for &step in steps {
        if failure.is_some() {
            rows.push(Row { step, fate: Fate::NotRun, time: Duration::ZERO });
            continue;
        }
        println!("\n=== {}", step.name());
        let started = Instant::now();
        let fate = match run(step) {
            Ok(Outcome::Done) => Fate::Passed,
            Ok(Outcome::Skipped(reason)) => Fate::Skipped(reason),
            Err(error) => {
                failure = Some((step, error));
                Fate::Failed
            }
        };
        rows.push(Row { step, fate, time: started.elapsed() });
    }
    println!("\n{}", table(&rows));
    if let Some((step, error)) = &failure {
        eprintln!("{error}\n\nTo run this step alone: cargo xtask {}", step.name());
    }
    if steps.len() > 1 {
        println!("{}", not_run(&rows));
    }
    failure.is_none()
}

/// What other jobs of the workflow run, because it takes long, needs a database from outside or another machine.
const ELSEWHERE: &str = "coverage, crash, damage, hostile, l1, sim and byzantine with thousands of seeds, mutants (nightly job); macOS; Rust 1.90 and 1.94.1 (msrv job)";

/// The last line: what a good result says nothing about.
fn not_run(rows: &[Row]) -> String {
    let skipped = rows.iter().filter_map(|row| match row.fate {
        Fate::Skipped(reason) => Some(format!("{} ({reason})", row.step.name())),
        Fate::NotRun => Some(row.step.name().to_owned()),
        Fate::Passed | Fate::Failed => None,
    });
    let out_of_scope = Step::all(Scope::Full).iter().filter(|step| rows.iter().all(|row| row.step != **step));
    let names: Vec<_> = skipped
        .chain(out_of_scope.map(|step| step.name().to_owned()))
        .chain([ELSEWHERE.to_owned()])
        .collect();
    format!("not run: {}", names.join(", "))
}

fn table(rows: &[Row]) -> String {
    let line = |name, fate, time: &str| format!("{name:<12} {fate:<8} {time}\n");
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let mut table = line("step", "result", "time");
    for Row { step, fate, time } in rows {
        table += &match fate {
            Fate::Passed => line(step.name(), "passed", &seconds(*time)),
            Fate::Failed => line(step.name(), "FAILED", &seconds(*time)),
            Fate::Skipped(reason) => line(step.name(), "skipped", reason),
            Fate::NotRun => line(step.name(), "not run", ""),
        };
    }
    let total = rows.iter().map(|row| row.time).sum();
    table + &line("total", "", &seconds(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Error {
        Error::Found(vec!["something".into()])
    }

    #[test]
    fn the_first_failure_stops() {
        let mut ran = Vec::new();
        let good = drive(&[Step::Fmt, Step::Clippy, Step::Test], |step| {
            ran.push(step);
            if step == Step::Clippy { Err(broken()) } else { Ok(Outcome::Done) }
        });
        assert!(!good);
        assert_eq!(ran, [Step::Fmt, Step::Clippy]);
    }

    #[test]
    fn a_skipped_step_is_no_failure_and_no_pass() {
        assert!(drive(&[Step::Deny], |_| Ok(Outcome::Skipped("not there"))));
        let rows = [Row { step: Step::Deny, fate: Fate::Skipped("not there"), time: Duration::ZERO }];
        assert!(table(&rows).contains("skipped  not there"));
    }

    #[test]
    fn the_last_line_names_what_was_not_run() {
        let row = |step, fate| Row { step, fate, time: Duration::ZERO };
        let mut rows: Vec<_> = Step::all(Scope::Full).iter().map(|step| row(*step, Fate::Passed)).collect();
        assert_eq!(not_run(&rows), format!("not run: {ELSEWHERE}"));
        for known in &mut rows {
            known.fate = match known.step {
                Step::Deny => Fate::Skipped("not there"),
                Step::Package => Fate::NotRun,
                _ => known.fate,
            };
        }
        assert_eq!(not_run(&rows), format!("not run: package, deny (not there), {ELSEWHERE}"));
        rows.retain(|row| row.step != Step::Doc);
        assert_eq!(not_run(&rows), format!("not run: package, deny (not there), doc, {ELSEWHERE}"));
    }

    #[test]
    fn each_step_is_named_with_its_time() {
        let rows = [
            Row { step: Step::Fmt, fate: Fate::Passed, time: Duration::from_millis(1234) },
            Row { step: Step::Doc, fate: Fate::Failed, time: Duration::from_secs(60) },
            Row { step: Step::Deny, fate: Fate::NotRun, time: Duration::ZERO },
        ];
        let table = table(&rows);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.get(1), Some(&"fmt          passed   1.2 s"));
        assert_eq!(lines.get(2), Some(&"doc          FAILED   60.0 s"));
        assert_eq!(lines.get(3).map(|line| line.trim_end()), Some("deny         not run"));
        assert_eq!(lines.get(4), Some(&"total                 61.2 s"));
    }
}
