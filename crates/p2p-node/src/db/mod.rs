//! `p2p-node db`: maintenance of a store on disk.
//!
//! | module | what lives there |
//! |---|---|
//! | [`args`] | the options |
//! | [`mod@lines`] | the lines of an export |
//! | [`mod@export`], [`mod@import`] | everything out, everything in |
//! | [`error`] | what can be wrong |

mod args;
mod error;
mod export;
#[cfg(feature = "test-utils")]
pub(crate) mod fuzz;
mod import;
mod lines;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use p2p_storage::{CommitmentStore, DiskConfig, DiskStorage, Durability, Problem, SdkStorage, StorageLimits};
use p2p_validation::ZeroParent;
use serde_json::{Map, Value, json};

use crate::clock;

pub(crate) use args::DbArgs;
use args::{DbCommand, Import, Prune, Store};
pub(crate) use error::DbError;
use import::{Imported, Rules};

/// Does what was asked. Exit code 0 if all is well, 1 if something is wrong with what the store holds or with a
/// line of an import.
///
/// # Errors
/// [`DbError`].
pub(crate) fn run(args: &DbArgs) -> Result<ExitCode, DbError> {
    let done = match &args.command {
        DbCommand::Stats(store) => stats(store),
        DbCommand::Verify(store) => verify(store),
        DbCommand::Export(args) => {
            look(args).and_then(|store| export::run(&store, &args.domain.0)).map(|()| true)
        }
        DbCommand::Import(args) => import(args),
        DbCommand::Prune(args) => prune(args),
        DbCommand::Compact(store) => compact(store),
    };
    match done {
        Ok(good) => Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Err(DbError::Storage(source)) => {
            Err(DbError::Store { folder: args.command.store().folder.clone(), source })
        }
        Err(error) => Err(error),
    }
}

/// Opens what is there to look at it: nothing is created or put in order.
fn look(store: &Store) -> Result<DiskStorage, DbError> {
    is_there(store)?;
    Ok(DiskStorage::open_read_only(&store.folder, config(store))?)
}

/// Opens what is there to change it.
fn open(store: &Store) -> Result<DiskStorage, DbError> {
    is_there(store)?;
    Ok(DiskStorage::open(&store.folder, config(store))?)
}

fn is_there(store: &Store) -> Result<(), DbError> {
    if DiskStorage::exists(&store.folder) { Ok(()) } else { Err(DbError::NoStore(store.folder.clone())) }
}

/// Without the limits that a node has: a tool evicts nothing.
fn config(store: &Store) -> DiskConfig {
    DiskConfig { limits: StorageLimits::UNLIMITED, ..DiskConfig::recommended(store.domain.0) }
}

fn stats(args: &Store) -> Result<bool, DbError> {
    let store = look(args)?;
    let stats = store.stats()?;
    say(
        args.json,
        json!({
            "commitments": stats.commitments,
            "commitmentBytes": stats.commitment_bytes(),
            "txlists": stats.txlists,
            "txlistBytes": stats.txlist_bytes,
            "evidence": stats.evidence,
            "lowest": store.next_height(0)?,
            "base": store.base()?,
            "head": store.head()?,
        }),
    )?;
    Ok(true)
}

fn verify(args: &Store) -> Result<bool, DbError> {
    let report = look(args)?.verify()?;
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    say(
        args.json,
        json!({
            "commitments": report.sound.commitments,
            "txlists": report.sound.txlists,
            "txlistBytes": report.sound.txlist_bytes,
            "evidence": report.sound.evidence,
            "problems": problems,
        }),
    )?;
    let Some(first) = problems.first().cloned() else { return Ok(true) };
    let only_lists = report.problems.iter().all(|problem| matches!(problem, Problem::TxList(_)));
    Err(DbError::Damaged { folder: args.folder.clone(), first, more: problems.len() - 1, only_lists })
}

fn import(args: &Import) -> Result<bool, DbError> {
    let folder = &args.store.folder;
    // One sync at the end: what is half done is begun anew.
    let config = DiskConfig { durability: Durability::Relaxed, ..config(&args.store) };
    let store = DiskStorage::open(folder, config)?;
    if store.base()?.is_some() {
        return Err(DbError::NotEmpty(folder.clone()));
    }
    let zero_parent =
        if args.zero_parent_follows_height { ZeroParent::FollowsHeight } else { ZeroParent::Unknown };
    let (domain, slasher, now) = (args.store.domain.0, args.slasher, clock::now());
    let rules = Rules { domain, slasher, zero_parent, now };
    let Imported { commitments, txlists, evidence, refused } =
        import::run(&store, &rules, io::stdin().lock())?;
    let answer =
        json!({"commitments": commitments, "txlists": txlists, "evidence": evidence, "refused": refused});
    say(args.store.json, answer)?;
    Ok(refused == 0)
}

fn prune(args: &Prune) -> Result<bool, DbError> {
    let pruned = open(&args.store)?.prune_below(args.below)?;
    say(args.store.json, json!({"pruned": pruned}))?;
    Ok(true)
}

fn compact(args: &Store) -> Result<bool, DbError> {
    let store = open(args)?;
    let before = store.database_bytes()?;
    store.compact()?;
    say(args.json, json!({"bytesBefore": before, "bytesAfter": store.database_bytes()?}))?;
    Ok(true)
}

/// Answers: one JSON object, or a line a field.
fn say(json: bool, answer: Value) -> Result<(), DbError> {
    let mut output = io::stdout().lock();
    let written = match &answer {
        Value::Object(fields) if !json => lines(fields, &mut output),
        _ => writeln!(output, "{answer}"),
    };
    written.map_err(DbError::Output)
}

fn lines(fields: &Map<String, Value>, output: &mut impl io::Write) -> io::Result<()> {
    for (name, value) in fields {
        match value {
            Value::Array(items) => {
                writeln!(output, "{name} {}", items.len())?;
                items.iter().filter_map(Value::as_str).try_for_each(|item| writeln!(output, "- {item}"))?;
            }
            Value::Null => writeln!(output, "{name} none")?,
            value => writeln!(output, "{name} {value}")?,
        }
    }
    Ok(())
}
