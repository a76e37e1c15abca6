//! The queue of gossip that the application has not read yet.
//!
//! Two priorities, each in the order of arrival: low is read when there is nothing else to read. As
//! each message has an open verdict, they are bounded by those ([`Verdicts`](crate::verdicts::Verdicts)); when a verdict is
//! given up, its message leaves with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// When a message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Normal,
    /// After everybody else's.
    Low,
}

#[derive(Debug)]
struct Shared<T> {
    messages: Mutex<Messages<T>>,
    normal: Notify,
    low: Notify,
}

#[derive(Debug)]
struct Messages<T> {
    normal: BTreeMap<u64, T>,
    low: BTreeMap<u64, T>,
    closed: bool,
}

impl<T> Messages<T> {
    const fn of(&mut self, priority: Priority) -> &mut BTreeMap<u64, T> {
        match priority {
            Priority::Normal => &mut self.normal,
            Priority::Low => &mut self.low,
        }
    }
}

impl<T> Shared<T> {
    fn messages(&self) -> MutexGuard<'_, Messages<T>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn notify(&self, priority: Priority) -> &Notify {
        match priority {
            Priority::Normal => &self.normal,
            Priority::Low => &self.low,
        }
    }
}

/// The end where messages go in. The other learns when this is dropped.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The end where they are read.
#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

pub(crate) fn inbox<T>() -> (Sender<T>, Receiver<T>) {
    let messages = Messages { normal: BTreeMap::new(), low: BTreeMap::new(), closed: false };
    let shared = Shared { messages: Mutex::new(messages), normal: Notify::new(), low: Notify::new() };
    let shared = Arc::new(shared);
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts a message behind the others of its priority. `key`: the number of its verdict.
    pub(crate) fn push(&self, key: u64, priority: Priority, message: T) {
        self.0.messages().of(priority).insert(key, message);
        self.0.notify(priority).notify_one();
    }

    /// Whether a message has not been read.
    pub(crate) fn contains(&self, key: u64) -> bool {
        let messages = self.0.messages();
        messages.normal.contains_key(&key) || messages.low.contains_key(&key)
    }

    /// Takes a message back, if it has not been read.
    pub(crate) fn take(&self, key: u64) -> Option<T> {
        let mut messages = self.0.messages();
        messages.normal.remove(&key).or_else(|| messages.low.remove(&key))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.messages().closed = true;
        self.0.normal.notify_one();
        self.0.low.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The next message of a priority; `None` when there will be none. Cancel-safe.
    pub(crate) async fn next(&self, priority: Priority) -> Option<T> {
        loop {
            {
                let mut messages = self.0.messages();
                if let Some((_, message)) = messages.of(priority).pop_first() {
                    return Some(message);
                }
                if messages.closed {
                    return None;
                }
            }
            self.0.notify(priority).notified().await;
        }
    }
}
