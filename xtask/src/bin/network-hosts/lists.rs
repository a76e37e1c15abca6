//! How long lists are on their way to the median and to the last host, and commitments beside them.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep, timeout, timeout_at},
};

use crate::{
    Failure,
    host::{Item, Order, Told},
    namespaces::Namespaces,
};

/// How long hosts may take to find each other, and a list to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The meshes settle in some heartbeats of half a second.
const SETTLES: Duration = Duration::from_secs(4);

/// Commitments whose delivery is measured, quiet and beside lists.
const COMMITMENTS: u64 = 200;

/// How often one is published.
const EVERY: Duration = Duration::from_millis(50);

/// How many hosts, how narrow their lines, and what is sent.
#[derive(Debug, Args)]
pub(crate) struct Lists {
    /// Hosts on one switch, each with four links to others.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(8..=64))]
    hosts: u8,
    /// Of each line, each way, as `tc` has it.
    #[arg(long, default_value = "50mbit")]
    rate: String,
    /// Of each list.
    #[arg(long, default_value_t = 2_097_152)]
    bytes: usize,
    /// Lists a round, each from another host, one after the other.
    #[arg(long, default_value_t = 5)]
    lists: u8,
    /// Rounds of each way, which take turns.
    #[arg(long, default_value_t = 2)]
    rounds: u8,
}

/// What was seen of one way to send.
#[derive(Debug, Default)]
struct Seen {
    medians: Vec<f64>,
    lasts: Vec<f64>,
    copies: Vec<f64>,
    quiet: Vec<f64>,
    beside: Vec<f64>,
    lost: usize,
}

/// *before*: without turns.
#[derive(Debug, Serialize)]
struct Report {
    hosts: u8,
    bytes: usize,
    median_s: f64,
    last_s: f64,
    copies: f64,
    before_median_s: f64,
    before_last_s: f64,
    before_copies: f64,
    commitment_p99_quiet_ms: f64,
    commitment_p99_beside_lists_ms: f64,
    before_commitment_p99_quiet_ms: f64,
    before_commitment_p99_beside_lists_ms: f64,
    lost: usize,
}

/// Measures both ways, in turns, and prints what was seen.
pub(crate) async fn run(lists: &Lists) -> Result<(), Failure> {
    let namespaces = match Namespaces::new(lists.hosts, &lists.rate) {
        Ok(namespaces) => namespaces,
        Err(error) => {
            eprintln!("skipped, as network namespaces need root, `ip` and `tc`: {error}");
            return Ok(());
        }
    };
    let (mut before, mut now) = (Seen::default(), Seen::default());
    let default = preconfirmation_p2p::GossipConfig::default().large_sends;
    for _ in 0..lists.rounds {
        for (large_sends, seen) in [(0, &mut before), (default, &mut now)] {
            round(&namespaces, lists, large_sends, seen).await?;
        }
    }
    let report = Report {
        hosts: lists.hosts,
        bytes: lists.bytes,
        median_s: middle(&mut now.medians),
        last_s: middle(&mut now.lasts),
        copies: middle(&mut now.copies),
        before_median_s: middle(&mut before.medians),
        before_last_s: middle(&mut before.lasts),
        before_copies: middle(&mut before.copies),
        commitment_p99_quiet_ms: p99(&mut now.quiet),
        commitment_p99_beside_lists_ms: p99(&mut now.beside),
        before_commitment_p99_quiet_ms: p99(&mut before.quiet),
        before_commitment_p99_beside_lists_ms: p99(&mut before.beside),
        lost: before.lost + now.lost,
    };
    println!("{}", serde_json::to_string(&report)?);
    if report.lost == 0 { Ok(()) } else { Err(format!("{} deliveries are missing", report.lost).into()) }
}

/// The hosts of one round.
struct Hosts {
    stdins: Vec<ChildStdin>,
    told: mpsc::UnboundedReceiver<Told>,
    children: Vec<Child>,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Hosts {
    async fn start(namespaces: &Namespaces, hosts: u8, large_sends: usize) -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let (sender, told) = mpsc::unbounded_channel();
        let mut this = Self { stdins: Vec::new(), told, children: Vec::new() };
        for index in 0..hosts {
            let mut child = Command::new("ip")
                .args(["netns", "exec", namespaces.host(index)])
                .arg(&own)
                .args(["host", "--index", &index.to_string(), "--hosts", &hosts.to_string()])
                .args(["--large-sends", &large_sends.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            this.stdins.extend(child.stdin.take());
            let lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
            this.children.push(child);
            let sender = sender.clone();
            std::thread::spawn(move || {
                for told in lines.map_while(Result::ok).filter_map(|line| line.parse().ok()) {
                    if sender.send(told).is_err() {
                        return;
                    }
                }
            });
        }
        let linked = async {
            let mut linked = 0;
            while linked < hosts {
                let told = this.told.recv().await.ok_or("the hosts have ended")?;
                linked += u8::from(told == Told::Linked);
            }
            Ok::<_, Failure>(())
        };
        timeout(PATIENCE, linked).await.map_err(|_| "the hosts do not find each other")??;
        sleep(SETTLES).await;
        Ok(this)
    }

    fn order(&mut self, host: u8, order: Order) -> Result<(), Failure> {
        Ok(writeln!(self.stdins[usize::from(host)], "{order}")?)
    }

    /// How many seconds each item was on its way to each other host that it came to until a moment, or until all have all of
    /// them.
    async fn deliveries(&mut self, mut wanted: usize, until: Instant) -> HashMap<Item, Vec<f64>> {
        let (mut sent, mut received) = (HashMap::new(), Vec::new());
        while wanted > 0
            && let Ok(Some(told)) = timeout_at(until, self.told.recv()).await
        {
            match told {
                Told::Linked => {}
                Told::Sent(item, at) => drop(sent.insert(item, at)),
                Told::Received(item, at) => {
                    received.push((item, at));
                    wanted -= 1;
                }
            }
        }
        let mut took: HashMap<Item, Vec<f64>> = HashMap::new();
        for (item, at) in received {
            if let Some(from) = sent.get(&item) {
                took.entry(item).or_default().push(at.saturating_sub(*from) as f64 / 1e9);
            }
        }
        took
    }
}

async fn round(
    namespaces: &Namespaces,
    lists: &Lists,
    large_sends: usize,
    seen: &mut Seen,
) -> Result<(), Failure> {
    let mut hosts = Hosts::start(namespaces, lists.hosts, large_sends).await?;
    let others = usize::from(lists.hosts) - 1;
    for number in 0..lists.lists {
        let before = namespaces.sent()?;
        let order = Order::List { number: number.into(), bytes: lists.bytes };
        hosts.order(number % lists.hosts, order)?;
        let mut took = hosts.deliveries(others, Instant::now() + PATIENCE).await;
        // What is still on its way counts, too.
        sleep(SETTLES).await;
        seen.copies.push((namespaces.sent()? - before) as f64 / (others * lists.bytes) as f64);
        let mut took = took.remove(&Item::List(number.into())).unwrap_or_default();
        seen.lost += others - took.len();
        took.sort_by(f64::total_cmp);
        seen.medians.extend(took.get(others / 2));
        seen.lasts.extend(took.last());
    }
    let quiet = commitments(&mut hosts, lists, 0, None).await?;
    let beside = commitments(&mut hosts, lists, COMMITMENTS, Some(1 << 32)).await?;
    for (took, all) in [(quiet, &mut seen.quiet), (beside, &mut seen.beside)] {
        seen.lost += usize::try_from(COMMITMENTS)? * others - took.len();
        all.extend(took);
    }
    Ok(())
}

/// How many milliseconds commitments from one host are on their way, alone or beside lists from another, one after the other.
async fn commitments(
    hosts: &mut Hosts,
    lists: &Lists,
    first: u64,
    mut list: Option<u64>,
) -> Result<Vec<f64>, Failure> {
    let author = lists.hosts / 2;
    let mut tick = interval(EVERY);
    for block in first..first + COMMITMENTS {
        tick.tick().await;
        // A list every two seconds.
        if let Some(number) = &mut list
            && (block - first).is_multiple_of(40)
        {
            hosts.order(0, Order::List { number: *number, bytes: lists.bytes })?;
            *number += 1;
        }
        hosts.order(author, Order::Commitment { block })?;
    }
    let others = usize::from(lists.hosts) - 1;
    let sent =
        usize::try_from(COMMITMENTS)? + list.map_or(0, |_| usize::try_from(COMMITMENTS / 40).unwrap_or(0));
    let took = hosts.deliveries(sent * others, Instant::now() + PATIENCE).await;
    let of_commitments = took.into_iter().filter(|(item, _)| matches!(item, Item::Commitment(_)));
    Ok(of_commitments.flat_map(|(_, took)| took).map(|seconds| seconds * 1e3).collect())
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn p99(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 99 / 100).copied().unwrap_or(f64::NAN)
}
