//! Publishing that is cut off, and what publishing again makes of it.

use std::{future::pending, num::NonZeroUsize, sync::Arc, time::Duration};

use p2p_client::{NetworkConfig, P2pClientError, PublishOutcome};
use p2p_storage::{MemoryStorage, TxListStore as _};
use p2p_types::{SdkEvent, TxList};
use preconfirmation_p2p::sim::SimNetwork;
use tokio::time::timeout;

use super::world::{Block, Left, Node, Parts, World};

/// A network that takes nothing, and does not even say so.
struct Congested<'a>(&'a SimNetwork);

impl World for Congested<'_> {
    const DEADLINE: Duration = SimNetwork::DEADLINE;

    fn join(&self, config: NetworkConfig) -> Parts {
        let (handle, events, service) = World::join(self.0, config);
        let stuck = async move {
            let _stays = service;
            pending().await
        };
        (handle, events, Box::pin(stuck))
    }
}

async fn publish(node: &Node, block: &Block) -> Result<PublishOutcome, P2pClientError> {
    node.client.publisher().ready().await?;
    node.client.publisher().publish_block(block.signed.clone(), block.txlist.clone()).await
}

/// Publishes where the network takes nothing, until the block is stored, and is killed.
async fn killed_between_store_and_send(network: &SimNetwork, block: &Block, gives_up: bool) -> Left {
    let mut node = Node::start(&Congested(network), 1).await;
    {
        let publishing = publish(&node, block);
        tokio::pin!(publishing);
        if gives_up {
            // Polled, and dropped.
            assert!(futures::poll!(&mut publishing).is_pending());
        } else {
            assert!(timeout(Duration::from_secs(60), publishing).await.is_err());
        }
    }
    node.has(std::slice::from_ref(block)).await;
    node.killed().await
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_and_not_sent_is_sent_when_it_is_published_again_and_then_no_more() {
    for gives_up in [false, true] {
        let network = SimNetwork::new(1);
        let block = Block::after(None, 0);
        let left = killed_between_store_and_send(&network, &block, gives_up).await;

        let mut peer = Node::start(&network, 2).await;
        let node = Node::back(&network, left).await;
        peer.dial(&node).await;
        assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::Published { peers: 1 });
        peer.has(std::slice::from_ref(&block)).await;
        assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::AlreadyPublished);

        // It has gone out: a restart does not forget that.
        let left = node.stop().await;
        peer.until(|event| matches!(event, SdkEvent::PeerDisconnected { .. }).then_some(())).await;
        let again = Node::back(&network, left).await;
        peer.dial(&again).await;
        // What catch-up asks is over.
        again.client.publisher().ready().await.unwrap();
        let sent = network.counts().sent;
        assert_eq!(publish(&again, &block).await.unwrap(), PublishOutcome::AlreadyPublished);
        assert_eq!(
            again.client.publisher().publish_commitment(block.signed.clone()).await.unwrap(),
            PublishOutcome::AlreadyPublished
        );
        assert_eq!(
            again.client.publisher().publish_raw_txlist(block.txlist.clone()).await.unwrap(),
            PublishOutcome::AlreadyPublished
        );
        assert_eq!(network.counts().sent, sent, "nothing travels");
    }
}

/// Nobody was there, and the queue of what waits for a peer ends with the process.
#[tokio::test(start_paused = true)]
async fn what_was_queued_when_the_process_ended_is_sent_when_it_is_published_again() {
    let network = SimNetwork::new(1);
    let block = Block::after(None, 0);
    let node = Node::start(&network, 1).await;
    assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::Queued);
    assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::AlreadyPublished);
    let node = Node::back(&network, node.stop().await).await;
    assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::Queued);
    assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::AlreadyPublished);
    let mut peer = Node::start(&network, 2).await;
    peer.dial(&node).await;
    peer.has(std::slice::from_ref(&block)).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_network_could_not_keep_is_sent_when_it_is_published_again() {
    let network = SimNetwork::new(1);
    let block = Block::after(None, 0);
    let node = Node::start_with(&network, 1, |config| {
        config.network.gossip.publish_queue.messages = NonZeroUsize::MIN;
    })
    .await;
    // There is room for the list alone.
    assert!(matches!(publish(&node, &block).await, Err(P2pClientError::Publish(_))));
    let mut peer = Node::start(&network, 2).await;
    peer.dial(&node).await;
    assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::Published { peers: 1 });
    peer.has(std::slice::from_ref(&block)).await;
    assert_eq!(publish(&node, &block).await.unwrap(), PublishOutcome::AlreadyPublished);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_came_from_elsewhere_and_was_not_sent_is_sent() {
    let (network, block) = (SimNetwork::new(1), Block::after(None, 0));
    let storage = Arc::<MemoryStorage>::default();
    let limit = block.txlist.len();
    assert!(storage.put(block.number(), TxList::new(block.txlist.clone(), limit).unwrap()).unwrap());
    let node = Node::with_storage(&network, 1, storage, |_| ()).await;
    let publisher = node.client.publisher();
    for outcome in [PublishOutcome::Queued, PublishOutcome::AlreadyPublished] {
        assert_eq!(publisher.publish_raw_txlist(block.txlist.clone()).await.unwrap(), outcome);
    }
}
