//! `p2p-node devnet`: a whole network in one process.

mod args;
mod error;
mod liar;
mod node;
mod plan;
mod preconfer;
mod report;
mod txlist;
mod usage;

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use p2p_types::Head;
use preconfirmation_p2p::{Multiaddr, PeerId};
use tokio::time::{sleep, timeout};

use crate::{rotation::Rotation, signals::Stop};

pub(crate) use args::DevnetArgs;
pub(crate) use error::DevnetError;
use liar::{Liar, Manner};
use node::{Node, Published};
use plan::Plan;
use preconfer::{Producer, unix_now, until};
use report::{Cost, LateJoiner, Latencies, LiarsFate, Report, Row, Standing};
use usage::Usage;

/// Most peers that a node dials.
const DIALS: usize = 8;

/// Silent peers for each honest one that the node dials which they are around.
const SYBILS_EACH: u64 = 4;

/// From the last connection to the first window: some heartbeats, in which meshes form.
const LEAD: Duration = Duration::from_secs(3);

/// Runs a devnet and reports the result.
pub(crate) async fn run(args: DevnetArgs, mut stop: Stop) -> Result<ExitCode, DevnetError> {
    args.check()?;
    let progress = progress(args.blocks.get());
    let mut devnet = Devnet::start(&args, &progress).await?;
    tokio::select! {
        played = devnet.play(&progress) => played?,
        () = stop.requested() => {
            progress.println("interrupted: what there is so far");
            // What is in flight may arrive.
            devnet.agreement(DevnetArgs::AFTER_INTERRUPT).await;
        }
    }
    progress.finish_and_clear();
    let report = devnet.finish().await?;
    report.write(args.json).map_err(DevnetError::Output)?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The network and what has happened in it.
struct Devnet {
    args: DevnetArgs,
    plan: Arc<Plan>,
    nodes: Vec<Node>,
    addresses: Vec<Multiaddr>,
    liars: Vec<Liar>,
    /// Before it was built, and when it began.
    usage: [Option<Usage>; 2],
    published: Published,
    producer: Producer,
    late: Option<Late>,
}

/// The late joiner's start.
struct Late {
    /// When its execution layer was at the tip, so that it began to catch up.
    since: Instant,
    /// The newest block then.
    target: u64,
}

impl Devnet {
    /// Starts all nodes but the late one, and the liars, and connects them before the first window begins.
    async fn start(args: &DevnetArgs, progress: &ProgressBar) -> Result<Self, DevnetError> {
        let lead = LEAD + Duration::from_millis(200).saturating_mul(u32::try_from(args.nodes).unwrap_or(64));
        let plan = Arc::new(Plan::new(args, unix_now().saturating_add(lead))?);
        let published = Published::default();
        usage::count_copies();
        let mut devnet = Self {
            liars: Vec::new(),
            usage: [Usage::now(), None],
            producer: Producer::new(args.clone(), plan.clone(), published.clone()),
            args: args.clone(),
            plan,
            nodes: Vec::new(),
            addresses: Vec::new(),
            published,
            late: None,
        };
        progress.set_message("connecting");
        for index in 0..args.nodes() - 1 {
            let listen = args.listen.filter(|_| index == 0).map(multiaddr).transpose()?;
            devnet.join(index, format!("node {index}"), listen, DIALS).await?;
        }
        for (index, node) in devnet.nodes.iter().enumerate() {
            let wanted = if devnet.nodes.len() == 1 { 0 } else { index.clamp(1, DIALS) };
            let connected = timeout(lead, node.client.network().wait_for_peers(wanted)).await;
            connected.map_err(|_| DevnetError::Alone { node: node.name.clone() })??;
        }
        devnet.lie(Manner::Elected, &devnet.addresses.clone()).await?;
        for liar in 0..usize::try_from(args.hostile).unwrap_or_default() {
            let key = devnet.plan.unelected(liar)?;
            devnet.lie(Manner::Unelected(key), &devnet.addresses.clone()).await?;
        }
        devnet.announce()?;
        Ok(devnet)
    }

    /// Adds a byzantine peer, which dials some of these.
    async fn lie(&mut self, manner: Manner, peers: &[Multiaddr]) -> Result<(), DevnetError> {
        let mut liar = Liar::new(self.plan.clone(), manner);
        let identity = self.args.nodes() + self.liars.len();
        liar.start(self.args.transport, identity, &self.plan.draw(identity, peers, DIALS)).await?;
        self.liars.push(liar);
        Ok(())
    }

    /// Starts a node, connects it to some that are there, and opens its gate.
    async fn join(
        &mut self,
        index: usize,
        name: String,
        listen: Option<Multiaddr>,
        dials: usize,
    ) -> Result<(), DevnetError> {
        let transport = self.args.transport;
        let node = Node::start(&self.plan, index, name, transport, listen, self.published.clone()).await?;
        let own = node.client.network().listen_addrs().await?;
        for address in self.plan.draw(index, &self.addresses, dials) {
            node.client.network().dial(address).await?;
        }
        node.client.chain().l2_synced(self.plan.base).await?;
        self.addresses.extend(own.into_iter().next());
        self.nodes.push(node);
        Ok(())
    }

    /// Prints what a peer of another process needs to know, and the command that joins.
    fn announce(&self) -> Result<(), DevnetError> {
        let plan = &self.plan;
        let base = format!("{}:{}", plan.base.number, plan.base.hash.unwrap_or_default());
        let rotation =
            Rotation { genesis: plan.genesis, window: self.args.window, operators: plan.operators() };
        let schedule = serde_json::to_string(&rotation).map_err(|error| DevnetError::Output(error.into()))?;
        println!("chain id   {}", plan.chain_id);
        println!("domain     {}", plan.domain);
        println!("slasher    {}", plan.slasher);
        println!("base       {base}");
        println!("schedule   {schedule}");
        if let Some(address) = self.addresses.first() {
            println!("multiaddr  {address}");
            println!(
                "join       echo '{schedule}' | p2p-node run --lookahead rotating:/dev/stdin --chain-id {} --domain {} \
                 --slasher {} --base {base} --p2p.listen.ip 127.0.0.1 --p2p.listen.tcp 0 --p2p.static {address}",
                plan.chain_id, plan.domain, plan.slasher
            );
        }
        Ok(())
    }

    /// Half of the blocks, the late joiner, the other half, agreement, and the time to hold.
    async fn play(&mut self, progress: &ProgressBar) -> Result<(), DevnetError> {
        let blocks = self.args.blocks.get();
        until(self.plan.genesis).await;
        self.usage[1] = Usage::now();
        self.producer.until(blocks / 2, &self.nodes, progress).await?;
        let index = self.nodes.len();
        let since = Instant::now();
        let target =
            self.producer.promised().blocks.last().map_or(self.plan.base.number, |block| block.number);
        let dials = usize::try_from(self.args.sybils.div_ceil(SYBILS_EACH)).unwrap_or(DIALS);
        let dials = if dials == 0 { DIALS } else { dials };
        self.join(index, "late".to_owned(), None, dials).await?;
        let late: Vec<_> = self.addresses.last().cloned().into_iter().collect();
        for _ in 0..self.args.sybils {
            self.lie(Manner::Silent, &late).await?;
        }
        self.late = Some(Late { since, target });
        self.producer.until(blocks, &self.nodes, progress).await?;
        progress.set_message("waiting for agreement");
        // Whether they do is judged in the report.
        if self.agreement(DevnetArgs::CONVERGENCE).await {
            progress.set_message("holding");
            sleep(Duration::from_secs(self.args.hold)).await;
        }
        Ok(())
    }

    /// Waits until every node has everything, and says whether that came in time.
    async fn agreement(&self, limit: Duration) -> bool {
        let agreed = async {
            while !self.agrees() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(limit, agreed).await.is_ok()
    }

    /// Whether every node has everything.
    fn agrees(&self) -> bool {
        self.nodes.iter().all(|node| self.standing(node).missing() == 0)
    }

    /// What a node has of what was promised.
    fn standing(&self, node: &Node) -> Standing {
        let promised = self.producer.promised();
        let present = self.late.is_none() || node.name != "late";
        let handovers = if present { promised.handovers.as_slice() } else { &[] };
        let count = |found: usize| found as u64;
        Standing {
            expected: count(2 * promised.blocks.len() + handovers.len()),
            commitments: count(promised.blocks.iter().filter(|b| node.has_block(b.number, b.hash)).count()),
            handovers: count(handovers.iter().filter(|hash| node.has_commitment(hash)).count()),
            txlists: count(promised.blocks.iter().filter(|b| node.has_txlist(&b.txlist)).count()),
        }
    }

    /// What all of it has cost so far.
    fn cost(&self) -> Option<Cost> {
        let ([before, begun], now) = (self.usage, Usage::now()?);
        let nodes = (self.nodes.len() + self.liars.len()) as u64;
        Some(Cost {
            cpu: now.cpu.saturating_sub(begun?.cpu),
            kib_per_node: now.resident_kib.saturating_sub(before?.resident_kib) / nodes.max(1),
            copies: usage::copies(),
        })
    }

    /// Gathers the result and takes everything down.
    async fn finish(self) -> Result<Report, DevnetError> {
        let cost = self.cost();
        let mut liar = LiarsFate { peers: self.liars.len() as u64, ..LiarsFate::default() };
        let (mut rows, mut honest_banned) = (Vec::new(), 0);
        let liars: Vec<PeerId> = self.liars.iter().filter_map(Liar::peer).collect();
        for node in &self.nodes {
            for peer in node.client.network().peers().await? {
                if liars.contains(&peer.peer) {
                    liar.score = Some(liar.score.map_or(peer.score, |lowest| lowest.min(peer.score)));
                    liar.banned_by += u64::from(peer.banned_for.is_some());
                } else {
                    honest_banned += u64::from(peer.banned_for.is_some());
                }
            }
            rows.push(Row {
                name: node.name.clone(),
                head: node.client.chain().head(),
                standing: self.standing(node),
                rejected: node.client.counts().rejected,
                latencies: Latencies::new(node.seen(|seen| std::mem::take(&mut seen.latencies))),
                missed_events: node.seen(|seen| seen.missed),
            });
        }
        for lies in self.liars {
            let lies = lies.stop().await?;
            liar.sent += lies.sent;
            for node in &self.nodes {
                let commitments = lies.commitments.iter().filter(|hash| node.has_commitment(hash)).count();
                let txlists = lies.txlists.iter().filter(|hash| node.has_txlist(hash)).count();
                liar.accepted += (commitments + txlists) as u64;
            }
        }
        let late = self.late.as_ref().zip(self.nodes.last()).map(|(late, node)| {
            node.seen(|seen| LateJoiner {
                commitments: seen.synced_commitments,
                txlists: seen.synced_txlists,
                elapsed: seen
                    .complete_up_to(late.target)
                    .map(|done| done.saturating_duration_since(late.since)),
            })
        });
        let promised = self.producer.promised();
        let report = Report {
            blocks: promised.blocks.len() as u64,
            wanted: self.args.blocks.get(),
            handovers: promised.handovers.len() as u64,
            queued: promised.queued,
            head: promised.blocks.last().map(|block| Head { number: block.number, hash: block.hash }),
            rows,
            late,
            liar,
            honest_banned,
            cost,
        };
        for node in self.nodes {
            node.stop().await?;
        }
        Ok(report)
    }
}

fn multiaddr(address: SocketAddr) -> Result<Multiaddr, DevnetError> {
    let family = if address.is_ipv4() { "ip4" } else { "ip6" };
    let text = format!("/{family}/{}/tcp/{}", address.ip(), address.port());
    text.parse().map_err(|_| DevnetError::Listen { address })
}

fn progress(blocks: u64) -> ProgressBar {
    let bar = ProgressBar::new(blocks);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} blocks  {elapsed}  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
