//! Many commitments at once: spread over the cores by rayon's thread pool, or one after the other.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    thread::available_parallelism,
};

/// The answers of all pieces of a page, in order: `judge` gives one for each commitment of a piece of at most `piece`. It
/// gets a buffer that it may use as it likes.
///
/// The caller's thread works too, and alone where there is little to do: then nothing waits for the pool, however many
/// pages are in it.
pub(crate) fn map<I: Sync, T: Send>(
    page: &[I],
    piece: usize,
    judge: impl Fn(&[I], &mut Vec<u8>) -> Vec<T> + Sync,
) -> Vec<T> {
    let pieces = Mutex::new(page.chunks(piece.max(1)).enumerate());
    let done = Mutex::new(Vec::with_capacity(page.len().div_ceil(piece.max(1))));
    spread(helpers(page.len(), piece), || {
        let mut buffer = Vec::new();
        loop {
            let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, piece)) = piece else { return };
            let answers = judge(piece, &mut buffer);
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

/// Commitments that a thread takes at a time where each is recovered: a third of a millisecond of work.
pub(crate) const PIECE: usize = 8;

/// Commitments that a thread takes at a time where those of a piece share work: enough of them, and enough pieces for all
/// cores.
pub(crate) fn share(commitments: usize) -> usize {
    commitments.div_ceil(4 * cores()).clamp(4 * PIECE, 8 * PIECE)
}

/// Threads beside the caller's: one a core, and each with a piece of its own at least. None without the feature
/// `parallel`.
fn helpers(commitments: usize, piece: usize) -> usize {
    commitments.div_ceil(piece.max(1)).min(cores()).saturating_sub(1)
}

fn cores() -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));
    if cfg!(feature = "parallel") { *CORES } else { 1 }
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
        let workers = map(&page, PIECE, |piece, buffer| {
            if buffer.is_empty() {
                all.wait();
                buffer.push(1);
            }
            vec![current().id(); piece.len()]
        });
        assert_eq!(workers.iter().collect::<HashSet<_>>().len(), cores);
        assert_eq!(
            map(&page[..PIECE], PIECE, |piece, _| vec![current().id(); piece.len()]),
            [current().id(); PIECE]
        );
        assert_eq!((helpers(0, PIECE), helpers(1, PIECE), helpers(PIECE, PIECE)), (0, 0, 0));
        assert_eq!(helpers(PIECE + 1, PIECE), 1.min(cores - 1));
    }
}
