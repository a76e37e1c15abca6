//! Many commitments at once: spread over the cores by rayon's thread pools, or one after the other.
//!
//! What catch-up brings may take its time; for what gossip brings the whole network waits. So pages have threads of their
//! own, one for each core, which let others go first after each piece: no commitment of gossip waits for one of these
//! threads, nor for a core longer than a piece takes.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    thread::available_parallelism,
};

#[cfg(feature = "parallel")]
pub(crate) use threads::{as_page, give_way, in_background};

#[cfg(feature = "parallel")]
mod threads {
    use std::{sync::OnceLock, thread::yield_now};

    use rayon::{ThreadPool, ThreadPoolBuilder};

    use super::{PIECE, cores};

    /// The threads of all pages; none where the system gives no more.
    static PAGES: OnceLock<Option<ThreadPool>> = OnceLock::new();

    fn pages() -> Option<&'static ThreadPool> {
        let start = || {
            let name = |index| format!("pages-{index}");
            ThreadPoolBuilder::new().num_threads(cores()).thread_name(name).build().ok()
        };
        PAGES.get_or_init(start).as_ref()
    }

    /// Does the work that a page of so many commitments is on the threads of pages, where the caller waits for it: behind
    /// other pages, if those threads have them. What is little the caller does itself; and whoever calls from a rayon pool
    /// of their own has chosen their threads.
    pub(crate) fn as_page<T: Send>(commitments: usize, work: impl FnOnce() -> T + Send) -> T {
        let is_little = commitments <= PIECE;
        match if is_little || rayon::current_thread_index().is_some() { None } else { pages() } {
            Some(threads) => threads.install(work),
            None => work(),
        }
    }

    /// Where this thread is one that pages have, lets others go first who wait for its core. To be called often: a system
    /// need not take a core from a thread before its time slice of some milliseconds is over, whatever its priority.
    pub(crate) fn give_way() {
        if is_of_pages() {
            yield_now();
        }
    }

    pub(super) fn is_of_pages() -> bool {
        PAGES.get().and_then(Option::as_ref).is_some_and(|threads| threads.current_thread_index().is_some())
    }

    /// Does the work on the threads of pages, and the caller does not wait.
    pub(crate) fn in_background(work: impl FnOnce() + Send + 'static) {
        match pages() {
            Some(threads) => threads.spawn(work),
            None => work(),
        }
    }
}

#[cfg(not(feature = "parallel"))]
pub(crate) fn as_page<T>(_: usize, work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(not(feature = "parallel"))]
pub(crate) const fn give_way() {}

#[cfg(not(feature = "parallel"))]
pub(crate) fn in_background(work: impl FnOnce()) {
    work();
}

/// The answers of all pieces, in order: `judge` gives one for each commitment of a piece of at most `piece`. It gets a
/// buffer that it may use as it likes.
///
/// The caller's thread works too, and alone where there is little to do: then nothing waits for other threads, however
/// much they have to do.
pub(crate) fn map<I: Sync, T: Send>(
    all: &[I],
    piece: usize,
    judge: impl Fn(&[I], &mut Vec<u8>) -> Vec<T> + Sync,
) -> Vec<T> {
    let pieces = Mutex::new(all.chunks(piece.max(1)).enumerate());
    let done = Mutex::new(Vec::with_capacity(all.len().div_ceil(piece.max(1))));
    spread(helpers(all.len(), piece), || {
        let mut buffer = Vec::new();
        loop {
            let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, piece)) = piece else { return };
            let answers = judge(piece, &mut buffer);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, answers));
            give_way();
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, answers)| answers).collect()
}

/// Does the work on the caller's thread and on some others: of the pool that the caller's belongs to, or of rayon's own.
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

/// Threads beside the caller's: each with a piece of its own at least. None without the feature `parallel`.
fn helpers(commitments: usize, piece: usize) -> usize {
    commitments.div_ceil(piece.max(1)).min(threads_at_hand()).saturating_sub(1)
}

/// The threads of the pool that this one belongs to, or one a core.
fn threads_at_hand() -> usize {
    #[cfg(feature = "parallel")]
    if rayon::current_thread_index().is_some() {
        return rayon::current_num_threads();
    }
    cores()
}

fn cores() -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));
    if cfg!(feature = "parallel") { *CORES } else { 1 }
}

#[cfg(all(test, feature = "parallel"))]
mod tests {
    use std::{
        collections::HashSet,
        sync::{Barrier, mpsc::channel},
        thread::current,
    };

    use super::*;

    fn name() -> Option<String> {
        current().name().map(str::to_owned)
    }

    /// The names of the threads that a map is spread over, if that are `threads`: nobody goes on before all are there, with
    /// a piece each.
    fn workers(threads: usize) -> HashSet<Option<String>> {
        let all = Barrier::new(threads);
        let names = map(&vec![(); PIECE * threads], PIECE, |piece, buffer| {
            if buffer.is_empty() {
                all.wait();
                buffer.push(1);
            }
            vec![(current().id(), name()); piece.len()]
        });
        let ids: HashSet<_> = names.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), threads);
        names.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn every_core_works_where_there_is_much_and_only_the_caller_where_there_is_little() {
        let here = current().id();
        assert!(workers(cores()).contains(&name()));
        assert_eq!(map(&[(); PIECE], PIECE, |_, _| vec![current().id()]), [here]);
        assert_eq!((helpers(0, PIECE), helpers(1, PIECE), helpers(PIECE, PIECE)), (0, 0, 0));
        assert_eq!(helpers(PIECE + 1, PIECE), 1.min(cores() - 1));
    }

    #[test]
    fn pages_share_threads_that_give_way() {
        let (here, is_of_pages) = (current().id(), threads::is_of_pages);
        let names: HashSet<_> = (0..cores()).map(|index| Some(format!("pages-{index}"))).collect();
        assert_eq!(as_page(PIECE + 1, || workers(cores())), names);
        assert!(as_page(PIECE + 1, is_of_pages) && !is_of_pages());
        assert_eq!(as_page(PIECE, || current().id()), here, "a short one is done at once");
        let own = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let on_own = own.install(|| {
            let page = as_page(PIECE + 1, || (current().id(), is_of_pages(), helpers(PIECE + 1, PIECE)));
            (page, current().id())
        });
        assert_eq!(on_own.0, (on_own.1, false, 0), "whoever has a pool has its threads");
        let built = channel();
        in_background(move || built.0.send(name()).unwrap());
        assert!(names.contains(&built.1.recv().unwrap()));
    }
}
