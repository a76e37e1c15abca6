//! Runs two clients over a simulated network, in one process and without a socket: how to test a sidecar.
//!
//! `cargo run -p p2p-client --example custom_network --features test-utils`

mod support;

use std::time::Duration;

use p2p_client::{
    BlockUpdate, P2pClient,
    network::sim::{Link, SimNetwork},
};
use support::{BASE, Chain, Outcome, config, schedule};

/// A client on this network.
async fn join(network: &SimNetwork) -> Outcome<P2pClient> {
    let config = config();
    let (handle, events, service) = network.join(config.network.clone())?;
    let client =
        P2pClient::builder(config, schedule()?).network(handle, events, service.run()).start().await?;
    client.chain().l2_synced(BASE).await?;
    Ok(client)
}

pub(crate) async fn run() -> Outcome {
    // The same seed gives the same delays and losses.
    let network = SimNetwork::new(7);
    network.set_links(Link { delay: Duration::from_millis(5), loss: 0.1, ..Link::default() });
    let (preconfer, follower) = (join(&network).await?, join(&network).await?);
    let address = preconfer.network().listen_addrs().await?.remove(0);
    follower.network().dial(address).await?;
    // The preconfer looks for a head when its first peer connects: it is not ready before.
    preconfer.network().wait_for_peers(1).await?;

    let mut chain = Chain::new()?;
    for _ in 0..3 {
        let (signed, txlist) = chain.block();
        preconfer.publisher().ready().await?;
        let _outcome = preconfer.publisher().publish_block(signed, txlist).await?;
    }
    // What is lost on the way is fetched.
    let mut feed = follower.events_from(BASE.next());
    while let Some(update) = feed.next().await? {
        if let BlockUpdate::Block(block) = update {
            println!("block {}", block.block);
            if block.block == BASE.number + 3 {
                break;
            }
        }
    }
    println!("{} messages were lost", network.counts().lost);
    follower.shutdown().await?;
    preconfer.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
