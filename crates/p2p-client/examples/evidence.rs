//! Reads the proofs that a preconfer misbehaved: two commitments of one signer that contradict each other.
//!
//! `cargo run -p p2p-client --example evidence`

mod support;

use p2p_client::{P2pClient, P2pClientError, SdkEvent};
use support::{BASE, Chain, Outcome, config, publisher, schedule};

pub(crate) async fn run() -> Outcome {
    // A preconfer that signs two blocks for one height. Its own client refuses the second one until it insists.
    let preconfer = publisher(0).await?;
    let config = config().with_static_peers(preconfer.network().listen_addrs().await?);
    let follower = P2pClient::start(config, schedule()?).await?;
    follower.chain().l2_synced(BASE).await?;
    let mut events = follower.subscribe();
    // The preconfer looks for a head when its first peer connects: it is not ready before.
    preconfer.network().wait_for_peers(1).await?;

    let mut chain = Chain::new()?;
    let (other, other_txlist) = chain.another_block();
    let (signed, txlist) = chain.block();
    let publisher = preconfer.publisher();
    publisher.ready().await?;
    let _outcome = publisher.publish_block(signed, txlist).await?;
    let refused = publisher.publish_block(other.clone(), other_txlist.clone()).await;
    let Err(P2pClientError::Conflict(conflict)) = refused else { return Err("not refused".into()) };
    println!("refused: {conflict}");
    let _outcome = publisher.publish_despite_conflict(other, Some(other_txlist), *conflict).await?;

    // Every node that sees both has the proof, and tells of it once for each signer, window and kind.
    while let Some(event) = events.next_event().await? {
        if let SdkEvent::Evidence { kind, signer, block, first, second } = event {
            println!(
                "{}: {signer} signed {} and {} for block {block}",
                kind.label(),
                first.hash(),
                second.hash()
            );
            break;
        }
    }
    // The store keeps the signed bytes, for whoever reports them to the slasher.
    for evidence in follower.chain().evidence().await? {
        println!("stored: {} by {}", evidence.record.kind.label(), evidence.signer);
    }
    follower.shutdown().await?;
    preconfer.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
