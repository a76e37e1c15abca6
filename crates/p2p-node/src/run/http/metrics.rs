//! `/metrics` for Prometheus.

use std::{convert::Infallible, future::ready, time::Duration};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::interval;

use super::endpoint::Endpoint;
use crate::run::error::RunError;

/// Between two rounds of tidying what was recorded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of histogram buckets: from a store's write to a slow answer.
const SECONDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Records metrics from now on.
pub(in super::super) fn record() -> Result<PrometheusHandle, RunError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .map_err(|_| RunError::Recorder)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| RunError::Recorder)?;
    Ok(handle)
}

/// Serves `/metrics` indefinitely.
pub(in super::super) async fn serve(endpoint: Endpoint, recorded: PrometheusHandle) -> Infallible {
    let rendered = recorded.clone();
    let routes = Router::new().route("/metrics", get(move || ready(rendered.render())));
    tokio::select! {
        never = endpoint.serve(routes) => never,
        never = tidy(recorded) => never,
    }
}

/// Keeps what is recorded and not asked for from piling up.
async fn tidy(recorded: PrometheusHandle) -> Infallible {
    let mut upkeep = interval(UPKEEP);
    loop {
        upkeep.tick().await;
        recorded.run_upkeep();
    }
}
