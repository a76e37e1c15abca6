//! Gossip that the application has not read yet.
//!
//! Two lanes, each in the order of arrival: what comes in the last one is read when there is nothing else to read. As
//! each message has an open verdict, they are bounded by those ([`Verdicts`](crate::verdicts::Verdicts)); when a verdict is
//! given up, its message leaves with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::event::NetworkEvent;

/// When a message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    First,
    /// After everybody else's.
    Last,
}

#[derive(Debug, Default)]
struct Shared {
    lanes: Mutex<Lanes>,
    first: Notify,
    last: Notify,
}

#[derive(Debug, Default)]
struct Lanes {
    first: BTreeMap<u64, NetworkEvent>,
    last: BTreeMap<u64, NetworkEvent>,
    closed: bool,
}

impl Lanes {
    const fn of(&mut self, lane: Lane) -> &mut BTreeMap<u64, NetworkEvent> {
        match lane {
            Lane::First => &mut self.first,
            Lane::Last => &mut self.last,
        }
    }
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn news(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::First => &self.first,
            Lane::Last => &self.last,
        }
    }
}

/// The end where messages go in. The other learns when this is dropped.
#[derive(Debug)]
pub(crate) struct Sender(Arc<Shared>);

/// The end where they are read.
#[derive(Debug)]
pub(crate) struct Receiver(Arc<Shared>);

pub(crate) fn inbox() -> (Sender, Receiver) {
    let shared = Arc::<Shared>::default();
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    /// Puts a message behind the others of its lane. `key`: the number of its verdict.
    pub(crate) fn push(&self, key: u64, lane: Lane, event: NetworkEvent) {
        self.0.lanes().of(lane).insert(key, event);
        self.0.news(lane).notify_one();
    }

    /// Takes a message back, if it has not been read.
    pub(crate) fn take(&self, key: u64) -> Option<NetworkEvent> {
        let mut lanes = self.0.lanes();
        lanes.first.remove(&key).or_else(|| lanes.last.remove(&key))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lanes().closed = true;
        self.0.first.notify_one();
        self.0.last.notify_one();
    }
}

impl Receiver {
    /// The next message of a lane; `None` when there will be none. Cancel-safe.
    pub(crate) async fn next(&self, lane: Lane) -> Option<NetworkEvent> {
        loop {
            {
                let mut lanes = self.0.lanes();
                if let Some((_, event)) = lanes.of(lane).pop_first() {
                    return Some(event);
                }
                if lanes.closed {
                    return None;
                }
            }
            self.0.news(lane).notified().await;
        }
    }
}
