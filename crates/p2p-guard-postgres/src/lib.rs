//! One signing guard for several machines with one preconfirmation key, in PostgreSQL.
//!
//! A preconfer that runs on two machines must not sign twice for one height. [`PostgresGuard`] is a
//! [`SigningGuard`](p2p_types::SigningGuard) that all of them ask before each signature: it records what is signed in one
//! table, and says no to what contradicts it. A [`Lease`] in the same database says which machine signs at present.
//!
//! ```no_run
//! use p2p_guard_postgres::{GuardConfig, LeaseConfig, PostgresGuard};
//! use p2p_types::SigningDomain;
//!
//! # async fn example() -> Result<(), p2p_guard_postgres::Error> {
//! let config = GuardConfig::new("postgres://guard@db.example.org/guard", 167_000, SigningDomain::PLACEHOLDER)?;
//! let guard = PostgresGuard::open(config).await?;
//! let (guard, lease) = guard.with_lease(LeaseConfig::new("node-a")).await?;
//! // `guard` is what a client is built with; `lease.watch()` says who leads and why.
//! # Ok(())
//! # }
//! ```
//!
//! # How a question is decided
//!
//! One statement of the client, which is one transaction: it takes two advisory locks, looks once, and records. The lock of
//! (signer, window) makes questions of one turn follow each other, on however many connections they come: the rule that
//! nothing stands above a handover, and no handover below a block, is about several rows, which no key alone can keep apart.
//! The transaction is `READ COMMITTED`, so that the look is a snapshot taken *after* the lock is held, and sees what the one
//! before has committed; at any other isolation the guard refuses to answer. PostgreSQL lets the locks go after the commit
//! is durable and visible. Equivocation is also kept out by the primary key (signer, window, block), whatever else writes
//! to the table.
//!
//! `SERIALIZABLE` would do without the lock, and fail one of two questions that meet, which is then asked again: the lock
//! costs less. An exclusion constraint needs the extension `btree_gist`, which not every database has.
//!
//! The second lock is the gate: questions share it, and whoever makes another node leader, or imports, has it alone. What is
//! recorded under a token is therefore recorded before there is a higher one.
//!
//! # What is refused
//!
//! A database that forgets (`synchronous_commit`, `fsync` or `full_page_writes` is off), that is read-only, of another chain
//! or domain, or of another version of the schema; one that has lost a promise which this guard has seen it record, as after
//! a restore or a fail-over to a replica that lagged behind; and any that does not answer within
//! [`deadline`](GuardConfig::deadline). After that the promise may have been recorded or not: the same one may be asked
//! again, another one is a conflict if it was.
//!
//! No clock of the machine is read: the lease ends by the database's.
//!
//! # Metrics
//!
//! | series | labels | unit | what |
//! |---|---|---|---|
//! | `p2p_guard_permits_total` | answer | questions | `yes`, `conflict`, `not_leader`, `window_over`, `unavailable` |
//! | `p2p_guard_permit_seconds` | | seconds | to an answer, a histogram |
//! | `p2p_guard_lease_is_leader` | | | 1 while this node holds the lease |
//! | `p2p_guard_lease_token` | | | of the last leader; grows with each |
//! | `p2p_guard_lease_changes_total` | why | changes | of this node's role |
//! | `p2p_guard_lease_failures_total` | | failures | the database did not say who leads |

#![allow(clippy::disallowed_methods, reason = "waits for a database in real time; no wall clock is read")]

mod claim;
mod config;
mod connect;
mod control;
mod error;
mod exchange;
#[cfg(feature = "test-utils")]
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod lease;
mod metrics;
mod schema;

pub use config::GuardConfig;
pub use control::{LeaseControl, LeaseStatus};
pub use error::Error;
pub use exchange::Imported;
pub use guard::PostgresGuard;
pub use lease::{Lease, LeaseConfig, LeaseState, Role, Why};
