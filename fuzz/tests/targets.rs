//! The targets without libFuzzer: on what is in `corpus` and `regressions`, and on random inputs.
//!
//! `FUZZ_CASES=100000` takes so many inputs instead of the few that there is time for, `FUZZ_SEED=7` others, and
//! `FUZZ_WRITE_SEEDS=1` writes the seeds of all targets into `corpus`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use preconfirmation_fuzz::{TARGETS, Target, seeds};

fn folder(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(kind)
}

/// The files of a target, by their names.
fn files(kind: &str, target: &Target) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder(kind).join(target.name)) else { return BTreeMap::new() };
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap());
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|given| given.parse().unwrap())
}

/// An input: random bytes, or a seed that is changed in some places, cut, or put before another one.
fn input(rng: &mut fastrand::Rng, seeds: &[Vec<u8>], target: &Target) -> Vec<u8> {
    let mut bytes = match rng.u8(0..4) {
        0 => (0..rng.usize(0..=target.longest)).map(|_| rng.u8(..)).collect(),
        1 if rng.bool() => (0..rng.usize(0..=target.longest)).map(|_| rng.u8(0..33)).collect(),
        _ => rng.choice(seeds).cloned().unwrap_or_default(),
    };
    for _ in 0..rng.usize(0..4) {
        let at = rng.usize(0..=bytes.len());
        match rng.u8(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.extend(rng.choice(seeds).into_iter().flatten()),
            2 => bytes.insert(at, rng.u8(..)),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            _ if at < bytes.len() => bytes[at] = rng.u8(..),
            _ => {}
        }
    }
    bytes
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = files("corpus", target);
    for bytes in files("regressions", target).values().chain(corpus.values()) {
        (target.body)(bytes);
    }
    let seeds: Vec<Vec<u8>> = corpus.into_values().collect();
    let cases = number("FUZZ_CASES").unwrap_or(target.cases.into());
    for case in 0..cases {
        // Each has a generator of its own, so that one can be repeated alone.
        let mut rng = fastrand::Rng::with_seed(number("FUZZ_SEED").unwrap_or(0) << 32 | case);
        let bytes = input(&mut rng, &seeds, target);
        let shown = Shown(&bytes);
        (target.body)(&bytes);
        std::mem::forget(shown);
    }
}

/// Shows an input whose run has panicked: a file with it belongs into `regressions`.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        eprintln!("input: {}", alloy_primitives::hex::encode(self.0));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_has_a_test_and_a_binary() {
            let named = [$(stringify!($name)),*];
            assert_eq!(named.to_vec(), TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
            for name in named {
                let binary = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).unwrap();
                assert!(binary.contains(&format!("binary!({name});")), "{name}");
            }
        }
    };
}

targets! {
    wire wire_fields frame gossip_stream gossip signature intake chain enr bootnode address agent peer_book storage l1_event
    l1_answer l1_saved l2_block txlist rpc schedule network_file config option peers_file key export promises
}

#[test]
fn the_corpus_has_every_seed_and_each_target_has_some() {
    let all = seeds::all();
    for target in TARGETS {
        assert!(all.iter().any(|seed| seed.target == target.name), "{} has no seed", target.name);
    }
    for seed in all {
        let path = folder("corpus").join(seed.target).join(&seed.name);
        if number("FUZZ_WRITE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &seed.bytes).unwrap();
        }
        let there = fs::read(&path).unwrap_or_default();
        assert!(there == seed.bytes, "{} is another one: set FUZZ_WRITE_SEEDS=1", path.display());
    }
}
