//! The guard: one question, one statement.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use deadpool_postgres::Pool;
use p2p_types::{Conflict, GuardError, GuardFuture, Misbehaviour, Promise, SigningGuard, UnixSeconds};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::Row;

use crate::{
    claim::Claim,
    config::GuardConfig,
    connect::{Connection, Failure, pool},
    error::Error,
    metrics,
    schema::{self, Identity, VERSION},
};

/// How long a failed try rests before the next.
const PAUSE: Duration = Duration::from_millis(50);

/// How long opening, exporting, importing and pruning may take.
pub(crate) const WORK: Duration = Duration::from_secs(60);

/// A guard that all machines of one key share. A clone asks over the same connections.
#[derive(Clone)]
pub struct PostgresGuard {
    pub(crate) shared: Arc<Shared>,
    /// The lease that each promise must be under, if there is one.
    pub(crate) claim: Option<Arc<Claim>>,
}

pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) schema: String,
    pub(crate) config: GuardConfig,
    pub(crate) identity: Identity,
    permit: String,
    /// The latest promise that the database said it had recorded, with its window: it must still be there with the next.
    seen: Mutex<Option<(i64, i64)>>,
}

impl fmt::Debug for PostgresGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresGuard")
            .field("config", &self.shared.config)
            .field("claim", &self.claim)
            .finish()
    }
}

impl PostgresGuard {
    /// Connects, brings the schema to the version that is needed, and checks that the database can be used: that it writes
    /// durably and guards this chain.
    ///
    /// # Errors
    /// [`Error`]: there is no guard.
    pub async fn open(config: GuardConfig) -> Result<Self, Error> {
        let guard = Self::unprepared(config)?;
        metrics::describe();
        guard.within(WORK, guard.prepare()).await?;
        Ok(guard)
    }

    /// Without a connection yet. For what asks nothing about promises.
    pub(crate) fn unprepared(config: GuardConfig) -> Result<Self, Error> {
        config.check()?;
        let identity = Identity::of(&config);
        let pool = pool(&config)?;
        let schema = config.schema.clone();
        let arguments: Vec<_> = (1..=13).map(|number| format!("${number}")).collect();
        let permit =
            format!("SELECT answer, about, signed, recorded FROM {schema}.permit({})", arguments.join(", "));
        let shared = Shared { pool, schema, config, identity, permit, seen: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared), claim: None })
    }

    async fn prepare(&self) -> Result<(), Error> {
        let mut connection = Connection::of(&self.shared.pool).await?;
        let transaction = connection.get()?.build_transaction().start().await?;
        schema::prepare(&transaction, &self.shared.config, &self.shared.identity).await?;
        transaction.commit().await?;
        connection.give_back();
        Ok(())
    }

    /// Removes the promises for windows that ended before `below`, for all nodes. None is given for these any more, so
    /// nothing that is settled by then can be signed again. How many were removed.
    ///
    /// # Errors
    /// [`Error`]: nothing was removed, or it is not known whether.
    pub async fn prune(&self, below: UnixSeconds) -> Result<u64, Error> {
        let below = i64::try_from(below.get())
            .map_err(|_| Error::Config(format!("window {below} is out of range")))?;
        let statement = format!("SELECT {}.prune($1)", self.shared.schema);
        let prune = async {
            let mut connection = Connection::of(&self.shared.pool).await?;
            let transaction = connection.get()?.build_transaction().start().await?;
            transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
            let removed: i64 = transaction.query_one(&statement, &[&below]).await?.try_get(0)?;
            transaction.commit().await?;
            connection.give_back();
            Ok(removed.unsigned_abs())
        };
        self.within(WORK, prune).await
    }

    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, work).await.unwrap_or(Err(Error::Deadline(limit)))
    }

    /// Asks until there is an answer or the time is up. A second try is safe: the same promise again is a yes.
    async fn ask(&self, promise: &Promise) -> Result<(), GuardError> {
        let deadline = self.shared.config.deadline;
        let question = Question::of(promise)?;
        let mut last = None;
        let answered = timeout_at(Instant::now() + deadline, async {
            loop {
                match self.ask_once(&question).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) if failure.is_final => return Err(failure.text),
                    Err(failure) => last = Some(failure.text),
                }
                sleep(PAUSE).await;
            }
        });
        match answered.await {
            Ok(Ok(answer)) => self.judge(promise, &question, answer),
            Ok(Err(text)) => Err(GuardError::Unavailable(text)),
            Err(_) => {
                let last = last.map(|text| format!("; last, {text}")).unwrap_or_default();
                Err(GuardError::Unavailable(format!("no answer within {deadline:?}{last}")))
            }
        }
    }

    async fn ask_once(&self, question: &Question) -> Result<Answer, Failure> {
        let Shared { pool, permit, identity, .. } = &*self.shared;
        let (seen, seen_window) = self.seen().unzip();
        let (session, token) = self.claim.as_ref().map(|claim| (claim.session(), claim.token())).unzip();
        let mut connection = Connection::of(pool).await?;
        let client = connection.get()?;
        let statement = client.prepare_cached(permit).await?;
        let Question { signer, window_end, block, hash, eop, eop_only } = question;
        let row = client
            .query_one(
                &statement,
                &[
                    &VERSION,
                    &identity.chain_id,
                    &identity.domain,
                    signer,
                    window_end,
                    block,
                    hash,
                    eop,
                    eop_only,
                    &session,
                    &token,
                    &seen,
                    &seen_window,
                ],
            )
            .await?;
        let answer = Answer::of(&row)?;
        connection.give_back();
        Ok(answer)
    }

    fn judge(&self, promise: &Promise, question: &Question, answer: Answer) -> Result<(), GuardError> {
        let Answer { answer, about, signed, recorded } = answer;
        let kind = Misbehaviour::ALL.iter().find(|kind| kind.label() == answer);
        match (answer.as_str(), kind, recorded) {
            ("yes", _, Some(seq)) => {
                let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
                *seen = (*seen).max(Some((seq, question.window_end)));
                Ok(())
            }
            (_, Some(kind), _) => {
                let signed = signed.as_deref().and_then(|hash| hash.try_into().ok()).unwrap_or_default();
                Err(GuardError::Conflict(Box::new(Conflict::new(*kind, signed, promise))))
            }
            ("not_leader", ..) => Err(GuardError::NotLeader { leader: about }),
            ("pruned", ..) => {
                let below = about.and_then(|below| below.parse().ok()).unwrap_or(u64::MAX);
                Err(GuardError::WindowOver { window_end: promise.window_end, below: UnixSeconds::new(below) })
            }
            ("unfit", ..) => Err(GuardError::Unavailable(format!(
                "the database cannot be used: {}",
                about.unwrap_or_default()
            ))),
            _ => Err(GuardError::Unavailable(format!("the database gave the unknown answer {answer:?}"))),
        }
    }

    fn seen(&self) -> Option<(i64, i64)> {
        *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SigningGuard for PostgresGuard {
    fn permit(&self, promise: Promise) -> GuardFuture<'_> {
        Box::pin(async move {
            let begun = Instant::now();
            let answer = self.ask(&promise).await;
            metrics::permit(&answer, begun.elapsed());
            answer
        })
    }
}

/// A promise in PostgreSQL's types.
#[derive(Debug)]
struct Question {
    signer: Vec<u8>,
    window_end: i64,
    block: i64,
    hash: Vec<u8>,
    eop: bool,
    eop_only: bool,
}

impl Question {
    fn of(promise: &Promise) -> Result<Self, GuardError> {
        let in_range = |name: &str, number: u64| {
            let out = |_| GuardError::Unavailable(format!("{name} {number} is above 2^63 - 1"));
            i64::try_from(number).map_err(out)
        };
        Ok(Self {
            signer: promise.signer.to_vec(),
            window_end: in_range("the window's end", promise.window_end.get())?,
            block: in_range("block", promise.block)?,
            hash: promise.hash.to_vec(),
            eop: promise.eop,
            eop_only: promise.eop_only,
        })
    }
}

struct Answer {
    answer: String,
    about: Option<String>,
    signed: Option<Vec<u8>>,
    recorded: Option<i64>,
}

impl Answer {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            answer: row.try_get(0)?,
            about: row.try_get(1)?,
            signed: row.try_get(2)?,
            recorded: row.try_get(3)?,
        })
    }
}
