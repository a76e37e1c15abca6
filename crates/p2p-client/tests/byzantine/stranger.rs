//! Strangers: nobody has elected them, and every message may have a key of its own.

use crate::{
    actor::{Adversary, Seat},
    play::Scene,
    stage::{Block, Parent, key},
};

/// Signs for windows that no schedule knows, so that what it says waits.
pub(crate) struct UnknownWindows {
    seat: Seat,
    /// Messages a second.
    rate: u64,
    /// Most seconds by which these windows end after now.
    furthest: u64,
}

impl UnknownWindows {
    pub(crate) fn new(seat: Seat, dice: &mut fastrand::Rng) -> Self {
        Self { seat, rate: dice.u64(8..24), furthest: [300, 700, 100_000][dice.usize(0..3)] }
    }
}

impl Adversary for UnknownWindows {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (now, parent) = (scene.clock.now(), scene.tip().await);
        for _ in 0..self.rate {
            let (ahead, number, salt, signer) = {
                let mut dice = scene.dice();
                (dice.u64(60..self.furthest), dice.u64(1..4), dice.u64(..), dice.u64(1000..u64::MAX / 2))
            };
            let parent = Parent { number: parent.number + number, ..parent };
            self.seat.actor().commit(&Block::on(parent, now, now + ahead, salt, &key(signer))).await;
        }
    }
}
