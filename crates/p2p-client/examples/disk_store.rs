//! Stores the chain on disk, where it survives a restart, and guards the signer against contradicting itself.
//!
//! `cargo run -p p2p-client --example disk_store --features disk`

mod support;

use std::path::Path;

use p2p_client::{
    ErrorKind, P2pClient, P2pClientConfig, PublishOutcome, Publishing, StorageChoice, StorageLimits,
};
use support::{BASE, Chain, Outcome, config, schedule};

fn on_disk(folder: &Path) -> P2pClientConfig {
    let limits = StorageLimits { commitments: 50_000, ..StorageLimits::default() };
    config()
        .with_storage(StorageChoice::Disk { folder: folder.into(), limits })
        // Needs a store that keeps what the signer has promised through a crash: this one does.
        .with_publishing(Publishing::Guarded)
}

pub(crate) async fn run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut chain = Chain::new()?;
    let contradiction = chain.another_block();
    let (signed, txlist) = chain.block();

    let client = P2pClient::start(on_disk(folder.path()), schedule()?).await?;
    client.chain().l2_synced(BASE).await?;
    client.publisher().ready().await?;
    let outcome = client.publisher().publish_block(signed, txlist).await?;
    assert_eq!(outcome, PublishOutcome::Queued, "no peer is connected");
    client.shutdown().await?;

    let client = P2pClient::start(on_disk(folder.path()), schedule()?).await?;
    // The head is there before any peer is.
    println!("restarted at {}", client.chain().head().ok_or("the store is empty")?);
    client.chain().l2_synced(BASE).await?;
    client.publisher().ready().await?;
    let (signed, txlist) = contradiction;
    match client.publisher().publish_block(signed, txlist).await {
        Err(error) if error.kind() == ErrorKind::Conflict => println!("{error}"),
        _ => return Err("the guard has forgotten".into()),
    }
    client.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
