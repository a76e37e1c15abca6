//! Who plays, in which windows.

use p2p_sim::stage::{Owner, key};
use p2p_types::{Address, SigningKey};

use crate::play::Shape;

/// Honest nodes.
pub(crate) const HONEST: usize = 7;

/// Windows before the attack, in which honest preconfers begin the chain.
pub(crate) const BEFORE: usize = 3;

/// Windows of the attack.
pub(crate) const ATTACK: usize = 5;

/// Of these, windows of adversaries.
pub(crate) const TURNS: usize = 2;

/// Windows without blocks after the attack.
pub(crate) const QUIET: usize = 2;

/// Windows of honest preconfers after that.
pub(crate) const AFTER: usize = 1;

/// What the seed has drawn.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    pub(crate) adversaries: usize,
    pub(crate) elected: bool,
    /// Adversaries act; else they relay and serve like everybody.
    pub(crate) attacks: bool,
    /// By window.
    pub(crate) owners: Vec<Owner>,
}

impl Plan {
    pub(crate) fn draw(seed: u64, adversaries: usize, elected: bool, shape: Shape) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut order: Vec<usize> = (0..HONEST).collect();
        rng.shuffle(&mut order);
        let windows = BEFORE + ATTACK + QUIET + AFTER;
        let mut owners: Vec<Owner> =
            (0..windows).map(|window| Owner::Honest(order[window % HONEST])).collect();
        if elected && adversaries > 0 {
            // Two turns of adversaries, one after the other or with one between them; the last is of an honest preconfer.
            let turns: [usize; TURNS] = [BEFORE + 1, BEFORE + rng.usize(2..ATTACK - 1)];
            for (turn, window) in turns.into_iter().enumerate() {
                owners[window] = Owner::Adversary(turn % adversaries);
            }
        }
        Self { seed, shape, adversaries, elected, attacks: true, owners }
    }

    /// The same nodes with the same links, of which nobody attacks: honest preconfers have all turns.
    pub(crate) fn quiet(&self) -> Self {
        Self { attacks: false, ..Self::draw(self.seed, self.adversaries, false, self.shape) }
    }

    pub(crate) fn signer(&self, owner: Owner) -> SigningKey {
        key(owner.key())
    }

    /// Who may sign, by window.
    pub(crate) fn signers(&self) -> Vec<Address> {
        self.owners.iter().map(|owner| self.signer(*owner).address()).collect()
    }
}
