//! Follows the chain block by block and resumes where it stopped after a restart.
//!
//! `cargo run -p p2p-client --example follower`

mod support;

use p2p_client::{Base, BlockNumber, BlockUpdate, Multiaddr, P2pClient};
use support::{BASE, Outcome, config, publisher, schedule};

/// Follows from height `next` on and stops after `count` blocks. Returns the height to resume from, which a sidecar
/// writes down together with what it has done with the block.
async fn follow(peers: &[Multiaddr], mut next: BlockNumber, count: usize) -> Outcome<BlockNumber> {
    let config = config().with_static_peers(peers.iter().cloned());
    let client = P2pClient::start(config, schedule()?).await?;
    // The execution layer has reached the block that the contracts have settled: catching up above it may start.
    client.chain().l2_synced(Base::at(next - 1)).await?;

    let (mut feed, mut blocks) = (client.events_from(next), 0);
    while blocks < count {
        match feed.next().await?.ok_or("the client has ended")? {
            BlockUpdate::Block(block) => {
                println!("block {}: {} bytes", block.block, block.txlist.bytes().len());
                next = block.block + 1;
                blocks += 1;
            }
            // The execution layer has to undo these blocks.
            BlockUpdate::Reorg { from, dropped } => {
                println!("{} blocks from {from} on are gone", dropped.len());
                next = from;
            }
            // The contracts have settled these blocks, and no peer serves them: take them from L1.
            BlockUpdate::Settled { from, through } => {
                println!("blocks {from} to {through} are on L1");
                next = through + 1;
            }
            BlockUpdate::Waiting { block, .. } => println!("block {block} waits for its transaction list"),
            // Later versions may add kinds.
            _ => {}
        }
    }
    // Whenever the contracts settle a block: it is never replaced any more, and the store may drop what is below it.
    client.chain().update_head(Base::at(next - 1)).await?;
    client.shutdown().await?;
    Ok(next)
}

pub(crate) async fn run() -> Outcome {
    // In your network: the addresses of peers that you know.
    let peer = publisher(4).await?;
    let peers = peer.network().listen_addrs().await?;

    let next = follow(&peers, BASE.next(), 2).await?;
    println!("restarted");
    let next = follow(&peers, next, 2).await?;
    assert_eq!(next, BASE.number + 5, "each block once");
    peer.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
