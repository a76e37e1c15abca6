//! Work that would hold up a task: on Tokio's blocking pool, or, where a simulation wants to be repeated, in the order in which it
//! was given.

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Runs `work` on a thread of the blocking pool.
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(feature = "test-utils")]
    if in_place::is_on() {
        return tokio::spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// The same, counted by `tasks`.
pub(crate) fn spawn_tracked<T: Send + 'static>(
    tasks: &TaskTracker,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    #[cfg(feature = "test-utils")]
    if in_place::is_on() {
        return tasks.spawn(async move { work() });
    }
    tasks.spawn_blocking(work)
}

#[cfg(feature = "test-utils")]
pub(crate) mod in_place {
    use std::{cell::Cell, marker::PhantomData};

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
    }

    /// While it lives, clients on this thread do all their work on this thread, each piece as a task of its own. With a runtime of
    /// one thread and a paused clock a run can then be repeated: nothing depends on when another thread is done.
    #[derive(Debug)]
    pub struct InPlace {
        before: bool,
        // Of this thread: not to be sent to another one.
        _thread: PhantomData<*const ()>,
    }

    impl InPlace {
        /// Begins now.
        #[must_use = "it ends when this is dropped"]
        pub fn on_this_thread() -> Self {
            Self { before: ON.replace(true), _thread: PhantomData }
        }
    }

    impl Drop for InPlace {
        fn drop(&mut self) {
            ON.set(self.before);
        }
    }

    pub(super) fn is_on() -> bool {
        ON.get()
    }

    #[cfg(test)]
    mod tests {
        use super::InPlace;
        use crate::blocking::spawn_blocking;

        #[tokio::test]
        async fn work_stays_on_the_thread_while_it_lives_and_leaves_it_otherwise() {
            let here = std::thread::current().id();
            let where_it_ran = || spawn_blocking(|| std::thread::current().id());
            assert_ne!(where_it_ran().await.unwrap(), here);
            let in_place = InPlace::on_this_thread();
            assert_eq!(where_it_ran().await.unwrap(), here);
            drop(in_place);
            assert_ne!(where_it_ran().await.unwrap(), here);
        }
    }
}
