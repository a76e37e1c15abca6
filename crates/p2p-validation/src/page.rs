//! Many commitments at once: over the cores, or one after the other.

use std::{
    panic::resume_unwind,
    sync::{LazyLock, Mutex, PoisonError},
    thread::{Builder, available_parallelism, scope},
};

/// The answer for each commitment, in order. `judge` gets a buffer that it may use as it likes.
///
/// The caller's thread works too, so a busy machine loses no time in waking others up; each of the others takes
/// some milliseconds of work off it, against the tens of microseconds that its start costs.
pub(crate) fn map<I: Sync, T: Send>(page: &[I], judge: impl Fn(&I, &mut Vec<u8>) -> T + Sync) -> Vec<T> {
    let pieces = Mutex::new(page.chunks(PIECE).enumerate());
    let work = || {
        let (mut done, mut buffer) = (Vec::new(), Vec::new());
        loop {
            let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, piece)) = piece else { return done };
            done.push((index, piece.iter().map(|item| judge(item, &mut buffer)).collect::<Vec<T>>()));
        }
    };
    let mut done = scope(|scope| {
        // Without a thread to be had, fewer do the work.
        let start = |_| Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (0..helpers(page.len())).filter_map(start).collect();
        let mut done = work();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, answers)| answers).collect()
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
