//! Preconfers: what they sign in their own turn is valid by itself. Each may also be played by one who was never elected.

use crate::{
    actor::{Adversary, Seat},
    play::Scene,
    stage::{Block, Parent},
};

/// Builds on a block deep below the head, so that the turns before its own would be gone.
pub(crate) struct Rewriter {
    seat: Seat,
    depth: u64,
    /// The branch of the turn that ends then.
    branch: Option<(u64, Parent)>,
}

impl Rewriter {
    pub(crate) fn new(seat: Seat, dice: &mut fastrand::Rng) -> Self {
        Self { seat, depth: dice.u64(3..10), branch: None }
    }
}

impl Adversary for Rewriter {
    /// A block a second, so that its branch has the higher last block before its turn ends.
    async fn act(&mut self, scene: &Scene<'_>) {
        let Some(end) = self.seat.turn(scene) else { return };
        let parent = match self.branch {
            Some((turn, last)) if turn == end => last,
            _ => {
                let number = scene.tip().await.number.saturating_sub(self.depth);
                let Some(parent) = scene.at(number.max(scene.settled.number + 1)).await else { return };
                parent
            }
        };
        let block = Block::on(parent, scene.clock.now(), end, 1, &self.seat.signer);
        self.branch = Some((end, block.parent()));
        self.seat.actor().serve(&block);
        self.seat.actor().tell(&block).await;
    }
}
