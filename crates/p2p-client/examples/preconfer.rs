//! Publishes blocks in its window, then hands over.
//!
//! `cargo run -p p2p-client --example preconfer`

mod support;

use p2p_client::P2pClientError;
use p2p_types::SdkEvent;
use support::{BASE, Chain, Outcome, config, node};

pub(crate) async fn run() -> Outcome {
    let follower = node(config()).await?;
    follower.l2_synced(BASE).await?;
    let mut seen = follower.subscribe();
    let mut config = config();
    config.network.static_peers = follower.listen_addrs().await?;

    let client = node(config).await?;
    client.l2_synced(BASE).await?;
    client.connected(1).await?;
    // Nobody signs on a head that may be old.
    client.ready_to_publish().await?;
    let mut chain = Chain::new()?;
    for _ in 0..3 {
        let (signed, txlist) = chain.block();
        let number = signed.preconf().block_number;
        // One call: the list first, the commitment right after, both stored before they are sent.
        let sent = client.publish_block(signed, txlist).await?;
        println!("block {number}: {sent:?}");
    }

    // What peers would refuse is refused here, by the same rule, before anything is stored or sent.
    let mut foreign = chain.handover();
    foreign.commitment.slasher_address = Default::default();
    match client.publish_commitment(foreign).await {
        Err(P2pClientError::Invalid(rejection)) => println!("not published: {rejection}"),
        other => println!("unexpected: {other:?}"),
    }

    let sent = client.publish_commitment(chain.handover()).await?;
    println!("handover: {sent:?}");
    while let Some(event) = seen.next_event().await? {
        if let SdkEvent::BlockReady { block, .. } = event {
            println!("the follower has block {block}");
            if block == BASE.number + 3 {
                break;
            }
        }
    }
    client.shutdown().await?;
    follower.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
