//! Every boundary of the windows, generation by generation.

use super::*;

const GENESIS: u64 = 10_000;
/// Epoch 2, in which most questions lie, and the epoch after it.
const START: u64 = GENESIS + 2 * 384;
const NEXT: u64 = START + 384;
const A: Address = Address::repeat_byte(0xa);
const B: Address = Address::repeat_byte(0xb);
const C: Address = Address::repeat_byte(0xc);
/// The whitelist's operators of epochs 1, 2 and 3.
const W: [Address; 3] = [Address::repeat_byte(0x11), Address::repeat_byte(0x12), Address::repeat_byte(0x13)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// Open to this one.
    By(Address),
    NotKnown,
    /// The window that is there ends at this second.
    Ends(u64),
    Outside,
}
use Is::{By, Ends, NotKnown, Outside};

fn posted(committer: Address, timestamp: u64) -> Posted {
    Posted { committer, timestamp, root: root(committer) }
}

fn root(committer: Address) -> B256 {
    committer.into_word()
}

/// Epochs 1 to 3 with their operators and these slots in 2 and 3, read up to the first slot of epoch 3.
fn schedule(generation: Generation, second: &[Posted], third: &[Posted]) -> Schedule {
    let mut schedule = Schedule::new(generation, L1Time::ethereum(UnixSeconds::new(GENESIS)));
    for (epoch, operator, slots) in [(1, W[0], &[][..]), (2, W[1], second), (3, W[2], third)] {
        let slots = slots.to_vec();
        schedule.epochs.insert(epoch, Epoch { scanned: true, slots, operators: vec![(0, operator)] });
    }
    schedule.head = NEXT;
    schedule
}

#[track_caller]
fn check(schedule: &Schedule, cases: &[(u64, u64, Is)]) {
    for (t, end, expected) in cases {
        let answer = match schedule.admissible(UnixSeconds::new(*t), UnixSeconds::new(*end)) {
            Admission::Open { signers, .. } if signers.as_slice().len() == 1 => By(signers.first()),
            Admission::NotKnown => NotKnown,
            Admission::NoWindow { scheduled } => Ends(scheduled.get()),
            Admission::Outside { .. } => Outside,
            other => panic!("{other:?}"),
        };
        let offset = |at: u64| i128::from(at) - i128::from(START);
        assert_eq!(answer, *expected, "t = start + {}, end = start + {}", offset(*t), offset(*end));
    }
}

/// Who signs, and the first and the last second of its window.
type Turn = Option<(Address, u64, u64)>;

#[track_caller]
fn turns(schedule: &Schedule, cases: &[(u64, Turn)]) {
    for (moment, expected) in cases {
        let turn = schedule.turn(UnixSeconds::new(*moment));
        let turn = turn.map(|slot| (slot.signer, slot.window.start.get(), slot.window.end.get()));
        assert_eq!(turn, *expected, "start + {}", i128::from(*moment) - i128::from(START));
    }
}

#[test]
fn a_whitelist_has_one_window_an_epoch() {
    let schedule = schedule(Generation::Whitelist, &[], &[]);
    let end = NEXT - 12;
    check(
        &schedule,
        &[
            (START - 1, START - 12, By(W[0])),
            (START - 1, end, Ends(START - 12)),
            (START, end, By(W[1])),
            (START, START - 12, Ends(end)),
            (end, end, By(W[1])),
            (end, end - 1, Ends(end)),
            (end, end + 1, Ends(end)),
            // The last 12 s of the epoch: the window's end is earlier than the timestamp.
            (end + 1, end, By(W[1])),
            (NEXT - 1, end, By(W[1])),
            (NEXT, end, Ends(NEXT + 384 - 12)),
            (NEXT, NEXT + 384 - 12, By(W[2])),
            (NEXT + 384, NEXT + 2 * 384 - 12, NotKnown),
        ],
    );
    turns(
        &schedule,
        &[
            (START, Some((W[1], START, end))),
            (end, Some((W[1], START, end))),
            (end + 1, Some((W[2], NEXT, NEXT + 384 - 12))),
            (NEXT, Some((W[2], NEXT, NEXT + 384 - 12))),
            (NEXT + 384 - 12, Some((W[2], NEXT, NEXT + 384 - 12))),
            (NEXT + 384 - 11, None),
        ],
    );
}

#[test]
fn before_genesis_and_at_the_end_of_time_nothing_is_known() {
    for generation in [Generation::Whitelist, Generation::StoreV1, Generation::StoreV2] {
        let mut schedule = schedule(generation, &[], &[]);
        schedule.epochs.insert(0, Epoch { scanned: true, slots: vec![], operators: vec![(0, A)] });
        let end = GENESIS + 384 - 12;
        check(&schedule, &[(GENESIS - 1, end, NotKnown), (0, end, NotKnown), (GENESIS, end, By(A))]);
        check(&schedule, &[(u64::MAX, u64::MAX, NotKnown)]);
        turns(&schedule, &[(GENESIS - 1, None), (u64::MAX, None), (GENESIS, Some((A, GENESIS, end)))]);
        assert_eq!(schedule.lacks(UnixSeconds::new(GENESIS - 1)), None);
    }
}

#[test]
fn v1_windows_meet_without_overlap() {
    let (first, second) = (START + 48, START + 96);
    let next = NEXT + 24;
    let schedule = schedule(Generation::StoreV1, &[posted(A, first), posted(B, second)], &[posted(C, next)]);
    check(
        &schedule,
        &[
            // Epoch 1 is empty: its tail is the whitelist's, and the first slot of epoch 2 begins 11 s before it.
            (START - 12, START - 12, By(W[0])),
            (START - 12, first, Outside),
            (START - 11, first, By(A)),
            (START - 11, START - 12, By(W[0])),
            (START - 1, first, By(A)),
            (START, first, By(A)),
            (START, START - 12, Ends(first)),
            (first, first, By(A)),
            (first, second, Outside),
            (first + 1, first, Outside),
            (first + 1, second, By(B)),
            (second, second, By(B)),
            (second, first + 1, Ends(second)),
            // After the last slot it is the turn of the next epoch's first.
            (second, next, Outside),
            (second + 1, second, Outside),
            (second + 1, next, By(C)),
            (second + 1, NEXT - 12, Ends(next)),
            (NEXT - 1, next, By(C)),
            (NEXT, next, By(C)),
            (next, next, By(C)),
            (next + 1, next, Outside),
        ],
    );
    turns(
        &schedule,
        &[
            (START - 11, Some((A, START - 11, first))),
            (START, Some((A, START - 11, first))),
            (first, Some((A, START - 11, first))),
            (first + 1, Some((B, first + 1, second))),
            (second + 1, Some((C, second + 1, next))),
            (NEXT, Some((C, second + 1, next))),
        ],
    );
}

#[test]
fn v1_falls_back_to_the_whitelist_after_the_last_slot() {
    let last = START + 96;
    let mut schedule = schedule(Generation::StoreV1, &[posted(A, last)], &[]);
    check(
        &schedule,
        &[
            (last, last, By(A)),
            (last, NEXT - 12, Outside),
            (last + 1, NEXT - 12, By(W[1])),
            (NEXT - 12, NEXT - 12, By(W[1])),
            (NEXT - 1, NEXT - 12, By(W[1])),
            (last + 1, NEXT + 24, Ends(NEXT - 12)),
            (NEXT, NEXT + 372, By(W[2])),
        ],
    );
    turns(
        &schedule,
        &[(last + 1, Some((W[1], last + 1, NEXT - 12))), (NEXT, Some((W[2], NEXT, NEXT + 372)))],
    );
    // Until the next epoch has begun on L1, a posting for it may come.
    schedule.head = NEXT - 13;
    check(
        &schedule,
        &[
            (last + 1, NEXT - 12, By(W[1])),
            (last + 1, NEXT + 24, NotKnown),
            (last, NEXT + 24, Ends(last)),
            (last + 1, NEXT - 1, Ends(NEXT - 12)),
            (last + 1, NEXT + 384, Ends(NEXT - 12)),
            (NEXT, NEXT + 372, NotKnown),
        ],
    );
    turns(&schedule, &[(NEXT - 11, None)]);
    schedule.head = NEXT - 12;
    check(&schedule, &[(last + 1, NEXT + 24, Ends(NEXT - 12)), (NEXT, NEXT + 372, By(W[2]))]);
}

#[test]
fn v1_slots_in_the_last_second_that_an_epoch_has() {
    let last = NEXT - 12;
    let alone = schedule(Generation::StoreV1, &[posted(A, last)], &[]);
    check(&alone, &[(last, last, By(A)), (last + 1, last, By(W[1])), (NEXT - 1, last, By(W[1]))]);
    let followed = schedule(Generation::StoreV1, &[posted(A, last)], &[posted(B, NEXT)]);
    check(
        &followed,
        &[(last, last, By(A)), (last + 1, last, Outside), (last + 1, NEXT, By(B)), (NEXT, NEXT, By(B))],
    );
}

#[test]
fn v2_windows_overlap_by_a_slot_of_l1() {
    let (first, second) = (START + 48, START + 96);
    let next = NEXT + 24;
    let schedule = schedule(Generation::StoreV2, &[posted(A, first), posted(B, second)], &[posted(C, next)]);
    check(
        &schedule,
        &[
            // Epoch 1 is empty, and its last 11 s are nobody's.
            (START - 12, START - 12, By(W[0])),
            (START - 11, START - 12, Outside),
            (START - 1, first, Outside),
            (START, first, By(A)),
            (first - 13, second, Outside),
            (first - 12, second, By(B)),
            (first - 12, first, By(A)),
            (first, first, By(A)),
            (first, second, By(B)),
            (first + 1, first, Outside),
            (first + 1, second, By(B)),
            (second - 13, next, Outside),
            (second - 12, next, By(C)),
            (second, second, By(B)),
            (second + 1, second, Outside),
            (NEXT - 1, next, By(C)),
            (NEXT, next, By(C)),
            (next, next, By(C)),
            (next + 1, next, Outside),
            (START, first + 1, Ends(first)),
        ],
    );
    turns(
        &schedule,
        &[
            (START, Some((A, START, first))),
            (first, Some((A, START, first))),
            (first + 1, Some((B, first - 12, second))),
            (second + 1, Some((C, second - 12, next))),
        ],
    );
}

#[test]
fn v2_empty_epochs_belong_to_the_whitelist_until_their_last_slot() {
    let empty = schedule(Generation::StoreV2, &[], &[posted(C, NEXT + 24)]);
    check(
        &empty,
        &[
            (START, NEXT - 12, By(W[1])),
            (NEXT - 12, NEXT - 12, By(W[1])),
            (NEXT - 11, NEXT - 12, Outside),
            (NEXT - 1, NEXT + 24, Outside),
            (NEXT, NEXT + 24, By(C)),
        ],
    );
    turns(&empty, &[(NEXT - 11, Some((C, NEXT, NEXT + 24)))]);
    let last = START + 96;
    let tail = schedule(Generation::StoreV2, &[posted(A, last)], &[]);
    check(
        &tail,
        &[
            (last - 13, NEXT - 12, Outside),
            (last - 12, NEXT - 12, By(W[1])),
            (last - 12, last, By(A)),
            (NEXT - 12, NEXT - 12, By(W[1])),
            (NEXT - 11, NEXT - 12, Outside),
        ],
    );
}

#[test]
fn a_registration_that_does_not_count_gives_its_window_to_the_whitelist() {
    let (first, next) = (START + 48, NEXT + 24);
    let slots = ([posted(A, first)], [posted(B, next)]);
    for generation in [Generation::StoreV1, Generation::StoreV2] {
        let mut schedule = schedule(generation, &slots.0, &slots.1);
        schedule.standing.insert(root(A), vec![(START + 10, false), (START + 20, true)]);
        check(
            &schedule,
            &[
                (START + 9, first, By(A)),
                (START + 10, first, By(W[1])),
                (START + 19, first, By(W[1])),
                (START + 20, first, By(A)),
            ],
        );
    }
    // Across epochs, v1 leaves the window as it is, and v2 gives all that is left of the epoch to the whitelist.
    let blacklisted = |generation| {
        let mut schedule = schedule(generation, &slots.0, &slots.1);
        schedule.standing.insert(root(B), vec![(0, false)]);
        schedule
    };
    check(
        &blacklisted(Generation::StoreV1),
        &[(first + 1, next, By(W[1])), (NEXT - 1, next, By(W[1])), (NEXT, next, By(W[2]))],
    );
    check(
        &blacklisted(Generation::StoreV2),
        &[
            (first + 1, next, Ends(NEXT - 12)),
            (first - 12, NEXT - 12, By(W[1])),
            (NEXT - 12, NEXT - 12, By(W[1])),
            (NEXT, next, By(W[2])),
        ],
    );
}

#[test]
fn an_operator_that_was_removed_may_sign_for_one_more_slot() {
    let mut schedule = schedule(Generation::Whitelist, &[], &[]);
    let removed = START + 100;
    schedule.epochs.get_mut(&2).unwrap().operators = vec![(0, A), (removed, B)];
    let answer = |t| match schedule.admissible(UnixSeconds::new(t), UnixSeconds::new(NEXT - 12)) {
        Admission::Open { signers, .. } => signers.as_slice().to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(answer(removed - 1), [A]);
    assert_eq!(answer(removed), [B, A]);
    assert_eq!(answer(removed + 11), [B, A]);
    assert_eq!(answer(removed + 12), [B]);
    turns(&schedule, &[(removed - 1, Some((A, START, NEXT - 12))), (removed, Some((B, START, NEXT - 12)))]);
}

#[test]
fn a_change_that_may_not_have_been_seen_is_waited_for() {
    let mut schedule = schedule(Generation::Whitelist, &[], &[]);
    schedule.whitelisted.insert(A);
    let may_be = |schedule: &Schedule, signer, t| schedule.may_be_elected(signer, UnixSeconds::new(t));
    let may = |signer, t| may_be(&schedule, signer, t);
    assert!(may(A, NEXT + 1), "the head is older than the commitment");
    assert!(!may(A, NEXT), "the head is as new as the commitment");
    assert!(!may(B, NEXT + 1), "nobody of the whitelist");
    // In v2 it is not read whether a registration was opted out or slashed: the operator of the epoch signs then.
    schedule.generation = Generation::StoreV2;
    schedule.whitelisted.extend(W);
    assert!(may_be(&schedule, W[2], NEXT) && !may_be(&schedule, W[1], NEXT) && !may_be(&schedule, A, NEXT));
    assert!(may_be(&schedule, A, NEXT + 1) && !may_be(&schedule, B, NEXT));
    // Who is blacklisted may be so no longer.
    let mut schedule = self::schedule(Generation::StoreV1, &[posted(B, START + 48)], &[posted(C, NEXT + 24)]);
    schedule.standing.insert(root(B), vec![(0, false)]);
    schedule.head = START;
    assert!(may_be(&schedule, B, START + 1) && !may_be(&schedule, B, START));
    assert!(!may_be(&schedule, C, START + 1), "C counts, and its window is known");
}

#[test]
fn what_was_not_read_is_not_known_and_is_asked_for_when_it_is_past() {
    let lacks = |schedule: &Schedule, t| schedule.lacks(UnixSeconds::new(t));
    for generation in [Generation::Whitelist, Generation::StoreV1, Generation::StoreV2] {
        let mut schedule = schedule(generation, &[], &[]);
        check(&schedule, &[(GENESIS, GENESIS + 372, NotKnown)]);
        assert_eq!(lacks(&schedule, GENESIS + 383), Some(0));
        assert_eq!((lacks(&schedule, START), lacks(&schedule, NEXT + 384)), (None, None));
        schedule.epochs.get_mut(&2).unwrap().operators.clear();
        check(&schedule, &[(START, NEXT - 12, NotKnown)]);
        assert_eq!(lacks(&schedule, START), Some(2));
        turns(&schedule, &[(START, None)]);
    }
    // Slots without the whitelist are enough for those who were elected.
    let mut schedule = schedule(Generation::StoreV1, &[posted(A, START + 48)], &[]);
    schedule.epochs.get_mut(&2).unwrap().operators.clear();
    check(&schedule, &[(START, START + 48, By(A)), (START + 49, NEXT - 12, NotKnown)]);
    // Nor is one that was not read from its beginning.
    schedule.epochs.insert(1, Epoch { scanned: false, slots: vec![], operators: vec![(0, A)] });
    check(&schedule, &[(START - 100, START - 12, NotKnown)]);
    assert_eq!(lacks(&schedule, START - 100), Some(1));
}

#[test]
fn a_change_is_told_from_the_first_epoch_that_differs() {
    let before = schedule(Generation::StoreV1, &[posted(A, START + 48)], &[posted(B, NEXT + 24)]);
    let changed = |change: fn(&mut Schedule)| {
        let mut after = before.clone();
        change(&mut after);
        before.differs(&after).map(UnixSeconds::get)
    };
    assert_eq!(changed(|_| {}), None);
    assert_eq!(changed(|s| s.head += 12), None);
    assert_eq!(changed(|s| s.epochs.get_mut(&3).unwrap().slots.clear()), Some(NEXT));
    assert_eq!(changed(|s| s.epochs.get_mut(&2).unwrap().operators.push((START + 9, C))), Some(START));
    assert_eq!(changed(|s| drop(s.standing.insert(root(B), vec![(0, false)]))), Some(NEXT));
    assert_eq!(changed(|s| drop(s.epochs.remove(&3))), Some(NEXT));
    assert_eq!(changed(|s| drop(s.epochs.remove(&1))), None, "old epochs are dropped");
    assert_eq!(changed(|s| drop(s.epochs.insert(4, Epoch::default()))), None, "more is known");
}
