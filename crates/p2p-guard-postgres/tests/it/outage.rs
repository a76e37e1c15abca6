//! The database dies, stops, or its connection freezes: no answer is a refusal, and no yes is lost.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use p2p_guard_postgres::{GuardConfig, PostgresGuard};
use p2p_types::{GuardError, SigningGuard as _};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    sync::watch,
    time::timeout,
};

use crate::server::{CHAIN, DEADLINE, DOMAIN, Guarded as _, Server, promise};

const KILLS: u64 = 20;
/// How many promises are given before the next kill.
const BETWEEN: u64 = 50;

async fn within(server: &Server, deadline: Duration) -> PostgresGuard {
    let mut config = server.config();
    config.deadline = deadline;
    PostgresGuard::open(config).await.unwrap()
}

/// Waits until a number is reached.
async fn reaches(count: &AtomicU64, number: u64) {
    let reached = async {
        while count.load(Ordering::SeqCst) < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, reached).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_yes_is_lost_when_the_database_is_killed() {
    let Some(mut server) = Server::start() else { return };
    let [given, unanswered] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut nodes = Vec::new();
    for signer in 0..4 {
        let guard = within(&server, Duration::from_millis(200)).await;
        let (given, unanswered, is_over) = (given.clone(), unanswered.clone(), is_over.clone());
        nodes.push(tokio::spawn(async move {
            let (mut yes, mut height) = (Vec::new(), 0);
            while !is_over.load(Ordering::SeqCst) {
                height += 1;
                let new = promise(signer, 100, height, 1);
                match guard.permit(new).await {
                    Ok(()) => {
                        yes.push(new);
                        given.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(GuardError::Unavailable(_)) => drop(unanswered.fetch_add(1, Ordering::SeqCst)),
                    Err(other) => panic!("{other}"),
                }
            }
            yes
        }));
    }
    for kill in 1..=KILLS {
        reaches(&given, kill * BETWEEN).await;
        let before = unanswered.load(Ordering::SeqCst);
        server.kill();
        // Somebody asks while it is dead.
        reaches(&unanswered, before + 1).await;
        server.run();
    }
    reaches(&given, (KILLS + 1) * BETWEEN).await;
    is_over.store(true, Ordering::SeqCst);
    let guard = server.guard().await;
    let mut checked = 0;
    for node in nodes {
        for old in node.await.unwrap() {
            let mut other = old;
            other.hash.0[31] ^= 1;
            match guard.permit(other).await {
                Err(GuardError::Conflict(conflict)) => assert_eq!(conflict.signed, old.hash),
                other => panic!("{old:?} was allowed and is lost: {other:?}"),
            }
            assert_eq!(guard.permit(old).await, Ok(()));
            checked += 1;
        }
    }
    let unanswered = unanswered.load(Ordering::SeqCst);
    println!("{KILLS} kills: {checked} times yes, all there; {unanswered} times no answer");
}

/// Asks, and expects a refusal in time.
async fn is_refused_in_time(guard: &PostgresGuard, deadline: Duration, height: u64) {
    let begun = Instant::now();
    let answer = guard.permit(promise(1, 100, height, 1)).await;
    let took = begun.elapsed();
    assert!(matches!(answer, Err(GuardError::Unavailable(_))), "{answer:?}");
    // What the machine adds where it is busy.
    assert!(took >= deadline && took < deadline + Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_stopped_database_is_a_refusal_in_time() {
    let Some(server) = Server::start() else { return };
    let deadline = Duration::from_millis(300);
    let guard = within(&server, deadline).await;
    assert_eq!(guard.permit(promise(1, 100, 1, 1)).await, Ok(()));
    server.signal(Signal::STOP);
    for height in 2..6 {
        is_refused_in_time(&guard, deadline, height).await;
    }
    server.signal(Signal::CONT);
    let answers = async { while guard.permit(promise(1, 100, 2, 1)).await.is_err() {} };
    timeout(DEADLINE, answers).await.expect("it answers again");
    let other = guard.permit(promise(1, 100, 2, 2)).await;
    assert!(matches!(other, Err(GuardError::Conflict(_))), "{other:?}");
}

/// Passes bytes between a guard and the server. Once told to, it keeps the server's from the guard.
async fn proxy(socket: PathBuf, is_frozen: watch::Receiver<bool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((guard, _)) = listener.accept().await {
            let server = UnixStream::connect(&socket).await.unwrap();
            let ((mut from_guard, mut to_guard), (mut from_server, mut to_server)) =
                (guard.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_guard, &mut to_server).await });
            let mut is_frozen = is_frozen.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 4_096];
                while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                    let thaws = is_frozen.wait_for(|is_frozen| !is_frozen).await.is_ok();
                    if !thaws || to_guard.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn what_was_recorded_without_an_answer_is_a_yes_again_and_another_a_conflict() {
    let Some(server) = Server::start() else { return };
    let (frozen, is_frozen) = watch::channel(false);
    let port = proxy(server.socket(), is_frozen).await;
    let url = format!("host=127.0.0.1 port={port} user=guard dbname=postgres sslmode=disable");
    let deadline = Duration::from_millis(300);
    let mut config = GuardConfig::new(&url, CHAIN, DOMAIN).unwrap();
    config.deadline = deadline;
    let guard = PostgresGuard::open(config).await.unwrap();
    assert_eq!(guard.permit(promise(1, 100, 1, 1)).await, Ok(()));
    frozen.send_replace(true);
    // The first goes over a connection that there is. Later ones find none, and get none.
    for height in 2..8 {
        is_refused_in_time(&guard, deadline, height).await;
    }
    let admin = server.client().await;
    let query = "SELECT count(*) FROM preconf_guard.promise WHERE block = 2";
    assert_eq!(admin.query_one(query, &[]).await.unwrap().get::<_, i64>(0), 1, "it was recorded");
    frozen.send_replace(false);
    let other = guard.permit(promise(1, 100, 2, 2)).await;
    assert!(matches!(other, Err(GuardError::Conflict(_))), "{other:?}");
    assert_eq!(guard.permit(promise(1, 100, 2, 1)).await, Ok(()));
    // Nothing was recorded for those that did not arrive.
    assert_eq!(guard.permit(promise(1, 100, 3, 2)).await, Ok(()));
}
