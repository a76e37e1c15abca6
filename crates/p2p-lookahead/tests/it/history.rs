//! A client that was away for epochs: what it catches up on was signed by whom L1 had elected then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy_primitives::{Bytes, U256, keccak256};
use p2p_client::{
    Base, Keypair, P2pClient, P2pClientConfig, Publishing, SigningKey, UnixSeconds, network::sim::SimNetwork,
};
use p2p_fixtures::{key, rules, sign};
use p2p_lookahead::{L1Lookahead, Source};
use p2p_types::Preconfirmation;
use p2p_validation::{Lookahead, Slot, StaticSchedule, Window};
use tokio::time::{sleep, timeout};

use crate::node::{CHAIN, Node, config, start, tail};

const DEADLINE: Duration = Duration::from_secs(60);
const BASE: u64 = 10;

async fn client(
    world: &SimNetwork,
    identity: u8,
    clock: &Arc<AtomicU64>,
    lookahead: Arc<dyn Lookahead>,
) -> P2pClient {
    let (identity, clock) = (Keypair::ed25519_from_bytes([identity; 32]).unwrap(), Arc::clone(clock));
    let settings = P2pClientConfig::local(CHAIN, identity, rules())
        .with_publishing(Publishing::GuardedUntilRestart)
        .with_clock(move || UnixSeconds::new(clock.load(Ordering::Relaxed)));
    let (handle, events, service) = world.join(settings.network.clone()).unwrap();
    let client = P2pClient::builder(settings, lookahead).network(handle, events, service.run());
    let client = client.start().await.unwrap();
    client.chain().l2_synced(Base::at(BASE)).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catch_up_asks_l1_for_three_epochs_of_history() {
    let Some(node) = Node::start().await else { return };
    let [a, b, c] = [1, 2, 3].map(key);
    let whitelist = node.whitelist(&[a.address(), b.address()]).await;
    node.draw(whitelist, 2, b.address()).await;
    node.draw(whitelist, 4, a.address()).await;
    let store = node.deploy("StoreV1", whitelist).await;
    node.mine_to(start(2) + 24).await;
    node.post(store, 3, &[(c.address(), 4)]).await;
    node.mine_to(start(6)).await;

    // One that was there has what they have signed.
    let turns: [(&SigningKey, u64, u64); 3] =
        [(&b, start(2), tail(2)), (&c, tail(2) + 1, start(3) + 48), (&a, start(4), tail(4))];
    let slots = turns.map(|(key, start, end)| {
        let window = Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) };
        Slot { signer: key.address(), window }
    });
    let (world, clock) = (SimNetwork::new(1), Arc::new(AtomicU64::new(start(2))));
    let there = client(&world, 1, &clock, Arc::new(StaticSchedule::new(slots.to_vec()).unwrap())).await;
    let mut parent = None;
    for (number, (key, _, end)) in (BASE + 1..).zip(turns) {
        let txlist = Bytes::from(number.to_be_bytes().to_vec());
        clock.store(end - 9, Ordering::Relaxed);
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(end - 9),
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: parent.unwrap_or_default(),
            submission_window_end: U256::from(end),
            ..Preconfirmation::default()
        };
        parent = Some(preconf.hash());
        let publisher = there.publisher();
        timeout(DEADLINE, publisher.ready()).await.unwrap().unwrap();
        let _queued = publisher.publish_block(sign(key, preconf), txlist.0).await.unwrap();
    }
    clock.store(start(6), Ordering::Relaxed);

    let (lookahead, service) = L1Lookahead::start(config(&[node.http()], Source::Contract(store))).unwrap();
    let following = tokio::spawn(service.run());
    let late = client(&world, 2, &clock, lookahead.clone()).await;
    late.network().dial(there.network().listen_addrs().await.unwrap().remove(0)).await.unwrap();
    let caught_up = async {
        while late.chain().head().map(|head| head.hash) != parent {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, caught_up).await.unwrap_or_else(|_| panic!("{late:?} {:?}", lookahead.status()));
    let scores = late.network().peers().await.unwrap();
    assert!(scores.iter().all(|peer| peer.score >= 0.0), "{scores:?}");
    following.abort();
}
