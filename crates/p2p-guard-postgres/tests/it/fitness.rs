//! A database that may forget, or is another's, gives no answer.

use p2p_guard_postgres::{Error, GuardConfig, PostgresGuard};
use p2p_types::{B256, GuardError, SigningDomain, SigningGuard as _, UnixSeconds};

use crate::server::{CHAIN, DOMAIN, Guarded as _, Server, promise};

/// What an answer says that is no yes and no conflict.
#[track_caller]
fn unavailable(answer: Result<(), GuardError>) -> String {
    match answer {
        Err(GuardError::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_database_that_forgets_is_refused_at_the_start_and_later() {
    let Some(server) = Server::start() else { return };
    let guard = server.guard().await;
    let admin = server.client().await;
    for (number, setting) in (1..).zip(["synchronous_commit", "fsync", "full_page_writes"]) {
        assert_eq!(guard.permit(promise(1, 100, number, 1)).await, Ok(()));
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting} = off")).await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        // A server tells its connections of new settings in its own time.
        let mut height = 1_000 * number;
        let text = loop {
            height += 1;
            match guard.permit(promise(1, 100, height, 1)).await {
                Ok(()) => assert!(height < 1_000 * number + 999, "{setting} is off and allowed"),
                other => break unavailable(other),
            }
        };
        assert!(text.contains(&format!("{setting} is off")), "{text}");
        let error = PostgresGuard::open(server.config()).await.unwrap_err();
        assert!(matches!(&error, Error::Unfit(text) if text.contains(setting)), "{error}");
        admin.batch_execute(&format!("ALTER SYSTEM RESET {setting}")).await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        while guard.permit(promise(1, 100, height, 1)).await.is_err() {}
    }
}

#[tokio::test]
async fn a_database_whose_transactions_see_less_is_asked_in_the_right_way() {
    let Some(server) = Server::start() else { return };
    let admin = server.client().await;
    admin
        .batch_execute("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'")
        .await
        .unwrap();
    assert_eq!(server.guard().await.permit(promise(1, 100, 5, 1)).await, Ok(()));
}

#[tokio::test]
async fn a_read_only_database_is_refused() {
    let Some(server) = Server::start() else { return };
    let (guard, admin) = (server.guard().await, server.client().await);
    assert_eq!(guard.permit(promise(1, 100, 5, 1)).await, Ok(()));
    admin.batch_execute("ALTER DATABASE postgres SET default_transaction_read_only = on").await.unwrap();
    let error = PostgresGuard::open(server.config()).await.unwrap_err();
    assert!(matches!(&error, Error::Unfit(text) if text == "it is read-only"), "{error}");
}

#[tokio::test]
async fn a_guard_of_another_chain_or_domain_is_refused() {
    let Some(server) = Server::start() else { return };
    let guard = server.guard().await;
    let other = SigningDomain::new(B256::repeat_byte(7));
    for (chain, domain, named) in [(CHAIN + 1, DOMAIN, "chain 167000"), (CHAIN, other, "it guards domain")] {
        let config = GuardConfig::new(&server.url(), chain, domain).unwrap();
        let error = PostgresGuard::open(config).await.unwrap_err();
        assert!(matches!(&error, Error::Unfit(text) if text.contains(named)), "{error}");
    }
    // And where the database becomes another one behind a guard that is open.
    let admin = server.client().await;
    admin.batch_execute("UPDATE preconf_guard.identity SET chain_id = '1'").await.unwrap();
    let text = unavailable(guard.permit(promise(1, 100, 5, 1)).await);
    assert!(text.contains("it guards chain 1, not chain 167000"), "{text}");
}

#[tokio::test]
async fn a_schema_of_a_later_version_is_refused() {
    let Some(server) = Server::start() else { return };
    let guard = server.guard().await;
    // A second one finds what the first has made.
    assert_eq!(server.guard().await.permit(promise(1, 100, 5, 1)).await, Ok(()));
    let admin = server.client().await;
    admin.batch_execute("UPDATE preconf_guard.identity SET version = 2").await.unwrap();
    let error = PostgresGuard::open(server.config()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the guard's schema preconf_guard has version 2, this program knows up to 1: upgrade it"
    );
    assert!(unavailable(guard.permit(promise(1, 100, 6, 1)).await).contains("version 2"));
}

#[tokio::test]
async fn a_database_that_has_lost_a_promise_is_refused() {
    let Some(server) = Server::start() else { return };
    let guard = server.guard().await;
    for height in 1..=3 {
        assert_eq!(guard.permit(promise(1, 100, height, 1)).await, Ok(()));
    }
    // As after a restore, or a fail-over to a replica that lagged behind.
    let admin = server.client().await;
    admin.batch_execute("DELETE FROM preconf_guard.promise WHERE block = 3").await.unwrap();
    for new in [promise(1, 100, 3, 1), promise(1, 100, 3, 2), promise(2, 200, 1, 1)] {
        let text = unavailable(guard.permit(new).await);
        assert!(text.contains("it has lost promise 3"), "{text}");
    }
}

#[tokio::test]
async fn what_is_pruned_is_not_signed_again() {
    let Some(server) = Server::start() else { return };
    let guard = server.guard().await;
    for window in [100, 200, 300] {
        assert_eq!(guard.permit(promise(1, window, 5, 1)).await, Ok(()));
    }
    assert_eq!(guard.prune(UnixSeconds::new(300)).await.unwrap(), 2);
    for variant in [1, 2] {
        let over = GuardError::WindowOver { window_end: UnixSeconds::new(200), below: UnixSeconds::new(300) };
        assert_eq!(guard.permit(promise(1, 200, 5, variant)).await, Err(over));
    }
    // Nobody lowers it again.
    assert_eq!(guard.prune(UnixSeconds::new(100)).await.unwrap(), 0);
    assert!(guard.permit(promise(1, 200, 6, 1)).await.is_err());
    assert_eq!(guard.permit(promise(1, 300, 5, 1)).await, Ok(()));
    assert!(matches!(guard.permit(promise(1, 300, 5, 2)).await, Err(GuardError::Conflict(_))));
}

#[tokio::test]
async fn the_views_show_what_is_recorded_and_take_nothing() {
    let Some(server) = Server::start() else { return };
    let guard = server.guard().await;
    for height in 1..=3 {
        assert_eq!(guard.permit(promise(1, 100, height, 1)).await, Ok(()));
    }
    let admin = server.client().await;
    let query =
        "SELECT signer, window_end, promises, highest_block, has_handed_over FROM preconf_guard.turns";
    let row = admin.query_one(query, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "0x0000000000000000000000000000000000000001");
    assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i64>(3)), (100, 3, 3));
    assert!(!row.get::<_, bool>(4));
    for write in ["DELETE FROM preconf_guard.turns", "UPDATE preconf_guard.leader SET token = 9"] {
        assert!(admin.batch_execute(write).await.is_err(), "{write}");
    }
}
