//! Records the client's metrics for Prometheus. Any other recorder of the `metrics` crate works the same way.
//!
//! `cargo run -p p2p-client --example metrics`

mod support;

use metrics_exporter_prometheus::PrometheusBuilder;
use p2p_client::P2pClient;
use support::{BASE, Outcome, config, publisher, schedule};

pub(crate) async fn run() -> Outcome {
    // Before the client starts, so that nothing is missed.
    let recorder = PrometheusBuilder::new().build_recorder();
    let recorded = recorder.handle();
    metrics::set_global_recorder(recorder)?;

    let peer = publisher(1).await?;
    let client = P2pClient::start(config(), schedule()?).await?;
    client.chain().l2_synced(BASE).await?;
    client.network().dial(peer.network().listen_addrs().await?.remove(0)).await?;
    client.network().wait_for_peers(1).await?;

    // What an HTTP server answers at `/metrics`; `p2p-node run --metrics.addr` does so.
    for line in recorded.render().lines().filter(|line| line.starts_with("p2p_peers")) {
        println!("{line}");
    }
    client.shutdown().await?;
    peer.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
