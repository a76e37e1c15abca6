//! Damages copies of a store on disk and looks what becomes of each: whether `verify` finds the damage, and whether a
//! node could start on it. Both are processes of their own, so that one that is killed, or panics, is seen.
//!
//! | module | what lives there |
//! |---|---|
//! | [`store`] | the store that is copied, and what a node does with a copy |
//! | [`harm`] | the ways to damage a copy |

mod harm;
mod store;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use clap::Parser;
use serde::Serialize;

use harm::{Original, harm};
use store::Opened;

/// The exit code of a process that has worked on a copy although it found something rotten in it.
const ROTTEN: u8 = 3;

#[derive(Parser)]
struct Cli {
    /// How many copies are damaged.
    #[arg(long, default_value_t = 500)]
    copies: u32,
    /// Where the dice begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// The node whose `db verify` is asked; without, this program does the same.
    #[arg(long)]
    node: Option<PathBuf>,
    /// Verify the store in this folder.
    #[arg(long, hide = true)]
    verify: Option<PathBuf>,
    /// Open the store in this folder as a node does, read all of it, and write.
    #[arg(long, hide = true)]
    open: Option<PathBuf>,
}

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What became of the copies.
#[derive(Debug, Default, Serialize)]
struct Report {
    copies: u32,
    /// `verify` said in one line what is wrong, with exit code 1; opening it worked or said so as well.
    clean_errors: u32,
    /// `verify` found nothing wrong, and everything could be read and more be written.
    sound: u32,
    /// A process was killed by a signal.
    signals: u32,
    /// A panic reached the exit code or stderr.
    panics: u32,
    /// `verify` found nothing wrong, and opening, reading or writing it failed.
    false_sound: u32,
    /// An error that is not one line with exit code 1.
    #[serde(skip)]
    unclean: u32,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Good,
    Rotten,
    Refused,
    Unclean,
    Panic,
    Signal,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match (&cli.verify, &cli.open) {
        (Some(folder), _) => store::verify(folder).map(|()| ExitCode::SUCCESS),
        (_, Some(folder)) => store::open(folder).map(|opened| match opened {
            Opened::Whole => ExitCode::SUCCESS,
            Opened::Rotten => ExitCode::from(ROTTEN),
        }),
        _ => run(&cli).map(|good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(cli: &Cli) -> Result<bool, Failure> {
    let folder = tempfile::tempdir()?;
    let original = Original::make(folder.path(), cli.seed)?;
    let mut dice = fastrand::Rng::with_seed(cli.seed);
    let mut report = Report { copies: cli.copies, ..Report::default() };
    for number in 0..cli.copies {
        let copy = folder.path().join("copy");
        original.copy(&copy, &mut dice)?;
        let kind = harm(&original, &copy, number, &mut dice)?;
        let verified = end(verify(cli, &copy)?)?;
        let opened = end(Command::new(std::env::current_exe()?).arg("--open").arg(&copy))?;
        let before = (report.clean_errors, report.sound);
        match (verified, opened) {
            (End::Signal, _) | (_, End::Signal) => report.signals += 1,
            (End::Panic, _) | (_, End::Panic) => report.panics += 1,
            (End::Unclean, _) | (_, End::Unclean) | (End::Rotten, _) => report.unclean += 1,
            (End::Good, End::Good) => report.sound += 1,
            (End::Good, _) => report.false_sound += 1,
            (End::Refused, _) => report.clean_errors += 1,
        }
        if (report.clean_errors, report.sound) == before {
            eprintln!("copy {number}, {kind}: verified {verified:?}, opened {opened:?}");
        }
        std::fs::remove_dir_all(&copy)?;
    }
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let Report { copies, clean_errors, sound, signals, panics, false_sound, unclean } = &report;
        println!(
            "{copies} copies: {clean_errors} refused in one line, {sound} sound, {signals} killed by a signal, {panics} \
             panics, {false_sound} sound by mistake, {unclean} refused otherwise"
        );
    }
    Ok(report.clean_errors + report.sound == report.copies)
}

fn verify(cli: &Cli, copy: &Path) -> Result<Command, Failure> {
    Ok(match &cli.node {
        Some(node) => {
            let mut command = Command::new(node);
            command.args(["db", "verify"]).arg(copy);
            command
        }
        None => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("--verify").arg(copy);
            command
        }
    })
}

fn end(mut command: impl std::borrow::BorrowMut<Command>) -> Result<End, Failure> {
    let command =
        command.borrow_mut().stdin(Stdio::null()).env_remove("RUST_BACKTRACE").env_remove("RUST_LOG");
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("panicked") || output.status.code() == Some(101) {
        return Ok(End::Panic);
    }
    let lines = stderr.lines().count();
    let end = match output.status.code() {
        None => End::Signal,
        Some(0) if lines == 0 => End::Good,
        Some(code) if code == i32::from(ROTTEN) && lines == 0 => End::Rotten,
        Some(1) if lines == 1 => End::Refused,
        Some(_) => End::Unclean,
    };
    if end == End::Unclean {
        eprint!("{stderr}");
    }
    Ok(end)
}
