//! The adversaries of a run, and whom they are connected to.

use std::sync::{Arc, atomic::AtomicU64};

use fastrand::Rng;
use p2p_types::PeerId;
use preconfirmation_p2p::sim::SimNetwork;

use crate::{
    actor::{Actor, Adversary, Seat},
    scenario::Scenario,
    stage::{Owner, key},
};

/// By how much adversaries flood less than the network could bear: for runs by the thousand.
const THROTTLE: u64 = 6;

pub(crate) struct Villain {
    pub(crate) adversary: Box<dyn Adversary>,
    /// Its identities, with the nodes that each is connected to.
    lines: Vec<(PeerId, Vec<usize>)>,
    pub(crate) acts: bool,
}

impl Villain {
    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.lines.iter().map(|(id, _)| *id)
    }

    /// Connects to a node that has come back, if it was connected to it.
    pub(crate) fn connect(&self, network: &SimNetwork, node: usize, id: PeerId) {
        for (own, _) in self.lines.iter().filter(|(_, victims)| victims.contains(&node)) {
            network.connect(*own, id);
        }
    }
}

/// Adversaries, each connected to all honest nodes or to some of them.
pub(crate) async fn cast(
    scenario: &Scenario,
    network: &SimNetwork,
    nodes: &[PeerId],
    rng: &mut Rng,
) -> Vec<Villain> {
    let (plot, said) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let mut villains = Vec::new();
    for (index, role) in scenario.cast.iter().enumerate() {
        let mut victims: Vec<usize> = (0..nodes.len()).collect();
        rng.shuffle(&mut victims);
        let (half, others) = victims.split_at(victims.len() / 2);
        let first = if rng.bool() { victims.as_slice() } else { half };
        let (mut actors, mut lines) = (Vec::new(), Vec::new());
        for (byte, victims) in (100 + 2 * index..).zip([first, others]) {
            let peers: Vec<PeerId> = victims.iter().map(|index| nodes[*index]).collect();
            let byte = u8::try_from(byte).unwrap();
            let actor = Actor::start(network, byte, &peers, Arc::clone(&said)).await;
            lines.push((actor.id(), victims.to_vec()));
            actors.push(actor);
        }
        let Ok(actors) = <[Actor; 2]>::try_from(actors) else { continue };
        let owner = Owner::Adversary(index);
        let (signer, number, elected) = (key(owner.key()), owner.key(), role.is_elected());
        let seat = Seat { actors, signer, number, elected, throttle: THROTTLE, plot: Arc::clone(&plot) };
        villains.push(Villain { adversary: role.seated(seat, rng), lines, acts: false });
    }
    villains
}
