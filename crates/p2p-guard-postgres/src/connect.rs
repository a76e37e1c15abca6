//! Connections: TLS, the pool, and what is set on each.

use std::{fs, io, sync::Arc, time::Duration};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::GuardConfig,
    error::{Error, described},
};

/// How long a connection may be inside a transaction without a word: a program that stops in the middle of an import must
/// not keep all others from signing.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// A pool of connections. None is made yet.
pub(crate) fn pool(config: &GuardConfig) -> Result<Pool, Error> {
    let mut database = config.database.clone();
    // One that is silent leaves time for the next.
    let hosts = database.get_hosts().len().max(database.get_hostaddrs().len()).max(1);
    let each = config.deadline / u32::try_from(hosts).unwrap_or(u32::MAX);
    database.connect_timeout(each).tcp_user_timeout(config.deadline);
    let manager = Manager::from_config(
        database,
        MakeRustlsConnect::new(tls(config)?),
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    let settings = settings(config.deadline);
    let set = Hook::async_fn(move |connection, _| {
        let settings = settings.clone();
        Box::pin(async move { connection.batch_execute(&settings).await.map_err(HookError::Backend) })
    });
    Pool::builder(manager)
        .max_size(config.connections.get())
        .post_create(set)
        .build()
        .map_err(|error| Error::Config(error.to_string()))
}

/// A question that nobody waits for any more does not stay in the server either. `synchronous_commit` is not set, but
/// checked with each question: it may stand at `remote_apply`.
fn settings(deadline: Duration) -> String {
    format!(
        "SET default_transaction_isolation = 'read committed'; SET jit = off; SET statement_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}",
        deadline.as_millis().max(1),
        IDLE_IN_TRANSACTION.as_millis(),
    )
}

fn tls(config: &GuardConfig) -> Result<ClientConfig, Error> {
    let roots = match &config.ca {
        Some(path) => {
            let failed = |source| Error::Certificates { path: path.clone(), source };
            let pem = fs::read(path).map_err(failed)?;
            let invalid = |problem: String| failed(io::Error::new(io::ErrorKind::InvalidData, problem));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(invalid("it has none".into()));
            }
            roots
        }
        None => {
            // Without any, a server that asks for TLS is refused by its certificate, which names the reason.
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Config(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connection for one question. Where that was not answered to the end, the connection is closed rather than used again.
pub(crate) struct Connection(Option<Object>);

impl Connection {
    pub(crate) async fn of(pool: &Pool) -> Result<Self, Failure> {
        Ok(Self(Some(pool.get().await?)))
    }

    /// The connection, while it is not given back.
    pub(crate) fn get(&mut self) -> Result<&mut Object, Failure> {
        self.0
            .as_mut()
            .ok_or_else(|| Failure { text: "the connection was given back".into(), is_final: true })
    }

    /// It can be used again.
    pub(crate) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

/// Why one try failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    /// Whether a second try would fail as well.
    pub(crate) is_final: bool,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        // A role, a database or a function that is not there does not appear while somebody waits.
        let is_final = error
            .code()
            .is_some_and(|code| ["28", "3D", "3F", "42"].iter().any(|class| code.code().starts_with(class)));
        Self { text: described(&error), is_final }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            other => Self { text: other.to_string(), is_final: false },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Database(failure.text)
    }
}
