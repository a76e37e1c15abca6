//! The queue of outbound requests: they wait until the rate limit of their peer allows them, so that no peer has a reason to
//! punish the requester (§10). No clock: every call is given the time.
//!
//! Which limit a peer has, and what was sent to it, is in its record ([`PeerManager`]).

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    time::Instant,
};

use libp2p::PeerId;

use crate::peer_manager::{PeerManager, PeerProtocol};

/// The requests that wait, by peer and protocol, in the order in which they came. Of each at most so many.
pub(crate) struct RequestQueue<T> {
    max: NonZeroUsize,
    /// Never empty.
    queues: BTreeMap<PeerProtocol, VecDeque<T>>,
    waiting: usize,
}

impl<T> RequestQueue<T> {
    pub(crate) const fn new(max: NonZeroUsize) -> Self {
        Self { max, queues: BTreeMap::new(), waiting: 0 }
    }

    /// Puts a request to a connected peer at the end of its queue, or gives it back if the queue is full.
    pub(crate) fn push(&mut self, key: PeerProtocol, item: T) -> Result<(), T> {
        let queue = self.queues.entry(key).or_default();
        if queue.len() >= self.max.get() {
            return Err(item);
        }
        queue.push_back(item);
        self.waiting += 1;
        Ok(())
    }

    /// Takes the next request that may be sent and that somebody still wants. The caller sends it at once: it counts from
    /// `now` on, until its end is [reported](PeerManager::on_request_done). What nobody wants any more costs nothing.
    pub(crate) fn pop(
        &mut self,
        peers: &mut PeerManager,
        now: Instant,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let mut emptied = Vec::new();
        let mut next = None;
        for (key, queue) in &mut self.queues {
            while queue.front().is_some_and(|item| !wanted(item)) {
                queue.pop_front();
                self.waiting -= 1;
            }
            if !queue.is_empty() && peers.next_request_allowed(key, now).is_some_and(|allowed| allowed <= now)
            {
                next = queue.pop_front();
                self.waiting -= 1;
                peers.on_request_sent(key, now);
            }
            if queue.is_empty() {
                emptied.push(*key);
            }
            if next.is_some() {
                break;
            }
        }
        for key in emptied {
            self.queues.remove(&key);
        }
        next
    }

    /// When the next waiting request may be sent; an instant in the past if one may be now. `None` if none waits, or
    /// all that do wait for an answer.
    pub(crate) fn next_allowed(&self, peers: &PeerManager, now: Instant) -> Option<Instant> {
        self.queues.keys().filter_map(|key| peers.next_request_allowed(key, now)).min()
    }

    /// How many requests wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes all that waits for a peer.
    pub(crate) fn remove(&mut self, peer: &PeerId) -> Vec<T> {
        let keys: Vec<_> = self.queues.keys().filter(|(of, _)| of == peer).copied().collect();
        let removed: Vec<_> = keys.iter().filter_map(|key| self.queues.remove(key)).flatten().collect();
        self.waiting -= removed.len();
        removed
    }
}
