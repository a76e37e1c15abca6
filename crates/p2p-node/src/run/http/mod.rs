//! What operators ask a running node over HTTP: `/metrics`, `/status`, `/healthz`.

use std::{future::ready, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use p2p_client::{P2pClient, P2pClientError};
use p2p_types::{BlockNumber, Head, HeadSyncStatus, PeerId, PeerInfo};
use preconfirmation_p2p::Multiaddr;
use serde::Serialize;
use tokio::{net::TcpListener, time::interval};

use super::RunError;

/// Between two rounds of tidying what was recorded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of histogram buckets: from a store's write to a slow answer.
const SECONDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0];

/// An endpoint whose address is bound.
pub(super) struct Endpoint {
    option: &'static str,
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Endpoint {
    /// Binds the address of an option.
    pub(super) async fn bind(option: &'static str, address: SocketAddr) -> Result<Self, RunError> {
        let failed = |source| RunError::Bind { option, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { option, listener, address })
    }

    /// Serves for ever.
    async fn serve(self, routes: Router) -> RunError {
        let Self { option, listener, .. } = self;
        match axum::serve(listener, routes).await {
            Ok(()) => RunError::Died(option),
            Err(source) => RunError::Endpoint { option, source },
        }
    }
}

/// Records metrics from now on.
pub(super) fn record() -> Result<PrometheusHandle, RunError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .map_err(|_| RunError::Recorder)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| RunError::Recorder)?;
    Ok(handle)
}

/// Serves `/metrics`; ends only with an error.
pub(super) async fn metrics(endpoint: Endpoint, recorded: PrometheusHandle) -> RunError {
    let rendered = recorded.clone();
    let routes = Router::new().route("/metrics", get(move || ready(rendered.render())));
    tokio::select! {
        ended = endpoint.serve(routes) => ended,
        never = tidy(recorded) => never,
    }
}

/// Keeps what is recorded and not asked for from piling up. Never ends.
async fn tidy(recorded: PrometheusHandle) -> RunError {
    let mut upkeep = interval(UPKEEP);
    loop {
        upkeep.tick().await;
        recorded.run_upkeep();
    }
}

/// What does not change while a node runs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Policies {
    pub(super) lookahead: String,
    pub(super) storage: String,
    /// Rules that are loosened.
    pub(super) leniencies: Vec<String>,
}

/// The answer at `/status`.
#[derive(Serialize)]
struct Status {
    peer: PeerId,
    chain_id: u64,
    listen: Vec<Multiaddr>,
    /// Highest height that an elected preconfer has signed, as far as this node knows.
    seen: Option<BlockNumber>,
    /// Newest height that is linked, stored and shown.
    applied: Option<BlockNumber>,
    head: Option<Head>,
    sync: HeadSyncStatus,
    peers: Vec<PeerInfo>,
    policies: Arc<Policies>,
}

/// What `/status` is made of.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) client: P2pClient,
    pub(super) chain_id: u64,
    pub(super) policies: Arc<Policies>,
}

impl Node {
    async fn status(&self) -> Result<Status, P2pClientError> {
        let (head, sync) = (self.client.head(), self.client.status());
        let applied = head.map(|head| head.number);
        let seen = match sync {
            HeadSyncStatus::Syncing { seen, .. } => Some(seen),
            _ => applied,
        };
        Ok(Status {
            peer: self.client.local_peer_id(),
            chain_id: self.chain_id,
            listen: self.client.listen_addrs().await?,
            seen,
            applied,
            head,
            sync,
            peers: self.client.peers().await?,
            policies: self.policies.clone(),
        })
    }
}

/// Serves `/status` and `/healthz`; ends only with an error.
pub(super) async fn status(endpoint: Endpoint, node: Node) -> RunError {
    async fn status(State(node): State<Node>) -> Result<Json<Status>, StatusCode> {
        // A client that has ended answers nothing any more.
        node.status().await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
    async fn health(State(node): State<Node>) -> StatusCode {
        match node.client.peers().await {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
    let routes = Router::new().route("/status", get(status)).route("/healthz", get(health)).with_state(node);
    endpoint.serve(routes).await
}
