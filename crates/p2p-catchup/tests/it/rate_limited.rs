//! Against servers with the deployed limit, in virtual time and at length.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use fastrand::Rng;
use p2p_catchup::{CatchUp, CatchUpConfig, Failure, Input, Output, RateLimit, Reply, Request, RequestId};
use p2p_types::{B256, PeerId};

use crate::chain::{head, peer, txlist};

/// What the deployed servers answer in one of their windows, per protocol.
const ALLOWED: usize = 8;
const WINDOW: Duration = Duration::from_secs(10);
/// The rate_limit of our network: the same, in any half a second more.
const LIMIT: RateLimit =
    RateLimit { requests: std::num::NonZeroUsize::new(8).unwrap(), window: Duration::from_millis(10_500) };

/// A peer and a protocol.
type Line = (PeerId, u8);

enum Event {
    /// A request gets to the server.
    Arrive(RequestId, PeerId, Request),
    Reply(RequestId, PeerId, Reply),
    Stored(B256),
}

/// A node that lacks lists, our rate limiter, the way there and back, and servers that count in windows of their own.
struct Paced {
    rng: Rng,
    begun: Instant,
    now: Instant,
    machine: CatchUp,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    /// Where each server's windows begin, after `begun`.
    phases: BTreeMap<PeerId, Duration>,
    served: BTreeMap<(Line, u128), usize>,
    /// When requests left, of those that still count.
    left: BTreeMap<Line, VecDeque<Instant>>,
    /// Requests that had to wait for the rate limiter.
    held: u64,
    refused: u64,
    lists: BTreeMap<B256, u64>,
    fetched: usize,
}

impl Paced {
    fn new(seed: u64, peers: u8, lists: u64) -> Self {
        let now = Instant::now();
        let mut rng = Rng::with_seed(seed);
        let config = CatchUpConfig { rate_limit: Some(LIMIT), ..CatchUpConfig::recommended() };
        let ids: Vec<_> = (1..=peers).map(peer).collect();
        let mut paced = Self {
            machine: CatchUp::new(config, seed).unwrap(),
            begun: now,
            now,
            events: BTreeMap::new(),
            count: 0,
            phases: ids.iter().map(|id| (*id, Duration::from_millis(rng.u64(..10_000)))).collect(),
            served: BTreeMap::new(),
            left: BTreeMap::new(),
            held: 0,
            refused: 0,
            lists: (1..=lists).map(|block| (txlist(block).hash(), block)).collect(),
            fetched: 0,
            rng,
        };
        ids.into_iter().for_each(|id| paced.input(Input::PeerUp(id)));
        for block in 1..=lists {
            paced.input(Input::TxListMissing { block, hash: txlist(block).hash(), live: false });
        }
        paced.input(Input::Start { base: 0, head: head(60) });
        paced
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// One way of the network: 10 to 60 ms.
    fn way(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(10..60))
    }

    fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { id, to, request } => self.send(id, to, request),
                Output::TxList { txlist, .. } => {
                    self.fetched += 1;
                    let soon = self.now + Duration::from_millis(1);
                    self.at(soon, Event::Stored(txlist.hash()));
                }
                Output::Report { peer, offence } => panic!("{peer} reported for {offence:?}"),
                Output::Import { .. } | Output::Status(_) => {}
            }
        }
    }

    /// As our network does: at most eight leave in any window, the others wait.
    fn send(&mut self, id: RequestId, to: PeerId, request: Request) {
        let left = self.left.entry(line(to, request)).or_default();
        let turn = left.len().checked_sub(ALLOWED).map_or(self.now, |oldest| left[oldest] + LIMIT.window);
        self.held += u64::from(turn > self.now);
        let leaves = turn.max(self.now);
        left.push_back(leaves);
        if left.len() > 4 * ALLOWED {
            left.pop_front();
        }
        let arrives = leaves + self.way();
        self.at(arrives, Event::Arrive(id, to, request));
    }

    /// As the deployed servers do: eight in a window of theirs, the ninth is refused.
    fn serve(&mut self, id: RequestId, to: PeerId, request: Request) {
        let window = (self.now - self.begun + self.phases[&to]).as_millis() / WINDOW.as_millis();
        let served = self.served.entry((line(to, request), window)).or_default();
        *served += 1;
        let reply = if *served > ALLOWED {
            self.refused += 1;
            Reply::Failed(Failure::NotAnswered)
        } else {
            match request {
                Request::Head => Reply::Head { block: 60 },
                Request::Page { .. } => Reply::Page(Vec::new()),
                Request::TxList { hash } => Reply::TxList(txlist(self.lists[&hash])),
            }
        };
        let back = self.now + self.way();
        self.at(back, Event::Reply(id, to, reply));
    }

    fn run(&mut self, length: Duration) {
        let end = self.begun + length;
        loop {
            let event = self.events.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = event.into_iter().chain(self.machine.next_deadline()).min() else {
                return;
            };
            if next > end {
                return;
            }
            self.now = next;
            if event != Some(next) {
                self.input(Input::Tick);
                continue;
            }
            match self.events.pop_first().unwrap().1 {
                Event::Arrive(id, to, request) => self.serve(id, to, request),
                Event::Reply(id, from, reply) => self.input(Input::Reply { id, from, reply }),
                Event::Stored(hash) => self.input(Input::TxListStored { hash }),
            }
        }
    }
}

fn line(peer: PeerId, request: Request) -> Line {
    let protocol = match request {
        Request::Head => 0,
        Request::Page { .. } => 1,
        Request::TxList { .. } => 2,
    };
    (peer, protocol)
}

/// At least 95 % of 0.8 lists a second and peer, and nothing that a server could hold against us.
fn keeps_pace(seed: u64, peers: u8, length: Duration) {
    let most = 0.8 * length.as_secs_f64() * f64::from(peers);
    let mut paced = Paced::new(seed, peers, length.as_secs() * u64::from(peers));
    paced.run(length);
    let share = paced.fetched as f64 / most;
    println!("{peers} peers, {length:?}: {} lists, {share:.4} of what is allowed", paced.fetched);
    assert!((0.95..1.02).contains(&share), "seed {seed}: {share}");
    assert_eq!(paced.refused, 0, "seed {seed}");
    assert_eq!(paced.held, 0, "seed {seed}: nothing piles up in front of the rate limiter");
}

#[test]
fn one_peer_is_used_up_to_the_deployed_limit() {
    keeps_pace(1, 1, Duration::from_secs(4 * 60 * 60));
}

#[test]
fn four_peers_are_used_up_to_the_deployed_limit() {
    keeps_pace(2, 4, Duration::from_secs(60 * 60));
}

#[test]
fn wherever_the_windows_of_the_servers_begin() {
    (10..20).for_each(|seed| keeps_pace(seed, 4, Duration::from_secs(10 * 60)));
}
