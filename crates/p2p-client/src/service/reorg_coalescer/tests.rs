use std::sync::Arc;

use p2p_fixtures::{BASE, Block, DOMAIN, key};
use p2p_types::{PeerId, SigningKey, UnixSeconds};
use preconfirmation_types::{Container as _, Recovered};

use super::*;

/// A block, as its events show it.
#[derive(Clone)]
struct Stored(Block, Arc<Recovered>);

impl Stored {
    fn after(parent: Option<&Self>, salt: u64, signer: &SigningKey) -> Self {
        let parent = parent.map(|parent| &parent.0);
        let block = Block::with(parent, salt, parent.map_or(BASE, Block::number) + 1, signer);
        let recovered = Recovered::from_ssz(&block.signed.to_ssz(), &DOMAIN).unwrap();
        Self(block, Arc::new(recovered))
    }

    /// A branch on another, or on the base.
    fn branch(parent: Option<&Self>, salt: u64, length: usize) -> Vec<Self> {
        let first = Self::after(parent, salt, &key(1));
        std::iter::successors(Some(first), |last| Some(Self::after(Some(last), salt, &key(1))))
            .take(length)
            .collect()
    }

    fn number(&self) -> BlockNumber {
        self.0.number()
    }

    fn hash(&self) -> B256 {
        self.1.hash()
    }

    fn head(&self) -> Head {
        Head { number: self.number(), hash: self.hash() }
    }

    fn events(&self, origin: Origin) -> [SdkEvent; 2] {
        let (block, hash) = (self.number(), self.hash());
        let raw_tx_list_hash = self.0.signed.preconf().raw_tx_list_hash;
        let commitment = self.1.clone();
        [
            SdkEvent::Commitment { block, commitment, origin },
            SdkEvent::BlockReady { block, hash, raw_tx_list_hash },
        ]
    }
}

fn peer() -> PeerId {
    PeerId::from_bytes(&[0, 1, 7]).unwrap()
}

/// A chain and what the application has been told of it.
struct Fixture {
    coalescer: ReorgCoalescer,
    now: Instant,
    chain: Vec<Stored>,
    /// What the application makes of its events.
    known: Vec<B256>,
    head: Option<Head>,
    /// Blocks that it was told of, also those that it knew before.
    told: usize,
}

impl Fixture {
    fn new() -> Self {
        Self {
            coalescer: ReorgCoalescer::default(),
            now: Instant::now(),
            chain: Vec::new(),
            known: Vec::new(),
            head: None,
            told: 0,
        }
    }

    /// Another chain stands; as the ledger reports it.
    fn switch(&mut self, to: &[Stored], origin: Origin) {
        let common = self.chain.iter().zip(to).take_while(|(old, new)| old.hash() == new.hash()).count();
        let mut events = Vec::new();
        if let Some(lowest) = self.chain.get(common) {
            let dropped = self.chain[common..].iter().map(Stored::hash).collect();
            events.push(SdkEvent::Reorg { dropped, from: lowest.number() });
        }
        events.extend(to[common..].iter().flat_map(|block| block.events(origin)));
        events.push(SdkEvent::Head { head: to.last().map(Stored::head) });
        self.chain = to.to_vec();
        for event in events {
            self.push(event);
        }
    }

    fn gossip(&mut self, to: &[Stored]) {
        self.switch(to, Origin::Gossip(peer()));
    }

    fn push(&mut self, event: SdkEvent) -> Vec<SdkEvent> {
        let mut out = Vec::new();
        self.coalescer.push(self.now, event, &mut out);
        self.read(&out);
        out
    }

    fn release(&mut self) {
        let mut out = Vec::new();
        self.coalescer.release(self.now, &mut out);
        self.read(&out);
    }

    fn second_passes(&mut self) {
        self.now += Duration::from_secs(1);
        if self.coalescer.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.release();
        }
    }

    fn read(&mut self, events: &[SdkEvent]) {
        for event in events {
            match event {
                SdkEvent::Commitment { block, commitment, .. } => {
                    assert_eq!(*block, BASE + 1 + self.known.len() as u64, "in order, without a gap");
                    self.known.push(commitment.hash());
                    self.told += 1;
                }
                SdkEvent::BlockReady { hash, .. } => assert!(self.known.contains(hash)),
                SdkEvent::Reorg { dropped, from }
                | SdkEvent::L1Reorg { from, affected: dropped, .. }
                | SdkEvent::ScheduleReorg { from, affected: dropped, .. } => {
                    let stays = usize::try_from(from - BASE - 1).unwrap();
                    assert_eq!(self.known.split_off(stays), *dropped, "what it drops is what was told");
                }
                SdkEvent::Head { head } => self.head = *head,
                other => panic!("{other:?}"),
            }
        }
    }

    fn assert_up_to_date(&self) {
        let chain: Vec<_> = self.chain.iter().map(Stored::hash).collect();
        assert_eq!((&self.known, self.head), (&chain, self.chain.last().map(Stored::head)));
        assert_eq!(self.coalescer.deadline(), None);
    }
}

#[test]
fn a_growing_chain_and_a_single_reorg_are_told_at_once() {
    let (mut told, main) = (Fixture::new(), Stored::branch(None, 1, 5));
    for length in 1..=5 {
        told.gossip(&main[..length]);
        told.assert_up_to_date();
    }
    let other = Stored::branch(None, 2, 6);
    for length in 5..=6 {
        told.gossip(&other[..length]);
        told.assert_up_to_date();
    }
    assert_eq!(told.told, 5 + 6);
}

#[test]
fn two_branches_that_grow_in_turns_cost_about_as_much_as_they_grow() {
    let (mut told, blocks) = (Fixture::new(), 100);
    let branches = [Stored::branch(None, 1, blocks), Stored::branch(None, 2, blocks)];
    for length in 1..=blocks {
        for branch in &branches {
            told.gossip(&branch[..length]);
        }
        told.second_passes();
    }
    assert!(told.told <= 3 * blocks, "{} blocks were told", told.told);
    told.now += Duration::from_secs(blocks as u64);
    told.release();
    told.assert_up_to_date();
}

#[test]
fn what_is_held_back_ends_in_the_chain_that_stands() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut told = Fixture::new();
        let mut chain = Vec::new();
        for salt in 0..40 {
            let keep = rng.usize(chain.len().saturating_sub(8)..=chain.len());
            chain.truncate(keep);
            let more = Stored::branch(chain.last(), 2 + salt, rng.usize(1..6));
            chain.extend(more);
            told.gossip(&chain);
            for _ in 0..rng.usize(0..4) {
                told.second_passes();
            }
        }
        told.release();
        told.assert_up_to_date();
    }
}

/// A fixture that holds back a second reorg, and the branch that stands.
fn holding() -> (Fixture, Vec<Stored>) {
    let mut told = Fixture::new();
    let [first, second] = [1, 2].map(|salt| Stored::branch(None, salt, 4));
    told.gossip(&first[..3]);
    told.gossip(&second[..3]);
    told.assert_up_to_date();
    told.gossip(&first);
    assert_eq!(told.known.last(), Some(&second[2].hash()));
    assert_eq!(told.coalescer.deadline(), Some(told.now + Duration::from_secs(3)));
    (told, first)
}

#[test]
fn a_block_of_the_next_preconfer_ends_the_wait() {
    let (mut told, mut chain) = holding();
    chain.push(Stored::after(chain.last(), 1, &key(2)));
    told.gossip(&chain);
    told.assert_up_to_date();
}

#[test]
fn a_block_of_the_application_ends_the_wait() {
    let (mut told, mut chain) = holding();
    chain.push(Stored::after(chain.last(), 1, &key(1)));
    told.switch(&chain, Origin::Local);
    told.assert_up_to_date();
}

#[test]
fn a_reorg_of_l1_or_of_the_schedule_ends_the_wait() {
    let from = BASE + 2;
    let of_l1 = |affected| SdkEvent::L1Reorg { anchor: 1, from, affected };
    let of_the_schedule = |affected| SdkEvent::ScheduleReorg { since: UnixSeconds::new(0), from, affected };
    for event in [&of_l1 as &dyn Fn(Vec<B256>) -> SdkEvent, &of_the_schedule] {
        let (mut told, chain) = holding();
        told.push(event(chain[1..].iter().map(Stored::hash).collect()));
        assert_eq!(told.known, [chain[0].hash()]);
    }
}

#[test]
fn a_list_that_comes_late_is_told_with_its_block() {
    let (mut told, chain) = holding();
    let [_, ready] = chain[3].events(Origin::Local);
    assert!(told.push(ready).is_empty());
    told.now += Duration::from_secs(3);
    told.second_passes();
    told.assert_up_to_date();
}

#[test]
fn what_is_no_change_of_the_chain_is_not_held_back() {
    let (mut told, _) = holding();
    let event = SdkEvent::PeerConnected { peer: peer() };
    let mut out = Vec::new();
    told.coalescer.push(told.now, event.clone(), &mut out);
    assert_eq!(out, [event]);
}
