//! The lease as an operator sees and ends it.

use std::time::Duration;

use crate::{
    config::GuardConfig, connect::Connection, error::Error, guard::PostgresGuard, lease::LeaseConfig,
};

/// What the database says of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStatus {
    /// Who leads, or has last led.
    pub node: Option<String>,
    /// Whether that one still holds the lease.
    pub is_held: bool,
    /// Whether that one has let go.
    pub is_released: bool,
    /// Its token.
    pub token: u64,
    /// How long the lease still lasts, by the database's clock.
    pub remaining: Duration,
}

/// The lease, for whoever does not compete for it: tools, and tests of a change of nodes.
#[derive(Debug)]
pub struct LeaseControl(PostgresGuard);

impl LeaseControl {
    /// Of this database. It connects when it is asked something, and makes nothing.
    ///
    /// # Errors
    /// [`Error`]: the configuration makes no sense.
    pub fn new(config: GuardConfig) -> Result<Self, Error> {
        PostgresGuard::unprepared(config).map(Self)
    }

    /// Ends the lease of whoever holds it, so that another node takes it: for a planned change of nodes. Who that was.
    ///
    /// # Errors
    /// [`Error`]: it may still be held.
    pub async fn release(&self) -> Result<Option<String>, Error> {
        self.0.end_lease(None, LeaseConfig::new("").term).await
    }

    /// What the database says of the lease.
    ///
    /// # Errors
    /// [`Error`]: it did not answer.
    pub async fn status(&self) -> Result<LeaseStatus, Error> {
        let shared = &self.0.shared;
        let statement = format!(
            "SELECT node, is_held, released, token, \
             CASE WHEN is_held THEN extract(epoch FROM expires - clock_timestamp())::float8 ELSE 0 END FROM {}.leader",
            shared.schema
        );
        let ask = async {
            let mut connection = Connection::of(&shared.pool).await?;
            let row = connection.get()?.query_one(&statement, &[]).await?;
            let status = LeaseStatus {
                node: row.try_get(0)?,
                is_held: row.try_get(1)?,
                is_released: row.try_get(2)?,
                token: row.try_get::<_, i64>(3)?.unsigned_abs(),
                remaining: Duration::try_from_secs_f64(row.try_get(4)?).unwrap_or_default(),
            };
            connection.give_back();
            Ok(status)
        };
        self.0.within(shared.config.deadline, ask).await
    }
}
