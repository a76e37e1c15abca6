//! What is allowed: `Promise::conflicts_with`, whoever asks, and however many at once.

use std::sync::Arc;

use p2p_guard_postgres::PostgresGuard;
use p2p_types::{GuardError, Misbehaviour, Promise, SigningGuard as _};
use tokio::task::JoinSet;

use crate::server::{Guarded as _, Server, declines, last, promise};

const SEQUENCES: u64 = 4_000;
const ASKED: usize = 12;

/// One signer's promises in some order: few heights and windows, so that most meet.
fn sequence(signer: u64) -> Vec<Promise> {
    let mut rng = fastrand::Rng::with_seed(signer);
    let mut any = || {
        let block = promise(signer, 100 + u64::from(rng.u8(..8) / 7), rng.u64(5..10), rng.u8(1..3));
        match rng.u8(..4) {
            0 => last(block),
            1 => declines(block),
            _ => block,
        }
    };
    (0..ASKED).map(|_| any()).collect()
}

/// Asks for each and compares with what the rules say of all that was allowed before.
async fn compare(guards: [PostgresGuard; 2], signer: u64) -> [usize; 3] {
    let (mut allowed, mut seen) = (Vec::<Promise>::new(), [0; 3]);
    for (asked, new) in sequence(signer).into_iter().enumerate() {
        let broken: Vec<_> =
            allowed.iter().filter_map(|old| Some((old.conflicts_with(&new)?, old.hash))).collect();
        match guards[asked % 2].permit(new).await {
            Ok(()) => {
                assert!(broken.is_empty(), "{signer}: {new:?} was allowed against {broken:?}");
                seen[0] += 1;
                allowed.push(new);
            }
            Err(GuardError::Conflict(conflict)) => {
                assert!(
                    broken.contains(&(conflict.kind, conflict.signed)),
                    "{signer}: {conflict} of {broken:?}"
                );
                assert_eq!((conflict.refused, conflict.block), (new.hash, new.block));
                seen[if conflict.kind == Misbehaviour::Equivocation { 1 } else { 2 }] += 1;
            }
            Err(other) => panic!("{signer}: {other}"),
        }
    }
    // Whatever was allowed is allowed again.
    for old in allowed {
        assert_eq!(guards[0].permit(old).await, Ok(()));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_promises_are_decided_as_the_rules_say() {
    let Some(server) = Server::start() else { return };
    let guards = [server.guard().await, server.guard().await];
    let (mut tasks, mut seen) = (JoinSet::new(), [0; 3]);
    for signer in 0..SEQUENCES {
        tasks.spawn(compare(guards.clone(), signer));
        if tasks.len() >= 8 {
            let one = tasks.join_next().await.unwrap().unwrap();
            seen.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
    }
    while let Some(one) = tasks.join_next().await {
        seen.iter_mut().zip(one.unwrap()).for_each(|(sum, one)| *sum += one);
    }
    println!("{} allowed, {} equivocations, {} blocks after a handover", seen[0], seen[1], seen[2]);
    assert!(seen.into_iter().all(|of| of > 1_000), "{seen:?}");
}

/// Both guards ask for one of two contradicting promises each, as fast as they can. Exactly one is allowed of each pair.
async fn race(server: &Server, pairs: u64, pair: impl Fn(u64) -> [Promise; 2] + Send + Sync + 'static) {
    const TASKS: u64 = 4;
    let guards = [server.guard().await, server.guard().await];
    let pair = Arc::new(pair);
    let mut tasks = JoinSet::new();
    for (side, guard) in guards.into_iter().enumerate() {
        for first in 0..TASKS {
            let (guard, pair) = (guard.clone(), pair.clone());
            tasks.spawn(async move {
                let mut won = Vec::new();
                for number in (first..pairs).step_by(usize::try_from(TASKS).unwrap()) {
                    let asked = pair(number)[side];
                    match guard.permit(asked).await {
                        Ok(()) => won.push(number),
                        Err(GuardError::Conflict(conflict)) => {
                            assert_eq!(conflict.signed, pair(number)[1 - side].hash);
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                (side, won)
            });
        }
    }
    let mut won = [Vec::new(), Vec::new()];
    while let Some(task) = tasks.join_next().await {
        let (side, numbers) = task.unwrap();
        won[side].extend(numbers);
    }
    println!("{} and {} of {pairs}", won[0].len(), won[1].len());
    let mut all = won.concat();
    all.sort_unstable();
    assert_eq!(all, (0..pairs).collect::<Vec<_>>(), "each has exactly one");
    assert!(won.iter().all(|side| !side.is_empty()), "they never met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_never_get_two_blocks_for_one_height() {
    let Some(server) = Server::start() else { return };
    race(&server, 10_000, |height| [promise(1, 100, height, 1), promise(1, 100, height, 2)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_never_get_a_handover_and_a_block_above_it() {
    let Some(server) = Server::start() else { return };
    race(&server, 3_000, |window| [declines(promise(1, window, 5, 1)), promise(1, window, 7, 2)]).await;
    race(&server, 3_000, |window| [last(promise(2, window, 5, 1)), last(promise(2, window, 6, 2))]).await;
}
