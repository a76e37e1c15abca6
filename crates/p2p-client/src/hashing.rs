//! Large transaction lists are hashed on other threads, and those that come at the same time beside each other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{available_parallelism, panicking},
};

use p2p_types::{B256, TxList};
use preconfirmation_types::{Bytes, TxListError};
use tokio::sync::oneshot;

use crate::blocking::spawn_blocking;

/// Lists that one job takes at a time: as many as the widest vectors hash at once.
const TOGETHER: usize = 8;

type Verified = Result<TxList, TxListError>;

/// Verifies lists; cheap to clone. A list that comes while all jobs are busy waits, and those that wait are hashed together:
/// the busier the node, the less a list costs. A job for so many cores as lists are hashed at once: what a job does together, as many
/// cores would do beside each other.
#[derive(Clone)]
pub(crate) struct ListHasher(Arc<Shared>);

struct Shared {
    /// Bytes that a list may have.
    limit: usize,
    most_jobs: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// What a list should hash to, the list, and who waits: a request in flight, of which the network bounds the number.
    waiting: VecDeque<((B256, Bytes), oneshot::Sender<Verified>)>,
    jobs: usize,
}

impl ListHasher {
    pub(crate) fn new(limit: usize) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let most_jobs = cores.div_ceil(p2p_fastverify::hashes_at_once());
        Self(Arc::new(Shared { limit, most_jobs, queue: Mutex::default() }))
    }

    /// Checks the size, then the hash; none if that panicked.
    pub(crate) async fn verify(&self, claimed: B256, bytes: Bytes) -> Option<Verified> {
        let (answer, verified) = oneshot::channel();
        if self.0.queue(claimed, bytes, answer) {
            let shared = self.0.clone();
            spawn_blocking(move || shared.hash_waiting());
        }
        verified.await.ok()
    }
}

impl Shared {
    /// Whether another job is to start.
    fn queue(&self, claimed: B256, bytes: Bytes, answer: oneshot::Sender<Verified>) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(((claimed, bytes), answer));
        let starts = queue.jobs < self.most_jobs;
        queue.jobs += usize::from(starts);
        starts
    }

    /// A job: hashes what waits until nothing does.
    fn hash_waiting(&self) {
        let _job = Job(self);
        loop {
            let (lists, answers): (Vec<_>, Vec<_>) = {
                let mut queue = self.lock();
                let next = queue.waiting.len().min(TOGETHER);
                if next == 0 {
                    // Under the same lock: whoever comes next either was seen or starts a job.
                    queue.jobs -= 1;
                    return;
                }
                queue.waiting.drain(..next).unzip()
            };
            let verified = TxList::verify_all(lists, self.limit, p2p_fastverify::hash_all);
            for (answer, verified) in answers.into_iter().zip(verified) {
                // Whoever asked may have given up.
                drop(answer.send(verified));
            }
        }
    }

    /// No code that holds this lock panics halfway through a change.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does not count a job any more that panicked.
struct Job<'a>(&'a Shared);

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if panicking() {
            let mut queue = self.0.lock();
            queue.jobs -= 1;
            // Whoever waits is told by that, and not left to the next job.
            queue.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use preconfirmation_types::keccak256;

    use super::*;

    #[tokio::test]
    async fn each_list_gets_its_own_verdict_whatever_comes_with_it() {
        let hasher = ListHasher::new(40_000);
        let lists = (0..50_u8).map(|fill| Bytes::from(vec![fill; 850 * usize::from(fill)]));
        let verdicts = join_all(lists.clone().map(|list| {
            let claimed = if list.len() % 3 == 0 { keccak256(&list) } else { B256::ZERO };
            let hasher = hasher.clone();
            async move { (claimed, hasher.verify(claimed, list).await.unwrap()) }
        }));
        for (list, (claimed, verdict)) in lists.zip(verdicts.await) {
            assert_eq!(verdict, TxList::verify(claimed, list, 40_000));
        }
        assert!(hasher.0.lock().waiting.is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_list_that_comes_when_a_job_ends_is_not_forgotten() {
        let hasher = ListHasher::new(10);
        for _ in 0..5_000 {
            let verdict = hasher.verify(B256::ZERO, Bytes::from_static(b"list")).await.unwrap();
            assert!(matches!(verdict, Err(TxListError::HashMismatch { .. })));
        }
    }

    #[test]
    fn what_waits_is_hashed_by_the_jobs_that_run_and_then_they_end() {
        let hasher = ListHasher::new(1_000);
        let shared = &hasher.0;
        let mut verdicts = Vec::new();
        let mut started = 0;
        for fill in 0..100_u8 {
            let (answer, verdict) = oneshot::channel();
            let list = Bytes::from(vec![fill; 500]);
            started += usize::from(shared.queue(keccak256(&list), list, answer));
            verdicts.push(verdict);
        }
        assert_eq!(started, shared.most_jobs);
        verdicts.remove(7);
        for _ in 0..started {
            shared.hash_waiting();
        }
        assert_eq!(shared.lock().jobs, 0);
        assert!(verdicts.into_iter().all(|mut verdict| verdict.try_recv().unwrap().is_ok()));
    }
}
