//! What an input costs while everything that others can fill is full: about as much as while nothing is.

use std::time::{Duration, Instant};

use p2p_catchup::{CatchUp, CatchUpConfig, Input, Output, Reply, Request};
use p2p_fixtures::assert_as_cheap;
use p2p_types::{Address, B256, BlockNumber, Head, PeerId};
use preconfirmation_types::rate_limit::RateLimit;

/// Connected peers, which every input may look at.
const PEERS: u32 = 50;

/// The head of the store.
const HEAD: BlockNumber = 10_000;

/// What others can fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Anybody: peers that connect, answer nothing and disconnect.
    Disconnected,
    /// An elected preconfer: lists that nobody has.
    WithheldTxLists,
    /// Elected preconfers: parents that nobody has.
    Orphans,
}

const LOADS: [Load; 3] = [Load::Disconnected, Load::WithheldTxLists, Load::Orphans];

/// How the peers answer what they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peers {
    Silent,
    /// They know the head and nothing else.
    Empty,
}

struct Rig {
    machine: CatchUp,
    now: Instant,
    peers: Peers,
}

impl Rig {
    fn new(peers: Peers, load: Option<Load>) -> Self {
        let config = CatchUpConfig {
            rate_limit: (peers == Peers::Empty).then_some(RateLimit::DEPLOYED),
            ..CatchUpConfig::recommended()
        };
        let machine = CatchUp::new(config, 1).unwrap();
        let mut rig = Self { machine, now: Instant::now(), peers };
        rig.input(Input::Start { base: 0, head: Some(Head { number: HEAD, hash: hash(0, HEAD) }) });
        (0..PEERS).for_each(|n| rig.input(Input::PeerUp(peer(n))));
        if let Some(load) = load {
            rig.fill(load);
        }
        rig.wait(Duration::from_secs(1));
        rig
    }

    fn fill(&mut self, load: Load) {
        match load {
            Load::Disconnected => (0..1_100).for_each(|n| self.flap(PEERS + n)),
            Load::WithheldTxLists => (HEAD - 1_023..=HEAD).for_each(|block| {
                self.input(Input::TxListMissing { block, hash: hash(1, block), live: false })
            }),
            Load::Orphans => (0..16).for_each(|signer| {
                (1..=8).for_each(|n| self.input(orphan(signer, HEAD / 2 + n)));
            }),
        }
    }

    /// A peer comes, is asked, and goes.
    fn flap(&mut self, n: u32) {
        self.machine.handle(self.now, Input::PeerUp(peer(n)));
        while self.machine.poll_output().is_some() {}
        self.input(Input::PeerDown(peer(n)));
    }

    /// Time goes by, as it does for the client.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// An input, and the peers' answers.
    fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll_output() {
            let Output::Send { id, to: from, request } = output else { continue };
            let reply = match (self.peers, request) {
                (_, Request::Head) => Reply::Head { block: HEAD },
                (Peers::Silent, _) => continue,
                (Peers::Empty, Request::Page { .. }) => Reply::Page(Vec::new()),
                (Peers::Empty, Request::TxList { .. }) => Reply::TxListNotFound,
            };
            self.machine.handle(self.now, Input::Reply { id, from, reply });
        }
    }
}

fn peer(n: u32) -> PeerId {
    let bytes: Vec<u8> = [0, 4].into_iter().chain(n.to_be_bytes()).collect();
    PeerId::from_bytes(&bytes).unwrap()
}

fn hash(kind: u8, block: BlockNumber) -> B256 {
    let mut hash = B256::left_padding_from(&block.to_be_bytes());
    hash[0] = kind;
    hash
}

fn orphan(signer: u8, block: BlockNumber) -> Input {
    Input::Orphan { block, parent: hash(signer, block), signer: Address::repeat_byte(signer) }
}

const NEWCOMER: &str = "a peer that comes back";

/// An input that leaves as much as it finds, by its number.
type Change = fn(&mut Rig, u64);

const CHANGES: [(&str, Change); 9] = [
    ("a tick", |rig, _| rig.input(Input::Tick)),
    ("a head that moves", |rig, n| {
        rig.input(Input::Applied { head: Some(Head { number: HEAD + n, hash: hash(0, HEAD + n) }) });
    }),
    ("a base that moves", |rig, n| rig.input(Input::Settled { base: n })),
    ("a height that waits", |rig, n| rig.input(Input::Waiting { highest: Some(HEAD + 1_000 + n) })),
    ("a live block and its list", |rig, n| {
        rig.input(Input::TxListMissing { block: HEAD + n, hash: hash(2, n), live: true });
        rig.input(Input::TxListStored { hash: hash(2, n) });
    }),
    ("a block without its list", |rig, n| {
        rig.input(Input::TxListMissing { block: HEAD + n, hash: hash(2, n), live: false });
        rig.input(Input::TxListNotNeeded { block: HEAD + n, hash: hash(2, n) });
    }),
    ("an orphan", |rig, n| {
        rig.input(orphan(200, HEAD + n));
        rig.input(Input::OrphanGone { parent: hash(200, HEAD + n) });
    }),
    ("a peer that comes and goes", |rig, n| rig.flap(100_000 + n as u32)),
    (NEWCOMER, |rig, n| {
        let peer = peer((n % u64::from(PEERS)) as u32);
        rig.input(Input::PeerDown(peer));
        rig.input(Input::PeerUp(peer));
    }),
];

/// Such inputs in one run.
const INPUTS: u64 = 128;

/// How many times as much an input may cost. What looks at each of a thousand things, as it does at each peer, is above.
const LIMIT: u32 = 10;

/// How many times as much a peer that comes back may cost, less than its handshake: it may have any of the lists.
const LIMIT_OF_NEWCOMER: u32 = 40;

/// The time that such inputs take, with what follows from each.
fn cost(peers: Peers, load: Option<Load>, change: Change) -> Duration {
    let mut rig = Rig::new(peers, load);
    let begun = Instant::now();
    for n in 1..=INPUTS {
        change(&mut rig, n);
        rig.wait(Duration::from_millis(10));
    }
    begun.elapsed()
}

#[test]
fn nothing_that_others_can_fill_makes_an_input_dear() {
    for (peers, load) in LOADS.into_iter().flat_map(|load| [(Peers::Silent, load), (Peers::Empty, load)]) {
        for (name, change) in CHANGES {
            let limit = if name == NEWCOMER { LIMIT_OF_NEWCOMER } else { LIMIT };
            assert_as_cheap(
                &format!("{name}, {load:?}, {peers:?}"),
                limit,
                || cost(peers, Some(load), change),
                || cost(peers, None, change),
            );
        }
    }
}
