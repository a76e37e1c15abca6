//! The sidecar of `docs/guide.md` that runs on endpoints of L1 and L2.

use std::{env, error::Error};

use p2p_client::{Keypair, P2pClient, P2pClientConfig, SdkEvent, SigningDomain};
use p2p_lookahead::{L1Config, L1Event, L1Lookahead, L2Config, L2Follower, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [peer, slasher, inbox, l1, l2] = args.as_slice() else {
        return Err("usage: sidecar PEER SLASHER INBOX L1 L2".into());
    };
    // Who may sign, and when: L1's contracts tell it.
    let (endpoint, inbox) = (l1.parse()?, Source::Inbox(inbox.parse()?));
    let genesis = L1Config::genesis_of(1).ok_or("no genesis")?;
    let (lookahead, service) = L1Lookahead::start(L1Config::recommended(vec![endpoint], 1, genesis, inbox))?;
    let mut l1 = lookahead.subscribe();

    let (key, domain) = (Keypair::generate_ed25519(), SigningDomain::PLACEHOLDER);
    let config = P2pClientConfig::mainnet(key, domain, slasher.parse()?).with_static_peers([peer.parse()?]);
    let client = P2pClient::start(config, lookahead).await?;
    let (chain, mut events) = (client.chain(), client.subscribe());

    // What the contracts have settled: the L2 node tells it.
    let (_, follower) = L2Follower::new(L2Config::recommended(vec![l2.parse()?], 167_000))?;
    let (following, settling) = (service.run(), chain.follow_l2(follower));
    tokio::pin!(following, settling);
    loop {
        tokio::select! {
            ended = &mut following => return Ok(ended?),
            ended = &mut settling => return Ok(ended?),
            event = l1.recv() => match event? {
                L1Event::Head(head) => chain.update_l1_head(head.number).await?,
                L1Event::Reorg { lowest } => drop(chain.notify_reorg(lowest).await?),
                L1Event::Changed { from } => drop(chain.notify_schedule_changed(from).await?),
                _ => {}
            },
            event = events.next_event() => match event? {
                Some(SdkEvent::BlockReady { block, hash, .. }) => println!("block {block} {hash}"),
                Some(SdkEvent::Settled { block, promise, .. }) => println!("settled {block}: {}", promise.label()),
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}
