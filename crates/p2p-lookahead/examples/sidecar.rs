//! The sidecar of `docs/guide.md` that runs on endpoints of L1 and L2.

use std::{env, error::Error};

use p2p_client::{Keypair, Lagged, P2pClient, P2pClientConfig, SdkEvent, SigningDomain, Subscription};
use p2p_lookahead::{L1Config, L1Lookahead, L2Config, L2Follower, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [peer, slasher, inbox, l1, l2] = args.as_slice() else {
        return Err("usage: sidecar PEER SLASHER INBOX L1 L2".into());
    };
    let (genesis, inbox) = (L1Config::genesis_of(1).ok_or("no genesis")?, Source::Inbox(inbox.parse()?));
    let l1 = L1Config::recommended(vec![l1.parse()?], 1, genesis, inbox);
    let (lookahead, service) = L1Lookahead::start(l1)?;
    let updates = lookahead.updates();
    let (_, settled) = L2Follower::new(L2Config::recommended(vec![l2.parse()?], 167_000))?;

    let (key, domain) = (Keypair::generate_ed25519(), SigningDomain::PLACEHOLDER);
    let config = P2pClientConfig::mainnet(key, domain, slasher.parse()?).with_static_peers([peer.parse()?]);
    let client = P2pClient::start(config, lookahead).await?;
    let chain = client.chain();
    tokio::select! {
        ended = service.run() => ended?,
        ended = chain.follow_l1(updates) => ended?,
        ended = chain.follow_l2(settled) => ended?,
        ended = show(client.subscribe()) => ended?,
    }
    Ok(())
}

async fn show(mut events: Subscription) -> Result<(), Lagged> {
    while let Some(event) = events.next_event().await? {
        match event {
            SdkEvent::BlockReady { block, hash, .. } => println!("block {block} {hash}"),
            SdkEvent::Settled { block, promise, .. } => println!("settled {block}: {}", promise.label()),
            _ => {}
        }
    }
    Ok(())
}
