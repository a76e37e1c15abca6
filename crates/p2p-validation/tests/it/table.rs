//! Each row of the table in the crate's documentation, on both sides of its boundary.

use std::{collections::BTreeSet, num::NonZeroU64, sync::Arc};

use p2p_types::{Address, B256, Base, PreconfCommitment, Preconfirmation, U256, UnixSeconds};
use p2p_validation::{
    Arrival, Facts, Linked, Lookahead, LookaheadError, Parent, RotatingSchedule, Slot, StaticSchedule,
    TaikoLimits, TaikoRules, ValidationOutcome, Validator, Window,
};
use preconfirmation_types::Container;

use crate::world::{DOMAIN, GENESIS, SLASHER, WINDOW, config, key, preconf};

const END: u64 = GENESIS + WINDOW - 1;
const NOW: u64 = GENESIS + 4;

/// Everything that a judgement depends on. As it comes, the commitment is accepted.
struct Case {
    preconf: Preconfirmation,
    slasher: Address,
    key: u8,
    damage: fn(&mut Vec<u8>),
    arrival: Arrival,
    base: Base,
    parent: Option<(u64, Preconfirmation)>,
    schedule: Arc<dyn Lookahead>,
    limits: TaikoLimits,
    l1_head: Option<u64>,
}

impl Default for Case {
    fn default() -> Self {
        let operators = vec![key(1).address(), key(2).address()];
        let (genesis, window) = (UnixSeconds::new(GENESIS), NonZeroU64::new(WINDOW).unwrap());
        Self {
            preconf: preconf(),
            slasher: SLASHER,
            key: 1,
            damage: |_| {},
            arrival: live(NOW),
            base: Base::at(41),
            parent: None,
            schedule: Arc::new(RotatingSchedule::new(operators, genesis, window).unwrap()),
            limits: TaikoLimits::default(),
            l1_head: None,
        }
    }
}

impl Case {
    fn judge(&self) -> ValidationOutcome<Linked> {
        let rules = TaikoRules::new(self.limits).unwrap();
        let mut validator = Validator::with_rules(config(), self.schedule.clone(), Arc::new(rules));
        validator.set_l1_head(self.l1_head);
        let (preconf, slasher_address) = (self.preconf.clone(), self.slasher);
        let mut ssz = PreconfCommitment { preconf, slasher_address }.sign(&key(self.key), &DOMAIN).to_ssz();
        (self.damage)(&mut ssz);
        let parent = self.parent.as_ref().map(|(block, preconf)| Parent { block: *block, preconf });
        let facts = Facts { base: self.base, parent, before: None };
        let outcome = validator.validate(&ssz, self.arrival, &facts);
        self.same_before_signing(&validator, &ssz, &facts, &outcome);
        outcome
    }

    /// What can be signed is judged before it is signed as it is afterwards.
    fn same_before_signing(
        &self,
        validator: &Validator,
        ssz: &[u8],
        facts: &Facts<'_>,
        outcome: &ValidationOutcome<Linked>,
    ) {
        let commitment = PreconfCommitment { preconf: self.preconf.clone(), slasher_address: self.slasher };
        let signed = commitment.clone().sign(&key(self.key), &DOMAIN);
        if signed.to_ssz() != ssz {
            return;
        }
        let unsigned = match validator.draft(commitment, key(self.key).address()) {
            Err(rejection) => rejection.into(),
            Ok(draft) => validator
                .elect_draft(&draft, self.arrival)
                .and_then(|()| validator.link_draft(&draft, self.arrival, facts)),
        };
        let outcome = outcome.clone().and_then(|_| ValidationOutcome::Accept(()));
        assert_eq!(unsigned, outcome);
    }

    /// Block 42 on this block 41, which is not settled.
    fn on(&mut self, parent: Preconfirmation) {
        (self.base, self.parent) = (Base::at(1), Some((41, parent)));
    }
}

fn live(at: u64) -> Arrival {
    Arrival::Live(UnixSeconds::new(at))
}

fn n(value: u64) -> U256 {
    U256::from(value)
}

/// One second, one L1 block and one proposal before block 42, with this gas limit.
fn before(gas_limit: u64) -> Preconfirmation {
    Preconfirmation {
        timestamp: n(GENESIS + 2),
        anchor_block_number: n(7),
        proposal_id: n(8),
        gas_limit: n(gas_limit),
        raw_tx_list_hash: B256::repeat_byte(2),
        ..Default::default()
    }
}

struct Failing;

impl Lookahead for Failing {
    fn turn(&self, _: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        Err(LookaheadError::Unavailable)
    }
}

/// A rule's label, a case that keeps it at its boundary, and the cases right beyond.
type Row = (&'static str, fn(&mut Case), &'static [fn(&mut Case)]);

const ROWS: &[Row] = &[
    (
        "malformed",
        |_| {},
        &[
            |c| c.damage = |ssz| ssz.push(0),
            |c| c.damage = |ssz| ssz.truncate(381),
            |c| c.damage = |ssz| ssz[0] = 2,
            |c| c.damage = Vec::clear,
        ],
    ),
    (
        "out_of_range",
        |c| c.preconf.anchor_block_number = n(u64::MAX),
        &[
            |c| c.preconf.anchor_block_number = n(u64::MAX) + n(1),
            |c| c.preconf.gas_limit = U256::MAX,
            |c| c.preconf.block_number = n(u64::MAX) + n(43),
            |c| c.preconf.timestamp += n(1) << 64,
            |c| c.preconf.submission_window_end += n(1) << 255,
        ],
    ),
    (
        "missing_txlist_hash",
        |c| (c.preconf.eop, c.preconf.raw_tx_list_hash) = (true, B256::ZERO),
        &[|c| c.preconf.raw_tx_list_hash = B256::ZERO],
    ),
    ("slasher", |_| {}, &[|c| c.slasher = Address::ZERO, |c| c.slasher.0[19] ^= 1]),
    (
        "zero_coinbase",
        |c| (c.limits.nonzero_coinbase, c.preconf.coinbase.0[19]) = (true, 1),
        &[|c| c.limits.nonzero_coinbase = true],
    ),
    (
        "block_parameter",
        |c| c.preconf.proposal_id = n((1 << 48) - 1),
        &[
            |c| c.preconf.proposal_id = n(1 << 48),
            |c| c.limits.gas_limit_floor = 1,
            |c| (c.limits.gas_limit_ceiling, c.preconf.gas_limit) = (9, n(10)),
        ],
    ),
    (
        "pending_schedule",
        |c| c.schedule = known_until(END),
        &[
            |c| {
                c.schedule = known_until(END);
                c.preconf.submission_window_end = n(END + 1);
            },
            |c| {
                c.arrival = Arrival::History(UnixSeconds::new(NOW));
                c.preconf.submission_window_end = n(0);
            },
            |c| {
                c.arrival = Arrival::History(UnixSeconds::new(NOW));
                c.preconf.submission_window_end = n(GENESIS - 1);
            },
        ],
    ),
    (
        "beyond_horizon",
        |c| c.schedule = known_until(END),
        &[|c| {
            c.schedule = known_until(END);
            c.preconf.submission_window_end = n(NOW + 768 + 1);
        }],
    ),
    ("lookahead", |_| {}, &[|c| c.schedule = Arc::new(Failing)]),
    (
        "window_end",
        |_| {},
        &[
            |c| c.preconf.submission_window_end = n(END - 1),
            |c| c.preconf.submission_window_end = n(END + 1),
            |c| c.preconf.submission_window_end = n(GENESIS),
        ],
    ),
    (
        "outside_window",
        |c| c.preconf.timestamp = n(GENESIS),
        &[
            |c| c.preconf.timestamp = n(GENESIS - 1),
            |c| c.preconf.timestamp = n(END + 1),
            |c| c.preconf.timestamp = n(0),
            |c| c.preconf.timestamp = n(u64::MAX),
        ],
    ),
    (
        "bad_signature",
        |_| {},
        &[
            |c| c.damage = |ssz| ssz[381] = 2,
            |c| c.damage = |ssz| ssz[381] += 27,
            |c| c.damage = |ssz| ssz[317..349].fill(0),
            |c| c.damage = |ssz| ssz[349..381].fill(0xff),
        ],
    ),
    ("wrong_signer", |_| {}, &[|c| c.key = 2, |c| c.key = 3, |c| c.damage = |ssz| ssz[381] ^= 1]),
    (
        "early",
        |c| c.arrival = live(GENESIS + 1),
        &[
            |c| c.arrival = live(GENESIS - 11),
            |c| c.arrival = Arrival::History(UnixSeconds::new(GENESIS - 11)),
            |c| (c.schedule, c.arrival) = (known_until(END - 1), live(GENESIS - 11)),
        ],
    ),
    (
        "late",
        |c| c.arrival = live(END + 4),
        &[|c| c.arrival = live(END + 5), |c| (c.schedule, c.arrival) = (known_until(END - 1), live(END + 5))],
    ),
    (
        "pending_time",
        |c| c.arrival = live(GENESIS + 1),
        &[|c| c.arrival = live(GENESIS), |c| c.arrival = Arrival::History(UnixSeconds::new(GENESIS - 10))],
    ),
    ("settled", |_| {}, &[|c| c.base = Base::at(42), |c| c.base = Base::at(u64::MAX)]),
    (
        "stale_anchor",
        |c| (c.l1_head, c.preconf.anchor_block_number) = (Some(1_000), n(872)),
        &[|c| {
            (c.l1_head, c.preconf.anchor_block_number) = (Some(1_000), n(871));
        }],
    ),
    ("parent", |c| c.base.hash = Some(B256::repeat_byte(9)), &[|c| c.base.hash = Some(B256::repeat_byte(8))]),
    ("pending_parent", |_| {}, &[|c| c.base = Base::at(40)]),
    (
        "eop_only_parent",
        |c| c.on(Preconfirmation { eop: true, ..follows() }),
        &[|c| {
            c.on(Preconfirmation { eop: true, raw_tx_list_hash: B256::ZERO, ..follows() });
        }],
    ),
    (
        "block_number",
        |c| c.on(follows()),
        &[
            |c| (c.base, c.parent) = (Base::at(1), Some((40, follows()))),
            |c| (c.base, c.parent) = (Base::at(1), Some((42, follows()))),
            |c| (c.base, c.parent) = (Base::at(1), Some((u64::MAX, follows()))),
        ],
    ),
    (
        "block_rule",
        |c| {
            c.on(before(1_000_000));
            c.preconf.gas_limit = n(1_000_200);
            (c.preconf.anchor_block_number, c.preconf.proposal_id) = (n(7), n(8));
        },
        &[
            |c| c.on(Preconfirmation { timestamp: n(GENESIS + 3), ..follows() }),
            |c| c.on(Preconfirmation { anchor_block_number: n(1), ..follows() }),
            |c| c.on(Preconfirmation { proposal_id: n(1), ..follows() }),
            |c| c.on(Preconfirmation { gas_limit: n(1), ..follows() }),
            |c| {
                c.on(Preconfirmation { anchor_block_number: n(0), proposal_id: n(0), ..before(1_000_000) });
                c.preconf.gas_limit = n(1_000_201);
            },
            // Settled, but the application has the block.
            |c| c.parent = Some((41, Preconfirmation { gas_limit: n(1), ..follows() })),
        ],
    ),
];

/// A block that block 42 may follow.
fn follows() -> Preconfirmation {
    Preconfirmation { anchor_block_number: n(0), proposal_id: n(0), ..before(0) }
}

fn known_until(end: u64) -> Arc<dyn Lookahead> {
    let window = Window { start: UnixSeconds::new(GENESIS), end: UnixSeconds::new(end) };
    Arc::new(StaticSchedule::new(vec![Slot { signer: key(1).address(), window }]).unwrap())
}

/// The label and the penalty of an outcome, as the table has them.
fn told<T>(outcome: &ValidationOutcome<T>) -> (&'static str, &'static str) {
    match outcome {
        ValidationOutcome::Accept(_) => ("accept", "none"),
        ValidationOutcome::Defer(missing) => (missing.label(), "none"),
        ValidationOutcome::Ignore(reason) => (reason.label(), "none"),
        ValidationOutcome::Reject(rejection) => (rejection.label(), rejection.offence().label()),
    }
}

/// Label and penalty of each row of the documentation.
fn documented() -> Vec<(&'static str, &'static str)> {
    let rows = include_str!("../../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.filter_map(|row| {
        let cells: Vec<_> =
            row.trim_end_matches(" |").split(" | ").map(|cell| cell.trim_matches('`')).collect();
        (cells.len() == 5 && cells[4] != "label").then(|| (cells[4], cells[3]))
    });
    rows.collect()
}

#[test]
fn every_row_of_the_documentation_holds_at_its_boundary_and_fails_beyond() {
    let documented = documented();
    assert_eq!(documented.len(), 23);
    let mut tested = BTreeSet::new();
    for (label, holds, breaks) in ROWS {
        let judge = |change: &fn(&mut Case)| {
            let mut case = Case::default();
            change(&mut case);
            case.judge()
        };
        assert_eq!(told(&judge(holds)).0, "accept", "{label}: {:?}", judge(holds));
        for (index, broken) in breaks.iter().enumerate() {
            let told = told(&judge(broken));
            assert_eq!(told.0, *label, "case {index}");
            assert!(documented.contains(&told), "{told:?}");
        }
        tested.insert(*label);
    }
    assert_eq!(tested, documented.iter().map(|(label, _)| *label).collect(), "each row has its test");
}

#[test]
fn what_needs_no_signer_is_judged_before_the_signature() {
    let needs_more =
        ["malformed", "bad_signature", "pending_schedule", "beyond_horizon", "lookahead", "wrong_signer"];
    let rows = ROWS.iter().take_while(|row| row.0 != "early").filter(|row| !needs_more.contains(&row.0));
    for (label, _, breaks) in rows {
        for broken in *breaks {
            let mut case = Case { damage: |ssz| ssz[381] = 27, ..Case::default() };
            broken(&mut case);
            assert_eq!(told(&case.judge()).0, *label);
        }
    }
}
