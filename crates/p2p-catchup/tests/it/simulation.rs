//! Thousands of random schedules of losses, delays, joins and leaves, in virtual time.

use std::time::Duration;

use fastrand::Rng;

use crate::{
    chain::peer,
    peers::{ADVERSARIES, Kind},
    world::{Weather, World},
};

/// A world of its own for each seed. Peer 0 is honest, and stays in the end.
fn world(seed: u64) -> World {
    let mut rng = Rng::with_seed(seed);
    let others = rng.usize(..5);
    let mut kinds = vec![Kind::Honest];
    for _ in 0..others {
        kinds.push(if rng.u8(..3) == 0 { Kind::Honest } else { ADVERSARIES[rng.usize(..ADVERSARIES.len())] });
    }
    World::new(seed, rng.usize(2..16), &kinds)
}

fn run(mut world: World, seed: u64) -> World {
    world.weather = Weather {
        loss: world.rng.f64() * 0.5,
        deferred: if world.rng.bool() { 0.05 } else { 0.0 },
        busy: true,
        invents: world.rng.u8(..3) == 0,
        settles: world.rng.bool(),
    };
    let forked = world.rng.u8(..4) == 0;
    // Heads are heights: a fork shows only when somebody builds on the other side.
    let most = world.height - usize::from(forked);
    let stored = world.rng.usize(..=most);
    for n in 0..world.actors.len() as u8 {
        if world.rng.bool() {
            world.set_up(peer(n), true);
        }
    }
    world.start(stored, forked);
    let storm = Duration::from_secs(world.rng.u64(1..8));
    world.run_until(storm, |_| false);
    world.weather.busy = false;
    world.weather.invents = false;
    world.weather.loss = world.weather.loss.min(0.1);
    world.weather.deferred = 0.0;
    world.set_up(peer(0), true);
    let calm = world.elapsed() + Duration::from_secs(180);
    assert!(
        world.run_until(calm, World::is_done),
        "seed {seed}: not live in the end: {}, {} of {} blocks",
        world.machine.status(),
        world.chain.len(),
        world.height
    );
    for (reported, offence) in &world.reports {
        assert_eq!(world.actors[reported].kind, Kind::Liar, "seed {seed}: {offence:?}");
    }
    world
}

/// Runs a range of seeds; a panic names the seed.
fn sweep(seeds: std::ops::Range<u64>) {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    let (mut steps, mut lives, mut longest) = (0, 0, Duration::ZERO);
    for seed in seeds {
        let _named = Named(seed);
        let world = run(world(seed), seed);
        steps += world.steps;
        lives += world.was_live;
        longest = longest.max(world.elapsed());
    }
    println!("{steps} steps, live {lives} times, longest {longest:?}");
}

#[test]
fn a_node_is_never_live_early_and_always_in_the_end_1() {
    sweep(0..5_000);
}

#[test]
fn a_node_is_never_live_early_and_always_in_the_end_2() {
    sweep(5_000..10_000);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..100 {
        let trace = |seed| run(world(seed).traced(), seed).trace();
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(run(world(1).traced(), 1).trace(), run(world(2).traced(), 2).trace());
}
