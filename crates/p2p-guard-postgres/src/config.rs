//! Which database, and how it is asked.

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use p2p_types::SigningDomain;
use tokio_postgres::config::{Host, SslMode};

use crate::error::Error;

/// Longest name of a schema in PostgreSQL.
const MAX_SCHEMA: usize = 63;

/// Which database, and how it is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GuardConfig {
    /// The server, the database and the role. Its `Debug` does not show the password.
    pub(crate) database: tokio_postgres::Config,
    /// The chain whose promises are kept. A guard of another chain is refused.
    pub chain_id: u64,
    /// The domain of its signatures, likewise.
    pub domain: SigningDomain,
    /// The schema that has the guard's tables: `preconf_guard`. Keys that are to be led apart have one each.
    pub schema: String,
    /// The certificates that the server's must be signed by, in PEM; those of the system where there is none.
    pub ca: Option<PathBuf>,
    /// How long a question waits for its answer, with all that it needs: a connection, a lock, a second try. 1 s.
    pub deadline: Duration,
    /// How many connections there are at most. 4.
    pub connections: NonZeroUsize,
}

impl GuardConfig {
    /// From a URL, `postgres://role@host:port/database`, or `key=value` pairs, as libpq has them.
    ///
    /// TLS is required of every server that is not on this machine, unless the URL says `sslmode=disable`; the server's
    /// certificate is always verified.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(url: &str, chain_id: u64, domain: SigningDomain) -> Result<Self, Error> {
        // The error names what is wrong with it and none of its values.
        let mut database: tokio_postgres::Config =
            url.parse().map_err(|error| Error::Config(crate::error::described(&error)))?;
        if database.get_hosts().is_empty() && database.get_hostaddrs().is_empty() {
            return Err(Error::Config("it has no host".into()));
        }
        let is_local = database.get_hostaddrs().iter().all(IpAddr::is_loopback)
            && database.get_hosts().iter().all(is_local);
        if !is_local && database.get_ssl_mode() == SslMode::Prefer {
            database.ssl_mode(SslMode::Require);
        }
        if database.get_application_name().is_none() {
            database.application_name("p2p-guard-postgres");
        }
        Ok(Self {
            database,
            chain_id,
            domain,
            schema: "preconf_guard".into(),
            ca: None,
            deadline: Duration::from_secs(1),
            connections: NonZeroUsize::MIN.saturating_add(3),
        })
    }

    /// For [`LeaseControl`](crate::LeaseControl), which asks nothing about a chain.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn for_lease(url: &str) -> Result<Self, Error> {
        Self::new(url, 0, SigningDomain::PLACEHOLDER)
    }

    /// The password, where it is not in the URL.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.database.password(password);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let is_plain = |c: char| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit();
        let begins = self.schema.starts_with(|c: char| c.is_ascii_lowercase());
        // It becomes a part of statements.
        if !begins || !self.schema.chars().all(is_plain) || self.schema.len() > MAX_SCHEMA {
            return Err(Error::Config(format!(
                "the schema {:?} is not a-z, then up to {} of a-z, 0-9 and _",
                self.schema,
                MAX_SCHEMA - 1
            )));
        }
        if self.deadline < Duration::from_millis(1) {
            return Err(Error::Config("the deadline is under 1 ms".into()));
        }
        Ok(())
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        #[cfg(unix)]
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<GuardConfig, Error> {
        GuardConfig::new(url, 1, SigningDomain::PLACEHOLDER)
    }

    #[test]
    fn tls_is_required_of_other_machines() {
        for (url, mode) in [
            ("postgres://guard@db.example.org/guard", SslMode::Require),
            ("postgres://guard@10.0.0.1/guard", SslMode::Require),
            ("postgres://guard@localhost,db.example.org/guard", SslMode::Require),
            ("host=localhost hostaddr=10.0.0.1 user=guard", SslMode::Require),
            ("postgres://guard@db.example.org/guard?sslmode=disable", SslMode::Disable),
            ("postgres://guard@localhost/guard", SslMode::Prefer),
            ("postgres://guard@[::1]/guard", SslMode::Prefer),
            ("host=/run/postgresql user=guard", SslMode::Prefer),
            ("postgres://guard@localhost/guard?sslmode=require", SslMode::Require),
        ] {
            assert_eq!(config(url).unwrap().database.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_shows_no_password() {
        assert!(matches!(config("user=guard"), Err(Error::Config(_))));
        let error = config("postgres://guard:s3cret@db.example.org/guard?nonsense=1").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        let good = config("postgres://guard:s3cret@db.example.org/guard").unwrap();
        assert!(!format!("{good:?}").contains("s3cret"));
        assert!(!format!("{:?}", good.clone().with_password("an0ther")).contains("an0ther"));
        let long = "s".repeat(64);
        for schema in ["", "Guard", "1st", "a-b", "a\"; DROP", "ä", &long] {
            let config = GuardConfig { schema: schema.to_owned(), ..good.clone() };
            assert!(matches!(config.check(), Err(Error::Config(_))), "{schema}");
        }
        assert!(good.check().is_ok());
    }
}
