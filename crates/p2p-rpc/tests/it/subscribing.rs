//! Subscriptions: replay, then live; across reconnects; and subscribers that do not read.

use p2p_client::P2pClient;
use p2p_fixtures::BASE;
use serde_json::{Value, json};

use crate::rig::{Block, World, quantity};

async fn publish(client: &P2pClient, block: &Block) {
    let _outcome =
        client.publisher().publish_block(block.signed.clone(), block.txlist.clone()).await.unwrap();
}

/// The heights of the next messages, which are all blocks.
async fn heights(socket: &mut crate::rig::Socket, count: usize) -> Vec<Value> {
    let mut heights = Vec::new();
    for _ in 0..count {
        let message = socket.message().await;
        assert_eq!(message["kind"], "block", "{message}");
        heights.push(message["block"].clone());
    }
    heights
}

#[tokio::test]
async fn a_subscriber_has_each_block_once_across_reconnects() {
    let world = World::start().await;
    let chain = Block::chain(12);
    for block in &chain[..4] {
        publish(&world.client, block).await;
    }
    let mut socket = world.socket().await;
    socket.subscribe(json!([{ "from": quantity(BASE + 1) }])).await;
    // From the store, then as they come.
    let first = socket.message().await;
    assert_eq!((&first["hash"], &first["kind"]), (&json!(chain[0].hash()), &json!("block")));
    assert_eq!(first["txList"], json!(alloy_primitives::hex::encode_prefixed(&chain[0].txlist)));
    assert_eq!(heights(&mut socket, 3).await, ["0xc", "0xd", "0xe"]);
    for block in &chain[4..7] {
        publish(&world.client, block).await;
    }
    assert_eq!(heights(&mut socket, 3).await, ["0xf", "0x10", "0x11"]);
    drop(socket);
    // It misses nothing of what comes meanwhile.
    for block in &chain[7..10] {
        publish(&world.client, block).await;
    }
    let mut socket = world.socket().await;
    socket.subscribe(json!([{ "from": 18, "parentHash": chain[6].hash() }])).await;
    for block in &chain[10..] {
        publish(&world.client, block).await;
    }
    assert_eq!(heights(&mut socket, 5).await, ["0x12", "0x13", "0x14", "0x15", "0x16"]);
    world.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_has_another_block_is_sent_back() {
    let world = World::start().await;
    publish(&world.client, &Block::after(None, 0)).await;
    let mut socket = world.socket().await;
    let params = json!([{ "from": BASE + 2, "parentHash": Block::after(None, 1).hash() }]);
    let answer = socket.ask("preconf_subscribe", params).await;
    assert_eq!(answer["error"]["code"], -32026, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(&Block::after(None, 0).hash()));
    // A block that nobody has here, of a chain that has gone.
    let params = json!([{ "from": BASE + 3, "parentHash": Block::after(None, 1).hash() }]);
    let answer = socket.ask("preconf_subscribe", params).await;
    assert_eq!(answer["error"]["code"], -32026, "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn without_a_height_a_subscription_begins_after_the_head() {
    let world = World::start().await;
    let chain = Block::chain(2);
    publish(&world.client, &chain[0]).await;
    let mut socket = world.socket().await;
    socket.subscribe(json!([])).await;
    publish(&world.client, &chain[1]).await;
    assert_eq!(heights(&mut socket, 1).await, [quantity(BASE + 2)]);
    world.stop().await;
}

#[tokio::test]
async fn a_reorg_and_settled_heights_are_told() {
    let world = World::start().await;
    let chain = Block::chain(2);
    for block in &chain {
        publish(&world.client, block).await;
    }
    let mut socket = world.socket().await;
    socket.subscribe(json!([{ "from": 1 }])).await;
    let settled = socket.message().await;
    assert_eq!(settled, json!({ "kind": "settled", "from": "0x1", "through": "0xa" }));
    assert_eq!(heights(&mut socket, 2).await, ["0xb", "0xc"]);
    world.client.chain().notify_reorg(0).await.unwrap();
    let dropped = [chain[0].hash(), chain[1].hash()];
    assert_eq!(socket.message().await, json!({ "kind": "reorg", "from": "0xb", "dropped": dropped }));
    world.stop().await;
}

#[tokio::test]
async fn all_events_can_be_subscribed_to() {
    let world = World::start().await;
    let mut socket = world.socket().await;
    socket.subscribe(json!([{ "kind": "events" }])).await;
    publish(&world.client, &Block::after(None, 0)).await;
    let message = socket.message().await;
    assert_eq!((&message["kind"], &message["event"]["event"]), (&json!("event"), &json!("commitment")));
    assert_eq!(message["event"]["block"], 11);
    world.stop().await;
}

#[tokio::test]
async fn a_subscription_ends_when_it_is_told_to() {
    let world = World::start().await;
    let chain = Block::chain(2);
    let mut socket = world.socket().await;
    let id = socket.ask("preconf_subscribe", json!([])).await["result"].clone();
    publish(&world.client, &chain[0]).await;
    assert_eq!(socket.message().await["block"], "0xb");
    assert_eq!(socket.ask("preconf_unsubscribe", json!([id])).await["result"], true);
    publish(&world.client, &chain[1]).await;
    // What comes next is an answer, not a block.
    assert_eq!(socket.ask("preconf_tip", json!([])).await["result"], "0xc");
    world.stop().await;
}

#[tokio::test]
async fn subscriptions_are_bounded_and_need_a_websocket() {
    let world = World::start().await;
    let mut socket = world.socket().await;
    let answer = socket.ask("preconf_subscribe", json!([{ "kind": "nothing" }])).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    for _ in 0..8 {
        socket.subscribe(json!([{ "from": 1_000 }])).await;
    }
    let answer = socket.ask("preconf_subscribe", json!([{ "from": 1_000 }])).await;
    assert_eq!(answer["error"]["code"], -32006, "{answer}");
    // Others have room, until all have as many as there may be.
    let mut others = Vec::new();
    for _ in 0..7 {
        let mut other = world.socket().await;
        for _ in 0..8 {
            other.subscribe(json!([{ "from": 1_000 }])).await;
        }
        others.push(other);
    }
    let answer = world.socket().await.ask("preconf_subscribe", json!([])).await;
    assert_eq!(answer["error"]["code"], -32025, "{answer}");
    let answer = world.ask("preconf_subscribe", json!([])).await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    world.stop().await;
}

/// A subscriber that never reads holds up neither the chain nor other subscribers.
#[tokio::test]
async fn a_subscriber_that_never_reads_holds_nobody_up() {
    let world = World::start().await;
    // 40 MB of messages: more than the buffers of a connection and of the server hold.
    let chain = Block::chain_of(80, 256 * 1024);
    let mut asleep = world.socket().await;
    asleep
        .send(
            json!({ "jsonrpc": "2.0", "id": 1, "method": "preconf_subscribe", "params": [{ "from": 11 }] })
                .to_string(),
        )
        .await;
    let mut awake = world.socket().await;
    awake.subscribe(json!([{ "from": 11 }])).await;
    for block in &chain {
        publish(&world.client, block).await;
    }
    let seen = heights(&mut awake, chain.len()).await;
    assert_eq!(seen.last().unwrap(), &json!(quantity(BASE + 80)));
    // Whoever wakes up finds all of it, in order.
    assert!(asleep.next().await.unwrap().get("result").is_some());
    assert_eq!(heights(&mut asleep, chain.len()).await, seen);
    world.stop().await;
}
