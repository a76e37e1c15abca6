//! The tables and functions, and their versions.

use tokio_postgres::Transaction;

use crate::{config::GuardConfig, error::Error};

/// What leads from each version to the next.
const MIGRATIONS: &[&str] = &[include_str!("../sql/1.sql")];

/// The version that this program needs.
pub(crate) const VERSION: i32 = 1;

const _: () = assert!(MIGRATIONS.len() == VERSION as usize);

/// What a guard is told apart by, as the functions take it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) chain_id: String,
    pub(crate) domain: Vec<u8>,
}

impl Identity {
    pub(crate) fn of(config: &GuardConfig) -> Self {
        // A chain id is any number of 64 bits, which PostgreSQL's integers are not.
        Self { chain_id: config.chain_id.to_string(), domain: config.domain.as_bytes().to_vec() }
    }
}

/// Brings the schema to the version that this program needs, and asks whether the database can be used.
pub(crate) async fn prepare(
    transaction: &Transaction<'_>,
    config: &GuardConfig,
    identity: &Identity,
) -> Result<(), Error> {
    let schema = &config.schema;
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    if transaction.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)? {
        return Err(Error::Unfit("it is a read-only standby".into()));
    }
    // Two programs that start at once would both make it.
    transaction
        .execute("SELECT pg_advisory_xact_lock(hashtextextended($1 || '.schema', 0))", &[schema])
        .await?;
    let found = version(transaction, schema).await?;
    if found > VERSION {
        return Err(Error::TooNew { schema: schema.clone(), found, known: VERSION });
    }
    let first =
        usize::try_from(found).map_err(|_| Error::Unfit(format!("its schema has version {found}")))?;
    for migration in MIGRATIONS.iter().skip(first) {
        transaction.batch_execute(&migration.replace("{schema}", schema)).await?;
    }
    if found == 0 {
        let insert = format!("INSERT INTO {schema}.identity (version, chain_id, domain) VALUES ($1, $2, $3)");
        transaction.execute(&insert, &[&VERSION, &identity.chain_id, &identity.domain]).await?;
    } else if found < VERSION {
        transaction.execute(&format!("UPDATE {schema}.identity SET version = $1"), &[&VERSION]).await?;
    }
    let unfit = format!("SELECT {schema}.unfit($1, $2, $3)");
    let row = transaction.query_one(&unfit, &[&VERSION, &identity.chain_id, &identity.domain]).await?;
    match row.try_get::<_, Option<String>>(0)? {
        None => Ok(()),
        Some(problem) => Err(Error::Unfit(problem)),
    }
}

/// The version of the schema; 0 where there is none.
async fn version(transaction: &Transaction<'_>, schema: &str) -> Result<i32, Error> {
    let row = transaction.query_one("SELECT to_regclass($1 || '.identity') IS NOT NULL", &[&schema]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let rows = transaction.query(&format!("SELECT version FROM {schema}.identity"), &[]).await?;
    match rows.first() {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(Error::Unfit(format!("{schema}.identity has no row"))),
    }
}
