//! The signing guard that nodes with one key share: its options, and the guard and its lease while a node runs.

use std::{
    env,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use p2p_client::{Publishing, SigningGuard};
use p2p_guard_postgres::{GuardConfig, Lease, LeaseConfig, LeaseState, PostgresGuard};
use p2p_rpc::LeaseReport;
use p2p_types::SigningDomain;
use tokio::sync::watch;

/// Longest password.
const MAX_PASSWORD: u64 = 4_096;

/// Options of the guard.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Signing guard that nodes with one key share")]
pub(super) struct GuardArgs {
    #[command(flatten)]
    database: GuardDatabase,

    /// Publish only while this node leads: it competes under this name for the lease in the guard's database
    ///
    /// Each node has a name of its own. Without it every node publishes whatever the guard allows.
    #[arg(long = "guard.node", value_name = "NAME", requires = "url")]
    node: Option<String>,
}

/// Which database the guard is.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Signing guard that nodes with one key share")]
pub(crate) struct GuardDatabase {
    /// A PostgreSQL database, postgres://ROLE@HOST/DATABASE, that is asked before anything is published
    ///
    /// All nodes that publish for one key have the same. It says no to whatever contradicts what one of them has published, and
    /// no answer is a no. TLS is required of other hosts.
    #[arg(long = "guard.url", value_name = "URL")]
    url: Option<String>,

    /// File with the password of the role in --guard.url
    #[arg(long = "guard.password-file", value_name = "FILE", requires = "url")]
    password: Option<PathBuf>,

    /// File with the certificates, in PEM, that the database's must be signed by [default: those of this host]
    #[arg(long = "guard.ca", value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,

    /// The schema that has the guard's tables; made where there is none [default: preconf_guard]
    #[arg(long = "guard.schema", value_name = "NAME", requires = "url")]
    schema: Option<String>,
}

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    /// It has nothing to guard.
    #[error(
        "--guard.url: this node publishes nothing, so it must not take the lease from one that does; give --publish or \
         --rpc.addr with --datadir, or leave out --guard.url"
    )]
    Idle,
    /// Nothing says where it is.
    #[error("--guard.url: needed, or in the environment as P2P_NODE_GUARD_URL")]
    Nowhere,
    /// The password cannot be read.
    #[error("--guard.password-file {}: {source}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error("--guard.url: {0}; see docs/high-availability.md")]
    Database(#[from] p2p_guard_postgres::Error),
}

impl GuardDatabase {
    /// The configuration for `lease`. What the command line does not say, the environment does, as for `run`.
    pub(crate) fn for_lease(&self) -> Result<GuardConfig, GuardError> {
        let or_variable = |given: &Option<String>, name: &str| given.clone().or_else(|| env::var(name).ok());
        let or_path =
            |given: &Option<PathBuf>, name: &str| given.clone().or_else(|| env::var_os(name).map(Into::into));
        let whole = Self {
            url: or_variable(&self.url, "P2P_NODE_GUARD_URL"),
            password: or_path(&self.password, "P2P_NODE_GUARD_PASSWORD_FILE"),
            ca: or_path(&self.ca, "P2P_NODE_GUARD_CA"),
            schema: or_variable(&self.schema, "P2P_NODE_GUARD_SCHEMA"),
        };
        let url = whole.url.as_deref().ok_or(GuardError::Nowhere)?;
        whole.complete(GuardConfig::for_lease(url)?)
    }

    fn complete(&self, mut config: GuardConfig) -> Result<GuardConfig, GuardError> {
        config.ca.clone_from(&self.ca);
        if let Some(schema) = &self.schema {
            config.schema.clone_from(schema);
        }
        let Some(path) = &self.password else { return Ok(config) };
        let password =
            password(path).map_err(|source| GuardError::Password { path: path.clone(), source })?;
        Ok(config.with_password(&password))
    }
}

/// The first line of a file that nobody else may read.
fn password(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file.metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        // What comes through a pipe has no mode of its own.
        if metadata.is_file() && mode & 0o077 != 0 {
            return Err(io::Error::other(format!("others may read it, its mode is {mode:o}: chmod 600")));
        }
    }
    let mut text = String::new();
    file.take(MAX_PASSWORD).read_to_string(&mut text)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(io::Error::other("its first line is empty")),
    }
}

/// The guard of a running node.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) guard: Arc<dyn SigningGuard>,
    /// None where every node publishes.
    lease: Option<Lease>,
}

impl GuardArgs {
    /// What can be told without the database.
    pub(super) fn check(
        &self,
        chain_id: u64,
        domain: SigningDomain,
        publishing: Publishing,
    ) -> Result<Option<GuardConfig>, GuardError> {
        let Some(url) = &self.database.url else { return Ok(None) };
        if publishing == Publishing::Disabled {
            return Err(GuardError::Idle);
        }
        let config = GuardConfig::new(url, chain_id, domain)?;
        self.database.complete(config).map(Some)
    }

    /// Opens the guard, and begins to compete for the lease.
    pub(super) async fn open(
        &self,
        chain_id: u64,
        domain: SigningDomain,
        publishing: Publishing,
    ) -> Result<Option<Guard>, GuardError> {
        let Some(config) = self.check(chain_id, domain, publishing)? else { return Ok(None) };
        let guard = PostgresGuard::open(config).await?;
        let Some(node) = &self.node else { return Ok(Some(Guard { guard: Arc::new(guard), lease: None })) };
        let (guard, lease) = guard.with_lease(LeaseConfig::new(node)).await?;
        Ok(Some(Guard { guard: Arc::new(guard), lease: Some(lease) }))
    }
}

/// What a node knows of the lease. A clone sees the same.
#[derive(Debug, Clone)]
pub(super) struct LeaseView(watch::Receiver<LeaseState>);

impl LeaseView {
    pub(super) fn report(&self) -> LeaseReport {
        let LeaseState { role, leader, token, why, .. } = self.0.borrow().clone();
        LeaseReport::new(role.label(), leader, token, why.label())
    }
}

impl Guard {
    /// What is known of the lease; none where every node publishes.
    pub(super) fn lease(&self) -> Option<LeaseView> {
        self.lease.as_ref().map(|lease| LeaseView(lease.watch()))
    }

    /// Lets another node lead, at the end of this one.
    pub(super) async fn release(self) {
        let Some(lease) = self.lease else { return };
        if let Err(error) = lease.release().await {
            tracing::warn!(%error, "the lease was not released; another node takes over when it has ended");
        }
    }
}
