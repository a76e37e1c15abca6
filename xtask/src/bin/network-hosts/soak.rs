//! Four whole nodes for a long time at ten times the load that is expected: ten blocks a second. One of them is killed and started again
//! each minute, the disk of one is full now and then, and newcomers come and go. What two that nothing happens to have in memory, threads,
//! descriptors and on disk is measured after a warm-up, in which blocks come three times as fast: in an hour's run the stores are full then,
//! and so are the caches, so that what still grows is not on its way to a bound.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use p2p_fixtures::{
    BASE, SLASHER,
    node::{Node, within},
};
use preconfirmation_types::B256;
use serde::Serialize;
use serde_json::json;

use crate::{Failure, preconfer::Preconfer, trend::Trend};

const NODES: usize = 4;

/// Those that are measured, of which the first one publishes.
const MEASURED: usize = 2;
const RESTARTED: usize = 2;
const FULL: usize = 3;

const BLOCKS_A_SECOND: f64 = 10.0;

/// How many times as fast blocks come in the warm-up, and which part of the time that is.
const WARM_UP_RATE: f64 = 3.0;
const WARM_UP: u32 = 6;

/// Bytes of a list: those of an hour's warm-up are more than a store keeps (1 GiB), so the oldest are pruned from its end on.
const LIST: usize = 60 * 1024;

/// What the unit of systemd and the image set for glibc's malloc. Without it each thread that works on a list may leave an arena behind
/// that keeps what was freed.
const ARENAS: [&str; 2] = ["MALLOC_ARENA_MAX", "2"];

/// How long ago the preconfer's window began: timestamps are whole seconds and grow with each block, so they come from there on.
const SINCE: u64 = 500_000;

/// An L1 slot, after which the base moves, and how many blocks are not settled.
const SLOT: Duration = Duration::from_secs(12);
const UNSETTLED: usize = 240;

const SAMPLES: Duration = Duration::from_secs(30);
const RESTARTS: Duration = Duration::from_secs(60);
const FULL_DISKS: Duration = Duration::from_secs(300);
const FULL_FOR: Duration = Duration::from_secs(15);
const NEWCOMERS: Duration = Duration::from_secs(20);

/// Of a disk that gets full: room for what a node keeps at most, and a little more.
const DISK: &str = "size=1700m";

/// How long it runs, and with what.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// The node's program.
    #[arg(long)]
    node: PathBuf,
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    minutes: u64,
    blocks: usize,
    /// Blocks that the node which is never stopped has not shown.
    lost: usize,
    restarts: u32,
    full_disks: u32,
    newcomers: u32,
    /// Peers that were seen with a score below zero, or banned.
    penalties: usize,
    measured: Vec<Measured>,
}

/// What a node had, from the end of the warm-up on.
#[derive(Debug, Serialize)]
struct Measured {
    memory_mib: Trend,
    disk_mib: Trend,
    threads: [u64; 2],
    descriptors: [u64; 2],
}

/// What a node has at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    memory_mib: f64,
    threads: u64,
    descriptors: u64,
    disk_mib: f64,
}

/// Runs it and prints what was seen.
pub(crate) fn run(soak: &Soak) -> Result<(), Failure> {
    let length = Duration::from_secs(60 * soak.minutes);
    let warm_up = length / WARM_UP;
    let mut play = Play::new(&soak.node)?;
    let mut samples = vec![Vec::new(); MEASURED];
    let begun = Instant::now();
    let mut due = Due::default();
    while begun.elapsed() < length {
        let now = begun.elapsed();
        play.publish(due_blocks(now, warm_up));
        if due.slot.passed(now, SLOT) {
            play.settle()?;
        }
        if due.restart.passed(now, RESTARTS) {
            play.restart(RESTARTED);
        }
        if due.full.passed(now, FULL_DISKS) {
            play.fill_disk();
        }
        play.empty_disk(now);
        if due.newcomer.passed(now, NEWCOMERS) {
            play.change_newcomer();
        }
        if due.sample.passed(now, SAMPLES) {
            for (index, samples) in samples.iter_mut().enumerate() {
                samples.push(play.sample(index, now)?);
            }
            play.note_penalties();
        }
        thread::sleep(Duration::from_millis(20));
    }
    play.empty_disk(Duration::MAX);
    play.converge()?;
    let lost = play.nodes[1].as_ref().map_or(0, |node| {
        let shown: BTreeSet<String> = node.shown(|shown| shown.chain.values().cloned().collect());
        play.preconfer.published.iter().filter(|hash| !shown.contains(&hash.to_string())).count()
    });
    let report = Report {
        minutes: soak.minutes,
        blocks: play.preconfer.published.len(),
        lost,
        restarts: play.restarts,
        full_disks: play.full_disks,
        newcomers: play.newcomers,
        penalties: play.penalised.len(),
        measured: samples.iter().map(|samples| measured(samples, warm_up)).collect(),
    };
    println!("{}", serde_json::to_string(&report)?);
    let good = report.lost == 0 && report.penalties == 0;
    if good { Ok(()) } else { Err(format!("not as it should be: {:?}", play.penalised).into()) }
}

/// How many blocks there should be.
fn due_blocks(now: Duration, warm_up: Duration) -> f64 {
    let fast = now.min(warm_up).as_secs_f64() * WARM_UP_RATE;
    (fast + now.saturating_sub(warm_up).as_secs_f64()) * BLOCKS_A_SECOND
}

/// When something was done last.
#[derive(Debug, Default)]
struct Last(Duration);

impl Last {
    /// Whether it is time again; it counts as done then.
    fn passed(&mut self, now: Duration, every: Duration) -> bool {
        let is_due = now >= self.0 + every;
        if is_due {
            self.0 = now;
        }
        is_due
    }
}

#[derive(Debug, Default)]
struct Due {
    slot: Last,
    restart: Last,
    full: Last,
    newcomer: Last,
    sample: Last,
}

struct Play {
    nodes: Vec<Option<Node>>,
    newcomer: Option<Node>,
    preconfer: Preconfer,
    program: PathBuf,
    /// Before the folder that it is in, which could not be removed around it.
    disk: Option<Disk>,
    folder: tempfile::TempDir,
    full_since: Option<Instant>,
    restarts: u32,
    full_disks: u32,
    newcomers: u32,
    penalised: BTreeSet<String>,
}

/// A file system of its own, where the system allows one.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder).status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self(folder.to_owned()));
        }
        eprintln!("no disk gets full: `mount` needs root");
        None
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a node may still have files there.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

impl Play {
    fn new(program: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let preconfer = Preconfer::new(SINCE, &folder.path().join("schedule.json"))?;
        for index in 0..NODES {
            fs::create_dir(folder.path().join(format!("data-{index}")))?;
        }
        let disk = Disk::mount(&folder.path().join(format!("data-{FULL}")));
        let mut play = Self {
            nodes: Vec::new(),
            newcomer: None,
            preconfer,
            program: program.to_owned(),
            folder,
            disk,
            full_since: None,
            restarts: 0,
            full_disks: 0,
            newcomers: 0,
            penalised: BTreeSet::new(),
        };
        for index in 0..NODES {
            let node = play.start(index);
            play.nodes.push(Some(node));
        }
        Ok(play)
    }

    fn data(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("data-{index}"))
    }

    /// A node that dials those that are measured.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let [name, value] = ARENAS;
        command.env(name, value);
        command.args(["run", "--domain", "placeholder", "--slasher", &SLASHER.to_string()]);
        let schedule = self.folder.path().join("schedule.json");
        command.arg("--lookahead").arg(format!("rotating:{}", schedule.display()));
        command.args(["--base", &BASE.to_string(), "--rpc.port", "0"]);
        command.args(["--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0"]);
        for measured in self.nodes.iter().take(MEASURED).flatten() {
            command.args(["--p2p.static", &measured.listen]);
        }
        command
    }

    fn start(&self, index: usize) -> Node {
        let pipe = self.folder.path().join(format!("pipe-{index}"));
        Node::start(self.command().arg("--datadir").arg(self.data(index)), &pipe)
    }

    /// Publishes until there are so many blocks.
    fn publish(&mut self, due: f64) {
        if let Some(node) = &mut self.nodes[0] {
            while (self.preconfer.published.len() as f64) < due {
                let timestamp = self.preconfer.begin() + self.preconfer.height();
                node.publish(&self.preconfer.next(timestamp, LIST));
            }
        }
    }

    /// L1 settles what is old enough; all nodes hear of it.
    fn settle(&self) -> Result<(), Failure> {
        let settled = self.preconfer.published.len().saturating_sub(UNSETTLED);
        let Some(hash) = settled.checked_sub(1).and_then(|index| self.preconfer.published.get(index)) else {
            return Ok(());
        };
        let base = json!([{ "number": format!("{:#x}", BASE + settled as u64), "hash": hash }]);
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let answer = node.call("preconf_updateHead", &base);
            // One whose disk is full cannot store it. It learns of the next one.
            if answer["error"].is_object() && index != FULL {
                return Err(format!("node {index}: {answer}").into());
            }
        }
        Ok(())
    }

    fn restart(&mut self, index: usize) {
        drop(self.nodes[index].take());
        let node = self.start(index);
        self.nodes[index] = Some(node);
        self.restarts += 1;
    }

    fn fill_disk(&mut self) {
        let Some(disk) = &self.disk else { return };
        if let Ok(mut filler) = File::create(disk.filler()) {
            let chunk = vec![0; 1 << 20];
            while filler.write_all(&chunk).is_ok() {}
            self.full_since = Some(Instant::now());
            self.full_disks += 1;
        }
    }

    /// Makes room again, after a while. A node that has ended meanwhile is started again, as its supervisor would.
    fn empty_disk(&mut self, now: Duration) {
        let is_over = |since: &mut Instant| now == Duration::MAX || since.elapsed() >= FULL_FOR;
        if self.full_since.take_if(is_over).is_some() {
            if let Some(disk) = &self.disk {
                // Where it is gone there is room, too.
                drop(fs::remove_file(disk.filler()));
            }
            if self.nodes[FULL].as_mut().is_none_or(Node::has_ended) {
                self.restart(FULL);
            }
        }
    }

    /// A peer without a past takes the place of the last one.
    fn change_newcomer(&mut self) {
        drop(self.newcomer.take());
        let pipe = self.folder.path().join("pipe-newcomer");
        self.newcomer = Some(Node::start(&mut self.command(), &pipe));
        self.newcomers += 1;
    }

    fn sample(&self, index: usize, at: Duration) -> Result<Sample, Failure> {
        let node = self.nodes[index].as_ref().ok_or("a node that is measured has ended")?;
        let process = PathBuf::from(format!("/proc/{}", node.pid()));
        let status = fs::read_to_string(process.join("status"))?;
        let field = |name: &str| -> Result<u64, Failure> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
            Ok(line.split_whitespace().next().ok_or("an empty field")?.parse()?)
        };
        Ok(Sample {
            at,
            memory_mib: field("RssAnon:")? as f64 / 1024.0,
            threads: field("Threads:")?,
            descriptors: fs::read_dir(process.join("fd"))?.count() as u64,
            disk_mib: size(&self.data(index)) as f64 / 1_048_576.0,
        })
    }

    fn note_penalties(&mut self) {
        for node in self.nodes.iter().take(MEASURED).flatten() {
            for peer in node.status()["peers"].as_array().into_iter().flatten() {
                if peer["score"].as_f64().is_some_and(|score| score < 0.0) || !peer["banned_for"].is_null() {
                    self.penalised.insert(peer.to_string());
                }
            }
        }
    }

    /// Waits until all have the last block.
    fn converge(&self) -> Result<(), Failure> {
        let head = self.preconfer.published.last().map(B256::to_string).ok_or("nothing was published")?;
        for node in self.nodes.iter().flatten() {
            within("the last block", || (node.status()["head"]["hash"] == head.as_str()).then_some(()));
        }
        Ok(())
    }
}

/// Bytes that all files below a folder take. A database's file grows by doubling, and what was not written yet takes none.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // Pruned meanwhile.
        Err(_) => 0,
    };
    entries.map(of).sum()
}

fn measured(samples: &[Sample], warm_up: Duration) -> Measured {
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= warm_up).collect();
    let range = |of: fn(&Sample) -> u64| {
        let values = || samples.iter().map(|sample| of(sample));
        [values().min().unwrap_or_default(), values().max().unwrap_or_default()]
    };
    let trend = |of: fn(&Sample) -> f64| {
        let points: Vec<(f64, f64)> =
            samples.iter().map(|sample| (sample.at.as_secs_f64() / 3_600.0, of(sample))).collect();
        Trend::of(&points)
    };
    Measured {
        memory_mib: trend(|sample| sample.memory_mib),
        disk_mib: trend(|sample| sample.disk_mib),
        threads: range(|sample| sample.threads),
        descriptors: range(|sample| sample.descriptors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_have_the_arenas_that_operators_nodes_have() {
        let unit = include_str!("../../../../deploy/systemd/p2p-node.service");
        let image = include_str!("../../../../deploy/Dockerfile");
        let set = ARENAS.join("=");
        assert!(unit.lines().any(|line| line == format!("Environment={set}")));
        assert!(image.lines().any(|line| line == format!("ENV {set}")));
    }

    #[test]
    fn blocks_come_faster_in_the_warm_up() {
        let blocks = |second| due_blocks(Duration::from_secs(second), Duration::from_secs(600));
        assert!((blocks(600) - 18_000.0).abs() < 1e-6);
        assert!((blocks(3_600) - 48_000.0).abs() < 1e-6);
    }

    #[test]
    fn the_lists_of_an_hours_warm_up_are_more_than_a_store_keeps() {
        let blocks = due_blocks(Duration::from_secs(600), Duration::from_secs(600));
        assert!(blocks * LIST as f64 > f64::from(1 << 30));
    }
}
