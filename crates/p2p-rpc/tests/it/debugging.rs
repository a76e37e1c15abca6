//! What whoever looks into a node is told: what waits, and what only the program around the server knows.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use p2p_client::{
    Base, Bootnode,
    network::{DiscoveryConfig, PeersConfig},
};
use p2p_fixtures::{BASE, key, schedule};
use p2p_rpc::{Host, L1Report, L2Report, LeaseReport, LogFilterError, SlowMessage};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{Block, DEADLINE, World, client_config, server_config};

#[tokio::test]
async fn what_waits_is_counted() {
    let world = World::start().await;
    let queues = world.call("debug_queues", json!([])).await;
    assert_eq!(queues["network"]["publishQueue"], 0);
    assert_eq!(queues["pending"], json!({ "parent": 0, "schedule": 0, "txList": 0, "orphanBytes": 0 }));
    // Nobody is there to take a commitment and its list.
    world.call("preconf_publishBlock", Block::after(None, 0).params()).await;
    assert_eq!(world.call("debug_queues", json!([])).await["network"]["publishQueue"], 2);
    world.stop().await;
}

/// A program that follows both layers, and whose log takes one filter.
#[derive(Debug)]
struct Program {
    filter: Mutex<String>,
}

impl Host for Program {
    fn l1(&self) -> Option<L1Report> {
        Some(L1Report::new(Some(21), Some(1_760_000_000), None))
    }

    fn l2(&self) -> Option<L2Report> {
        Some(L2Report::new(Some(10), Some(1_760_000_012), true, Some("it hung up".into())))
    }

    fn lease(&self) -> Option<LeaseReport> {
        Some(LeaseReport::new("standby", Some("node-a".into()), 7, "other"))
    }

    fn slow_messages(&self) -> Vec<SlowMessage> {
        let fields = [("outcome".to_owned(), "stored".to_owned())].into();
        let (total, busy) = (Duration::from_millis(230), Duration::from_millis(9));
        vec![SlowMessage::new("message", 1_760_000_000, total, busy, fields)]
    }

    fn log_filter(&self) -> Option<String> {
        Some(self.filter.lock().unwrap().clone())
    }

    fn set_log_filter(&self, directives: &str) -> Result<(), LogFilterError> {
        if directives == "p2p_client=what" {
            return Err(LogFilterError::Invalid {
                directives: directives.into(),
                problem: "no level".into(),
            });
        }
        *self.filter.lock().unwrap() = directives.into();
        Ok(())
    }
}

#[tokio::test]
async fn the_program_around_the_server_tells_of_l1_l2_its_lease_and_its_log() {
    let server = server_config().with_host(Arc::new(Program { filter: Mutex::new("info".into()) }));
    let world = World::start_with(client_config(7), schedule(&[key(1)]), server, Some(Base::at(BASE))).await;
    let status = world.call("preconf_status", json!([])).await;
    assert_eq!(status["l1"], json!({ "head": "0x15", "timestamp": "0x68e77800", "error": null }));
    let l2 = json!({ "settled": "0xa", "at": 1_760_000_012, "isSynced": true, "error": "it hung up" });
    assert_eq!(status["l2"], l2);
    let lease = json!({ "role": "standby", "leader": "node-a", "token": 7, "why": "other" });
    assert_eq!(status["lease"], lease);
    let slow = json!({
        "kind": "message", "at": 1_760_000_000, "totalMs": 230, "busyMs": 9, "fields": { "outcome": "stored" },
    });
    assert_eq!(world.call("debug_slowMessages", json!([])).await, json!([slow]));
    assert_eq!(world.call("debug_setLogFilter", json!(["warn"])).await, "info");
    assert_eq!(world.call("debug_logFilter", json!([])).await, "warn");
    let (code, message) = world.refusal("debug_setLogFilter", json!(["p2p_client=what"])).await;
    assert!(code == -32602 && message.contains("no level"), "{code} {message}");
    assert_eq!(world.call("debug_logFilter", json!([])).await, "warn");
    world.stop().await;
}

#[tokio::test]
async fn without_a_program_that_tells_there_is_nothing_to_tell() {
    let world = World::start().await;
    let status = world.call("preconf_status", json!([])).await;
    assert_eq!((&status["l1"], &status["l2"]), (&Value::Null, &Value::Null));
    assert_eq!(world.call("debug_slowMessages", json!([])).await, json!([]));
    assert_eq!(world.call("debug_logFilter", json!([])).await, Value::Null);
    assert_eq!(world.refusal("debug_setLogFilter", json!(["warn"])).await.0, -32000);
    assert_eq!(world.refusal("opp2p_discoveryTable", json!([])).await.0, -32027);
    world.stop().await;
}

#[tokio::test]
async fn the_discovery_table_has_the_records_of_other_nodes() {
    let start = async |identity, bootnodes: Vec<Bootnode>| {
        let mut config = client_config(identity);
        // Discovery is of a curve that libp2p's other identities have not.
        config.network.identity = p2p_client::Keypair::generate_secp256k1();
        config.network.discovery = Some(DiscoveryConfig::local());
        // Those of tests want no peers.
        config.network.peers = PeersConfig::default();
        config.network.bootnodes = bootnodes;
        World::start_with(config, schedule(&[key(1)]), server_config(), None).await
    };
    let first = start(7, Vec::new()).await;
    let record = first.call("opp2p_self", json!([])).await["ENR"].as_str().unwrap().to_owned();
    let second = start(8, vec![record.parse().unwrap()]).await;
    let listed = async {
        while second.call("opp2p_discoveryTable", json!([])).await != json!([record]) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, listed).await.unwrap();
    first.stop().await;
    second.stop().await;
}
