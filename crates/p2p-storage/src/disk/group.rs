//! Many writers, one sync.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    fault::{breaks, spoils},
    writer::Writer,
};
use crate::StorageError;

/// Work on a write transaction; done again if another step of the same transaction spoils it.
type Step = Box<dyn Fn(&mut Writer<'_>) -> Result<(), StorageError> + Send + Sync>;

/// A step on its way, and what became of it once that is known.
pub(super) struct Ticket {
    step: Step,
    fate: Mutex<Option<Result<(), StorageError>>>,
}

impl Ticket {
    pub(super) fn run(&self, writer: &mut Writer<'_>) -> Result<(), StorageError> {
        (self.step)(writer)
    }

    fn settle(&self, fate: Result<(), StorageError>) {
        lock(&self.fate).get_or_insert(fate);
    }
}

/// What can run some steps as one transaction.
pub(super) trait Transactions {
    /// Runs the steps and makes them durable. An error carries the index of the step that failed, if it was
    /// one step's failure; nothing was changed then.
    fn transact(&self, steps: &[Arc<Ticket>]) -> Result<(), (Option<usize>, StorageError)>;
    /// The database can no longer be used as it is.
    fn discard(&self);
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// With the next transaction.
    Next,
    /// One of many steps of long work: never in two transactions in a row while somebody else waits.
    Spare,
}

/// Whoever comes while a transaction is running waits; whoever is first when it ends takes all who wait
/// along in the next one. Bounded by the number of threads that call.
#[derive(Default)]
pub(super) struct Group {
    queue: Mutex<Queue>,
    turn: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Arc<Ticket>>,
    /// Those that let others go first.
    spare: Vec<Arc<Ticket>>,
    /// Whether one of those was in the last transaction.
    spared: bool,
    /// Whether somebody is running a transaction.
    led: bool,
}

impl Queue {
    /// Who rides in the next transaction.
    fn next(&mut self) -> Vec<Arc<Ticket>> {
        let mut batch = std::mem::take(&mut self.waiting);
        self.spared = !self.spare.is_empty() && (batch.is_empty() || !self.spared);
        if self.spared {
            batch.append(&mut self.spare);
        }
        batch
    }
}

impl Group {
    /// Does `work` in a transaction, with whoever else waits, and returns when that is durable.
    pub(super) fn write<T: Send + 'static>(
        &self,
        on: &impl Transactions,
        turn: Turn,
        work: impl Fn(&mut Writer<'_>) -> Result<T, StorageError> + Send + Sync + 'static,
    ) -> Result<T, StorageError> {
        let answer = Arc::new(Mutex::new(None));
        let slot = answer.clone();
        let step: Step = Box::new(move |writer| match work(writer) {
            Err(error) if spoils(&error) => Err(error),
            answered => {
                *lock(&slot) = Some(answered);
                Ok(())
            }
        });
        let ticket = Arc::new(Ticket { step, fate: Mutex::new(None) });
        self.ride(on, turn, &ticket)?;
        lock(&answer).take().unwrap_or(Err(StorageError::Poisoned))
    }

    fn ride(&self, on: &impl Transactions, turn: Turn, ticket: &Arc<Ticket>) -> Result<(), StorageError> {
        let mut queue = lock(&self.queue);
        match turn {
            Turn::Next => queue.waiting.push(ticket.clone()),
            Turn::Spare => queue.spare.push(ticket.clone()),
        }
        loop {
            if let Some(fate) = lock(&ticket.fate).take() {
                return fate;
            }
            if queue.led {
                queue = self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.led = true;
            let batch = queue.next();
            drop(queue);
            lead(on, batch);
            queue = lock(&self.queue);
            queue.led = false;
            self.turn.notify_all();
        }
    }
}

/// Runs a batch to its end: every ticket has its fate afterwards, whatever happens.
fn lead(on: &impl Transactions, mut batch: Vec<Arc<Ticket>>) {
    while !batch.is_empty() {
        // The database panics on some pages that are not as it wrote them.
        let ran = catch_unwind(AssertUnwindSafe(|| on.transact(&batch)));
        let ran = ran.unwrap_or(Err((None, StorageError::Corrupt { what: "the database" })));
        match ran {
            Ok(()) => batch.drain(..).for_each(|ticket| ticket.settle(Ok(()))),
            Err((Some(spoiler), error)) if !breaks(&error) && spoiler < batch.len() => {
                batch.remove(spoiler).settle(Err(error));
            }
            Err((_, error)) => {
                on.discard();
                batch.drain(..).for_each(|ticket| ticket.settle(Err(error.clone())));
            }
        }
    }
}

/// What is behind these locks is whole at every moment: a panic elsewhere is no reason to stop.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Arc<Ticket> {
        Arc::new(Ticket { step: Box::new(|_| Ok(())), fate: Mutex::new(None) })
    }

    #[test]
    fn long_work_is_never_twice_in_a_row_before_somebody_who_waits_and_never_skipped_twice() {
        let (mut queue, long, short) = (Queue::default(), ticket(), ticket());
        queue.spare.push(long.clone());
        let mut rides = Vec::new();
        for _ in 0..6 {
            queue.waiting.push(short.clone());
            let batch = queue.next();
            assert!(batch.iter().any(|ticket| Arc::ptr_eq(ticket, &short)), "who waits always rides");
            rides.push(batch.iter().any(|ticket| Arc::ptr_eq(ticket, &long)));
            if queue.spare.is_empty() {
                queue.spare.push(long.clone());
            }
        }
        assert_eq!(rides, [true, false, true, false, true, false]);
        for _ in 0..3 {
            assert_eq!(queue.next().len(), 1, "alone it need not wait");
            queue.spare.push(long.clone());
        }
    }
}
