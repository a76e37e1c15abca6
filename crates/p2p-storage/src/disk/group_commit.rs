//! Group commit: write requests of many threads share one transaction and its sync.
//!
//! A thread that submits a request while a transaction is running waits. The first one to wake when it ends becomes the
//! leader: it takes all pending requests and runs them in the next transaction.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    fault::{is_fatal, poisons},
    writer::Writer,
};
use crate::StorageError;

/// Work on a write transaction. Runs again if another request of the same transaction poisons it.
type Work = Box<dyn Fn(&mut Writer<'_>) -> Result<(), StorageError> + Send + Sync>;

/// A write that a thread has submitted, and its outcome once that is known.
pub(super) struct WriteRequest {
    work: Work,
    outcome: Mutex<Option<Result<(), StorageError>>>,
}

impl WriteRequest {
    pub(super) fn run(&self, writer: &mut Writer<'_>) -> Result<(), StorageError> {
        (self.work)(writer)
    }

    fn complete(&self, outcome: Result<(), StorageError>) {
        lock(&self.outcome).get_or_insert(outcome);
    }
}

/// Runs write requests as one transaction.
pub(super) trait Transactions {
    /// Runs the requests and makes them durable. An error carries the index of the request that failed, if it was the
    /// failure of one; nothing was changed then.
    fn transact(&self, requests: &[Arc<WriteRequest>]) -> Result<(), (Option<usize>, StorageError)>;
    /// The database can no longer be used as it is.
    fn invalidate(&self);
}

/// When a request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// In the next transaction.
    Normal,
    /// One step of long work: never in two transactions in a row while others wait.
    Low,
}

/// The pending requests. Bounded by the number of threads that write.
#[derive(Default)]
pub(super) struct GroupCommit {
    queue: Mutex<Queue>,
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    normal: Vec<Arc<WriteRequest>>,
    low: Vec<Arc<WriteRequest>>,
    /// Whether the last transaction had requests of low priority.
    low_ran: bool,
    /// Whether a thread is running a transaction.
    has_leader: bool,
}

impl Queue {
    /// The requests of the next transaction.
    fn next_batch(&mut self) -> Vec<Arc<WriteRequest>> {
        let mut batch = std::mem::take(&mut self.normal);
        self.low_ran = !self.low.is_empty() && (batch.is_empty() || !self.low_ran);
        if self.low_ran {
            batch.append(&mut self.low);
        }
        batch
    }
}

impl GroupCommit {
    /// Does `work` in a transaction, together with all pending requests, and returns when that is durable.
    pub(super) fn write<T: Send + 'static>(
        &self,
        on: &impl Transactions,
        priority: Priority,
        work: impl Fn(&mut Writer<'_>) -> Result<T, StorageError> + Send + Sync + 'static,
    ) -> Result<T, StorageError> {
        let answer = Arc::new(Mutex::new(None));
        let slot = answer.clone();
        let work: Work = Box::new(move |writer| match work(writer) {
            Err(error) if poisons(&error) => Err(error),
            answered => {
                *lock(&slot) = Some(answered);
                Ok(())
            }
        });
        let request = Arc::new(WriteRequest { work, outcome: Mutex::new(None) });
        self.submit(on, priority, &request)?;
        lock(&answer).take().unwrap_or(Err(StorageError::Poisoned))
    }

    fn submit(
        &self,
        on: &impl Transactions,
        priority: Priority,
        request: &Arc<WriteRequest>,
    ) -> Result<(), StorageError> {
        let mut queue = lock(&self.queue);
        match priority {
            Priority::Normal => queue.normal.push(request.clone()),
            Priority::Low => queue.low.push(request.clone()),
        }
        loop {
            if let Some(outcome) = lock(&request.outcome).take() {
                return outcome;
            }
            if queue.has_leader {
                queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.has_leader = true;
            let batch = queue.next_batch();
            drop(queue);
            run_batch(on, batch);
            queue = lock(&self.queue);
            queue.has_leader = false;
            self.done.notify_all();
        }
    }
}

/// Runs a batch to its end. Every request has its outcome afterwards, whatever happens.
fn run_batch(on: &impl Transactions, mut batch: Vec<Arc<WriteRequest>>) {
    while !batch.is_empty() {
        // The database panics on some pages that are not as it wrote them.
        let ran = catch_unwind(AssertUnwindSafe(|| on.transact(&batch)));
        let ran = ran.unwrap_or(Err((None, StorageError::Corrupt { what: "the database" })));
        match ran {
            Ok(()) => batch.drain(..).for_each(|request| request.complete(Ok(()))),
            Err((Some(failed), error)) if !is_fatal(&error) && failed < batch.len() => {
                batch.remove(failed).complete(Err(error));
            }
            Err((_, error)) => {
                on.invalidate();
                batch.drain(..).for_each(|request| request.complete(Err(error.clone())));
            }
        }
    }
}

/// Locks a mutex whose content is consistent at every moment: a panic of another thread is no reason to stop.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Arc<WriteRequest> {
        Arc::new(WriteRequest { work: Box::new(|_| Ok(())), outcome: Mutex::new(None) })
    }

    #[test]
    fn low_priority_runs_in_every_other_transaction_at_most() {
        let (mut queue, low, normal) = (Queue::default(), request(), request());
        queue.low.push(low.clone());
        let mut low_ran = Vec::new();
        for _ in 0..6 {
            queue.normal.push(normal.clone());
            let batch = queue.next_batch();
            assert!(batch.iter().any(|request| Arc::ptr_eq(request, &normal)), "normal requests never wait");
            low_ran.push(batch.iter().any(|request| Arc::ptr_eq(request, &low)));
            if queue.low.is_empty() {
                queue.low.push(low.clone());
            }
        }
        assert_eq!(low_ran, [true, false, true, false, true, false]);
        for _ in 0..3 {
            assert_eq!(queue.next_batch().len(), 1, "alone it need not wait");
            queue.low.push(low.clone());
        }
    }
}
