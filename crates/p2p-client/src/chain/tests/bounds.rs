//! What an input costs while everything that others can fill is full: about as much as while nothing is.

#![allow(clippy::cast_possible_truncation, reason = "numbers are small")]

use std::time::Duration;

use p2p_fixtures::assert_as_cheap;
use preconfirmation_types::Bytes;

use super::*;

/// Blocks of the chain.
const CHAIN: u64 = 1_000;

/// Inputs of a kind in one run, and most runs: `assert_as_cheap` makes eight for each load, with the same rig where nothing is full.
const INPUTS: u64 = 16;
const RUNS: u64 = 8 * LOADS.len() as u64;

/// How many times as much an input may cost. What looks at each of a thousand things is above.
const LIMIT: u32 = 8;

/// What others can fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Elected preconfers: blocks whose parents nobody has.
    Orphans,
    /// Lists that nobody has.
    WithheldTxLists,
    /// Blocks beside the chain, three of each height.
    Siblings,
    /// Anybody: lists that no block names.
    UnnamedTxLists,
}

const LOADS: [Load; 4] = [Load::Orphans, Load::WithheldTxLists, Load::Siblings, Load::UnnamedTxLists];

struct Filled {
    rig: Rig,
    /// The chain's blocks from `BASE + 1` on, and the next ones.
    blocks: Vec<Preconfirmation>,
}

impl Filled {
    fn new(load: Option<Load>) -> Self {
        let (rig, mut blocks) = (Rig::new(), Vec::new());
        let mut parent = B256::ZERO;
        for n in 1..=CHAIN + INPUTS * RUNS {
            let mut next = block(BASE + n, parent, 1);
            if load == Some(Load::WithheldTxLists) {
                next.raw_tx_list_hash = unique(1, n);
            }
            parent = next.hash();
            blocks.push(next);
        }
        let mut filled = Self { rig, blocks };
        filled.rig.txlist(1);
        for n in 0..CHAIN {
            filled.gossip(1, &filled.blocks[n as usize].clone());
        }
        if let Some(load) = load {
            filled.fill(load);
        }
        filled
    }

    fn fill(&mut self, load: Load) {
        match load {
            Load::WithheldTxLists => {}
            Load::Orphans => (0..4_200).for_each(|n| {
                let orphan = block(BASE + CHAIN + 500 + n / 3, unique(2, n), 1);
                self.gossip((n % 10) as u8, &orphan);
            }),
            Load::Siblings => (0..2 * (CHAIN - 1)).for_each(|n| {
                let canonical = &self.blocks[(n / 2) as usize];
                self.gossip(1, &Preconfirmation { proposal_id: U256::from(n + 1), ..canonical.clone() });
            }),
            Load::UnnamedTxLists => (0..8_000).for_each(|n| self.txlist((n % 10) as u8, unnamed(n))),
        }
    }

    fn gossip(&mut self, from: u8, preconf: &Preconfirmation) {
        let one = GossipCommitment { from: peer(from), ..arrived(&key(1), preconf) };
        self.rig.process(vec![Command::Gossip(vec![one])]);
    }

    fn txlist(&mut self, from: u8, txlist: TxList) {
        self.run(txlists(txlist, from));
    }
}

fn txlists(txlist: TxList, from: u8) -> Prepared {
    let origin = Origin::Gossip(peer(from));
    Prepared::Command(Command::TxLists(vec![VerifiedTxList {
        txlist,
        origin,
        verdict: None,
        span: Span::none(),
    }]))
}

fn unique(kind: u8, n: u64) -> B256 {
    let mut hash = B256::left_padding_from(&n.to_be_bytes());
    hash[0] = kind;
    hash
}

fn unnamed(n: u64) -> TxList {
    let mut bytes = vec![0; 1024];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    TxList::new(Bytes::from(bytes), 1024).unwrap()
}

/// An input.
enum Prepared {
    /// A commitment of gossip whose signature has been checked, which costs more than all else together.
    Gossip(Box<Candidate>),
    Command(Command),
}

impl Filled {
    /// What would be a commitment of gossip.
    fn candidate(&self, signer: u8, from: u8, preconf: &Preconfirmation) -> Prepared {
        Prepared::Gossip(Box::new(Candidate {
            commitment: self.rig.authenticated(sign_by(&key(signer), preconf)),
            arrival: Arrival::Live(NOW),
            origin: Origin::Gossip(peer(from)),
            verdict: None,
            missing: None,
            since: self.rig.now,
            screened: false,
            span: Span::none(),
        }))
    }

    fn run(&mut self, prepared: Prepared) {
        match prepared {
            Prepared::Command(command) => drop(self.rig.process(vec![command])),
            Prepared::Gossip(candidate) => {
                let chain = &mut self.rig.chain;
                let mut out = Effects::new(chain.metrics.clone());
                let at = Moment { now: self.rig.now, unix: NOW, reference: None };
                chain.judge_all(at, [*candidate].into(), &mut out).unwrap();
                chain.ledger.report_head(&mut out).unwrap();
                out.finish(chain.pending.highest());
            }
        }
    }
}

/// An input, by its number.
type Prepare = fn(&Filled, u64) -> Prepared;

const INPUTS_OF_ALL_KINDS: [(&str, Prepare); 10] = [
    ("a tick", |_, _| Prepared::Command(Command::Tick)),
    ("the next block", |filled, n| filled.candidate(1, 1, &filled.blocks[(CHAIN + n) as usize])),
    ("a block once more", |filled, n| filled.candidate(1, 1, &filled.blocks[(CHAIN - 1 - n) as usize])),
    ("an orphan", |filled, n| {
        filled.candidate(1, (100 + n) as u8, &block(BASE + CHAIN + 450 + n, unique(3, n), 1))
    }),
    ("a sibling", |filled, n| {
        let proposal_id = U256::from(9 + n);
        filled.candidate(
            1,
            1,
            &Preconfirmation { proposal_id, ..filled.blocks[(CHAIN - 2) as usize].clone() },
        )
    }),
    ("a handover", |filled, n| {
        filled.candidate(1, 1, &block(BASE + CHAIN - n, filled.blocks[(CHAIN - n - 2) as usize].hash(), 0))
    }),
    ("a block of an unelected signer", |filled, n| {
        filled.candidate(99, 1, &filled.blocks[(CHAIN + n) as usize])
    }),
    ("a list that no block names", |_, n| txlists(unnamed(1_000_000 + n), (100 + n) as u8)),
    ("the head of L1", |_, n| Prepared::Command(Command::L1Head(n))),
    ("a base that moves", |_, n| {
        let (reply, _answer) = oneshot::channel();
        Prepared::Command(Command::SetBase { base: Base::at(BASE + n), open: true, reply })
    }),
];

/// The time of some inputs.
fn cost(filled: &mut Filled, prepare: Prepare, run: u64) -> Duration {
    let inputs: Vec<_> = (0..INPUTS).map(|n| prepare(filled, run * INPUTS + n)).collect();
    let begun = Instant::now();
    inputs.into_iter().for_each(|input| filled.run(input));
    begun.elapsed()
}

#[test]
fn nothing_that_others_can_fill_makes_an_input_dear() {
    let mut idle = Filled::new(None);
    let mut loads: Vec<_> = LOADS.into_iter().map(|load| (load, Filled::new(Some(load)))).collect();
    for (name, prepare) in INPUTS_OF_ALL_KINDS {
        let mut runs_of_idle = 0..RUNS;
        for (load, filled) in &mut loads {
            let mut runs = 0..RUNS;
            assert_as_cheap(
                &format!("{name}, {load:?}"),
                LIMIT,
                || cost(filled, prepare, runs.next().unwrap()),
                || cost(&mut idle, prepare, runs_of_idle.next().unwrap()),
            );
        }
    }
}
