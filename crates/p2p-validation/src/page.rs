//! Many commitments at once: spread over the cores by rayon's thread pool, or one after the other.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    thread::available_parallelism,
};

/// The answer for each commitment, in order. `judge` gets a buffer that it may use as it likes.
///
/// The caller's thread works too, and alone where there is little to do: then nothing waits for the pool, however many
/// pages are in it.
pub(crate) fn map<I: Sync, T: Send>(page: &[I], judge: impl Fn(&I, &mut Vec<u8>) -> T + Sync) -> Vec<T> {
    let pieces = Mutex::new(page.chunks(PIECE).enumerate());
    let done = Mutex::new(Vec::with_capacity(page.len().div_ceil(PIECE)));
    spread(helpers(page.len()), || {
        let mut buffer = Vec::new();
        loop {
            let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, piece)) = piece else { return };
            let answers: Vec<T> = piece.iter().map(|item| judge(item, &mut buffer)).collect();
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, answers));
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, answers)| answers).collect()
}

/// Does the work on the caller's thread and on some of the pool.
#[cfg(feature = "parallel")]
fn spread(helpers: usize, work: impl Fn() + Sync) {
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| work());
        }
        work();
    });
}

#[cfg(not(feature = "parallel"))]
fn spread(_: usize, work: impl Fn()) {
    work();
}

/// Commitments that a thread takes at a time: a third of a millisecond of work.
const PIECE: usize = 8;

/// Threads beside the caller's: one a core, and each with a piece of its own at least. None without the feature
/// `parallel`.
fn helpers(commitments: usize) -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));
    let cores = if cfg!(feature = "parallel") { *CORES } else { 1 };
    commitments.div_ceil(PIECE).min(cores).saturating_sub(1)
}

#[cfg(all(test, feature = "parallel"))]
mod tests {
    use std::{collections::HashSet, sync::Barrier, thread::current};

    use p2p_types::{PreconfCommitment, SigningDomain, SigningKey};

    use super::*;

    #[test]
    fn every_core_works_on_a_page_and_only_the_caller_on_a_short_one() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        let signed = PreconfCommitment::default().sign(&key, &SigningDomain::PLACEHOLDER);
        let cores = available_parallelism().unwrap().get();
        // Nobody goes on before all are there, with a piece each.
        let all = Barrier::new(cores);
        let page = vec![signed; PIECE * cores];
        let workers = map(&page, |_, buffer| {
            if buffer.is_empty() {
                all.wait();
                buffer.push(1);
            }
            current().id()
        });
        assert_eq!(workers.iter().collect::<HashSet<_>>().len(), cores);
        assert_eq!(map(&page[..PIECE], |_, _| current().id()), [current().id(); PIECE]);
        assert_eq!((helpers(0), helpers(1), helpers(PIECE)), (0, 0, 0));
        assert_eq!(helpers(PIECE + 1), 1.min(cores - 1));
    }
}
