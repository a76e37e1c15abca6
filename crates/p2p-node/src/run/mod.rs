//! `p2p-node run`: a node for operators. Events on stdout, status and metrics over HTTP.
//!
//! | module | what lives there |
//! |---|---|
//! | [`args`], [`list`], [`peers`], [`leniency`], [`log_args`] | the options |
//! | [`preset`], [`slasher`], [`chain`] | the network's file, and which chain the node is on |
//! | [`datadir`] | the names of what is kept |
//! | [`mod@open`], [`mod@check`] | reads the files that the options name, looks at them |
//! | [`lookahead`] | where the schedule comes from |
//! | [`l1`] | follows L1, for the schedule and for the client |
//! | [`l2`] | follows L2, for the base, and tells which promises were kept |
//! | [`network`], [`ports`] | the network's configuration, and whether its ports are free |
//! | [`output`] | events to stdout |
//! | [`publish`] | blocks from a file to the network |
//! | [`mod@preconfer`], [`proposing`], [`signing`], [`blocks`] | `p2p-node preconfer`: signs and proposes the blocks of a directory |
//! | [`mod@sync`] | `p2p-node sync`: catches up and ends |
//! | [`guard`] | the signing guard that nodes with one key share |
//! | [`gauges`] | what the node itself adds to the metrics |
//! | [`systemd`] | readiness and watchdog of a unit |
//! | [`http`] | `/metrics`, `/status`, `/healthz`, `/readyz` |
//! | [`rpc`] | JSON-RPC |
//! | [`limits`] | open files |
//! | [`progress`], [`report`] | a bar for terminals, a line every 30 s for logs |
//! | [`error`] | errors, and what to do about them |

mod args;
mod blocks;
mod chain;
mod check;
mod datadir;
mod error;
#[cfg(feature = "test-utils")]
pub(crate) mod fuzz;
mod gauges;
mod guard;
mod http;
mod l1;
mod l2;
mod leniency;
mod limits;
mod list;
mod log_args;
mod lookahead;
mod network;
mod open;
mod output;
mod peers;
mod ports;
mod preconfer;
mod preset;
mod progress;
mod proposing;
mod publish;
mod report;
mod rpc;
mod signing;
mod slasher;
mod sync;
mod systemd;

use std::{convert::Infallible, future::pending, io, net::SocketAddr, process::ExitCode};

use metrics_exporter_prometheus::PrometheusHandle;
use p2p_client::{P2pClient, P2pClientConfig, Subscription};
use p2p_types::Base;

pub(crate) use args::RunArgs;
pub(crate) use check::{check, derived};
pub(crate) use error::{PublishError, RunError};
use guard::Guard;
pub(crate) use guard::{GuardDatabase, GuardError};
use http::{About, Endpoint, Node, Policies, Shown};
use l1::L1;
use l2::L2;
use list::flat;
use open::{Opened, open};
use output::{Notice, Output};
pub(crate) use preconfer::{PreconferArgs, preconfer};
pub(crate) use progress::Log;
use progress::Progress;
pub(crate) use publish::{Block, MAX_LINE};
use rpc::{Followed, Rpc};
pub(crate) use sync::{SyncArgs, sync};

use crate::signals::Stop;

/// Runs a node until a signal or its reader stops it.
///
/// # Errors
/// [`RunError`] names the option that cannot work, or why the node ended.
pub(crate) async fn run(args: RunArgs, mut stop: Stop) -> Result<ExitCode, RunError> {
    let file = args.config.as_deref().map(|path| path.display());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = file.map(tracing::field::display),
        "starting"
    );
    let connections = limits::http_connections();
    let bind = async |option, address: Option<SocketAddr>| match address {
        Some(address) => Endpoint::bind(option, address, connections).await.map(Some),
        None => Ok(None),
    };
    let metrics = bind("--metrics.addr", args.metrics).await?;
    let status = bind("--status.addr", args.status).await?;
    args.rpc.probe(args.datadir.as_deref())?;
    let recorded = metrics.is_some().then(http::record).transpose()?;
    let addresses = (metrics.as_ref().map(|of| of.address), status.as_ref().map(|of| of.address));
    let shown = Shown::default();
    // From now on, so that a probe is answered while the store is opened.
    let endpoints = async {
        tokio::select! {
            never = serve_metrics(metrics, recorded) => never,
            never = serve_status(status, shown.clone()) => never,
        }
    };
    tokio::pin!(endpoints);
    let Ready { client, events, shown: of, l1, l2, base, guard, args } = tokio::select! {
        biased;
        () = stop.requested() => return Ok(ExitCode::SUCCESS),
        ready = start(args) => ready?,
        never = &mut endpoints => match never {},
    };

    let followed = Followed { l1: of.l1.clone(), l2: of.l2.clone(), lease: of.lease.clone() };
    let rpc = match Rpc::start(&args.rpc, args.datadir.as_deref(), of.chain_id, followed, &client).await {
        Ok(rpc) => rpc,
        Err(error) => {
            // What cannot be served is what ends the node, however the client ends.
            drop(client.shutdown().await);
            return Err(error);
        }
    };

    let output = Output::start(io::stdout());
    let progress = Progress::new();
    let followed = (l1.as_ref().map(|l1| l1.lookahead.clone()), l2.as_ref().map(|l2| l2.handle.clone()));
    let node = shown.get_or_init(|| Node::new(client.clone(), of));
    let (datadir, signer) = (args.datadir.clone(), args.metrics_signer);
    let work = async {
        let peer = client.network().local_peer_id();
        let (listen, enr) = (client.network().listen_addrs().await?, client.network().local_enr().await);
        let started = Notice::Started {
            peer: &peer,
            listen: &listen,
            enr: enr.as_deref(),
            metrics: addresses.0,
            status: addresses.1,
            rpc: rpc.as_ref().map(Rpc::address),
            head: client.chain().head(),
        };
        if output.write(&started).await.is_err() {
            return Ok(());
        }
        systemd::started();
        if let Some(base) = base {
            client.chain().l2_synced(base).await?;
        }
        let publishing = async {
            if let Some(path) = args.publish {
                publish::publish(&client, path).await?;
            }
            match args.signing {
                Some(signing) => proposing::propose(&client, signing).await,
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
        () = stop.requested() => Ok(()),
        ended = work => ended,
        ended = follow(l1, &client) => ended,
        ended = settle(l2, &client) => ended,
        () = output::reader_gone() => Ok(()),
        () = node.refresh() => Ok(()),
        never = report::report(&client, followed.0.as_deref(), followed.1.as_ref()) => match never {},
        never = systemd::watchdog(&client) => match never {},
        never = gauges::measure(node, datadir.as_deref(), signer) => match never {},
        never = &mut endpoints => match never {},
    };
    progress.clear();
    systemd::stopping();
    tracing::info!("shutting down");
    let shut_down = async {
        // Callers are answered while the client can still answer them.
        if let Some(rpc) = rpc {
            rpc.stop().await;
        }
        // In any case the client ends in order, and the lines that are written already reach their reader.
        let shut_down = client.shutdown().await.map_err(RunError::from);
        // Nothing is published any more.
        if let Some(guard) = guard {
            guard.release().await;
        }
        ended.and(shut_down).and(output.finish().await)
    };
    tokio::select! {
        biased;
        () = stop.insisted() => Err(RunError::Forced),
        shut_down = shut_down => shut_down.map(|()| ExitCode::SUCCESS),
    }
}

/// A node that runs, but has not been told of its base.
struct Ready {
    client: P2pClient,
    events: Subscription,
    shown: About,
    l1: Option<L1>,
    l2: Option<L2>,
    base: Option<Base>,
    guard: Option<Guard>,
    args: RunArgs,
}

/// Starts the client that the options describe.
async fn start(args: RunArgs) -> Result<Ready, RunError> {
    // Whatever is wrong by then has made no directory.
    check::options(&args)?;
    ports::probe(&args)?;
    let Opened { chain, lookahead, l1, l2, storage, identity, base, key } = open(&args).await?;
    tracing::info!(chain_id = chain.id, p2p_chain_id = chain.p2p_id, "opened");
    let mut config = P2pClientConfig::new(chain.p2p_id, identity, chain.rules());
    if let Some(bytes) = chain.max_txlist_bytes {
        config = config.with_max_txlist_bytes(bytes);
    }
    network::configure(&mut config.network, &args)?;
    network::warn(&config.network, &args);
    for leniency in flat(&args.leniency) {
        leniency.apply(&mut config);
    }
    config.publishing = args.publishing();
    let guard = args.guard.open(chain.id, chain.domain, config.publishing).await?;
    if let Some(Guard { guard, .. }) = &guard {
        config = config.with_guard(guard.clone());
    }
    let builder = P2pClient::builder(config.with_storage(storage), lookahead.clone());
    let (client, events) =
        builder.start_subscribed().await.map_err(|error| network::failed(error, &args, key))?;
    let leniencies: Vec<String> = client.leniencies().iter().map(ToString::to_string).collect();
    for leniency in &leniencies {
        tracing::warn!("{leniency}");
    }
    let policies = Policies {
        lookahead: args.lookahead.as_ref().map_or("l1".into(), ToString::to_string),
        storage: args.datadir.as_ref().map_or("memory".into(), |path| path.display().to_string()),
        leniencies,
    };
    let followed = l1.as_ref().map(|l1| l1.lookahead.clone());
    let shown = About {
        chain_id: chain.id,
        p2p_chain_id: chain.p2p_id,
        policies,
        lookahead,
        l1: followed,
        l2: l2.as_ref().map(|l2| l2.handle.clone()),
        lease: guard.as_ref().and_then(Guard::lease),
    };
    Ok(Ready { client, events, shown, l1, l2, base, guard, args })
}

/// Follows L1, where there is one, until that fails.
async fn follow(l1: Option<L1>, client: &P2pClient) -> Result<(), RunError> {
    match l1 {
        Some(l1) => l1.follow(client).await,
        None => pending().await,
    }
}

/// Follows L2, where there is one, until that fails.
async fn settle(l2: Option<L2>, client: &P2pClient) -> Result<(), RunError> {
    match l2 {
        Some(l2) => l2.follow(client).await,
        None => pending().await,
    }
}

async fn serve_metrics(endpoint: Option<Endpoint>, recorded: Option<PrometheusHandle>) -> Infallible {
    match endpoint.zip(recorded) {
        Some((endpoint, recorded)) => http::serve_metrics(endpoint, recorded).await,
        None => pending().await,
    }
}

async fn serve_status(endpoint: Option<Endpoint>, node: Shown) -> Infallible {
    match endpoint {
        Some(endpoint) => http::serve_status(endpoint, node).await,
        None => pending().await,
    }
}
