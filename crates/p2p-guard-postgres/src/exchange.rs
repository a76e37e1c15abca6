//! Promises as JSON lines, so that a key can move: what EIP-3076 is for validators.

use futures::TryStreamExt as _;
use p2p_types::{Address, B256, Conflict, Misbehaviour, Promise, SigningDomain, UnixSeconds};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_postgres::{IsolationLevel, Transaction, types::ToSql};

use crate::{
    connect::Connection,
    error::Error,
    guard::{PostgresGuard, WORK},
};

/// The name of the format, in its first line.
const FORMAT: &str = "preconfirmation-promises";

/// The version of the format that is written, and the last that is read.
const FORMAT_VERSION: u32 = 1;

/// Longest line, four times what a promise needs.
const MAX_LINE: u64 = 1_024;

/// Promises that are imported by one statement.
const BATCH: usize = 1_000;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    chain_id: u64,
    domain: SigningDomain,
    /// Promises for windows that ended before this are not in the file.
    pruned_below: u64,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    signer: Address,
    window_end: u64,
    block: u64,
    hash: B256,
    eop: bool,
    eop_only: bool,
}

/// What an import has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Promises in the file.
    pub read: u64,
    /// Those that were not known, and are recorded now.
    pub added: u64,
}

impl PostgresGuard {
    /// Writes all promises, as they are at one moment. How many. Promises that are given later are not in it: a key moves
    /// when nothing signs with it any more.
    ///
    /// # Errors
    /// [`Error`]: what was written is not whole.
    pub async fn export(&self, output: &mut (impl AsyncWrite + Unpin + Send)) -> Result<u64, Error> {
        self.within(WORK, self.write(output)).await
    }

    /// Records what [`export`](Self::export) has written, all of it or nothing, and takes over below which window nothing is
    /// signed any more. What is recorded here stays: an import only ever forbids more. While it runs nobody signs.
    ///
    /// # Errors
    /// [`Error`]: nothing was imported. [`Error::Contradiction`] shows a promise that contradicts one that is recorded here.
    pub async fn import(&self, input: &mut (impl AsyncBufRead + Unpin + Send)) -> Result<Imported, Error> {
        self.within(WORK, self.read(input)).await
    }

    async fn write(&self, output: &mut (impl AsyncWrite + Unpin + Send)) -> Result<u64, Error> {
        let schema = &self.shared.schema;
        let mut connection = Connection::of(&self.shared.pool).await?;
        let snapshot = connection.get()?.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let transaction = snapshot.read_only(true).start().await?;
        transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
        let row = transaction.query_one(&format!("SELECT pruned_below FROM {schema}.identity"), &[]).await?;
        let header = Header {
            format: FORMAT.into(),
            version: FORMAT_VERSION,
            chain_id: self.shared.config.chain_id,
            domain: self.shared.config.domain,
            pruned_below: row.try_get::<_, i64>(0)?.unsigned_abs(),
        };
        put(output, &header, 1).await?;
        let select = format!(
            "SELECT signer, window_end, block, hash, eop, eop_only FROM {schema}.promise ORDER BY seq"
        );
        let rows = transaction.query_raw(&select, std::iter::empty::<&(dyn ToSql + Sync)>()).await?;
        let mut rows = std::pin::pin!(rows);
        let mut written = 0;
        while let Some(row) = rows.try_next().await? {
            let invalid = |_| Error::Promises { line: written + 2, problem: "the record is damaged".into() };
            let line = Line {
                signer: Address::try_from(row.try_get::<_, &[u8]>(0)?).map_err(invalid)?,
                window_end: row.try_get::<_, i64>(1)?.unsigned_abs(),
                block: row.try_get::<_, i64>(2)?.unsigned_abs(),
                hash: B256::try_from(row.try_get::<_, &[u8]>(3)?).map_err(invalid)?,
                eop: row.try_get(4)?,
                eop_only: row.try_get(5)?,
            };
            put(output, &line, written + 2).await?;
            written += 1;
        }
        output.flush().await.map_err(|error| unreadable(written + 2, error))?;
        transaction.commit().await?;
        connection.give_back();
        Ok(written)
    }

    async fn read(&self, input: &mut (impl AsyncBufRead + Unpin + Send)) -> Result<Imported, Error> {
        let schema = &self.shared.schema;
        let header: Header = take(input, 1).await?.ok_or_else(|| wrong(1, "there is none"))?;
        let config = &self.shared.config;
        accept(&header, config.chain_id, config.domain)?;
        let mut connection = Connection::of(&self.shared.pool).await?;
        let transaction = connection.get()?.build_transaction().start().await?;
        transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
        transaction.execute(&format!("SELECT pg_advisory_xact_lock({schema}.gate())"), &[]).await?;
        let mut imported = Imported { read: 0, added: 0 };
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH
                && let Some(line) = take::<Line>(input, imported.read + 2).await?
            {
                imported.read += 1;
                batch.push(line);
            }
            if batch.is_empty() {
                break;
            }
            imported.added += self.record(&transaction, &batch, imported.read).await?;
        }
        // Last, so that what the file has of pruned windows counts as well where it is not pruned here.
        let below = number("pruned_below", header.pruned_below, 1)?;
        transaction
            .execute(
                &format!("UPDATE {schema}.identity SET pruned_below = greatest(pruned_below, $1)"),
                &[&below],
            )
            .await?;
        transaction.commit().await?;
        connection.give_back();
        Ok(imported)
    }

    /// Records a batch that ends after `read` promises. How many were not known.
    async fn record(&self, transaction: &Transaction<'_>, batch: &[Line], read: u64) -> Result<u64, Error> {
        let first = read + 2 - batch.len() as u64;
        let column = |name, of: fn(&Line) -> u64| -> Result<Vec<i64>, Error> {
            batch.iter().zip(first..).map(|(line, place)| number(name, of(line), place)).collect()
        };
        let signers: Vec<&[u8]> = batch.iter().map(|line| line.signer.as_slice()).collect();
        let windows = column("window_end", |line| line.window_end)?;
        let blocks = column("block", |line| line.block)?;
        let hashes: Vec<&[u8]> = batch.iter().map(|line| line.hash.as_slice()).collect();
        let eops: Vec<bool> = batch.iter().map(|line| line.eop).collect();
        let without_block: Vec<bool> = batch.iter().map(|line| line.eop_only).collect();
        let statement = format!(
            "SELECT added, contradicts, kind, signed FROM {}.take_over($1, $2, $3, $4, $5, $6)",
            self.shared.schema
        );
        let row = transaction
            .query_one(&statement, &[&signers, &windows, &blocks, &hashes, &eops, &without_block])
            .await?;
        let contradicts =
            row.try_get::<_, Option<i32>>(1)?.and_then(|index| batch.get(usize::try_from(index).ok()?));
        let Some(line) = contradicts else {
            return Ok(row.try_get::<_, i64>(0)?.unsigned_abs());
        };
        let label: &str = row.try_get(2)?;
        let kind = Misbehaviour::ALL.iter().find(|kind| kind.label() == label).copied();
        let signed =
            row.try_get::<_, Option<&[u8]>>(3)?.and_then(|hash| hash.try_into().ok()).unwrap_or_default();
        let promise = Promise {
            window_end: UnixSeconds::new(line.window_end),
            signer: line.signer,
            block: line.block,
            hash: line.hash,
            eop: line.eop,
            eop_only: line.eop_only,
        };
        let conflict = Conflict::new(kind.unwrap_or(Misbehaviour::Equivocation), signed, &promise);
        Err(Error::Contradiction(Box::new(conflict)))
    }
}

/// Whether a file is of this format, and of a guard's chain and domain.
fn accept(header: &Header, chain: u64, of: SigningDomain) -> Result<(), Error> {
    let problem = match header {
        Header { format, .. } if format != FORMAT => format!("the format is {format:?}, not {FORMAT:?}"),
        Header { version, .. } if *version != FORMAT_VERSION => {
            format!("version {version} of the format is not known, only {FORMAT_VERSION}")
        }
        Header { chain_id, .. } if *chain_id != chain => {
            format!("they are of chain {chain_id}, the guard is of chain {chain}")
        }
        Header { domain, .. } if *domain != of => {
            format!("they are of domain {domain}, the guard is of domain {of}")
        }
        _ => return Ok(()),
    };
    Err(wrong(1, &problem))
}

fn wrong(line: u64, problem: &str) -> Error {
    Error::Promises { line, problem: problem.to_owned() }
}

fn unreadable(line: u64, error: impl std::fmt::Display) -> Error {
    wrong(line, &error.to_string())
}

fn number(name: &str, number: u64, line: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| wrong(line, &format!("{name} {number} is above 2^63 - 1")))
}

async fn put(
    output: &mut (impl AsyncWrite + Unpin + Send),
    value: &(impl Serialize + Sync),
    line: u64,
) -> Result<(), Error> {
    let mut bytes = serde_json::to_vec(value).map_err(|error| unreadable(line, error))?;
    bytes.push(b'\n');
    output.write_all(&bytes).await.map_err(|error| unreadable(line, error))
}

/// The next line, if there is one. A last line without its end is refused: the file was cut.
async fn take<T: for<'de> Deserialize<'de>>(
    input: &mut (impl AsyncBufRead + Unpin + Send),
    line: u64,
) -> Result<Option<T>, Error> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_LINE).read_until(b'\n', &mut bytes).await;
    read.map_err(|error| unreadable(line, error))?;
    match bytes.split_last() {
        None => Ok(None),
        Some((b'\n', json)) => {
            serde_json::from_slice(json).map(Some).map_err(|error| unreadable(line, error))
        }
        Some(_) => Err(wrong(
            line,
            &format!("it has no end within {MAX_LINE} bytes: the file was cut, or is another one"),
        )),
    }
}

/// Reads a whole file as an import does, without a database: how many promises it has.
#[cfg(feature = "test-utils")]
pub(crate) async fn checked(
    input: &mut (impl AsyncBufRead + Unpin + Send),
    chain: u64,
    domain: SigningDomain,
) -> Result<u64, Error> {
    let header: Header = take(input, 1).await?.ok_or_else(|| wrong(1, "there is none"))?;
    accept(&header, chain, domain)?;
    let mut read = 0;
    while let Some(line) = take::<Line>(input, read + 2).await? {
        number("window_end", line.window_end, read + 2)?;
        number("block", line.block, read + 2)?;
        let mut again = Vec::new();
        put(&mut again, &line, read + 2).await?;
        let _same: Option<Line> = take(&mut again.as_slice(), read + 2).await?;
        read += 1;
    }
    number("pruned_below", header.pruned_below, 1)?;
    Ok(read)
}
