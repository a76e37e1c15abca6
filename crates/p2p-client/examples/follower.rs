//! Follows the chain and prints every block as soon as it is complete.
//!
//! `cargo run -p p2p-client --example follower`

mod support;

use p2p_types::SdkEvent;
use support::{BASE, Outcome, config, node, preconfirmed};

pub(crate) async fn run() -> Outcome {
    // In your network: the address of a peer that you know.
    let peer = preconfirmed(3).await?;
    let mut config = config();
    config.network.static_peers = peer.listen_addrs().await?;

    let client = node(config).await?;
    let mut events = client.subscribe();
    // The execution layer has reached the tip that the contracts have settled: catching up may start.
    client.l2_synced(BASE).await?;

    let mut blocks = 0;
    while let Some(event) = events.next_event().await? {
        match event {
            SdkEvent::BlockReady { block, hash, raw_tx_list_hash } => {
                let txlist = client.txlist(raw_tx_list_hash).await?;
                println!("block {block} {hash}: {} bytes", txlist.map_or(0, |list| list.bytes().len()));
                blocks += 1;
            }
            // Your execution layer has to undo these.
            SdkEvent::Reorg { from, dropped } => println!("{} blocks from {from} on are gone", dropped.len()),
            SdkEvent::Status { status } => println!("{status}"),
            _ => {}
        }
        if blocks == 3 {
            break;
        }
    }
    client.shutdown().await?;
    peer.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
