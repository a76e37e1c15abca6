//! Preconfers: what they sign in their own turn is valid by itself. Each may also be played by one who was never elected.

use async_trait::async_trait;
use p2p_types::{B256, Preconfirmation, U256};

use crate::{
    actor::{Adversary, Scene, Seat},
    stage::{Block, Parent, WINDOW, anchor},
};

/// Builds on a block deep below the head, or on what another one has built there, so that the turns before its own would be
/// gone.
pub struct Rewriter {
    seat: Seat,
    depth: u64,
    /// The end of the turn in which it has begun.
    turn: u64,
}

impl Rewriter {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, depth: rng.u64(5..11), turn: 0 }
    }
}

#[async_trait(?Send)]
impl Adversary for Rewriter {
    /// A block a second, so that its branch has the higher last block before its turn ends.
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let begins = std::mem::replace(&mut self.turn, end) != end;
        let plotted = *self.seat.plot.lock().unwrap();
        let parent = match plotted.filter(|last| !begins || last.number > scene.settled.number) {
            Some(last) => last,
            None => {
                let number = scene.tip().number.saturating_sub(self.depth);
                let Some(parent) = scene.at(number.max(scene.settled.number + 1)) else { return };
                parent
            }
        };
        let block = Block::on(parent, scene.clock.now(), end, 1, &self.seat.signer);
        *self.seat.plot.lock().unwrap() = Some(block.parent());
        self.seat.actor().serve(&block);
        self.seat.actor().tell(&block).await;
    }
}

/// Shows each half of the network another block, and builds on both.
pub struct Splitter {
    seat: Seat,
    /// Seconds between two heights.
    pace: u64,
    /// The last block of each branch of the turn that ends then.
    branches: Option<(u64, [Parent; 2])>,
}

impl Splitter {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, pace: 3, branches: None }
    }

    /// A height a second: as long branches as fit into a turn.
    pub fn hasty(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, pace: 1, branches: None }
    }
}

#[async_trait(?Send)]
impl Adversary for Splitter {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let now = scene.clock.now();
        if !now.is_multiple_of(self.pace) {
            return;
        }
        let mut parents = match self.branches {
            Some((turn, parents)) if turn == end => parents,
            _ => [scene.tip(); 2],
        };
        for (salt, (parent, actor)) in parents.iter_mut().zip(&self.seat.actors).enumerate() {
            let block = Block::on(*parent, now, end, 1 + salt as u64, &self.seat.signer);
            *parent = block.parent();
            actor.serve(&block);
            actor.tell(&block).await;
        }
        self.branches = Some((end, parents));
    }
}

/// Keeps its blocks to itself until its successor has built on what everybody else has.
pub struct LateReleaser {
    seat: Seat,
    /// Seconds after its turn, within the grace for late blocks and beyond it.
    delay: u64,
    end: u64,
    withheld: Vec<Block>,
}

impl LateReleaser {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, delay: rng.u64(2..8), end: 0, withheld: Vec::new() }
    }
}

#[async_trait(?Send)]
impl Adversary for LateReleaser {
    async fn act(&mut self, scene: &Scene<'_>) {
        let now = scene.clock.now();
        if now >= self.end + self.delay {
            for block in std::mem::take(&mut self.withheld) {
                self.seat.actor().serve(&block);
                self.seat.actor().tell(&block).await;
            }
        }
        if let Some(end) = self.seat.turn(scene)
            && (self.withheld.is_empty() || self.end == end)
        {
            self.end = end;
            let parent = match self.withheld.last() {
                Some(last) => last.parent(),
                None => scene.tip(),
            };
            self.withheld.push(Block::on(parent, now, end, 1, &self.seat.signer));
        }
    }
}

/// Signs blocks for its turn long after that, for where the chain was then, and shows them by gossip and in pages.
pub struct BackDater {
    seat: Seat,
    /// Where the chain was when its last turn began, and the end of that turn.
    then: Option<(u64, Parent)>,
    shown: u64,
}

impl BackDater {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, then: None, shown: 0 }
    }
}

#[async_trait(?Send)]
impl Adversary for BackDater {
    async fn act(&mut self, scene: &Scene<'_>) {
        let now = scene.clock.now();
        if let Some(end) = self.seat.turn(scene) {
            if self.then.is_none_or(|(turn, _)| turn != end && self.seat.elected) {
                (self.then, self.shown) = (Some((end, scene.tip())), 0);
            }
            if self.seat.elected {
                return;
            }
        }
        let Some((end, parent)) = self.then.filter(|(end, _)| now > end + 5) else { return };
        if self.shown < WINDOW - 1 {
            self.shown += 1;
            let timestamp = end + 1 - WINDOW + self.shown;
            let block = Block::on(parent, timestamp, end, 1, &self.seat.signer);
            self.then = Some((end, block.parent()));
            self.seat.actor().serve(&block);
            self.seat.actor().tell(&block).await;
        }
    }
}

/// Declines one height again and again, each time in other words.
pub struct HandoverFlooder {
    seat: Seat,
    rate: u64,
}

impl HandoverFlooder {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, rate: rng.u64(10..30) }
    }
}

#[async_trait(?Send)]
impl Adversary for HandoverFlooder {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let (now, parent) = (scene.clock.now(), scene.tip());
        for _ in 0..self.seat.share(self.rate) {
            let preconf = Preconfirmation {
                eop: true,
                block_number: U256::from(parent.number + 1),
                timestamp: U256::from(now),
                submission_window_end: U256::from(end),
                anchor_block_number: U256::from(anchor(now)),
                parent_preconfirmation_hash: parent.hash,
                proposal_id: U256::from(scene.draw(..)) >> 20,
                ..Default::default()
            };
            let handover = Block::of(preconf, Default::default(), &self.seat.signer);
            self.seat.actor().commit(&handover).await;
        }
    }
}

/// Signs one promise a thousand times.
pub struct NonceFlooder {
    seat: Seat,
    rate: u64,
    promise: Option<(u64, Block)>,
    signatures: u64,
}

impl NonceFlooder {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, rate: rng.u64(85..100), promise: None, signatures: 0 }
    }
}

#[async_trait(?Send)]
impl Adversary for NonceFlooder {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        if self.promise.as_ref().is_none_or(|(turn, _)| *turn != end) {
            let parent = scene.tip();
            let block = Block::on(parent, scene.clock.now(), end, 1, &self.seat.signer);
            self.seat.actor().tell(&block).await;
            self.promise = Some((end, block));
        }
        let Some((_, block)) = &self.promise else { return };
        for _ in 0..self.seat.share(self.rate) {
            self.signatures += 1;
            let again = block.signed_again(self.seat.number, self.signatures);
            self.seat.actor().commit(&again).await;
        }
    }
}

/// Signs children of parents that do not exist, each of another one.
pub struct OrphanMaker {
    seat: Seat,
    rate: u64,
    highest: u64,
}

impl OrphanMaker {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, rate: rng.u64(5..20), highest: [1, 5, 900][rng.usize(0..3)] }
    }
}

#[async_trait(?Send)]
impl Adversary for OrphanMaker {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let (now, tip) = (scene.clock.now(), scene.tip());
        for _ in 0..self.seat.share(self.rate) {
            let salt = scene.draw(..);
            let number = tip.number + scene.draw(0..self.highest);
            let parent =
                Parent { number, hash: B256::left_padding_from(&salt.to_be_bytes()), timestamp: now };
            let block = Block::on(parent, now, end, salt, &self.seat.signer);
            self.seat.actor().serve(&block);
            self.seat.actor().commit(&block).await;
        }
    }
}

/// Signs siblings of recent blocks without number, each of which names the same parent.
pub struct SiblingFlooder {
    seat: Seat,
    rate: u64,
    /// How far below the head it begins.
    depth: u64,
}

impl SiblingFlooder {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, rate: rng.u64(85..100), depth: rng.u64(1..6) }
    }
}

#[async_trait(?Send)]
impl Adversary for SiblingFlooder {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let (now, tip) = (scene.clock.now(), scene.tip());
        for _ in 0..self.seat.share(self.rate) {
            let number = tip.number.saturating_sub(scene.draw(0..self.depth));
            let parent = scene.at(number).unwrap_or(tip);
            let block = Block::on(parent, now, end, scene.draw(1..), &self.seat.signer);
            self.seat.actor().serve(&block);
            self.seat.actor().tell(&block).await;
        }
    }
}

/// Extends whichever of its two branches does not stand until it does, in the sight of all: each second a reorganisation, each deeper
/// than the one before.
pub struct Balancer {
    seat: Seat,
    /// The last blocks of both branches of the turn that ends then.
    branches: Option<(u64, [Parent; 2])>,
}

impl Balancer {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, branches: None }
    }
}

#[async_trait(?Send)]
impl Adversary for Balancer {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let now = scene.clock.now();
        let mut branches = match self.branches {
            Some((turn, branches)) if turn == end => branches,
            _ => [scene.tip(); 2],
        };
        branches.sort_by_key(|last| last.number);
        let [lower, higher] = &mut branches;
        while lower.number <= higher.number {
            let block = Block::on(*lower, now, end, scene.draw(1..), &self.seat.signer);
            *lower = block.parent();
            self.seat.actor().serve(&block);
            self.seat.actor().tell(&block).await;
        }
        self.branches = Some((end, branches));
    }
}
