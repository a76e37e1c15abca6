//! The rules one by one, with the facts that go with them.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use p2p_types::{
    Address, B256, Base, Offence, PreconfCommitment, Preconfirmation, SignedCommitment, SigningDomain, U256,
    UnixSeconds,
};
use p2p_validation::{
    Arrival, Facts, IgnoreReason, Leniency, Linked, Lookahead, LookaheadError, Missing, OpenSchedule, Parent,
    Rejection, Slot, StaticSchedule, ValidationConfig, ValidationOutcome, Validator, ZeroParent,
};
use preconfirmation_types::{Container, SignatureError};

use crate::world::{
    DOMAIN, GENESIS, LIVE, ON_BASE, SLASHER, WINDOW, accepts, authenticated, config, judge, key, preconf,
    rejection, sign, validator, validator_with,
};

#[test]
fn a_valid_commitment_is_accepted_with_its_facts() {
    let signed = sign(preconf());
    let ValidationOutcome::Accept(linked) = judge(&signed) else { panic!() };
    assert_eq!(linked.recovered().signed(), &signed);
    assert_eq!((linked.block(), linked.recovered().signer()), (42, key(1).address()));
    assert_eq!(linked.window().start, UnixSeconds::new(GENESIS));
}

#[test]
fn wire_bytes_and_decoded_commitments_authenticate_alike() {
    let signed = sign(preconf());
    assert_eq!(validator().authenticate(&signed.to_ssz()), validator().authenticate_signed(signed));
}

#[test]
fn what_a_store_has_kept_authenticates_as_what_it_was_signed_as() {
    let signed = sign(preconf());
    for domain in [DOMAIN, SigningDomain::new(B256::repeat_byte(7))] {
        let kept = signed.clone().recover(&domain).unwrap();
        let authenticated = validator().authenticate_recovered(&kept).unwrap();
        assert_eq!(authenticated.recovered().signer(), key(1).address(), "under the rules of this validator");
        assert_eq!(Ok(authenticated), validator().authenticate_signed(signed.clone()));
    }
    let other = Preconfirmation { eop: false, raw_tx_list_hash: B256::ZERO, ..preconf() };
    let kept = sign(other.clone()).recover(&DOMAIN).unwrap();
    assert_eq!(validator().authenticate_recovered(&kept), validator().authenticate_signed(sign(other)));
}

#[test]
fn bytes_that_do_not_decode_are_malformed() {
    let rejected = rejection(validator().validate(&[0; 381], LIVE, &ON_BASE));
    assert!(matches!(rejected, Rejection::Malformed(_)));
    assert_eq!(rejected.offence(), Offence::Malformed);
}

#[test]
fn a_signature_that_names_nobody_is_rejected() {
    let mut signed = sign(preconf());
    signed.signature[64] = 27;
    let rejected = rejection(judge(&signed));
    assert_eq!(rejected, Rejection::Signature(SignatureError::RecoveryId(27)));
    assert_eq!(rejected.offence(), Offence::BadSignature);
}

#[test]
fn numbers_beyond_64_bits_are_rejected_and_the_largest_within_is_not() {
    let edge = U256::from(u64::MAX);
    type Field = fn(&mut Preconfirmation) -> &mut U256;
    let fields: [(&str, Field); 5] = [
        ("blockNumber", |p| &mut p.block_number),
        ("timestamp", |p| &mut p.timestamp),
        ("submissionWindowEnd", |p| &mut p.submission_window_end),
        ("anchorBlockNumber", |p| &mut p.anchor_block_number),
        ("gasLimit", |p| &mut p.gas_limit),
    ];
    for (name, field) in fields {
        let mut within = preconf();
        *field(&mut within) = edge;
        assert!(validator().authenticate_signed(sign(within)).is_ok(), "{name}");
        let mut beyond = preconf();
        *field(&mut beyond) = edge + U256::from(1);
        let rejected = validator().authenticate_signed(sign(beyond)).unwrap_err();
        assert!(matches!(rejected, Rejection::OutOfRange { field, .. } if field == name));
    }
}

#[test]
fn a_block_needs_a_txlist_and_a_handover_does_not() {
    let empty = |eop| sign(Preconfirmation { raw_tx_list_hash: B256::ZERO, eop, ..preconf() });
    assert_eq!(rejection(judge(&empty(false))), Rejection::MissingTxListHash);
    accepts(judge(&empty(true)));
    accepts(judge(&sign(Preconfirmation { eop: true, ..preconf() })));
}

#[test]
fn another_slasher_is_rejected() {
    let actual = Address::repeat_byte(0x52);
    let signed = PreconfCommitment { preconf: preconf(), slasher_address: actual }.sign(&key(1), &DOMAIN);
    assert_eq!(rejection(judge(&signed)), Rejection::Slasher { expected: SLASHER, actual });
}

#[test]
fn another_domain_is_another_signer() {
    let other = SigningDomain::new(B256::repeat_byte(1));
    let signed = PreconfCommitment { preconf: preconf(), slasher_address: SLASHER }.sign(&key(1), &other);
    assert_eq!(rejection(judge(&signed)).label(), "wrong_signer");
}

#[test]
fn a_window_that_no_slot_has_is_rejected() {
    for claimed in [GENESIS, GENESIS + WINDOW - 2, GENESIS + WINDOW] {
        let signed = sign(Preconfirmation { submission_window_end: U256::from(claimed), ..preconf() });
        assert_eq!(rejection(judge(&signed)).label(), "window_end", "{claimed}");
    }
}

#[test]
fn only_the_elected_preconfer_of_the_window_may_sign() {
    let later = Arrival::Live(UnixSeconds::new(GENESIS + WINDOW));
    let judge = |signed: &SignedCommitment| validator().validate(&signed.to_ssz(), later, &ON_BASE);
    let next = Preconfirmation {
        submission_window_end: U256::from(GENESIS + 2 * WINDOW - 1),
        timestamp: U256::from(GENESIS + WINDOW),
        ..preconf()
    };
    let signed = sign(next.clone());
    let rejected = rejection(judge(&signed));
    assert_eq!(rejected, Rejection::WrongSigner { elected: key(2).address(), signer: key(1).address() });
    assert_eq!(rejected.offence(), Offence::WrongSigner);
    let signed = PreconfCommitment { preconf: next, slasher_address: SLASHER }.sign(&key(2), &DOMAIN);
    accepts(judge(&signed));
}

#[test]
fn the_timestamp_belongs_to_the_window_from_its_first_to_its_last_second() {
    let at = |timestamp: u64| sign(Preconfirmation { timestamp: U256::from(timestamp), ..preconf() });
    let arrival = Arrival::Live(UnixSeconds::new(GENESIS + WINDOW));
    let judge = |signed: &SignedCommitment| validator().validate(&signed.to_ssz(), arrival, &ON_BASE);
    for within in [GENESIS, GENESIS + WINDOW - 1] {
        accepts(judge(&at(within)));
    }
    for outside in [GENESIS - 1, GENESIS + WINDOW, 0] {
        assert_eq!(rejection(judge(&at(outside))).label(), "outside_window", "{outside}");
    }
}

#[test]
fn late_is_ignored_after_the_grace_and_never_in_history() {
    let commitment = authenticated(sign(preconf()));
    let end = GENESIS + WINDOW - 1;
    let grace = config().executor_slot_grace.as_secs();
    let arrive = |at| validator().elect(commitment.clone(), Arrival::Live(UnixSeconds::new(at)));
    accepts(arrive(end + grace));
    assert!(matches!(arrive(end + grace + 1), ValidationOutcome::Ignore(IgnoreReason::Late { .. })));
    let history = Arrival::History(UnixSeconds::new(u64::MAX));
    accepts(validator().elect(commitment.clone(), history));
    let patient = ValidationConfig { executor_slot_grace: Duration::from_secs(60), ..config() };
    let late = Arrival::Live(UnixSeconds::new(end + grace + 1));
    accepts(validator_with(patient).elect(commitment.clone(), late));
}

#[test]
fn a_time_that_has_not_come_waits_less_than_a_slot_also_in_history() {
    let commitment = authenticated(sign(preconf()));
    let drift = config().clock_drift.as_secs();
    let elect = |arrival| validator().elect(commitment.clone(), arrival);
    for arrive in [Arrival::Live, Arrival::History] {
        accepts(elect(arrive(UnixSeconds::new(GENESIS + 3 - drift))));
        let (due, slot) = (UnixSeconds::new(GENESIS + 3 - drift), config().slot.as_secs());
        for early in [1, slot - 1] {
            let outcome = elect(arrive(UnixSeconds::new(GENESIS + 3 - drift - early)));
            assert_eq!(outcome, ValidationOutcome::Defer(Missing::Time(due)));
        }
        let early = elect(arrive(UnixSeconds::new(GENESIS + 3 - drift - slot)));
        assert!(matches!(early, ValidationOutcome::Ignore(IgnoreReason::Early { .. })));
    }
}

#[test]
fn an_unknown_schedule_defers_and_a_failing_one_ignores() {
    struct Source(Result<Option<Slot>, LookaheadError>);
    impl Lookahead for Source {
        fn turn(&self, _: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
            self.0
        }
    }
    let commitment = authenticated(sign(preconf()));
    let elect = |answer| Validator::new(config(), Arc::new(Source(answer))).elect(commitment.clone(), LIVE);
    let end = UnixSeconds::new(GENESIS + WINDOW - 1);
    assert_eq!(elect(Ok(None)), ValidationOutcome::Defer(Missing::Schedule(end)));
    let validator = Validator::new(config(), Arc::new(Source(Ok(None))));
    let elect_with = |timestamp: u64, horizon| {
        let commitment = Preconfirmation {
            timestamp: U256::from(timestamp),
            submission_window_end: U256::from(GENESIS + 4 + horizon),
            ..preconf()
        };
        validator.elect(authenticated(sign(commitment)), LIVE)
    };
    let within = ValidationOutcome::Defer(Missing::Schedule(UnixSeconds::new(GENESIS + 4 + 768)));
    assert_eq!(elect_with(0, 768), within);
    assert_eq!(elect_with(GENESIS + 4 + 2 + 11, 768), within, "it may be due before its schedule is known");
    let early = elect_with(GENESIS + 4 + 2 + 12, 768);
    assert!(matches!(early, ValidationOutcome::Ignore(IgnoreReason::Early { .. })), "{early:?}");
    let beyond = elect_with(0, 769);
    assert!(matches!(beyond, ValidationOutcome::Ignore(IgnoreReason::BeyondHorizon { .. })), "{beyond:?}");
    let error = LookaheadError::Unavailable;
    assert_eq!(elect(Err(error)), ValidationOutcome::Ignore(IgnoreReason::Lookahead(error)));
}

#[test]
fn a_schedule_is_requested_for_what_may_count_and_for_nothing_else() {
    #[derive(Default)]
    struct Unknown(Mutex<Vec<(UnixSeconds, UnixSeconds)>>);
    impl Lookahead for Unknown {
        fn turn(&self, _: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
            Ok(None)
        }
        fn request(&self, timestamp: UnixSeconds, window_end: UnixSeconds) {
            self.0.lock().unwrap().push((timestamp, window_end));
        }
    }
    let lookahead = Arc::new(Unknown::default());
    let validator = Validator::new(config(), lookahead.clone());
    let requested = |end: u64, arrival: Arrival| {
        let end = UnixSeconds::new(end);
        let commitment = Preconfirmation {
            submission_window_end: U256::from(end.get()),
            timestamp: U256::from(GENESIS - 100),
            ..preconf()
        };
        // Anybody can sign this, and whatever is done before the signer is known is done for everybody.
        let authenticated = validator.authenticate_signed(sign(commitment)).unwrap();
        assert_eq!(*lookahead.0.lock().unwrap(), [], "before it is known to be worth it");
        drop(validator.elect(authenticated, arrival));
        std::mem::take(&mut *lookahead.0.lock().unwrap()) == [(UnixSeconds::new(GENESIS - 100), end)]
    };
    let now = LIVE.now();
    let (grace, horizon) = (config().executor_slot_grace, config().horizon);
    let late = now.get() - grace.as_secs() - 1;
    assert!(requested(now.get(), LIVE) && requested(now.saturating_add(horizon).get(), LIVE));
    assert!(!requested(late, LIVE), "it came too late");
    assert!(requested(late, Arrival::History(now)), "catch-up has asked for it");
    assert!(!requested(now.saturating_add(horizon).get() + 1, LIVE), "beyond the horizon");
}

fn link(
    child: &Preconfirmation,
    base: Base,
    parent: Option<(u64, &Preconfirmation)>,
) -> ValidationOutcome<Linked> {
    link_with(&validator(), child, base, parent, None)
}

fn link_with(
    validator: &Validator,
    child: &Preconfirmation,
    base: Base,
    parent: Option<(u64, &Preconfirmation)>,
    before: Option<(u64, &Preconfirmation)>,
) -> ValidationOutcome<Linked> {
    let known = |(block, preconf)| Parent { block, preconf };
    let facts = Facts { base, parent: parent.map(known), before: before.map(known) };
    validator
        .elect(authenticated(sign(child.clone())), LIVE)
        .and_then(|elected| validator.link(elected, &facts))
}

#[test]
fn settled_heights_are_ignored() {
    for (base, settled) in [(41, false), (42, true), (43, true), (u64::MAX, true)] {
        let outcome = link(&preconf(), Base::at(base), None);
        assert_eq!(
            matches!(outcome, ValidationOutcome::Ignore(IgnoreReason::Settled { .. })),
            settled,
            "{base}"
        );
    }
}

#[test]
fn the_first_block_above_the_base_may_name_any_parent_unless_the_settled_hash_is_known() {
    accepts(link(&preconf(), Base::at(41), None));
    let parent = preconf().parent_preconfirmation_hash;
    accepts(link(&preconf(), Base { number: 41, hash: Some(parent) }, None));
    let expected = B256::repeat_byte(8);
    let rejected = rejection(link(&preconf(), Base { number: 41, hash: Some(expected) }, None));
    assert_eq!(rejected, Rejection::Parent { expected, actual: parent });
}

#[test]
fn an_unknown_parent_defers() {
    let parent = preconf().parent_preconfirmation_hash;
    assert_eq!(link(&preconf(), Base::at(40), None), ValidationOutcome::Defer(Missing::Parent(parent)));
}

#[test]
fn the_parent_is_the_block_before() {
    let parent = Preconfirmation { block_number: U256::from(41), ..Default::default() };
    let at = |block| link(&preconf(), Base::at(1), Some((block, &parent)));
    accepts(at(41));
    for block in [40, 42, 43, u64::MAX] {
        assert_eq!(rejection(at(block)), Rejection::BlockNumber { block: 42, parent: block });
    }
}

#[test]
fn a_handover_is_no_parent() {
    let handover = Preconfirmation { eop: true, ..Default::default() };
    assert!(handover.is_eop_only());
    let outcome = link(&preconf(), Base::at(1), Some((41, &handover)));
    assert_eq!(rejection(outcome), Rejection::EopOnlyParent);
}

#[test]
fn block_rules_bind_blocks_and_not_handovers() {
    let parent = Preconfirmation { timestamp: preconf().timestamp, ..Default::default() };
    let outcome = link(&preconf(), Base::at(1), Some((41, &parent)));
    assert!(matches!(rejection(outcome), Rejection::Block { field: "timestamp", .. }));
    let handover = Preconfirmation { eop: true, raw_tx_list_hash: B256::ZERO, ..preconf() };
    accepts(link(&handover, Base::at(1), Some((41, &parent))));
}

#[test]
fn a_zero_parent_waits_unless_the_operator_lets_it_follow_by_height() {
    let orphan = Preconfirmation { parent_preconfirmation_hash: B256::ZERO, ..preconf() };
    let before = Preconfirmation::default();
    let judge = |policy, before: Option<(u64, &Preconfirmation)>| {
        let validator = validator_with(ValidationConfig { zero_parent: policy, ..config() });
        link_with(&validator, &orphan, Base::at(1), None, before)
    };
    let waits = ValidationOutcome::Defer(Missing::Parent(B256::ZERO));
    assert_eq!(judge(ZeroParent::Unknown, Some((41, &before))), waits);
    assert_eq!(judge(ZeroParent::FollowsHeight, None), waits);
    let ValidationOutcome::Accept(linked) = judge(ZeroParent::FollowsHeight, Some((41, &before))) else {
        panic!()
    };
    assert_eq!(linked.parent(), before.hash());
    let lenient = validator_with(ValidationConfig { zero_parent: ZeroParent::FollowsHeight, ..config() });
    let named = link_with(&lenient, &preconf(), Base::at(1), None, Some((41, &before)));
    assert!(matches!(named, ValidationOutcome::Defer(Missing::Parent(_))), "a named parent must be known");
}

#[test]
fn what_is_loosened_shows() {
    assert_eq!(validator().leniencies().count(), 0);
    assert!(format!("{:?}", validator()).contains("leniencies: []"));
    let zero_parent = ZeroParent::FollowsHeight;
    let open =
        OpenSchedule::accepting_any_signer(UnixSeconds::new(GENESIS), NonZeroU64::new(WINDOW).unwrap());
    let loose = Validator::new(ValidationConfig { zero_parent, ..config() }, Arc::new(open));
    let leniencies: Vec<_> = loose.leniencies().collect();
    assert_eq!(leniencies, [Leniency::ZeroParentFollowsHeight, Leniency::AnySigner]);
    let shown = leniencies.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(shown[0].contains("zero parent hash") && shown[1].contains("ANY SIGNER"));
    assert!(format!("{loose:?}").contains("AnySigner"));
}

#[test]
fn an_open_schedule_accepts_any_signer_and_keeps_every_other_rule() {
    let open =
        OpenSchedule::accepting_any_signer(UnixSeconds::new(GENESIS), NonZeroU64::new(WINDOW).unwrap());
    let validator = Validator::new(config(), Arc::new(open));
    let by = |byte, preconf| {
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(byte), &DOMAIN);
        validator.validate(&signed.to_ssz(), LIVE, &ON_BASE)
    };
    accepts(by(1, preconf()));
    accepts(by(99, preconf()));
    let outside = Preconfirmation { timestamp: U256::from(GENESIS + WINDOW), ..preconf() };
    assert_eq!(rejection(by(99, outside)).label(), "outside_window");
}

#[test]
fn a_window_is_judged_again_when_the_schedule_has_changed() {
    let commitment = authenticated(sign(Preconfirmation {
        submission_window_end: U256::from(GENESIS + WINDOW),
        ..preconf()
    }));
    assert_eq!(rejection(validator().elect(commitment, LIVE)).label(), "window_end");
    let outside = Preconfirmation { timestamp: U256::from(GENESIS - 1), ..preconf() };
    let commitment = authenticated(sign(outside));
    assert_eq!(rejection(validator().elect(commitment, LIVE)).label(), "outside_window");
}

#[test]
fn anchors_are_judged_live_and_not_in_history_nor_in_handovers() {
    let mut validator = validator();
    validator.set_l1_head(Some(1_000));
    let judge = |preconf: &Preconfirmation, arrival| {
        validator.validate(&sign(preconf.clone()).to_ssz(), arrival, &ON_BASE)
    };
    assert_eq!(rejection(judge(&preconf(), LIVE)).label(), "stale_anchor");
    accepts(judge(&preconf(), Arrival::History(UnixSeconds::new(GENESIS + 4))));
    accepts(judge(&Preconfirmation { eop: true, raw_tx_list_hash: B256::ZERO, ..preconf() }, LIVE));
}

#[test]
fn the_parameters_of_a_handover_bind_nobody() {
    let beyond = Preconfirmation { proposal_id: U256::MAX, ..preconf() };
    assert_eq!(rejection(judge(&sign(beyond.clone()))).label(), "block_parameter");
    accepts(judge(&sign(Preconfirmation { eop: true, raw_tx_list_hash: B256::ZERO, ..beyond })));
}

#[test]
fn a_block_names_its_txlist_and_a_handover_has_none() {
    assert_eq!(authenticated(sign(preconf())).txlist_hash(), Some(B256::repeat_byte(1)));
    let handover = Preconfirmation { eop: true, raw_tx_list_hash: B256::ZERO, ..preconf() };
    assert_eq!(authenticated(sign(handover)).txlist_hash(), None);
}

#[test]
fn what_the_schedule_knows_can_be_asked() {
    assert!(validator().knows(UnixSeconds::new(GENESIS)));
    let nothing = StaticSchedule::new(vec![]).unwrap();
    assert!(!Validator::new(config(), Arc::new(nothing)).knows(UnixSeconds::new(GENESIS)));
}

#[test]
fn the_first_block_above_a_base_stands_on_the_block_that_the_chain_has_there() {
    let settled = Preconfirmation { block_number: U256::from(41), ..Default::default() };
    let left_behind = Preconfirmation { proposal_id: U256::from(7), ..settled.clone() };
    let unseen = B256::repeat_byte(0xcc);
    let on = |hash, parent, before, known| {
        let child = Preconfirmation { parent_preconfirmation_hash: hash, ..preconf() };
        link_with(&validator(), &child, Base { number: 41, hash: known }, parent, before)
    };
    let ours = Some((41, &settled));
    accepts(on(settled.hash(), ours, ours, None));
    let outcome = on(left_behind.hash(), Some((41, &left_behind)), ours, None);
    assert_eq!(outcome, ValidationOutcome::Ignore(IgnoreReason::Settled { block: 42, base: 41 }));
    assert_eq!(on(unseen, None, ours, None), ValidationOutcome::Defer(Missing::Parent(unseen)));
    // Where the chain has no block there, any will do; where the hash is known, only that.
    accepts(on(unseen, None, None, None));
    accepts(on(unseen, None, ours, Some(unseen)));
}

#[test]
fn a_zero_parent_follows_the_settled_block_whatever_its_hash() {
    let lenient = ValidationConfig { zero_parent: ZeroParent::FollowsHeight, ..config() };
    let child = Preconfirmation { parent_preconfirmation_hash: B256::ZERO, ..preconf() };
    let settled = Preconfirmation { block_number: U256::from(41), ..Default::default() };
    let hash = B256::repeat_byte(9);
    for (before, known, follows) in [
        (None, None, B256::ZERO),
        (None, Some(hash), hash),
        (Some((41, &settled)), None, settled.hash()),
        (Some((41, &settled)), Some(settled.hash()), settled.hash()),
    ] {
        let base = Base { number: 41, hash: known };
        match link_with(&validator_with(lenient), &child, base, None, before) {
            ValidationOutcome::Accept(linked) => assert_eq!(linked.parent(), follows),
            other => panic!("{other:?}"),
        }
    }
}
