//! Two machines with one key and one guard, each told to publish blocks of its own for the same heights: whatever is killed or
//! frozen, no two commitments contradict each other, and none that was acknowledged is lost.
//!
//! `cargo xtask crash --shared-key` runs this with more heights and failures (`KILL_HEIGHTS`, `KILL_CYCLES`, `KILL_OUTAGES`,
//! `KILL_SEED`).

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use p2p_fixtures::postgres::{Server, Signal};
use preconfirmation_types::{B256, SigningKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    rig::{LOOPBACK, NODE, Node, ZERO, now, within},
    rpc::{ask, block_in, call},
};

/// The settled block.
const BASE: u64 = 10;

/// The longest run.
const LIFE: Duration = Duration::from_secs(1_800);

/// A machine: a node that is started again when it was killed, and a sidecar that builds on what its node has.
struct Machine {
    options: Vec<String>,
    /// Its blocks differ from those of others by that.
    salt: u8,
    _folder: TempDir,
    /// The node, and where it is asked.
    running: Mutex<(Node, Value)>,
}

impl Machine {
    fn start(world: &World, salt: u8, options: &[&str]) -> Self {
        Self::after("true", world, salt, options)
    }

    /// With a node in a shell that does something before.
    fn after(before: &str, world: &World, salt: u8, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let datadir = folder.path().to_str().unwrap();
        let script = format!("{before}; exec {NODE} \"$@\"");
        let shell = ["-c", &script, "sh", "run", "--domain", "placeholder", "--slasher", ZERO, "--base=10"];
        let own = ["--lookahead", &world.schedule, "--datadir", datadir];
        let rpc = ["--rpc.port", "0", "--rpc.api", "preconf,opp2p"];
        let all = [&shell[..], &own, &LOOPBACK, &rpc, options].concat();
        let options: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let running = Mutex::new(run(&options));
        Self { options, salt, _folder: folder, running }
    }

    fn rpc(&self) -> Value {
        self.running.lock().unwrap().1.clone()
    }

    /// Kill -9, and a start from what is on disk.
    fn kill_and_start(&self) {
        let mut running = self.running.lock().unwrap();
        running.0.child.kill().unwrap();
        running.0.child.wait().unwrap();
        *running = run(&self.options);
    }

    fn evidence(&self) -> Value {
        call(&self.rpc(), "preconf_getEvidence", json!([])).unwrap()
    }
}

/// What all nodes have in common.
struct World {
    server: Server,
    /// Where they read that one key has one long window.
    schedule: String,
    window_end: u64,
    _folder: TempDir,
}

impl World {
    /// None where there is no PostgreSQL.
    fn new() -> Option<Self> {
        let server = Server::start()?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schedule.json");
        // Longer than clocks are apart.
        let window_end = now() + 20_000;
        let signer = SigningKey::from_bytes([1; 32]).unwrap().address();
        let window = json!([{ "signer": signer, "start": window_end - 150_000, "end": window_end }]);
        fs::write(&path, window.to_string()).unwrap();
        let schedule = format!("file:{}", path.display());
        Some(Self { server, schedule, window_end, _folder: folder })
    }
}

fn run(options: &[String]) -> (Node, Value) {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut node = Node::spawn_for(LIFE, "sh", &options, Stdio::null());
    let rpc = node.started()["rpc"].clone();
    (node, rpc)
}

/// The newest block of a node; none where it does not answer.
fn head(rpc: &Value) -> Option<(u64, B256)> {
    let status = ask(rpc, "preconf_status", json!([]))?.unwrap();
    let head = &status["head"];
    let Some(number) = head["number"].as_str() else { return Some((BASE, B256::ZERO)) };
    let number = u64::from_str_radix(number.trim_start_matches("0x"), 16).unwrap();
    Some((number, head["hash"].as_str().unwrap().parse().unwrap()))
}

/// What both sidecars do, and what came of it.
struct Race {
    window_end: u64,
    last: u64,
    /// Nothing is killed or frozen any more.
    calm: AtomicBool,
    /// Preconfirmation hashes by height.
    acknowledged: Mutex<BTreeMap<u64, BTreeSet<B256>>>,
    conflicts: AtomicU64,
    unanswered: AtomicU64,
}

impl Race {
    /// Has a machine publish block after block on what it has, as fast as it can.
    fn publish(&self, machine: &Machine) {
        loop {
            let rpc = machine.rpc();
            let Some((number, parent)) = head(&rpc) else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            if number >= self.last && self.calm.load(Ordering::Acquire) {
                return;
            }
            let (params, hash) = block_in(self.window_end, number + 1, parent, machine.salt);
            match ask(&rpc, "preconf_publishBlock", params) {
                // Killed on the way: it is published again, as it is.
                None => {}
                Some(Ok(_)) => {
                    self.acknowledged.lock().unwrap().entry(number + 1).or_default().insert(hash);
                    continue;
                }
                Some(Err(error)) => match error["code"].as_i64().unwrap() {
                    -32020 => drop(self.conflicts.fetch_add(1, Ordering::Relaxed)),
                    // The guard gives no answer.
                    -32028 => drop(self.unanswered.fetch_add(1, Ordering::Relaxed)),
                    // It catches up, or the other one's block has come meanwhile.
                    -32021 | -32023 | -32024 | -32025 => {}
                    _ => panic!("block {} of {}: {error}", number + 1, machine.salt),
                },
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What befalls them.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// One of the nodes is killed.
    Node(usize),
    /// The database is killed, and started again.
    Database,
    /// The database does not answer for a while.
    Frozen,
}

fn befall(failure: Failure, machines: &[Machine; 2], server: &mut Server, rng: &mut fastrand::Rng) {
    match failure {
        Failure::Node(index) => machines[index].kill_and_start(),
        Failure::Database => {
            server.kill();
            thread::sleep(Duration::from_millis(rng.u64(0..500)));
            server.run();
        }
        Failure::Frozen => {
            server.signal(Signal::STOP);
            thread::sleep(Duration::from_millis(rng.u64(500..3_000)));
            server.signal(Signal::CONT);
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// How hard it is, and what befalls them.
struct Trial {
    heights: u64,
    /// How often a node is killed.
    kills: u64,
    /// How often the database is killed, and as often frozen.
    outages: u64,
    seed: u64,
    /// What the second machine's shell does before its node runs.
    before: &'static str,
}

impl Trial {
    /// Nothing where there is no PostgreSQL.
    fn run(&self) {
        let Self { heights, kills, outages, seed, before } = *self;
        let mut rng = fastrand::Rng::with_seed(seed);
        let Some(mut world) = World::new() else { return };
        let witness = Machine::start(&world, 0, &[]);
        let of_witness = call(&witness.rpc(), "opp2p_self", json!([])).unwrap()["addresses"][0].clone();
        let url = world.server.url();
        let options = ["--p2p.static", of_witness.as_str().unwrap(), "--guard.url", &url];
        let machines = [Machine::start(&world, 1, &options), Machine::after(before, &world, 2, &options)];
        let race = Race {
            window_end: world.window_end,
            last: BASE + heights,
            calm: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            conflicts: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
        };
        let mut failures: Vec<Failure> = (0..kills).map(|_| Failure::Node(rng.usize(0..2))).collect();
        failures.extend((0..outages).map(|_| Failure::Database));
        failures.extend((0..outages).map(|_| Failure::Frozen));
        rng.shuffle(&mut failures);
        thread::scope(|scope| {
            for machine in &machines {
                scope.spawn(|| race.publish(machine));
            }
            for failure in failures {
                let at = head(&witness.rpc()).unwrap().0;
                befall(failure, &machines, &mut world.server, &mut rng);
                // It goes on afterwards.
                within("the next block", || (head(&witness.rpc())?.0 > at).then_some(()));
                thread::sleep(Duration::from_millis(rng.u64(0..300)));
            }
            race.calm.store(true, Ordering::Release);
        });
        let acknowledged = race.acknowledged.into_inner().unwrap();
        let top = *acknowledged.keys().next_back().unwrap();
        let all = [&witness, &machines[0], &machines[1]];
        within("the last block everywhere", || {
            let has = |machine: &&Machine| head(&machine.rpc()).is_some_and(|(number, _)| number >= top);
            all.iter().all(has).then_some(())
        });
        let lost = acknowledged.iter().filter(|(number, hashes)| {
            let found = call(&witness.rpc(), "preconf_getBlock", json!([format!("0x{number:x}")])).unwrap();
            let found: Option<B256> = found["hash"].as_str().map(|hash| hash.parse().unwrap());
            hashes.len() != 1 || found != hashes.first().copied()
        });
        let lost = lost.count();
        println!(
            "{}",
            json!({
                "heights": top - BASE,
                "kills": kills,
                "outages": 2 * outages,
                "conflicts_refused": race.conflicts.into_inner(),
                "unanswered": race.unanswered.into_inner(),
                "acknowledged": acknowledged.len(),
                "lost": lost,
            })
        );
        for machine in all {
            assert_eq!(machine.evidence(), json!([]), "{}", machine.salt);
        }
        assert_eq!(lost, 0);
    }
}

#[test]
fn two_machines_with_one_key_never_contradict_each_other() {
    let trial = Trial {
        heights: setting("KILL_HEIGHTS", 100),
        kills: setting("KILL_CYCLES", 4),
        outages: setting("KILL_OUTAGES", 2),
        seed: setting("KILL_SEED", 1),
        before: "true",
    };
    trial.run();
}

/// Debian's package `faketime` has what makes a clock go wrong.
#[cfg(target_os = "linux")]
#[test]
fn clocks_an_hour_apart_change_nothing() {
    let arch = if cfg!(target_arch = "x86_64") { "x86_64" } else { "aarch64" };
    let library = format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1");
    if !Path::new(&library).exists() {
        let is_gate = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        assert!(!is_gate, "no {library}: `cargo xtask postgres` installs it");
        eprintln!("skipped: no {library}; `apt-get install faketime` installs it");
        return;
    }
    let before = format!("export LD_PRELOAD={library} FAKETIME=+1h FAKETIME_DONT_FAKE_MONOTONIC=1");
    let date = Command::new("sh").args(["-c", &format!("{before}; exec date +%s")]).output().unwrap().stdout;
    let date: u64 = String::from_utf8(date).unwrap().trim().parse().unwrap();
    assert!(date.abs_diff(now() + 3_600) < 60, "{date}");
    Trial { heights: 60, kills: 0, outages: 0, seed: 1, before: before.leak() }.run();
}
