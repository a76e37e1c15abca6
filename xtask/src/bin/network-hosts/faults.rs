//! Six whole nodes whose network breaks and heals while a preconfer publishes a block a second: two hosts are cut off, the line of
//! one flaps, one is killed and started again. All the time one host is far away, behind a router that translates addresses, and one has
//! IPv6 only.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use p2p_fixtures::{
    BASE, SLASHER,
    node::{Node, now, within},
};
use preconfirmation_types::B256;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Failure,
    namespaces::{Namespaces, Refused, Side, address, address_v6},
    preconfer::Preconfer,
    relay::LongWay,
};

const HOSTS: u8 = 6;

/// The host of the preconfer, to which nothing happens.
const PRECONFER: u8 = 0;
const FLAPPING: u8 = 1;
const CUT_OFF: [u8; 2] = [2, 3];
const KILLED: u8 = 3;
const ONLY_V6: u8 = 4;
/// Also far away, as nobody can call it and the way is what it dials.
const BEHIND_NAT: u8 = 5;

/// How long bytes are on their way to that host, and from it: twice as long as across an ocean.
const FAR: Duration = Duration::from_millis(150);

/// Whom each host dials and stays connected to: such as were started before it.
const DIALS: [&[u8]; HOSTS as usize] = [&[], &[0], &[0, 1], &[1, 2], &[0, 2], &[0, 1]];

const PORT: u16 = 9000;

/// Of every line, each way.
const RATE: &str = "100mbit";

/// How long a network that works may take until all are on one chain and live.
const CONVERGES: Duration = Duration::from_secs(10);

/// How long is waited for it all the same, so that it can be said how long it took.
const GIVES_UP: Duration = Duration::from_secs(120);

/// How often the line is cut, and how long it is cut and whole.
const FLAPS: u32 = 5;
const FLAP: Duration = Duration::from_secs(2);

/// How long the killed host is away.
const AWAY: Duration = Duration::from_secs(10);

/// The bytes of a list: three of what one frame of a connection takes.
const LIST: usize = 48 * 1024;

/// What is run, and how long the partition is.
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// The node's program.
    #[arg(long)]
    node: PathBuf,
    /// How long two hosts are cut off, seconds.
    #[arg(long, default_value_t = 60)]
    partition: u64,
}

/// How many seconds after each fault all hosts were on one chain and live, and what was seen all through.
#[derive(Debug, Serialize)]
struct Report {
    hosts: u8,
    blocks: usize,
    after_start_s: f64,
    after_partition_s: f64,
    after_flapping_s: f64,
    after_kill_s: f64,
    /// Blocks that a host did not show, of all hosts.
    gaps: usize,
    /// Peers that were seen with a score below zero, or banned.
    penalties: usize,
}

impl Report {
    fn is_good(&self) -> bool {
        let slowest = [self.after_partition_s, self.after_flapping_s, self.after_kill_s];
        let in_time = slowest.iter().all(|seconds| *seconds <= CONVERGES.as_secs_f64());
        in_time && self.gaps == 0 && self.penalties == 0
    }
}

/// Plays everything and prints what was seen.
pub(crate) fn run(faults: &Faults) -> Result<(), Failure> {
    let namespaces = match namespaces() {
        Ok(namespaces) => namespaces,
        Err(error) => {
            eprintln!("skipped, as network namespaces need root, `ip`, `tc` and `nft`: {error}");
            return Ok(());
        }
    };
    let mut play = Play::new(namespaces, &faults.node)?;
    play.publish();
    let after_start_s = play.converge("the start")?;

    for host in CUT_OFF {
        play.namespaces.move_to(Side::CutOff, host)?;
    }
    play.publish_for(Duration::from_secs(faults.partition));
    for host in CUT_OFF {
        play.namespaces.move_to(Side::Main, host)?;
    }
    let after_partition_s = play.converge("the partition")?;

    for flap in 1..=FLAPS {
        play.namespaces.move_to(Side::CutOff, FLAPPING)?;
        play.publish_for(FLAP);
        play.namespaces.move_to(Side::Main, FLAPPING)?;
        if flap < FLAPS {
            play.publish_for(FLAP);
        }
    }
    let after_flapping_s = play.converge("the flapping")?;

    play.kill(KILLED);
    play.publish_for(AWAY);
    play.start(KILLED)?;
    let after_kill_s = play.converge("the kill")?;

    let report = Report {
        hosts: HOSTS,
        blocks: play.preconfer.published.len(),
        after_start_s,
        after_partition_s,
        after_flapping_s,
        after_kill_s,
        gaps: play.gaps(),
        penalties: play.penalised.len(),
    };
    println!("{}", serde_json::to_string(&report)?);
    if report.is_good() { Ok(()) } else { Err(format!("not as it should be: {:?}", play.penalised).into()) }
}

fn namespaces() -> Result<Namespaces, Refused> {
    let mut namespaces = Namespaces::new(HOSTS, RATE)?;
    namespaces.leave_only_v6(ONLY_V6)?;
    namespaces.put_behind_nat(BEHIND_NAT)?;
    Ok(namespaces)
}

/// A host: its node while that runs, and what it has shown before.
#[derive(Default)]
struct Host {
    node: Option<Node>,
    /// Its peer ID.
    peer: String,
    shown: BTreeSet<String>,
}

struct Play {
    // Dropped first: what runs in a namespace keeps it.
    hosts: Vec<Host>,
    long_ways: Vec<LongWay>,
    namespaces: Namespaces,
    program: PathBuf,
    folder: tempfile::TempDir,
    preconfer: Preconfer,
    last_timestamp: u64,
    penalised: BTreeSet<String>,
}

impl Play {
    fn new(namespaces: Namespaces, program: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let preconfer = Preconfer::new(10, &folder.path().join("schedule.json"))?;
        let mut play = Self {
            hosts: Vec::new(),
            long_ways: Vec::new(),
            namespaces,
            program: program.to_owned(),
            folder,
            preconfer,
            last_timestamp: 0,
            penalised: BTreeSet::new(),
        };
        for index in 0..HOSTS {
            play.hosts.push(Host::default());
            play.start(index)?;
        }
        Ok(play)
    }

    fn path(&self, index: u8, what: &str) -> PathBuf {
        self.folder.path().join(format!("{what}-{index}"))
    }

    /// Starts a host's node.
    fn start(&mut self, index: u8) -> Result<(), Failure> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.namespaces.host(index)]).arg(&self.program);
        command.args(["run", "--domain", "placeholder", "--slasher", &SLASHER.to_string()]);
        command
            .arg("--lookahead")
            .arg(format!("rotating:{}", self.folder.path().join("schedule.json").display()));
        command.args(["--base", &BASE.to_string(), "--p2p.listen.tcp", &PORT.to_string()]);
        command.arg("--datadir").arg(self.path(index, "data"));
        let (v4, v6) = (address(index).to_string(), address_v6(index).to_string());
        let ips: &[&str] = match index {
            ONLY_V6 => &[&v6],
            BEHIND_NAT => &["192.168.77.2"],
            _ => &[&v4, &v6],
        };
        command.args(ips.iter().flat_map(|ip| ["--p2p.listen.ip", ip]));
        for other in DIALS[usize::from(index)] {
            let peer = &self.hosts[usize::from(*other)].peer;
            let to = SocketAddr::from((address(*other), PORT));
            let at = match index {
                ONLY_V6 => format!("/ip6/{}/tcp/{PORT}/p2p/{peer}", address_v6(*other)),
                BEHIND_NAT => {
                    let way = LongWay::new(self.namespaces.host(index), to, FAR)?;
                    let at = format!("/ip4/{}/tcp/{}/p2p/{peer}", way.listens.ip(), way.listens.port());
                    self.long_ways.push(way);
                    at
                }
                _ => format!("/ip4/{}/tcp/{PORT}/p2p/{peer}", to.ip()),
            };
            command.args(["--p2p.static", &at]);
        }
        let node = Node::start(&mut command, &self.path(index, "pipe"));
        let host = &mut self.hosts[usize::from(index)];
        host.peer = node.listen.rsplit('/').next().unwrap_or_default().to_owned();
        host.node = Some(node);
        Ok(())
    }

    /// Kills a host's node, as a machine dies.
    fn kill(&mut self, index: u8) {
        let host = &mut self.hosts[usize::from(index)];
        if let Some(node) = host.node.take() {
            node.shown(|shown| host.shown.extend(shown.chain.values().cloned()));
        }
    }

    /// Publishes the next block, once its second has come.
    fn publish(&mut self) {
        while now() <= self.last_timestamp {
            thread::sleep(Duration::from_millis(10));
        }
        self.last_timestamp = now();
        let Some(node) = &mut self.hosts[usize::from(PRECONFER)].node else { return };
        node.publish(&self.preconfer.next(self.last_timestamp, LIST));
        let (height, hash) = (self.preconfer.height(), self.preconfer.published.last().map(B256::to_string));
        within("a block of its own", || {
            node.shown(|shown| shown.chain.get(&height) == hash.as_ref()).then_some(())
        });
    }

    fn publish_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.publish();
            self.note_penalties();
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }

    /// Publishes on until all hosts have all of it and are live. Returns how many seconds that took.
    fn converge(&mut self, what: &str) -> Result<f64, Failure> {
        let since = Instant::now();
        let mut published = Instant::now();
        while !self.is_converged() {
            if since.elapsed() > GIVES_UP {
                return Err(format!("no convergence after {what}: {:?}", self.statuses()).into());
            }
            if published.elapsed() > Duration::from_secs(1) {
                self.publish();
                published = Instant::now();
            }
            thread::sleep(Duration::from_millis(50));
        }
        let took = since.elapsed().as_secs_f64();
        eprintln!("after {what}: {took:.2} s");
        self.publish_for(Duration::from_secs(5));
        Ok(took)
    }

    /// Whether the preconfer may publish, and all hosts have what it has published and say that they are live.
    fn is_converged(&self) -> bool {
        let head = self.preconfer.published.last().map(B256::to_string);
        let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
        let behind = nodes.filter(|node| {
            node.shown(|shown| shown.chain.last_key_value().map(|(_, hash)| hash.clone())) != head
        });
        behind.count() == 0 && self.statuses().iter().all(|status| status["sync"]["state"] == "live")
    }

    /// What each node that runs says of itself.
    fn statuses(&self) -> Vec<Value> {
        let running =
            self.hosts.iter().zip(0..).filter_map(|(host, index)| Some((host.node.as_ref()?, index)));
        let status = |(node, index): (&Node, u8)| {
            let own = std::env::current_exe().ok()?;
            let mut command = Command::new("ip");
            command.args(["netns", "exec", self.namespaces.host(index)]).arg(own);
            let output = command.args(["status", &node.status_address]).output().ok()?;
            serde_json::from_slice(&output.stdout).ok()
        };
        running.map(|running| status(running).unwrap_or_default()).collect()
    }

    fn note_penalties(&mut self) {
        for (host, status) in self.statuses().into_iter().enumerate() {
            for peer in status["peers"].as_array().into_iter().flatten() {
                if peer["score"].as_f64().is_some_and(|score| score < 0.0) || !peer["banned_for"].is_null() {
                    self.penalised.insert(format!("{host}: {peer}"));
                }
            }
        }
    }

    /// Blocks that hosts have not shown, once what was published last has had the time to come.
    fn gaps(&self) -> usize {
        let end = Instant::now() + CONVERGES;
        loop {
            let lacking = self.lacking();
            if lacking == 0 || Instant::now() > end {
                return lacking;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn lacking(&self) -> usize {
        let lacking = |host: &Host| {
            let mut shown = host.shown.clone();
            if let Some(node) = &host.node {
                node.shown(|all| shown.extend(all.chain.values().cloned()));
            }
            self.preconfer.published.iter().filter(|hash| !shown.contains(&hash.to_string())).count()
        };
        self.hosts.iter().map(lacking).sum()
    }
}
