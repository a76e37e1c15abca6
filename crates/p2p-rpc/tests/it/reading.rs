//! What is read: status, schedule, commitments, blocks, lists, evidence; and what the caller tells.

use alloy_primitives::hex;
use p2p_client::{keccak256, wire::Container as _};
use p2p_fixtures::{BASE, WINDOW, key};
use serde_json::{Value, json};

use crate::rig::{Block, World, client_config, quantity, server_config};

#[tokio::test]
async fn blocks_are_found_by_height_and_by_hash() {
    let world = World::start().await;
    let chain = Block::chain(5);
    for block in &chain {
        world.call("preconf_publishBlock", block.params()).await;
    }
    assert_eq!(world.call("preconf_tip", json!([])).await, quantity(BASE + 5));
    let third = &chain[2];
    let expected = json!({
        "block": quantity(third.number()),
        "hash": third.hash(),
        "parentHash": chain[1].hash(),
        "signer": key(1).address(),
        "txListHash": keccak256(&third.txlist),
        "commitment": hex::encode_prefixed(third.signed.to_ssz()),
        "commitmentHash": keccak256(third.signed.to_ssz()),
    });
    for id in [json!(third.number()), json!(quantity(third.number())), json!("13"), json!(third.hash())] {
        assert_eq!(world.call("preconf_getCommitment", json!([id])).await, expected);
    }
    let mut block = expected.clone();
    block["txList"] = json!(hex::encode_prefixed(&third.txlist));
    assert_eq!(world.call("preconf_getBlock", json!([third.hash()])).await, block);
    let list = world.call("preconf_getTxList", json!([keccak256(&third.txlist)])).await;
    assert_eq!(list, block["txList"]);

    let page = world.call("preconf_getCommitments", json!([{ "from": 12, "limit": 2 }])).await;
    let heights: Vec<_> = page.as_array().unwrap().iter().map(|of| &of["block"]).collect();
    assert_eq!(heights, ["0xc", "0xd"]);
    assert_eq!(page[1], expected);
    let all = world.call("preconf_getCommitments", json!([{ "from": "0x0" }])).await;
    assert!(all.as_array().unwrap().is_empty(), "no gaps: nothing stands at that height");

    let unknown = json!([keccak256("unknown")]);
    for (method, params) in [
        ("preconf_getCommitment", unknown.clone()),
        ("preconf_getCommitment", json!([99])),
        ("preconf_getCommitment", json!([format!("0x{}", "f".repeat(63))])),
        ("preconf_getBlock", unknown.clone()),
        ("preconf_getTxList", unknown),
    ] {
        assert_eq!(world.call(method, params).await, Value::Null, "{method}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_schedule_is_told_turn_by_turn() {
    let keys = [key(1), key(2)];
    let lookahead = p2p_fixtures::schedule(&keys);
    let world = World::start_with(client_config(7), lookahead, server_config(), None).await;
    let turn = |index: u64| {
        let signer = keys[usize::try_from(index).unwrap() % 2].address();
        let (start, end) = (index * WINDOW, (index + 1) * WINDOW - 1);
        json!({
            "signer": signer,
            "submissionWindowStart": quantity(start),
            "submissionWindowEnd": quantity(end),
        })
    };
    let schedule = world.call("preconf_getSchedule", json!([{ "count": 3 }])).await;
    assert_eq!(schedule["turns"], json!([turn(0), turn(1), turn(2)]));
    assert_eq!((&schedule["expected"], &schedule["anySigner"]), (&turn(0), &json!(false)));
    let later = world.call("preconf_getSchedule", json!([{ "from": WINDOW, "count": 1 }])).await;
    assert_eq!(later["turns"], json!([turn(1)]));
    let most = world.call("preconf_getSchedule", json!([{ "count": 100_000 }])).await;
    assert_eq!(most["turns"].as_array().unwrap().len(), 256);

    for timestamp in [json!(WINDOW + 5), json!((WINDOW + 5).to_string()), json!(quantity(WINDOW + 5))] {
        let info = world.call("preconf_getPreconfSlotInfo", json!([timestamp])).await;
        assert_eq!(
            info,
            json!({ "signer": key(2).address(), "submissionWindowEnd": quantity(2 * WINDOW - 1) })
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn the_status_tells_whether_the_node_may_stop() {
    let lookahead = p2p_fixtures::schedule(&[key(1), key(2), key(3)]);
    let server = server_config().with_version("node/1").with_chain_id(167_013);
    let world = World::start_with(client_config(7), lookahead, server, None).await;
    let status = world.call("preconf_status", json!([])).await;
    assert_eq!(
        (&status["base"], &status["head"], &status["lag"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&status["version"], &status["chainId"]), (&json!("node/1"), &json!("0x28c65")));
    assert_eq!(status["p2pChainId"], "0x28c58");
    assert_eq!(status["canShutdown"]["allowed"], true);
    let field = world.call("preconf_getStatus", json!([])).await;
    assert_eq!((&field["isSyncedWithInbox"], &field["eventSyncTip"]), (&json!(false), &Value::Null));

    assert_eq!(world.call("preconf_notifyL2Synced", json!([{ "number": quantity(BASE) }])).await, true);
    tokio::time::timeout(crate::rig::DEADLINE, world.client.publisher().ready()).await.unwrap().unwrap();
    let block = Block::after(None, 0);
    world.call("preconf_publishBlock", block.params()).await;
    // Alone it has nobody to ask.
    let stalled = async {
        loop {
            let status = world.call("preconf_status", json!([])).await;
            if status["sync"]["state"] == "stalled" {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(crate::rig::DEADLINE, stalled).await.unwrap();
    assert_eq!(status["base"], json!({ "number": quantity(BASE), "hash": null }));
    assert_eq!(status["head"], json!({ "number": quantity(BASE + 1), "hash": block.hash() }));
    assert_eq!((&status["applied"], &status["seen"]), (&json!("0xb"), &json!("0xb")));
    assert_eq!((&status["peers"], &status["leniencies"]), (&json!(0), &json!([])));
    // Its signer has published here and has its turn.
    assert_eq!(status["canShutdown"]["allowed"], false);
    let reason = status["canShutdown"]["reason"].as_str().unwrap();
    assert!(reason.contains(&key(1).address().to_string()), "{reason}");
    let field = world.call("preconf_getStatus", json!([])).await;
    let peer = world.client.network().local_peer_id().to_string();
    let expected = json!({
        "isSyncedWithInbox": true, "eventSyncTip": "0xa", "preconfTip": "0xb", "peerCount": 0, "peerId": peer,
    });
    assert_eq!(field, expected);
    world.stop().await;
}

#[tokio::test]
async fn a_settled_block_and_a_reorg_of_l1_are_told() {
    let world = World::start().await;
    let chain = Block::chain(3);
    for block in &chain {
        world.call("preconf_publishBlock", block.params()).await;
    }
    let settled = json!([{ "number": BASE + 1, "hash": chain[0].hash() }]);
    assert_eq!(world.call("preconf_updateHead", settled).await, true);
    let base = world.call("preconf_status", json!([])).await["base"].clone();
    assert_eq!(base, json!({ "number": quantity(BASE + 1), "hash": chain[0].hash() }));
    // All blocks are anchored to L1's block 0.
    let reorg = world.call("preconf_notifyReorg", json!([0])).await;
    let affected = [chain[1].hash(), chain[2].hash()];
    assert_eq!(reorg, json!({ "anchor": "0x0", "from": quantity(BASE + 2), "affected": affected }));
    assert_eq!(world.call("preconf_tip", json!([])).await, quantity(BASE + 1));
    for (method, params) in [
        ("preconf_updateHead", json!([{ "number": format!("0x{}", "f".repeat(64)) }])),
        ("preconf_updateHead", json!([{}])),
        ("preconf_notifyReorg", json!([{ "anchor": 1 }])),
        ("preconf_notifyL2Synced", json!([7])),
    ] {
        assert_eq!(world.refusal(method, params).await.0, -32602, "{method}");
    }
    world.stop().await;
}

/// Two nodes: one hears the other's signer contradict itself, which the other node would have refused.
#[tokio::test]
async fn evidence_is_told_with_both_commitments() {
    let world = World::start().await;
    let other = World::start_with(
        client_config(8),
        p2p_fixtures::schedule(&[key(1)]),
        server_config(),
        Some(p2p_client::Base::at(BASE)),
    )
    .await;
    let (mine, theirs) = (Block::after(None, 0), Block::after(None, 1));
    world.call("preconf_publishBlock", mine.params()).await;
    other.call("preconf_publishBlock", theirs.params()).await;
    let mut events = world.client.subscribe();
    let address = other.client.network().listen_addrs().await.unwrap().remove(0);
    world.client.network().dial(address).await.unwrap();
    let heard = async {
        loop {
            if let Ok(Some(p2p_client::SdkEvent::Evidence { .. })) = events.next_event().await {
                break;
            }
        }
    };
    tokio::time::timeout(crate::rig::DEADLINE, heard).await.unwrap();
    let evidence = world.call("preconf_getEvidence", json!([])).await;
    let [piece] = evidence.as_array().unwrap().as_slice() else { panic!("{evidence}") };
    assert_eq!((&piece["kind"], &piece["block"]), (&json!("equivocation"), &json!("0xb")));
    let mut both = [piece["first"].clone(), piece["second"].clone()];
    both.sort_by_key(ToString::to_string);
    let mut expected = [&mine, &theirs].map(|block| json!(hex::encode_prefixed(block.signed.to_ssz())));
    expected.sort_by_key(ToString::to_string);
    assert_eq!(both, expected);
    for (params, pieces) in [
        (json!([{ "signer": key(1).address() }]), 1),
        (json!([{ "signer": key(2).address() }]), 0),
        (json!([{ "offset": 1 }]), 0),
        (json!([{ "limit": 0 }]), 0),
    ] {
        let found = world.call("preconf_getEvidence", params.clone()).await;
        assert_eq!(found.as_array().unwrap().len(), pieces, "{params}");
    }
    other.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_timestamp_outside_of_the_schedule_is_refused() {
    let world = World::start().await;
    for timestamp in [json!(format!("0x{}", "f".repeat(64))), json!("x"), json!(-1), json!(null), json!({})] {
        let (code, _) = world.refusal("preconf_getPreconfSlotInfo", json!([timestamp])).await;
        assert_eq!(code, -32602, "{timestamp}");
    }
    world.stop().await;
}
