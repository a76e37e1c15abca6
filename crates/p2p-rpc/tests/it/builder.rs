//! The block builder that exists, played with its habits: it asks whose turn it is before each block, gives up after 1.5 s,
//! never tries again, and takes the parent from an execution node that somebody else has to feed.

use std::{sync::Arc, time::Duration};

use p2p_client::{
    Address, Base, P2pClientConfig, PreconfCommitment, Preconfirmation, SigningDomain, U256,
    ValidationConfig, ZeroParent, keccak256,
};
use p2p_fixtures::{BASE, WINDOW, key, schedule};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{DEADLINE, World, client_config, params, quantity, server_config, txlist};

/// How long it waits for an answer.
const GIVES_UP: Duration = Duration::from_millis(1_500);

/// A node for it: it names no slasher and no parents.
fn config(identity: u8) -> P2pClientConfig {
    let mut config = client_config(identity);
    config.validation = ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::ZERO);
    config.with_zero_parent(ZeroParent::FollowsHeight)
}

async fn node(identity: u8) -> World {
    World::start_with(config(identity), schedule(&[key(1)]), server_config(), Some(Base::at(BASE))).await
}

/// The program, and the execution node that it asks for its parent.
struct Builder<'a> {
    node: &'a World,
    /// The head of the execution node.
    executed: u64,
    /// Blocks that it has made. Each has a timestamp and a list of its own.
    made: u64,
}

impl Builder<'_> {
    /// One round: whose turn is it, a block, one try.
    async fn round(&mut self) -> Option<Value> {
        let now = BASE + 1 + self.made;
        let slot = self.node.call("preconf_getPreconfSlotInfo", json!([quantity(now)])).await;
        if slot["signer"] != json!(key(1).address()) {
            return None;
        }
        self.made += 1;
        let number = self.executed + 1;
        let txlist = txlist(&self.made.to_be_bytes());
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(now),
            gas_limit: U256::from(241_000_000),
            coinbase: key(1).address(),
            anchor_block_number: U256::from(7),
            raw_tx_list_hash: keccak256(&txlist),
            submission_window_end: U256::from(WINDOW - 1),
            proposal_id: U256::from(number),
            ..Default::default()
        };
        let unsigned = PreconfCommitment { preconf, slasher_address: Address::ZERO };
        let signed = unsigned.sign(&key(1), &SigningDomain::PLACEHOLDER);
        timeout(GIVES_UP, self.node.ask("preconf_publishBlock", params(&signed, &txlist))).await.ok()
    }

    /// Somebody feeds the execution node with what the node has.
    async fn feed(&mut self) {
        let tip = self.node.call("preconf_tip", json!([])).await;
        self.executed = u64::from_str_radix(&tip.as_str().unwrap()[2..], 16).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_equivocation_of_the_builder_leaves_the_node() {
    let (own, peer) = (node(7).await, node(8).await);
    let address = peer.client.network().listen_addrs().await.unwrap().remove(0);
    own.client.network().dial(address).await.unwrap();
    timeout(DEADLINE, own.client.network().wait_for_peers(1)).await.unwrap().unwrap();
    timeout(DEADLINE, own.client.publisher().ready()).await.unwrap().unwrap();
    let mut socket = peer.socket().await;
    socket.subscribe(json!([{ "from": BASE + 1 }])).await;

    let mut builder = Builder { node: &own, executed: BASE, made: 0 };
    let (mut published, mut refused) = (0, 0);
    while builder.executed < BASE + 100 {
        let Some(answer) = builder.round().await else { continue };
        match answer.get("error") {
            None => published += 1,
            Some(error) => {
                // It has signed this height before; what it is told names the block.
                assert_eq!(error["code"], -32020, "{error}");
                let first = own.call("preconf_getCommitment", json!([builder.executed + 1])).await;
                let message = error["message"].as_str().unwrap();
                assert!(message.contains(first["hash"].as_str().unwrap()), "{message}");
                assert!(message.contains("execution node"), "{message}");
                refused += 1;
            }
        }
        // One block in five does not reach its execution node in time.
        if !builder.made.is_multiple_of(5) {
            builder.feed().await;
        }
    }
    assert!(published <= 100 && refused >= 20, "{published} published, {refused} refused");

    // The peer has each height once, and nothing that would prove a misbehaviour.
    for number in BASE + 1..=BASE + 100 {
        let message = socket.message().await;
        let message = if message["kind"] == "waiting" { socket.message().await } else { message };
        assert_eq!((&message["kind"], &message["block"]), (&json!("block"), &json!(quantity(number))));
        let ours = own.call("preconf_getCommitment", json!([number])).await;
        assert_eq!(ours["hash"], message["hash"]);
    }
    for node in [&own, &peer] {
        assert_eq!(node.call("preconf_getEvidence", json!([])).await, json!([]));
        let leniencies = node.call("preconf_status", json!([])).await["leniencies"].clone();
        assert_eq!(leniencies.as_array().unwrap().len(), 1);
    }
    own.stop().await;
    peer.stop().await;
}

/// Each start of the suite plays the same program.
#[test]
fn the_schedule_elects_the_builder_always() {
    let lookahead: Arc<dyn p2p_client::Lookahead> = schedule(&[key(1)]);
    let slot = lookahead.turn(p2p_client::UnixSeconds::new(BASE)).unwrap().unwrap();
    assert_eq!((slot.signer, slot.window.end.get()), (key(1).address(), WINDOW - 1));
}
