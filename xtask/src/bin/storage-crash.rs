//! Kills a process that writes to the store on disk, again and again, and looks whether anything that it
//! acknowledged is gone.
//!
//! The writer is this binary again. It inserts blocks and transaction lists from several threads and says of
//! each, on its stdout, that it is stored; at a random moment it is killed. What was said before must be there
//! when the store is opened anew, whole, and the store must be sound as a whole.

#![allow(clippy::disallowed_methods, reason = "a tool that measures time and waits for a random moment")]

use std::{
    collections::HashMap,
    error::Error,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use p2p_storage::{
    CommitmentStore, DiskConfig, DiskStorage, SdkStorage, TxListStore,
    fixtures::{DOMAIN, Judge, block},
};
use p2p_types::{B256, Base, TxList};
use serde::Serialize;

#[derive(Parser)]
struct Cli {
    /// How often a writer is killed.
    #[arg(long, default_value_t = 100)]
    cycles: u32,
    /// Where the dice begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Write to the store in this folder until killed.
    #[arg(long, hide = true)]
    write: Option<PathBuf>,
}

type Failure = Box<dyn Error + Send + Sync>;

/// What came of all cycles.
#[derive(Debug, Default, Serialize)]
struct Report {
    cycles: u32,
    /// Commitments and transaction lists that a writer said were stored.
    acknowledged: u64,
    /// Of those, how many were not there or not whole, and problems that `verify` found.
    lost: u64,
    /// The slowest opening of the store after a kill.
    reopen_ms_max: f64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.write {
        Some(folder) => write(folder, cli.seed).map(|()| true),
        None => run(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A list that its number names: most are small, some are large.
fn list(number: u64) -> Result<TxList, Failure> {
    let len = if number.is_multiple_of(16) { 256 * 1024 } else { 64 + usize::try_from(number % 4096)? };
    let bytes: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(len).collect();
    Ok(TxList::new(bytes.into(), len)?)
}

/// Threads that put lists.
const LISTERS: u64 = 3;

/// The child: writes and says so, for ever.
fn write(folder: &Path, seed: u64) -> Result<(), Failure> {
    let store = Arc::new(DiskStorage::open(folder, DiskConfig::recommended(DOMAIN))?);
    if store.base()?.is_none() {
        store.set_base(Base::at(0))?;
    }
    say("ready", 0, B256::ZERO)?;
    let next = Arc::new(AtomicU64::new(seed << 32));
    for _ in 0..LISTERS {
        let (store, next) = (store.clone(), next.clone());
        thread::spawn(move || -> Result<(), Failure> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let list = list(number)?;
                let hash = list.hash();
                store.put(number, list)?;
                say("txlist", number, hash)?;
            }
        });
    }
    let judge = Judge::default();
    loop {
        // A chain, with an equivocation now and then and a few blocks at once.
        let head = store.head()?;
        let (number, parent) = head.map_or((1, B256::ZERO), |head| (head.number + 1, head.hash));
        let made = block(number, number, parent, 1);
        let mut said = vec![(number, made.hash())];
        let mut all = vec![judge.linked(&*store, made)];
        if number % 5 == 0 {
            let rival = block(number, number, parent, 2);
            said.push((number, rival.hash()));
            all.push(judge.linked(&*store, rival));
        }
        for applied in store.apply(all.into()).commitments {
            drop(applied.inserted?);
        }
        for (number, hash) in said {
            say("block", number, hash)?;
        }
    }
}

/// One line, written at once: a kill leaves no half of it that could be mistaken for another.
fn say(what: &str, number: u64, hash: B256) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{what} {number} {hash}\n").as_bytes())?;
    Ok(out.flush()?)
}

/// The parent: starts, kills, looks.
fn run(cli: &Cli) -> Result<bool, Failure> {
    let folder = tempfile::tempdir()?;
    let mut dice = fastrand::Rng::with_seed(cli.seed);
    let (mut report, mut store) = (Report { cycles: cli.cycles, ..Report::default() }, 0);
    let mut acknowledged = HashMap::new();
    for cycle in 0..cli.cycles {
        // A fresh store every 50 cycles: old enough to have grown, small enough to be read whole each time.
        if cycle % 50 == 0 {
            store += 1;
            acknowledged.clear();
        }
        let path = folder.path().join(store.to_string());
        let said = killed_writer(&path, u64::from(cycle), &mut dice)?;
        report.acknowledged += said.len() as u64;
        acknowledged.extend(said.iter().cloned().map(|line| (line, ())));
        let opening = Instant::now();
        let opened = DiskStorage::open(&path, DiskConfig::recommended(DOMAIN))?;
        report.reopen_ms_max = report.reopen_ms_max.max(opening.elapsed().as_secs_f64() * 1_000.0);
        // What this cycle said now, what earlier ones said when the store is left.
        let last = cycle + 1 == cli.cycles || (cycle + 1) % 50 == 0;
        let lines: Vec<&String> = if last { acknowledged.keys().collect() } else { said.iter().collect() };
        for line in lines {
            if !is_there(&opened, line)? {
                report.lost += 1;
                eprintln!("cycle {cycle}: lost {line}");
            }
        }
        if last {
            let verified = opened.verify()?;
            report.lost += verified.problems.len() as u64;
            for problem in &verified.problems {
                eprintln!("cycle {cycle}: {problem:?}");
            }
            if verified.sound != opened.stats()? {
                report.lost += 1;
            }
        }
    }
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{} cycles, {} acknowledged, {} lost, reopened in at most {:.1} ms",
            report.cycles, report.acknowledged, report.lost, report.reopen_ms_max
        );
    }
    Ok(report.lost == 0)
}

/// Starts a writer, kills it at a random moment, and returns what it had acknowledged.
fn killed_writer(folder: &Path, cycle: u64, dice: &mut fastrand::Rng) -> Result<Vec<String>, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--write")
        .arg(folder)
        .arg("--seed")
        .arg((cycle + 1).to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?);
    let mut ready = String::new();
    lines.read_line(&mut ready)?;
    if !ready.starts_with("ready") {
        child.kill()?;
        child.wait()?;
        return Err("the writer could not open the store".into());
    }
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        let mut line = String::new();
        // A last line without its end was not said.
        while lines.read_line(&mut line).is_ok_and(|len| len > 0) && line.ends_with('\n') {
            said.push(line.trim_end().to_owned());
            line.clear();
        }
        said
    });
    thread::sleep(Duration::from_micros(dice.u64(0..150_000)));
    child.kill()?;
    child.wait()?;
    reader.join().map_err(|_| "the reader failed".into())
}

/// Whether what a line acknowledges is in the store, whole.
fn is_there(store: &DiskStorage, line: &str) -> Result<bool, Failure> {
    let mut words = line.split(' ');
    let (Some(what), Some(number), Some(hash)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("not a line of ours: {line}").into());
    };
    let (number, hash): (u64, B256) = (number.parse()?, hash.parse()?);
    Ok(match what {
        "block" => store.by_hash(&hash).is_ok_and(|found| found.is_some_and(|found| found.block == number)),
        "txlist" => store.get(&hash).is_ok_and(|found| found == list(number).ok()),
        _ => return Err(format!("not a line of ours: {line}").into()),
    })
}
