//! Leader and standby: a lease in the guard's database says which node signs.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use crate::{
    claim::Claim, connect::Connection, error::Error, guard::PostgresGuard, metrics, schema::VERSION,
};

/// Longest name of a node.
const MAX_NODE: usize = 128;

/// How a node competes for the lease.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LeaseConfig {
    /// What the node is called, in its own status and in that of the others.
    pub node: String,
    /// How long the lease lasts after it was last renewed, by the database's clock: 8 s, which with [`poll`](Self::poll) is
    /// well under a slot. It is renewed when a third of it has passed.
    pub term: Duration,
    /// How often the node asks who leads: 250 ms.
    pub poll: Duration,
}

impl LeaseConfig {
    /// With the defaults.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into(), term: Duration::from_secs(8), poll: Duration::from_millis(250) }
    }

    fn check(&self) -> Result<(), Error> {
        if self.node.is_empty() || self.node.len() > MAX_NODE || self.node.chars().any(char::is_control) {
            return Err(Error::Config(format!(
                "a node's name is 1 to {MAX_NODE} bytes without control characters"
            )));
        }
        if self.poll.is_zero() || self.term < self.poll * 4 {
            return Err(Error::Config(format!(
                "a term of {:?} is under four times the {:?} after which the lease is asked for",
                self.term, self.poll
            )));
        }
        Ok(())
    }
}

/// What a node is, as far as it knows. The database decides, with each promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It holds the lease.
    Leader,
    /// It does not.
    Standby,
    /// The database has not answered for so long that the lease may have ended. Nothing is signed meanwhile.
    Unknown,
}

impl Role {
    /// A short label for status and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Standby => "standby",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a node is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It has just begun, and has no answer yet.
    Starting,
    /// Leader: there was none before.
    First,
    /// Leader: the one before has let go.
    AfterRelease,
    /// Leader: the one before has not renewed in time.
    AfterExpiry,
    /// Standby: another node leads.
    Other,
    /// Standby: the leader has let go, and nobody has taken the lease yet.
    Released,
    /// Standby: the lease has ended, and nobody has taken it yet.
    Expired,
    /// Unknown: the database does not answer.
    NoAnswer,
}

impl Why {
    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::First => "first",
            Self::AfterRelease => "after_release",
            Self::AfterExpiry => "after_expiry",
            Self::Other => "other",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::NoAnswer => "no_answer",
        }
    }
}

/// Who leads and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseState {
    /// What this node is.
    pub role: Role,
    /// Who leads, if anybody is known to.
    pub leader: Option<String>,
    /// The token of the last leader. It grows with each.
    pub token: u64,
    /// Why.
    pub why: Why,
}

/// A node's part in the lease. When it is dropped, the node stops renewing, and the lease ends with its term.
#[derive(Debug)]
pub struct Lease {
    guard: PostgresGuard,
    session: i64,
    term: Duration,
    state: watch::Receiver<LeaseState>,
    task: JoinHandle<()>,
}

impl Lease {
    /// Who leads and why.
    #[must_use]
    pub fn state(&self) -> LeaseState {
        self.state.borrow().clone()
    }

    /// Changes of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LeaseState> {
        self.state.clone()
    }

    /// Lets go, if this node leads: for a planned stop. What it is recording is recorded first. It lets others go first for
    /// a term, then it competes again.
    ///
    /// # Errors
    /// [`Error`]: the lease may still be held, and ends with its term if this is dropped.
    pub async fn release(&self) -> Result<(), Error> {
        self.guard.end_lease(Some(self.session), self.term).await.map(drop)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PostgresGuard {
    /// This guard under a lease, for which the node competes from now on: promises are given while it is the leader, and
    /// [`GuardError::NotLeader`](p2p_types::GuardError::NotLeader) is the answer otherwise. To be called on a runtime of
    /// tokio.
    ///
    /// # Errors
    /// [`Error`]: the database did not answer, or the configuration makes no sense.
    pub async fn with_lease(self, config: LeaseConfig) -> Result<(Self, Lease), Error> {
        config.check()?;
        let statement = format!("SELECT nextval('{}.session')", self.shared.schema);
        let next = async {
            let mut connection = Connection::of(&self.shared.pool).await?;
            let session: i64 = connection.get()?.query_one(&statement, &[]).await?.try_get(0)?;
            connection.give_back();
            Ok(session)
        };
        let session = self.within(self.shared.config.deadline, next).await?;
        let claim = Arc::new(Claim::new(session));
        let (sender, state) =
            watch::channel(LeaseState { role: Role::Standby, leader: None, token: 0, why: Why::Starting });
        let term = config.term;
        let holder = Holder { guard: self.clone(), claim: claim.clone(), config, state: sender };
        let task = tokio::spawn(holder.run());
        let lease = Lease { guard: self.clone(), session, term, state, task };
        Ok((Self { claim: Some(claim), ..self }, lease))
    }

    pub(crate) async fn end_lease(
        &self,
        session: Option<i64>,
        wait: Duration,
    ) -> Result<Option<String>, Error> {
        let statement = format!("SELECT {}.release($1, make_interval(secs => $2))", self.shared.schema);
        let release = async {
            let mut connection = Connection::of(&self.shared.pool).await?;
            let row = connection.get()?.query_one(&statement, &[&session, &wait.as_secs_f64()]).await?;
            let was = row.try_get(0)?;
            connection.give_back();
            Ok(was)
        };
        self.within(self.shared.config.deadline, release).await
    }
}

/// Takes the lease, keeps it, and says what it sees.
struct Holder {
    guard: PostgresGuard,
    claim: Arc<Claim>,
    config: LeaseConfig,
    state: watch::Sender<LeaseState>,
}

impl Holder {
    async fn run(self) {
        let mut ticks = interval(self.config.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answered = Instant::now();
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            match self.guard.within(self.guard.shared.config.deadline, self.hold()).await {
                Ok(state) => {
                    answered = asked;
                    self.show(state);
                }
                Err(error) => {
                    metrics::lease_failure();
                    // What was answered last held for two thirds of a term at least, as it is renewed by then.
                    if answered.elapsed() > self.config.term * 2 / 3 {
                        self.show(LeaseState {
                            role: Role::Unknown,
                            leader: None,
                            why: Why::NoAnswer,
                            ..self.last()
                        });
                    }
                    if self.last().role != Role::Unknown || answered.elapsed() < self.config.term {
                        warn!(%error, "the lease's database gave no answer");
                    }
                }
            }
        }
    }

    fn last(&self) -> LeaseState {
        self.state.borrow().clone()
    }

    async fn hold(&self) -> Result<LeaseState, Error> {
        let shared = &self.guard.shared;
        let statement = format!(
            "SELECT unfit, token, leader, is_mine, why FROM {}.hold($1, $2, $3, $4, $5, make_interval(secs => $6))",
            shared.schema
        );
        let mut connection = Connection::of(&shared.pool).await?;
        let client = connection.get()?;
        let prepared = client.prepare_cached(&statement).await?;
        let (identity, term) = (&shared.identity, self.config.term.as_secs_f64());
        let session = self.claim.session();
        let row = client
            .query_one(
                &prepared,
                &[&VERSION, &identity.chain_id, &identity.domain, &session, &self.config.node, &term],
            )
            .await?;
        connection.give_back();
        if let Some(problem) = row.try_get::<_, Option<String>>(0)? {
            return Err(Error::Unfit(problem));
        }
        let (token, is_mine): (i64, bool) = (row.try_get(1)?, row.try_get(3)?);
        let why = match row.try_get(4)? {
            "first" => Why::First,
            "after_release" => Why::AfterRelease,
            "after_expiry" => Why::AfterExpiry,
            "other" => Why::Other,
            "released" => Why::Released,
            _ => Why::Expired,
        };
        self.claim.renew(token);
        Ok(LeaseState {
            role: if is_mine { Role::Leader } else { Role::Standby },
            leader: row.try_get(2)?,
            token: token.unsigned_abs(),
            why,
        })
    }

    fn show(&self, new: LeaseState) {
        metrics::lease(new.role == Role::Leader, new.token);
        self.state.send_if_modified(|state| {
            if *state == new {
                return false;
            }
            let LeaseState { role, leader, token, why } = &new;
            info!(?role, leader = leader.as_deref(), token, why = why.label(), "lease");
            if state.role != *role {
                metrics::lease_change(why.label());
            }
            *state = new;
            true
        });
    }
}
