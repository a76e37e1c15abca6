//! A key moves: export and import.

use p2p_guard_postgres::{Error, GuardConfig, PostgresGuard};
use p2p_types::{GuardError, Promise, SigningGuard as _, UnixSeconds};
use tokio::io::AsyncWriteExt as _;

use crate::server::{CHAIN, DOMAIN, Guarded as _, Server, declines, last, promise};

/// A guard in a schema of its own.
async fn guard(server: &Server, schema: &str) -> PostgresGuard {
    let mut config = server.config();
    config.schema = schema.to_owned();
    PostgresGuard::open(config).await.unwrap()
}

async fn exported(guard: &PostgresGuard) -> Vec<u8> {
    let mut file = Vec::new();
    guard.export(&mut file).await.unwrap();
    file
}

fn all() -> Vec<Promise> {
    let mut all: Vec<_> = (1..2_500).map(|height| promise(1, 300, height, 1)).collect();
    all.extend([last(promise(1, 300, 2_500, 1)), declines(promise(1, 300, 2_600, 1)), promise(2, 300, 7, 1)]);
    all
}

#[tokio::test]
async fn what_was_promised_in_one_place_binds_in_another() {
    let Some(server) = Server::start() else { return };
    let (old, new) = (guard(&server, "old").await, guard(&server, "new").await);
    for promise in all() {
        assert_eq!(old.permit(promise).await, Ok(()));
    }
    assert_eq!(old.permit(promise(1, 200, 1, 1)).await, Ok(()));
    assert_eq!(old.prune(UnixSeconds::new(300)).await.unwrap(), 1);
    let file = exported(&old).await;
    assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), all().len() + 1);

    assert_eq!(new.permit(promise(1, 300, 9, 1)).await, Ok(()));
    assert_eq!(new.permit(promise(3, 300, 9, 1)).await, Ok(()));
    let imported = new.import(&mut file.as_slice()).await.unwrap();
    assert_eq!((imported.read, imported.added), (2_502, 2_501));
    for promise in all() {
        assert_eq!(new.permit(promise).await, Ok(()));
    }
    for other in
        [promise(1, 300, 2_499, 2), promise(1, 300, 2_501, 1), promise(2, 300, 7, 2), promise(3, 300, 9, 2)]
    {
        let answer = new.permit(other).await;
        assert!(matches!(answer, Err(GuardError::Conflict(_))), "{other:?}: {answer:?}");
    }
    // What is pruned there is over here.
    assert!(matches!(new.permit(promise(1, 200, 1, 2)).await, Err(GuardError::WindowOver { .. })));
    // A second time it says nothing new, nor does an older file lower anything.
    assert_eq!(new.import(&mut file.as_slice()).await.unwrap().added, 0);
    let empty = exported(&guard(&server, "empty").await).await;
    new.import(&mut empty.as_slice()).await.unwrap();
    assert!(new.permit(promise(1, 200, 1, 2)).await.is_err());
}

#[tokio::test]
async fn a_file_that_contradicts_what_is_recorded_is_not_imported_at_all() {
    let Some(server) = Server::start() else { return };
    let (old, new) = (guard(&server, "old").await, guard(&server, "new").await);
    for promise in [promise(1, 300, 1, 1), promise(1, 300, 2, 1)] {
        assert_eq!(old.permit(promise).await, Ok(()));
    }
    assert_eq!(new.permit(promise(1, 300, 2, 2)).await, Ok(()));
    let file = exported(&old).await;
    match new.import(&mut file.as_slice()).await {
        Err(Error::Contradiction(conflict)) => {
            assert_eq!(conflict.refused, promise(1, 300, 2, 1).hash);
            assert_eq!(conflict.signed, promise(1, 300, 2, 2).hash);
        }
        other => panic!("{other:?}"),
    }
    // Nothing of it is here, and what was here still is.
    assert_eq!(new.permit(promise(1, 300, 1, 2)).await, Ok(()));
    assert!(matches!(new.permit(promise(1, 300, 2, 1)).await, Err(GuardError::Conflict(_))));
}

#[tokio::test]
async fn a_file_that_is_cut_or_of_another_chain_is_refused() {
    let Some(server) = Server::start() else { return };
    let (old, new) = (guard(&server, "old").await, guard(&server, "new").await);
    for height in 1..=3 {
        assert_eq!(old.permit(promise(1, 300, height, 1)).await, Ok(()));
    }
    let file = String::from_utf8(exported(&old).await).unwrap();
    let mut config = GuardConfig::new(&server.url(), CHAIN + 1, DOMAIN).unwrap();
    config.schema = "another".into();
    let foreign = String::from_utf8(exported(&PostgresGuard::open(config).await.unwrap()).await).unwrap();
    for (text, problem) in [
        (String::new(), "line 1 of the promises: there is none"),
        (file[..file.len() - 1].to_owned(), "line 4 of the promises: it has no end"),
        (file[..file.len() - 9].to_owned(), "line 4 of the promises: it has no end"),
        (file.replace("\"version\":1", "\"version\":2"), "version 2 of the format is not known"),
        (file.replace("preconfirmation-promises", "other"), "the format is"),
        (file.replacen("\"block\":2", "\"block\":-2", 1), "line 3 of the promises: invalid value"),
        (file.replacen("\"block\":2", "\"block\":18446744073709551615", 1), "line 3 of the promises: block"),
        (
            file.replacen("\"eop\":false", "\"eop\":false,\"more\":1", 1),
            "line 2 of the promises: unknown field",
        ),
        (foreign, "they are of chain 167001, the guard is of chain 167000"),
        ("x".repeat(100_000), "line 1 of the promises: it has no end"),
    ] {
        let error = new.import(&mut text.as_bytes()).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert_eq!(exported(&new).await.iter().filter(|byte| **byte == b'\n').count(), 1, "nothing was imported");
}

#[tokio::test]
async fn an_export_that_cannot_be_written_is_an_error() {
    let Some(server) = Server::start() else { return };
    let (mut full, _reader) = tokio::io::duplex(1);
    full.shutdown().await.unwrap();
    assert!(matches!(
        guard(&server, "old").await.export(&mut full).await,
        Err(Error::Promises { line: 1, .. })
    ));
}
