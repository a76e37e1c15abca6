//! `p2p-node run`: a node for operators. Events on stdout, status and metrics over HTTP.
//!
//! | module | what lives there |
//! |---|---|
//! | [`args`] | the options |
//! | [`lookahead`] | where the schedule comes from |
//! | [`output`] | events to stdout |
//! | [`publish`] | blocks from a file to the network |
//! | [`http`] | `/metrics`, `/status`, `/healthz` |
//! | [`progress`] | a bar for terminals |
//! | [`error`] | what can be wrong, and what to do about it |

mod args;
mod error;
mod http;
mod lookahead;
mod output;
mod progress;
mod publish;

use std::{future::pending, io, net::SocketAddr, process::ExitCode, sync::Arc};

use p2p_client::{P2pClient, P2pClientConfig};
use p2p_storage::{DiskConfig, DiskStorage, MemoryStorage, SdkStorage};
use p2p_types::Base;
use p2p_validation::{Lookahead, ValidationConfig};
use preconfirmation_p2p::{DiscoveryConfig, Keypair, Multiaddr, identity};
use tokio::task::spawn_blocking;

pub(crate) use args::RunArgs;
pub(crate) use error::RunError;
use http::{Endpoint, Node, Policies};
pub(crate) use lookahead::Rotation;
use output::{Notice, Output};
use progress::Progress;

use crate::signals;

/// Where the store lives in the data directory.
const STORE: &str = "chain";

/// Where known peers live in the data directory.
const NETWORK: &str = "network";

/// Where the node's key lives in the data directory.
const KEY: &str = "p2p.key";

/// The UDP port of discovery, unless another is given.
const DISCOVERY: u16 = 9222;

/// Runs a node until it is told to stop.
///
/// # Errors
/// [`RunError`] names the option that cannot work, or tells why the node ended.
pub(crate) async fn run(args: RunArgs) -> Result<ExitCode, RunError> {
    let bind = async |option, address: Option<SocketAddr>| match address {
        Some(address) => Endpoint::bind(option, address).await.map(Some),
        None => Ok(None),
    };
    let metrics = bind("--metrics.addr", args.metrics).await?;
    let status = bind("--status.addr", args.status).await?;
    let recorded = metrics.is_some().then(http::record).transpose()?;
    let addresses = (metrics.as_ref().map(|of| of.address), status.as_ref().map(|of| of.address));

    let Ready { client, policies, base, args } = start(args).await?;
    let listen = client.listen_addrs().await?;
    let enr = client.record().await;
    let output = Output::start(io::stdout());
    let progress = Progress::new();
    let (peer, node) =
        (client.local_peer_id(), Node { client: client.clone(), chain_id: args.chain_id, policies });
    let started = Notice::Started {
        peer: &peer,
        listen: &listen,
        enr: enr.as_deref(),
        metrics: addresses.0,
        status: addresses.1,
        head: client.head(),
    };

    let work = async {
        let events = client.subscribe();
        if output.write(&started).await.is_err() {
            return Ok(());
        }
        if let Some(base) = base {
            client.l2_synced(base).await?;
        }
        let publishing = async {
            match args.publish {
                Some(path) => publish::publish(&client, path).await,
                None => Ok(()),
            }
        };
        let following = output.follow(events, &progress);
        tokio::pin!(following);
        tokio::select! {
            // No more events, or nobody who reads them: the end, below, tells which.
            _ = &mut following => Ok(()),
            published = publishing => {
                published?;
                drop(following.await);
                Ok(())
            }
        }
    };
    let ended = tokio::select! {
        biased;
        stopped = signals::stop() => stopped.map_err(RunError::Signals),
        ended = work => ended,
        error = serve_metrics(metrics, recorded) => Err(error),
        error = serve_status(status, node) => Err(error),
    };
    progress.clear();
    // In any case the client ends in order, and the lines that are written already reach their reader.
    let shut_down = client.shutdown().await.map_err(RunError::from);
    let written = output.finish().await;
    ended.and(shut_down).and(written).map(|()| ExitCode::SUCCESS)
}

/// A node that runs, but has not been told of its base.
struct Ready {
    client: P2pClient,
    policies: Arc<Policies>,
    base: Option<Base>,
    args: RunArgs,
}

/// What the options name, read.
struct Opened {
    lookahead: Arc<dyn Lookahead>,
    storage: Arc<dyn SdkStorage>,
    identity: Keypair,
    base: Option<Base>,
    args: RunArgs,
}

/// Reads what the options name. Blocks on the disk.
fn open(args: RunArgs) -> Result<Opened, RunError> {
    let lookahead = args.lookahead.load()?;
    let datadir = |source| RunError::Datadir { path: args.datadir.clone().unwrap_or_default(), source };
    let storage: Arc<dyn SdkStorage> = match &args.datadir {
        None => Arc::new(MemoryStorage::default()),
        Some(path) => {
            let config = DiskConfig::recommended(args.domain.0);
            Arc::new(DiskStorage::open(path.join(STORE), config).map_err(datadir)?)
        }
    };
    // What the contracts have settled stays settled, whatever the command line still says.
    let kept = storage.base().map_err(datadir)?;
    let base = args.base.map(|base| base.0).into_iter().chain(kept).max_by_key(|base| base.number);
    if base.is_none() {
        tracing::warn!("no --base: what is authentic is forwarded, but nothing is stored or shown");
    }
    let key = args.priv_path.clone().or_else(|| Some(args.datadir.as_ref()?.join(KEY)));
    let identity = match key {
        Some(path) => identity::load_or_create(&path).map_err(|source| RunError::Identity { source })?,
        None => Keypair::generate_secp256k1(),
    };
    Ok(Opened { lookahead, storage, identity, base, args })
}

/// Starts the client that the options describe.
async fn start(args: RunArgs) -> Result<Ready, RunError> {
    let opened = spawn_blocking(move || open(args)).await.map_err(|_| RunError::Died("opening"))??;
    let Opened { lookahead, storage, identity, base, args } = opened;
    let rules = ValidationConfig::new(args.domain.0, args.slasher);
    let mut config = P2pClientConfig::new(args.chain_id, identity, rules);
    config.network.listen = vec![listen(&args)?];
    config.network.static_peers.clone_from(&args.static_peers);
    config.network.data_dir = args.datadir.as_ref().map(|path| path.join(NETWORK));
    config.network.bootnodes.clone_from(&args.bootnodes);
    if let Some(port) = args.listen_udp.or((!args.bootnodes.is_empty()).then_some(DISCOVERY)) {
        config.network.discovery = Some(DiscoveryConfig::new(SocketAddr::new(args.listen_ip, port)));
    }
    let client = P2pClient::start(config, storage, lookahead).await?;
    let leniencies: Vec<String> = client.leniencies().iter().map(ToString::to_string).collect();
    for leniency in &leniencies {
        tracing::warn!("{leniency}");
    }
    let policies = Arc::new(Policies {
        lookahead: args.lookahead.to_string(),
        storage: args.datadir.as_ref().map_or("memory".into(), |path| path.display().to_string()),
        leniencies,
    });
    Ok(Ready { client, policies, base, args })
}

fn listen(args: &RunArgs) -> Result<Multiaddr, RunError> {
    let (ip, port) = (args.listen_ip, args.listen_tcp);
    let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
    format!("/{family}/{ip}/tcp/{port}").parse().map_err(|_| RunError::Listen { ip })
}

async fn serve_metrics(
    endpoint: Option<Endpoint>,
    recorded: Option<metrics_exporter_prometheus::PrometheusHandle>,
) -> RunError {
    match endpoint.zip(recorded) {
        Some((endpoint, recorded)) => http::metrics(endpoint, recorded).await,
        None => pending().await,
    }
}

async fn serve_status(endpoint: Option<Endpoint>, node: Node) -> RunError {
    match endpoint {
        Some(endpoint) => http::status(endpoint, node).await,
        None => pending().await,
    }
}
