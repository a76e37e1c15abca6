//! Waits for its turn, proposes blocks, and hands over.
//!
//! `cargo run -p p2p-client --features preconfer --example preconfer`

mod support;

use std::time::Duration;

use p2p_client::{
    Address, B256, Base, Bytes, P2pClient, P2pClientError, PublishOutcome, SdkEvent, SigningKey, UnixSeconds,
    alloy_signer::{Result as Signed, Signature, Signer},
    preconfer::{BlockFields, ProposeError},
};
use support::{BASE, Outcome, config, schedule};

/// The key of the example. In earnest: a keystore (`alloy-signer-local`), or a key service of a cloud (`alloy-signer-aws`,
/// `alloy-signer-gcp`), as it is.
struct Key(SigningKey);

#[async_trait::async_trait]
impl Signer for Key {
    async fn sign_hash(&self, hash: &B256) -> Signed<Signature> {
        Ok(Signature::from_raw(self.0.sign_hash(hash).as_slice())?)
    }

    fn address(&self) -> Address {
        self.0.address()
    }

    fn chain_id(&self) -> Option<u64> {
        None
    }

    fn set_chain_id(&mut self, _: Option<u64>) {}
}

fn line(outcome: PublishOutcome) -> String {
    match outcome {
        PublishOutcome::Published { peers } => format!("sent to {peers} peers"),
        PublishOutcome::NonCanonical { .. } => "another branch is canonical".into(),
        PublishOutcome::Queued => "no peer yet; it is sent when one connects".into(),
        PublishOutcome::AlreadyPublished => "published before".into(),
    }
}

pub(crate) async fn run() -> Outcome {
    // The first block names the settled one by its hash.
    let settled = Base { hash: Some(B256::ZERO), ..BASE };
    let follower = P2pClient::start(config(), schedule()?).await?;
    follower.chain().l2_synced(settled).await?;
    let mut seen = follower.subscribe();
    let config = config().with_static_peers(follower.network().listen_addrs().await?);

    let client = P2pClient::start(config, schedule()?).await?;
    client.chain().l2_synced(settled).await?;
    let preconfer = client.preconfer(Key(support::preconfer()?));
    // Says why, if it takes longer: not live, no peers, somebody else's turn, …
    let window = preconfer.wait_until_ready(Duration::from_secs(30)).await?;
    println!("our window is {window}");

    let start = client.now().get() - 10;
    for second in 0..3 {
        // What only the builder of the block knows. Height, parent, window and the rest follow from the chain.
        let fields =
            BlockFields { gas_limit: 30_000_000, ..BlockFields::at(UnixSeconds::new(start + second)) };
        let txlist = Bytes::from(format!("the compressed transactions of second {second}"));
        let proposed = preconfer.propose(fields, txlist).await?;
        println!("block {}: {}", proposed.block, line(proposed.outcome));
    }

    // What peers would refuse is refused here, by the same rule, before it is signed.
    let early = BlockFields { gas_limit: 30_000_000, ..BlockFields::at(UnixSeconds::new(start)) };
    match preconfer.propose(early, Bytes::from_static(b"too early")).await {
        Err(ProposeError::Client(P2pClientError::Invalid(rejection))) => println!("not signed: {rejection}"),
        _ => return Err("a block that is not after its parent was signed".into()),
    }

    println!("handover: {}", line(preconfer.hand_over().await?.outcome));
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
