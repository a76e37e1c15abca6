//! Publishes blocks in its window, then hands over.
//!
//! `cargo run -p p2p-client --example preconfer`

mod support;

use p2p_client::{P2pClient, P2pClientError, PublishOutcome, SdkEvent};
use support::{BASE, Chain, Outcome, config, schedule};

fn line(outcome: PublishOutcome) -> String {
    match outcome {
        PublishOutcome::Published { peers } => format!("sent to {peers} peers"),
        PublishOutcome::NonCanonical { .. } => "another branch is canonical".into(),
        PublishOutcome::Queued => "no peer yet; it is sent when one connects".into(),
        PublishOutcome::AlreadyPublished => "published before".into(),
    }
}

pub(crate) async fn run() -> Outcome {
    let follower = P2pClient::start(config(), schedule()?).await?;
    follower.chain().l2_synced(BASE).await?;
    let mut seen = follower.subscribe();
    let config = config().with_static_peers(follower.network().listen_addrs().await?);

    let client = P2pClient::start(config, schedule()?).await?;
    client.chain().l2_synced(BASE).await?;
    client.network().wait_for_peers(1).await?;
    let publisher = client.publisher();
    // Do not sign on a head that may be old.
    publisher.ready().await?;
    let mut chain = Chain::new()?;
    for _ in 0..3 {
        let (signed, txlist) = chain.block();
        let number = signed.preconf().block_number;
        // One call: the list first, the commitment right after, both stored before they are sent.
        println!("block {number}: {}", line(publisher.publish_block(signed, txlist).await?));
    }

    // What peers would refuse is refused here, by the same rule, before anything is stored or sent.
    let mut foreign = chain.handover();
    foreign.commitment.slasher_address = Default::default();
    match publisher.publish_commitment(foreign).await {
        Err(P2pClientError::Invalid(rejection)) => println!("not published: {rejection}"),
        _ => return Err("a commitment to a foreign slasher was published".into()),
    }

    println!("handover: {}", line(publisher.publish_commitment(chain.handover()).await?));
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
