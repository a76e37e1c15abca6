//! Handles every event in order and loses none: while the handler is slow, the client takes in less.
//!
//! `cargo run -p p2p-client --example handler`

mod support;

use std::num::NonZeroUsize;

use p2p_client::{P2pClient, SdkEvent};
use support::{BASE, Outcome, config, publisher, schedule};

pub(crate) async fn run() -> Outcome {
    let peer = publisher(3).await?;
    let mut config = config().with_static_peers(peer.network().listen_addrs().await?);
    // So many events may wait for the handler before ingestion is paused.
    config.queues.handler = NonZeroUsize::new(16).ok_or("no queue")?;
    let client = P2pClient::start(config, schedule()?).await?;
    client.chain().l2_synced(BASE).await?;

    let handle = client.clone();
    client
        .run_with_handler(|event| {
            let client = handle.clone();
            async move {
                match event {
                    SdkEvent::BlockReady { block, raw_tx_list_hash, .. } => {
                        let txlist = client.chain().txlist(raw_tx_list_hash).await;
                        let bytes = txlist.ok().flatten().map_or(0, |txlist| txlist.bytes().len());
                        println!("block {block}: {bytes} bytes");
                    }
                    SdkEvent::Backpressure { paused, waiting } => {
                        println!("ingestion paused: {paused}, {waiting} events wait");
                    }
                    // Live: everything that is known to exist is here.
                    SdkEvent::Status { status } => {
                        println!("{status}");
                        if status.is_live() && client.chain().head().is_some() {
                            // The handler returns once the client has ended, so it must not wait for that itself.
                            tokio::spawn(async move { client.shutdown().await });
                        }
                    }
                    other => println!("{}", other.label()),
                }
            }
        })
        .await?;
    peer.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
