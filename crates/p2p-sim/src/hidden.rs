//! Preconfers that keep something back, a list or half of the network or the time of their successor, or that sign what cannot
//! stand.

use async_trait::async_trait;

use crate::{
    actor::{Adversary, Scene, Seat},
    stage::{Block, Parent, WINDOW, key},
};

/// Signs blocks of which nobody gets the list until it relents.
pub struct ListWithholder {
    seat: Seat,
    withheld: Vec<Block>,
}

impl ListWithholder {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, withheld: Vec::new() }
    }
}

#[async_trait(?Send)]
impl Adversary for ListWithholder {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (Some(end), now) = (self.seat.turn(scene), scene.clock.now()) else { return };
        if !now.is_multiple_of(3) {
            return;
        }
        let block = Block::on(scene.tip(), now, end, 1, &self.seat.signer);
        self.seat.actor().commit(&block).await;
        self.withheld.push(block);
    }

    async fn relent(&mut self) {
        for block in std::mem::take(&mut self.withheld) {
            for actor in &self.seat.actors {
                actor.serve(&block);
            }
            self.seat.actor().list(&block.txlist).await;
        }
    }
}

/// Hands over, and signs blocks of the same window afterwards.
pub struct AfterEop {
    seat: Seat,
    /// The end of the window that it has handed over.
    over: u64,
}

impl AfterEop {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, over: 0 }
    }
}

#[async_trait(?Send)]
impl Adversary for AfterEop {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let (now, parent) = (scene.clock.now(), scene.tip());
        if self.over != end {
            self.over = end;
            let handover = Block::handover(parent, now, end, &self.seat.signer);
            self.seat.actor().commit(&handover).await;
        } else if now.is_multiple_of(2) {
            let block = Block::on(parent, now, end, 1, &self.seat.signer);
            self.seat.actor().serve(&block);
            self.seat.actor().tell(&block).await;
        }
    }
}

/// Shows its blocks to some nodes only, and does not serve them.
pub struct HalfTeller {
    seat: Seat,
}

impl HalfTeller {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat }
    }
}

#[async_trait(?Send)]
impl Adversary for HalfTeller {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (Some(end), now) = (self.seat.turn(scene), scene.clock.now()) else { return };
        if now.is_multiple_of(2) {
            let block = Block::on(scene.tip(), now, end, 1, &self.seat.signer);
            self.seat.actors[1].tell(&block).await;
        }
    }
}

/// Says nothing before the last second of its window, and then all, so that each node hears of it in another second.
pub struct LastSecond {
    seat: Seat,
    blocks: u64,
}

impl LastSecond {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, blocks: rng.u64(1..6) }
    }
}

#[async_trait(?Send)]
impl Adversary for LastSecond {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene).filter(|end| *end == scene.clock.now()) else { return };
        let mut parent: Parent = scene.tip();
        for index in 0..self.blocks {
            let timestamp = (end + 1 - WINDOW + index).max(parent.timestamp + 1);
            if timestamp > end {
                return;
            }
            let block = Block::on(parent, timestamp, end, 1, &self.seat.signer);
            parent = block.parent();
            self.seat.actors[1].serve(&block);
            self.seat.actor().tell(&block).await;
        }
    }
}

/// Signs with s in the upper half: the promise counts, the form does not.
pub struct HighS {
    seat: Seat,
}

impl HighS {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat }
    }
}

#[async_trait(?Send)]
impl Adversary for HighS {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (Some(end), now) = (self.seat.turn(scene), scene.clock.now()) else { return };
        if now.is_multiple_of(2) {
            let block = Block::on(scene.tip(), now, end, 1, &self.seat.signer).mirrored();
            self.seat.actors.iter().for_each(|actor| actor.serve(&block));
            self.seat.actor().tell(&block).await;
        }
    }
}

/// Signs blocks right above what L1 has settled, on another block than that.
pub struct Undoer {
    seat: Seat,
    signed: u64,
}

impl Undoer {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, signed: 0 }
    }
}

#[async_trait(?Send)]
impl Adversary for Undoer {
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let (now, number) = (scene.clock.now(), scene.settled.number);
        self.signed += 1;
        // A hash that is that of no block.
        let hash = key(self.signed).address().into_word();
        let block = Block::on(Parent { number, hash, timestamp: now }, now, end, 1, &self.seat.signer);
        self.seat.actors.iter().for_each(|actor| actor.serve(&block));
        self.seat.actor().tell(&block).await;
    }
}
