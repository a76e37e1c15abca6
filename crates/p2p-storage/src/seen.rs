//! The cache of message ids that were seen.

use std::time::{Duration, Instant};

use p2p_types::MessageId;
use schnellru::{ByLength, LruMap};

/// Message ids seen lately: bounded by count (the least recently seen goes first) and by age.
pub struct SeenCache {
    ids: LruMap<MessageId, Instant>,
    ttl: Duration,
}

impl SeenCache {
    /// A memory of at most `capacity` ids, each for at most `ttl`.
    #[must_use]
    pub fn new(capacity: u32, ttl: Duration) -> Self {
        Self { ids: LruMap::new(ByLength::new(capacity)), ttl }
    }

    /// Notes an id. Returns whether it is new, or was seen so long ago that it counts as new.
    pub fn insert(&mut self, now: Instant, id: MessageId) -> bool {
        if self.contains(now, &id) {
            return false;
        }
        self.ids.insert(id, now)
    }

    /// Forgets an id: what it names has not been judged after all.
    pub fn remove(&mut self, id: &MessageId) {
        self.ids.remove(id);
    }

    /// Whether an id was seen within the time to live.
    #[must_use]
    pub fn contains(&self, now: Instant, id: &MessageId) -> bool {
        self.ids.peek(id).is_some_and(|seen| now.saturating_duration_since(*seen) < self.ttl)
    }
}

impl std::fmt::Debug for SeenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeenCache").field("ids", &self.ids.len()).field("ttl", &self.ttl).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_until_its_time_is_over() {
        let start = Instant::now();
        let id = MessageId::of_commitment(b"a");
        let mut seen = SeenCache::new(8, Duration::from_secs(10));
        assert!(seen.insert(start, id));
        assert!(!seen.insert(start + Duration::from_millis(9_999), id));
        assert!(seen.insert(start + Duration::from_secs(10), id));
        assert!(!seen.insert(start + Duration::from_secs(11), id));
        seen.remove(&id);
        assert!(seen.insert(start + Duration::from_secs(11), id));
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let now = Instant::now();
        let id = |n: u8| MessageId::of_commitment(&[n]);
        let mut seen = SeenCache::new(2, Duration::from_secs(10));
        assert!(seen.insert(now, id(1)) && seen.insert(now, id(2)) && seen.insert(now, id(3)));
        assert!(!seen.contains(now, &id(1)));
        assert!(seen.contains(now, &id(2)) && seen.contains(now, &id(3)));
    }
}
