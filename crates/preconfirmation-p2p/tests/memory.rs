//! What a peer that does not read can pin. Alone in its process, because it looks at all memory of it.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "the tests measure real time")]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "this is how tests fail")]

#[path = "it/rig.rs"]
#[allow(dead_code, reason = "the other scenarios use the rest")]
mod rig;

use std::{fs, time::Duration};

use preconfirmation_p2p::{GossipMessage, Network, NetworkConfig, Published, Verdict};
use preconfirmation_types::{B256, Container as _, RawTxListGossip, Topic};

use rig::{Metrics, Node, config, eventually, soon};

const MIB: usize = 1024 * 1024;

/// What is published: so many lists of a MiB.
const LISTS: u8 = 96;

/// What may wait for one peer.
const QUEUE: usize = 8 * MIB;

/// What else is there because of it: the frame in writing, and what the peer itself, which is in the same
/// process, has taken in before it stopped: eight lists, and the frames that they came in.
const BESIDES: usize = 40 * MIB;

/// Nearly everything that was published is forgotten at once, so that what is left is what waits.
fn forgetful() -> NetworkConfig {
    let mut config = config();
    config.gossip.heartbeat = Duration::from_millis(100);
    config.gossip.history = 2.try_into().unwrap();
    config.gossip.history_gossip = 1;
    config.gossip.send_queue_bytes = QUEUE.try_into().unwrap();
    config
}

/// The most memory of this process, in bytes, while lists are published to one who reads and perhaps to one
/// who does not.
async fn peak(deaf: bool) -> usize {
    let metrics = Metrics::install();
    let (mut author, mut honest) = (Node::start(forgetful()), Node::start(forgetful()));
    author.meet(&mut honest).await;
    let (handle, _events, service) = Network::new(forgetful()).unwrap();
    let mut service = Box::pin(service.run());
    if deaf {
        let address = soon(author.handle.listen_addrs()).await.unwrap().remove(0);
        tokio::select! {
            ended = &mut service => panic!("{ended:?}"),
            () = async {
                soon(handle.dial(address)).await.unwrap();
                author.subscribed(handle.local_peer_id()).await;
            } => {}
        }
        // From here on nobody polls its service.
    }
    fs::write("/proc/self/clear_refs", "5").unwrap();
    for number in 0..LISTS {
        let raw_tx_list_hash = B256::repeat_byte(number);
        let list = RawTxListGossip { raw_tx_list_hash, txlist: vec![number; MIB].into() };
        let sent = soon(author.handle.publish(Topic::RawTxLists, list.to_ssz().into())).await;
        assert!(matches!(sent, Ok(Published::Sent { .. })), "{sent:?}");
        assert_eq!(honest.judge(Verdict::Accept).await, GossipMessage::TxList(list));
    }
    if deaf {
        eventually(|| async { author.status(handle.local_peer_id()).await.is_none().then_some(()) }).await;
    }
    assert_eq!(metrics.count("p2p_queue_dropped_total", "send_"), u64::from(deaf));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_peer_that_does_not_read_pins_no_more_than_its_queue_may_hold() {
    let without = peak(false).await;
    let with = peak(true).await;
    println!("{} MiB without, {} MiB with", without / MIB, with / MIB);
    assert!(with < without + QUEUE + BESIDES, "{} MiB without, {} MiB with", without / MIB, with / MIB);
}
