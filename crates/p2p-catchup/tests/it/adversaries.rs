//! Named adversaries: alone with one honest peer, and as a part of many.

use std::time::Duration;

use p2p_types::Offence;

use crate::{
    chain::peer,
    peers::{ADVERSARIES, Kind},
    world::{CALM, Weather, World},
};

const HEIGHT: usize = 30;

/// `adversaries` of a kind, then `honest` honest peers.
fn world(seed: u64, kind: Kind, adversaries: usize, honest: usize) -> World {
    let kinds = [vec![kind; adversaries], vec![Kind::Honest; honest]].concat();
    let mut world = World::new(seed, HEIGHT, &kinds);
    world.weather = CALM;
    world.all_up();
    world.start(0, false);
    world
}

fn comes_through(seed: u64, kind: Kind, adversaries: usize, honest: usize) -> World {
    let mut world = world(seed, kind, adversaries, honest);
    let within = Duration::from_secs(60);
    assert!(
        world.run_until(within, World::is_done),
        "{kind:?} {adversaries}:{honest}, seed {seed}: {} after {:?}",
        world.machine.status(),
        world.elapsed()
    );
    for (reported, _) in &world.reports {
        assert_eq!(world.actors[reported].kind, Kind::Liar, "{kind:?}");
    }
    assert_eq!(kind == Kind::Liar, !world.reports.is_empty(), "{kind:?}: liars are reported, others not");
    world
}

#[test]
fn one_honest_peer_is_enough_against_each() {
    for kind in ADVERSARIES {
        for seed in 0..20 {
            comes_through(seed, kind, 1, 1);
        }
    }
}

#[test]
fn adversaries_as_most_of_the_peers_change_nothing() {
    for kind in ADVERSARIES {
        for adversaries in [2, 4, 6] {
            for seed in 0..10 {
                comes_through(seed, kind, adversaries, 8 - adversaries);
            }
        }
    }
}

#[test]
fn one_of_each_kind_and_one_honest() {
    for seed in 0..50 {
        let mut world = World::new(seed, HEIGHT, &[ADVERSARIES.as_slice(), &[Kind::Honest]].concat());
        world.all_up();
        world.start(0, false);
        assert!(
            world.run_until(Duration::from_secs(120), World::is_done),
            "seed {seed}: {}",
            world.machine.status()
        );
    }
}

#[test]
fn liars_are_reported_for_what_they_did_and_left_out() {
    for seed in 0..10 {
        let mut world = world(seed, Kind::Liar, 1, 0);
        world.run_until(Duration::from_secs(60), |_| false);
        let faults =
            world.reports.iter().filter(|report| **report == (peer(0), Offence::BadSignature)).count();
        assert_eq!(faults, 3);
        assert_eq!(world.chain.len(), 0);
        assert_eq!(world.was_live, 0);
    }
}

#[test]
fn nobody_alone_makes_a_node_live_that_is_not_at_the_end() {
    // The Truncator brings us there. The Equivocator ends one block below what it claims, as deployed peers do whose
    // head counts a handover.
    for kind in ADVERSARIES
        .into_iter()
        .filter(|kind| !matches!(kind, Kind::Truncator | Kind::Equivocator | Kind::Deployed))
    {
        let mut world = world(1, kind, 3, 0);
        world.run_until(Duration::from_secs(200), |_| false);
        assert_eq!(world.was_live, 0, "{kind:?}");
        assert!(kind == Kind::Liar || world.reports.is_empty(), "{kind:?}");
    }
}

#[test]
fn an_absurd_head_does_not_keep_a_live_node_from_being_live() {
    for seed in 0..10 {
        let mut world = comes_through(seed, Kind::FarFuture, 2, 2);
        let (mut live, mut steps) = (0, 0);
        world.run_until(Duration::from_secs(300), |world| {
            steps += 1;
            live += u32::from(world.machine.status().is_live());
            false
        });
        assert!(live * 100 > steps * 95, "live in {live} of {steps} steps");
    }
}

#[test]
fn a_truncator_alone_brings_us_there_slowly() {
    let mut world = world(3, Kind::Truncator, 1, 0);
    assert!(world.run_until(Duration::from_secs(60), World::is_done), "{}", world.machine.status());
}

#[test]
fn an_inventor_of_parents_costs_few_pages() {
    for seed in 0..8 {
        let mut world = World::new(seed, HEIGHT, &[Kind::Honest; 6]);
        world.weather = Weather { busy: false, invents: true, settles: true, ..CALM };
        world.all_up();
        world.start(HEIGHT, false);
        let attack = Duration::from_secs(120);
        world.run_until(attack, |_| false);
        assert!(world.pages_asked <= 36, "seed {seed}: {} pages in two minutes", world.pages_asked);
        world.weather.invents = false;
        assert!(
            world.run_until(attack + Duration::from_secs(15), World::is_done),
            "seed {seed}: {}",
            world.machine.status()
        );
        assert!(world.reports.is_empty(), "seed {seed}");
    }
}

#[test]
fn deployed_peers_and_one_complete_peer_bring_a_node_to_live() {
    for seed in 0..30 {
        let mut world =
            World::new(seed, HEIGHT, &[Kind::Deployed, Kind::Deployed, Kind::Deployed, Kind::Honest]);
        world.all_up();
        world.start(0, false);
        assert!(
            world.run_until(Duration::from_secs(60), World::is_done),
            "seed {seed}: {}",
            world.machine.status()
        );
        let (mut steps, mut live) = (0, 0);
        let end = world.elapsed() + Duration::from_secs(300);
        world.run_until(end, |world| {
            steps += 1;
            live += u32::from(world.machine.status().is_live());
            false
        });
        assert!(live * 100 > steps * 95, "seed {seed}: live in {live} of {steps} steps");
        assert!(world.reports.is_empty(), "seed {seed}");
    }
}
