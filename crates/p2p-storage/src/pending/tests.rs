//! The pending pool under floods.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use super::*;

fn pool(entries: usize, per_peer: usize) -> PendingPool<u32> {
    let nz = |n| NonZeroUsize::new(n).unwrap();
    PendingPool::new(PendingLimits {
        entries: nz(entries),
        bytes: nz(1 << 20),
        per_peer: nz(per_peer),
        per_key: nz(3),
        per_height: nz(5),
        untimed: nz(8),
        untimed_per_peer: nz(4),
        ttl: Duration::from_secs(10),
    })
}

impl PendingPool<u32> {
    fn add(
        &mut self,
        since: Instant,
        (block, hash): (BlockNumber, B256),
        missing: Missing,
        peer: Option<PeerId>,
        value: u32,
    ) -> Added<u32> {
        let (known_signer, txlist) = (false, Some(list_of(block)));
        self.insert(Pending { block, hash, txlist, missing, peer, known_signer, since }, value)
    }
}

/// The list that blocks of a height name.
fn list_of(block: BlockNumber) -> B256 {
    B256::right_padding_from(&block.to_be_bytes())
}

fn hash(n: u32) -> B256 {
    B256::left_padding_from(&n.to_be_bytes())
}

fn parent(n: u32) -> Missing {
    Missing::Parent(hash(1_000_000 + n))
}

fn parent_hash(n: u32) -> B256 {
    hash(1_000_000 + n)
}

#[test]
fn what_waited_for_a_parent_comes_out_in_order_of_arrival() {
    let (mut pool, now) = (pool(10, 10), Instant::now());
    for n in [3, 1, 2] {
        assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(0), None, n), Added::Waiting);
    }
    assert_eq!(pool.add(now, (9, hash(9)), parent(1), None, 9), Added::Waiting);
    assert_eq!(pool.take_parent(hash(1_000_000)), [3, 1, 2]);
    assert_eq!(pool.take_parent(hash(1_000_000)), [0; 0]);
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.add(now, (8, hash(8)), parent(0), None, 8), Added::Waiting);
    assert_eq!(pool.iter().copied().collect::<Vec<_>>(), [9, 8]);
    assert!(pool.waits_for(&parent_hash(1)) && !pool.waits_for(&parent_hash(2)));
    let waiting = |n| pool.waiting_for(&parent_hash(n)).copied().collect::<Vec<_>>();
    assert_eq!([waiting(0), waiting(1), waiting(2)], [vec![8], vec![9], vec![]]);
    assert_eq!((pool.highest(), pool.take_up_to(7)), (Some(9), vec![]));
    assert_eq!((pool.take_up_to(8), pool.highest()), (vec![8], Some(9)));
    assert_eq!((pool.take_up_to(9), pool.highest()), (vec![9], None));
    assert!(pool.is_empty() && pool.take_parent(hash(1_000_000)).is_empty());
}

#[test]
fn the_same_commitment_waits_once_and_a_parent_has_room_for_few() {
    let (mut pool, now) = (pool(10, 10), Instant::now());
    for n in 0..3 {
        assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(0), None, n), Added::Waiting);
    }
    assert_eq!(pool.add(now, (1, hash(1)), parent(0), None, 7), Added::Known(7));
    assert_eq!(pool.add(now, (3, hash(3)), parent(0), None, 3), Added::Crowded(3));
}

#[test]
fn a_flooding_peer_pushes_out_only_its_own() {
    let (mut pool, now) = (pool(6, 4), Instant::now());
    let (honest, flooder) = (peer(1), peer(2));
    for n in 0..2 {
        assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(n), honest, n), Added::Waiting);
    }
    for n in 100..104 {
        assert_eq!(pool.add(now, (u64::from(n), hash(n)), parent(n), flooder, n), Added::Waiting);
    }
    // Over its own share, and then over the share of all: both times the flooder pays.
    assert_eq!(pool.add(now, (104, hash(104)), parent(104), flooder, 104), Added::Evicted(vec![100]));
    assert_eq!(pool.add(now, (2, hash(2)), parent(2), honest, 2), Added::Evicted(vec![101]));
    assert_eq!(pool.len(), 6);
    for n in 0..3 {
        assert_eq!(pool.take_parent(hash(1_000_000 + n)), [n]);
    }
}

#[test]
fn entries_expire_exactly_after_their_time() {
    let (mut pool, start) = (pool(10, 10), Instant::now());
    let second = Duration::from_secs(1);
    assert_eq!(pool.add(start, (1, hash(1)), parent(1), None, 1), Added::Waiting);
    assert_eq!(pool.add(start + second, (2, hash(2)), parent(2), None, 2), Added::Waiting);
    assert_eq!(pool.next_deadline(), Some(start + 10 * second));
    assert_eq!(pool.expire(start + 10 * second - Duration::from_nanos(1)), [0; 0]);
    assert_eq!(pool.expire(start + 10 * second), [1]);
    assert_eq!(pool.expire(start + 11 * second), [2]);
    assert!(
        pool.is_empty()
            && pool.by_age.is_empty()
            && pool.by_hash.is_empty()
            && pool.by_missing.is_empty()
            && pool.by_height.is_empty()
            && pool.by_peer.is_empty()
    );
}

#[test]
fn schedules_are_taken_when_they_are_known() {
    let (mut pool, now) = (pool(10, 10), Instant::now());
    for (n, end) in [(1, 30), (2, 10), (3, 20)] {
        let missing = Missing::Schedule(UnixSeconds::new(end));
        assert_eq!(pool.add(now, (u64::from(n), hash(n)), missing, None, n), Added::Waiting);
    }
    assert_eq!(pool.take_scheduled(|end| end.get() <= 20), [2, 3]);
    assert_eq!((pool.waits_for_time(), pool.counts(), pool.highest()), (true, (0, 1), None));
    assert_eq!(pool.take_scheduled(|_| true), [1]);
    assert!(!pool.waits_for_time());
    for (n, due) in [(1, 30), (2, 10)] {
        let missing = Missing::Time(UnixSeconds::new(due));
        assert_eq!(pool.add(now, (u64::from(n), hash(n)), missing, None, n), Added::Waiting);
    }
    assert_eq!(pool.take_due(UnixSeconds::new(29)), [2]);
    assert_eq!((pool.take_due(UnixSeconds::new(30)), pool.is_empty()), (vec![1], true));
}

#[test]
fn what_comes_back_keeps_its_age() {
    let (mut pool, start) = (pool(10, 10), Instant::now());
    let second = Duration::from_secs(1);
    assert_eq!(pool.add(start + 5 * second, (2, hash(2)), parent(2), None, 2), Added::Waiting);
    // Arrived before, judged in the meantime, and waiting for something else now.
    assert_eq!(pool.add(start, (1, hash(1)), parent(1), None, 1), Added::Waiting);
    assert_eq!(pool.next_deadline(), Some(start + 10 * second));
    assert_eq!(pool.expire(start + 10 * second), [1]);
}

#[test]
fn what_anybody_can_sign_takes_no_room_from_what_was_elected() {
    let (mut pool, now) = (pool(6, 6), Instant::now());
    let schedule = |n: u64| Missing::Schedule(UnixSeconds::new(n));
    for n in 0..100_u8 {
        // Each peer has its share of that, and all of them have theirs.
        let from = peer(n % 10);
        assert!(!matches!(
            pool.add(now, (7, hash(n.into())), schedule(n.into()), from, n.into()),
            Added::Waiting if n >= 8
        ));
    }
    assert_eq!(pool.counts(), (0, 8));
    for n in 200..206 {
        assert_eq!(pool.add(now, (7 + u64::from(n), hash(n)), parent(n), peer(1), n), Added::Waiting);
    }
    assert_eq!(pool.counts(), (6, 8));
}

#[test]
fn unknown_signers_make_room_for_those_elected_before() {
    let (mut pool, now) = (pool(6, 6), Instant::now());
    let pending = |n: u32, known_signer| Pending {
        block: 7,
        hash: hash(n),
        txlist: None,
        missing: Missing::Schedule(UnixSeconds::new(100)),
        peer: peer(1),
        known_signer,
        since: now,
    };
    assert_eq!(pool.insert(pending(0, true), 0), Added::Waiting);
    for n in 1..4 {
        assert_eq!(pool.insert(pending(n, false), n), Added::Waiting);
    }
    // The peer is at its limit: entries of unknown signers evict one another, and make room for elected ones.
    assert_eq!(pool.insert(pending(4, false), 4), Added::Evicted(vec![1]));
    assert_eq!(pool.insert(pending(5, true), 5), Added::Evicted(vec![2]));
    for n in 6..8 {
        assert!(matches!(pool.insert(pending(n, true), n), Added::Evicted(_)));
    }
    assert_eq!(pool.insert(pending(8, false), 8), Added::Crowded(8));
    assert_eq!(pool.insert(pending(9, true), 9), Added::Evicted(vec![0]), "of the known, the oldest");
}

fn peer(n: u8) -> Option<PeerId> {
    Some(PeerId::from_bytes(&[0, 1, n]).unwrap())
}

#[test]
fn a_flood_stays_within_count_and_bytes_and_leaves_the_others_their_entries() {
    let nz = |n| NonZeroUsize::new(n).unwrap();
    let room = 50 * PendingPool::<u32>::ENTRY_BYTES;
    for (entries, bytes) in [(nz(50), nz(1 << 20)), (nz(1_000), nz(room))] {
        let (per_peer, untimed) = (nz(1_000), nz(1));
        let bytes = NonZeroUsize::new(2 * bytes.get()).unwrap();
        let limits = PendingLimits { entries, bytes, per_peer, untimed, ..PendingLimits::default() };
        let (mut pool, now) = (PendingPool::new(limits), Instant::now());
        for n in 0..10 {
            assert_eq!(pool.add(now, (7, hash(n)), parent(n), peer(1), n), Added::Waiting);
        }
        for n in 100..10_000 {
            // At every height, at one height, for every parent, for one parent.
            let (block, key) = [(u64::from(n), n), (7, n), (u64::from(n), 3), (7, 3)][n as usize % 4];
            let added = pool.add(now, (block, hash(n)), parent(key), peer(2), n);
            assert!(!matches!(&added, Added::Evicted(gone) if gone.iter().any(|n| *n < 100)), "{added:?}");
            assert!(pool.len() <= 50 && pool.bytes() <= room);
        }
        assert_eq!(pool.len(), 50, "the flood has what is left");
        for n in 0..10 {
            assert!(pool.take_parent(parent_hash(n)).contains(&n));
        }
    }
}

#[test]
fn who_crowds_a_parent_or_a_height_makes_room_for_those_who_do_not() {
    for at_height in [false, true] {
        let (mut pool, now) = (pool(100, 100), Instant::now());
        let limit = if at_height { 5 } else { 3 };
        let mut add = |n: u32, from| {
            let (block, key) = if at_height { (7, parent(n)) } else { (u64::from(n), parent(0)) };
            pool.add(now, (block, hash(n)), key, from, n)
        };
        for n in 0..limit {
            assert_eq!(add(n, peer(2)), Added::Waiting);
        }
        assert_eq!(add(50, peer(2)), Added::Crowded(50), "nobody has more");
        assert_eq!(add(51, peer(1)), Added::Evicted(vec![0]), "the flooder's oldest");
        for n in 60..80 {
            let added = add(n, peer(2));
            assert_eq!(added, Added::Crowded(n));
        }
    }
}

#[test]
fn one_place_may_be_enough_for_a_parent_and_its_height() {
    let (mut pool, now) = (pool(100, 100), Instant::now());
    for n in 0..5 {
        let key = parent(if n < 3 { 0 } else { n });
        assert_eq!(pool.add(now, (7, hash(n)), key, peer(2), n), Added::Waiting);
    }
    assert_eq!(pool.add(now, (7, hash(9)), parent(0), peer(1), 9), Added::Evicted(vec![0]));
}

#[test]
fn a_list_is_named_while_any_entry_waits_for_a_parent_that_names_it() {
    let (mut pool, now) = (pool(6, 6), Instant::now());
    let parent = |n| Missing::Parent(hash(n));
    assert_eq!(pool.add(now, (7, hash(0)), Missing::Schedule(UnixSeconds::new(9)), None, 0), Added::Waiting);
    assert!(!pool.names(&list_of(7)), "its signer may never be elected");
    for n in 1..3 {
        assert_eq!(pool.add(now, (7, hash(n)), parent(90 + n), None, n), Added::Waiting);
    }
    assert_eq!(pool.take_parent(hash(91)), [1]);
    assert!(pool.names(&list_of(7)) && !pool.names(&list_of(8)));
    assert_eq!(pool.take_parent(hash(92)), [2]);
    assert!(!pool.names(&list_of(7)) && pool.by_txlist.is_empty());
}
