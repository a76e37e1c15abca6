//! A guard, and a connection of the test's own, on a PostgreSQL server of the test.

use std::time::Duration;

pub(crate) use p2p_fixtures::postgres::Server;
use p2p_guard_postgres::{GuardConfig, PostgresGuard};
use p2p_types::{Address, B256, Promise, SigningDomain, UnixSeconds};
use tokio_postgres::{Client, NoTls};

pub(crate) const CHAIN: u64 = 167_000;
pub(crate) const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
/// How long a test waits for what comes within seconds on a machine that is not busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A server that is a guard's.
pub(crate) trait Guarded {
    fn config(&self) -> GuardConfig;

    async fn guard(&self) -> PostgresGuard;

    /// A connection of the test's own.
    async fn client(&self) -> Client;
}

impl Guarded for Server {
    fn config(&self) -> GuardConfig {
        // Not what is tested here, but on a busy machine.
        let mut config = GuardConfig::new(&self.url(), CHAIN, DOMAIN).unwrap();
        config.deadline = Duration::from_secs(20);
        config
    }

    async fn guard(&self) -> PostgresGuard {
        PostgresGuard::open(self.config()).await.unwrap()
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// A block that a signer promises. What it says decides its hash, as in a real one.
pub(crate) fn promise(signer: u64, window_end: u64, block: u64, variant: u8) -> Promise {
    let mut hash = B256::repeat_byte(variant);
    hash.0[..8].copy_from_slice(&block.to_be_bytes());
    hash.0[8..16].copy_from_slice(&signer.to_be_bytes());
    hash.0[16..24].copy_from_slice(&window_end.to_be_bytes());
    let mut address = Address::ZERO;
    address.0[12..].copy_from_slice(&signer.to_be_bytes());
    Promise {
        window_end: UnixSeconds::new(window_end),
        signer: address,
        block,
        hash,
        eop: false,
        eop_only: false,
    }
}

/// The last block of a window.
pub(crate) fn last(mut promise: Promise) -> Promise {
    promise.eop = true;
    promise.hash.0[24] ^= 0x40;
    promise
}

/// A handover without a block.
pub(crate) fn declines(promise: Promise) -> Promise {
    let mut promise = last(promise);
    promise.eop_only = true;
    promise.hash.0[24] ^= 0x80;
    promise
}
