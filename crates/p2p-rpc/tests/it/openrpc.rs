//! The OpenRPC document: the one that is served, the one that is committed, and what is registered.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::rig::World;

#[test]
fn the_committed_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openrpc.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let current = p2p_rpc::document().unwrap();
    assert!(committed == current, "cargo run -p p2p-rpc --example openrpc > docs/openrpc.json");
}

/// Every reference leads to a schema, and every name is another.
#[test]
fn the_document_is_whole() {
    let document = p2p_rpc::document().unwrap();
    let methods = document["methods"].as_array().unwrap();
    let names: HashSet<_> = methods.iter().map(|method| method["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), methods.len());
    for name in ["preconf_publishBlock", "preconf_subscribe", "opp2p_peers", "debug_counts"] {
        assert!(names.contains(name), "{name}");
    }
    let text = document.to_string();
    let references =
        text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap());
    for reference in references {
        assert!(document["components"]["schemas"].get(reference).is_some(), "{reference}");
    }
    let publish = methods.iter().find(|method| method["name"] == "preconf_publishBlock").unwrap();
    let codes: Vec<_> = publish["errors"].as_array().unwrap().iter().map(|error| &error["code"]).collect();
    assert!(codes.contains(&&json!(-32020)), "{codes:?}");
}

#[tokio::test]
async fn what_is_served_is_what_is_described() {
    let world = World::start().await;
    let served = world.call("rpc.discover", json!([])).await;
    assert!(served == p2p_rpc::document().unwrap());
    for method in served["methods"].as_array().unwrap() {
        let name = method["name"].as_str().unwrap();
        // Named parameters are refused by whoever is there.
        let code = world.refusal_code(name, json!({ "a": 1 })).await;
        let expected = if name == "preconf_subscribe" { -32603 } else { -32602 };
        assert_eq!(code, expected, "{name}");
    }
    world.stop().await;
}
