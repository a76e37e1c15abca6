//! Peers, as the clients of op-node ask for them and order them about.

use p2p_client::Base;
use p2p_fixtures::{BASE, key, schedule};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{DEADLINE, World, client_config, server_config};

async fn world(identity: u8) -> World {
    World::start_with(client_config(identity), schedule(&[key(1)]), server_config(), Some(Base::at(BASE)))
        .await
}

async fn id(world: &World) -> String {
    world.call("opp2p_self", json!([])).await["peerID"].as_str().unwrap().to_owned()
}

async fn address(world: &World) -> Value {
    world.call("opp2p_self", json!([])).await["addresses"][0].clone()
}

/// Waits until so many peers are connected.
async fn connected(world: &World, count: usize) {
    let counted = async {
        while world.call("opp2p_peerStats", json!([])).await["connected"] != count {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, counted).await.unwrap();
}

#[tokio::test]
async fn a_peer_has_the_fields_that_clients_of_op_node_read() {
    let (one, other) = (world(7).await, world(8).await);
    assert_eq!(one.call("opp2p_connectPeer", json!([address(&other).await])).await, Value::Null);
    timeout(DEADLINE, one.client.network().wait_for_peers(1)).await.unwrap().unwrap();
    let dump = one.call("opp2p_peers", json!([true])).await;
    let fields = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        fields(&dump),
        ["bannedIPS", "bannedPeers", "bannedSubnets", "configuredPeers", "peers", "totalConnected"]
    );
    assert_eq!(dump["totalConnected"], 1);
    let peer = &dump["peers"][&id(&other).await];
    let expected = [
        "ENR",
        "addresses",
        "chainID",
        "connectedness",
        "direction",
        "gossipBlocks",
        "latency",
        "nodeID",
        "peerID",
        "protected",
        "protocolVersion",
        "protocols",
        "scores",
        "userAgent",
    ];
    assert_eq!(fields(peer), expected);
    assert_eq!(
        (&peer["connectedness"], &peer["direction"], &peer["chainID"]),
        (&json!(1), &json!(2), &json!(167_000))
    );
    assert_eq!(peer["userAgent"].as_str().unwrap().split('/').next(), Some("preconfirmation-p2p"));
    let scores = ["IPColocationFactor", "behavioralPenalty", "blocks", "total"];
    assert_eq!(fields(&peer["scores"]["gossip"]), scores);
    // The other end sees the same connection from the other side.
    connected(&other, 1).await;
    let theirs = other.call("opp2p_peers", json!([false])).await["peers"][&id(&one).await].clone();
    assert_eq!(theirs["direction"], 1);
    let stats = one.call("opp2p_peerStats", json!([])).await;
    assert_eq!(fields(&stats), ["banned", "blocksTopic", "connected", "known", "table"]);
    let raw = one.call("debug_peers", json!([])).await;
    assert_eq!(raw[0]["peer"], id(&other).await);
    assert_eq!(one.call("debug_counts", json!([])).await["dropped"], 0);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_configured_peer_is_listed_whether_it_is_there_or_not() {
    let other = world(8).await;
    let there = address(&other).await.as_str().unwrap().to_owned();
    // Nobody listens on port 1.
    let nowhere = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", p2p_client::PeerId::random());
    let mut config = client_config(7);
    config.network.static_peers = vec![there.parse().unwrap(), nowhere.parse().unwrap()];
    let one = World::start_with(config, schedule(&[key(1)]), server_config(), None).await;
    let told = async {
        loop {
            let configured = one.call("opp2p_peers", json!([true])).await["configuredPeers"].take();
            if configured[0]["state"] == "connected" && configured[1]["lastError"].is_string() {
                return configured;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let configured = timeout(DEADLINE, told).await.unwrap();
    assert_eq!(
        (&configured[0]["peerID"], &configured[0]["lastError"]),
        (&json!(id(&other).await), &Value::Null)
    );
    assert_eq!((&configured[0]["attempts"], &configured[0]["since"]), (&json!(0), &json!(crate::rig::NOW)));
    let lost = &configured[1];
    assert_eq!(lost["addresses"], json!([nowhere]));
    assert!(lost["attempts"].as_u64().unwrap() >= 1 && lost["state"] != "connected", "{lost}");
    assert!(lost["lastError"].as_str().unwrap().contains("refused"), "{lost}");
    // Once it is gone it is listed all the same.
    other.stop().await;
    let gone = async {
        while one.call("opp2p_peers", json!([true])).await["configuredPeers"][0]["state"] == "connected" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
    one.stop().await;
}

#[tokio::test]
async fn a_blocked_peer_is_disconnected_and_kept_away() {
    let (one, other) = (world(7).await, world(8).await);
    let (peer, there) = (json!([id(&other).await]), json!([address(&other).await]));
    one.call("opp2p_connectPeer", there.clone()).await;
    connected(&one, 1).await;
    assert_eq!(one.call("opp2p_blockPeer", peer.clone()).await, Value::Null);
    connected(&one, 0).await;
    assert_eq!(one.call("opp2p_listBlockedPeers", json!([])).await, peer);
    assert_eq!(one.call("opp2p_peers", json!([true])).await["bannedPeers"], peer);
    assert_eq!(one.refusal("opp2p_connectPeer", there.clone()).await.0, -32027);
    // Nor does it get in by itself: the connection is closed again as soon as it stands.
    drop(other.ask("opp2p_connectPeer", json!([address(&one).await])).await);
    connected(&other, 0).await;
    connected(&one, 0).await;
    one.call("opp2p_unblockPeer", peer).await;
    one.call("opp2p_connectPeer", there).await;
    connected(&one, 1).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_blocked_address_or_subnet_is_kept_away() {
    let (one, other) = (world(7).await, world(8).await);
    let there = json!([address(&other).await]);
    for (block, unblock, list, entry) in [
        ("opp2p_blockAddr", "opp2p_unblockAddr", "opp2p_listBlockedAddrs", "127.0.0.1"),
        ("opp2p_blockSubnet", "opp2p_unblockSubnet", "opp2p_listBlockedSubnets", "127.0.0.0/8"),
    ] {
        one.call("opp2p_connectPeer", there.clone()).await;
        connected(&one, 1).await;
        one.call(block, json!([entry])).await;
        connected(&one, 0).await;
        assert_eq!(one.call(list, json!([])).await, json!([entry]));
        assert_eq!(one.refusal("opp2p_connectPeer", there.clone()).await.0, -32027, "{entry}");
        one.call(unblock, json!([entry])).await;
        assert_eq!(one.call(list, json!([])).await, json!([]));
    }
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_peer_is_disconnected_and_protected_on_demand() {
    let (one, other) = (world(7).await, world(8).await);
    let peer = json!([id(&other).await]);
    assert_eq!(one.refusal("opp2p_disconnectPeer", peer.clone()).await.0, -32027);
    one.call("opp2p_connectPeer", json!([address(&other).await])).await;
    connected(&one, 1).await;
    let protected = async || {
        one.call("opp2p_peers", json!([true])).await["peers"][peer[0].as_str().unwrap()]["protected"].clone()
    };
    one.call("opp2p_protectPeer", peer.clone()).await;
    assert_eq!(protected().await, true);
    one.call("opp2p_unprotectPeer", peer.clone()).await;
    assert_eq!(protected().await, false);
    one.call("opp2p_disconnectPeer", peer.clone()).await;
    connected(&one, 0).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_names_no_peer_and_no_address_is_refused() {
    let world = world(7).await;
    for (method, param) in [
        ("opp2p_connectPeer", json!("10.0.0.7:9222")),
        ("opp2p_connectPeer", json!(7)),
        ("opp2p_disconnectPeer", json!("nobody")),
        ("opp2p_blockPeer", json!("")),
        ("opp2p_blockAddr", json!("127.0.0.0/8")),
        ("opp2p_blockSubnet", json!("127.0.0.1")),
        ("opp2p_blockSubnet", json!("127.0.0.1/33")),
        ("opp2p_protectPeer", json!(null)),
        ("opp2p_peers", json!("true")),
    ] {
        assert_eq!(world.refusal(method, json!([param])).await.0, -32602, "{method} {param}");
    }
    world.stop().await;
}
