//! Finds peers by discv5 from one bootnode.
//!
//! `cargo run -p p2p-client --example bootnodes`

mod support;

use p2p_client::{DiscoveryConfig, Keypair, P2pClient, P2pClientConfig};
use support::{Outcome, config, schedule};

/// A node that looks for peers. On the open internet, `DiscoveryConfig::new` and a fixed UDP port.
fn discovering() -> P2pClientConfig {
    let mut config = config();
    // discv5 knows secp256k1 only. Keep the key, or the node has a new name after each restart.
    config.network.identity = Keypair::generate_secp256k1();
    config.network.discovery = Some(DiscoveryConfig::local());
    // As long as there are fewer peers than this, the node looks for more.
    config.network.peers.low = 2;
    config
}

pub(crate) async fn run() -> Outcome {
    let bootnode = P2pClient::start(discovering(), schedule()?).await?;
    let enr = bootnode.network().local_enr().await.ok_or("discovery is off")?;
    println!("bootnode {enr}");

    let mut config = discovering();
    // An ENR, an enode URL or a multiaddr.
    config.network.bootnodes = vec![enr.parse()?];
    let client = P2pClient::start(config, schedule()?).await?;
    client.network().wait_for_bootstrap().await?;
    for peer in client.network().peers().await? {
        println!("{} runs {}", peer.peer, peer.agent.as_deref().unwrap_or("something"));
    }
    client.shutdown().await?;
    bootnode.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
