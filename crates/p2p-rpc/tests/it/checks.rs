//! What a publication is refused for: each check, its code, and which comes first.

use p2p_client::{Base, PreconfCommitment, Preconfirmation, U256, keccak256, wire::Container as _};
use p2p_fixtures::{BASE, DOMAIN, WINDOW, key};
use serde_json::{Value, json};

use crate::rig::{Block, NOW, World, client_config, params, server_config, sign, txlist, zlib};

/// One thing that can be wrong, at its place in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Ssz,
    Size,
    Hash,
    NamedHash,
    Signature,
    Slasher,
    Timestamp,
    Signer,
    WindowEnd,
    Settled,
    Form,
}

const ALL: [(Fault, i64); 11] = [
    (Fault::Ssz, -32001),
    (Fault::Size, -32001),
    (Fault::Hash, -32001),
    (Fault::NamedHash, -32001),
    (Fault::Signature, -32001),
    (Fault::Slasher, -32005),
    (Fault::Timestamp, -32602),
    (Fault::Signer, -32005),
    (Fault::WindowEnd, -32004),
    (Fault::Settled, -32003),
    (Fault::Form, -32002),
];

/// A publication with these faults and no others.
fn publication(faults: &[Fault]) -> Value {
    let has = |fault| faults.contains(&fault);
    let list = match () {
        () if has(Fault::Size) => vec![1; 2 * 1024 * 1024 + 1].into(),
        () if has(Fault::Form) => zlib(b"no list"),
        () => txlist(&[1; 40]),
    };
    let preconf = Preconfirmation {
        block_number: U256::from(if has(Fault::Settled) { BASE } else { BASE + 1 }),
        timestamp: if has(Fault::Timestamp) { U256::MAX } else { U256::from(BASE + 1) },
        submission_window_end: U256::from(WINDOW - u64::from(!has(Fault::WindowEnd))),
        raw_tx_list_hash: if has(Fault::NamedHash) { keccak256("other") } else { keccak256(&list) },
        ..Default::default()
    };
    let signer = key(if has(Fault::Signer) { 9 } else { 1 });
    let mut signed = if has(Fault::Slasher) {
        PreconfCommitment { preconf, slasher_address: [9; 20].into() }.sign(&signer, &DOMAIN)
    } else {
        sign(preconf, &signer)
    };
    if has(Fault::Signature) {
        // v may be 0 or 1.
        signed.signature.0[64] = 9;
    }
    let mut params = params(&signed, &list);
    if has(Fault::Hash) {
        params[0]["txListHash"] = json!(keccak256("another"));
    }
    if has(Fault::Ssz) {
        let commitment = alloy_primitives::hex::encode_prefixed(&signed.to_ssz()[1..]);
        params[0]["commitment"] = json!(commitment);
    }
    params
}

#[tokio::test]
async fn each_fault_has_its_code_and_the_earlier_one_is_told() {
    let world = World::start().await;
    for (index, (fault, code)) in ALL.into_iter().enumerate() {
        let alone = world.refusal("preconf_publishBlock", publication(&[fault])).await;
        assert_eq!(alone.0, code, "{fault:?}: {alone:?}");
        for (later, _) in &ALL[index + 1..] {
            let both = world.refusal("preconf_publishBlock", publication(&[fault, *later])).await;
            assert_eq!(both.0, code, "{fault:?} before {later:?}: {both:?}");
        }
    }
    // Nothing of all that was kept, and the same block without a fault passes.
    assert_eq!(world.client.chain().head(), None);
    world.call("preconf_publishBlock", publication(&[])).await;
    world.stop().await;
}

#[tokio::test]
async fn a_message_names_what_is_wrong() {
    let world = World::start().await;
    for (fault, words) in [
        (Fault::Size, "2097153 bytes"),
        (Fault::Hash, "txListHash is 0x"),
        (Fault::NamedHash, "the commitment names the transaction list 0x"),
        (Fault::Signature, "v must be 0 or 1"),
        (Fault::Slasher, "the chain's is 0x5151"),
        (Fault::Timestamp, "too new"),
        (Fault::Signer, "elected for 11 is 0x"),
        (Fault::WindowEnd, "submissionWindowEnd is 100000, the window of 11 ends at 99999"),
        (Fault::Settled, "block 10 is not above the settled block 10"),
        (Fault::Form, "not an RLP list"),
    ] {
        let (_, message) = world.refusal("preconf_publishBlock", publication(&[fault])).await;
        assert!(message.contains(words), "{fault:?}: {message}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_block_without_a_list_is_refused() {
    let world = World::start().await;
    let preconf = Preconfirmation {
        block_number: U256::from(BASE + 1),
        timestamp: U256::from(BASE + 1),
        submission_window_end: U256::from(WINDOW - 1),
        ..Default::default()
    };
    let nameless = sign(preconf.clone(), &key(1));
    assert_eq!(world.refusal("preconf_publishBlock", params(&nameless, b"")).await.0, -32001);
    let commitment = json!([{ "commitment": alloy_primitives::hex::encode_prefixed(nameless.to_ssz()) }]);
    assert_eq!(world.refusal("preconf_publishCommitment", commitment).await.0, -32001);
    // A block whose list is empty has no list in it.
    let empty = sign(Preconfirmation { raw_tx_list_hash: keccak256(b""), ..preconf }, &key(1));
    assert_eq!(world.refusal("preconf_publishBlock", params(&empty, b"")).await.0, -32002);
    world.stop().await;
}

/// EOP-only: an empty list with its own hash. The list is not gossiped: there is none.
#[tokio::test]
async fn a_handover_has_an_empty_list() {
    let world = World::start().await;
    let first = Block::after(None, 0);
    world.call("preconf_publishBlock", first.params()).await;
    let preconf = Preconfirmation {
        eop: true,
        block_number: U256::from(first.number() + 1),
        timestamp: U256::from(first.number() + 1),
        submission_window_end: U256::from(WINDOW - 1),
        parent_preconfirmation_hash: first.signed.preconf().hash(),
        ..Default::default()
    };
    let handover = sign(preconf, &key(1));
    let (code, _) = world.refusal("preconf_publishBlock", params(&handover, &first.txlist)).await;
    assert_eq!(code, -32001);
    let published = world.call("preconf_publishBlock", params(&handover, b"")).await;
    assert_eq!(published["commitmentHash"], json!(keccak256(handover.to_ssz())));
    assert_eq!(published["txListHash"], json!(keccak256(b"")));
    assert_eq!(world.call("preconf_tip", json!([])).await, "0xb", "a handover is no block");
    // A block of that window would prove a misbehaviour.
    let after = Block::after(Some(&first), 1);
    let (code, message) = world.refusal("preconf_publishBlock", after.params()).await;
    assert_eq!(code, -32020);
    assert!(message.contains(&handover.preconf().hash().to_string()), "{message}");
    world.stop().await;
}

#[tokio::test]
async fn an_equivocation_is_refused_and_names_the_other_hash() {
    let world = World::start().await;
    let (block, other) = (Block::after(None, 0), Block::after(None, 1));
    world.call("preconf_publishBlock", block.params()).await;
    let (code, message) = world.refusal("preconf_publishBlock", other.params()).await;
    assert_eq!(code, -32020);
    assert!(message.contains(&block.hash()) && message.contains("equivocation"), "{message}");
    // It has left nothing behind.
    assert_eq!(world.call("preconf_getCommitment", json!([other.hash()])).await, Value::Null);
    let again = world.call("preconf_publishBlock", block.params()).await;
    assert_eq!(again["commitmentHash"], json!(keccak256(block.signed.to_ssz())));
    world.stop().await;
}

#[tokio::test]
async fn an_outcome_is_told() {
    let world = World::start().await;
    let block = Block::after(None, 0);
    let mut params = block.params();
    for outcome in ["queued", "alreadyPublished"] {
        let told = world.call("preconf_publishCommitment", params.clone()).await;
        assert_eq!((&told["outcome"], &told["peers"]), (&json!(outcome), &json!(0)), "{told}");
        assert_eq!(told["hash"], block.hash());
    }
    // Unknown fields, among them the hash, are ignored; the list's own hash counts.
    params[0]["txListHash"] = json!("nonsense");
    assert_eq!(world.call("preconf_publishCommitment", params).await["outcome"], "alreadyPublished");
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_is_behind_or_only_follows_says_so() {
    let schedule = p2p_fixtures::schedule(&[key(1)]);
    let world = World::start_with(client_config(7), schedule.clone(), server_config(), None).await;
    assert_eq!(world.refusal("preconf_publishBlock", Block::after(None, 0).params()).await.0, -32021);
    world.stop().await;

    let mut config = client_config(7);
    config.publishing = p2p_client::Publishing::Disabled;
    let world = World::start_with(config, schedule, server_config(), Some(Base::at(BASE))).await;
    assert_eq!(world.refusal("preconf_publishBlock", Block::after(None, 0).params()).await.0, -32022);
    world.stop().await;
}

#[tokio::test]
async fn what_its_parent_or_the_clock_forbids_has_codes_too() {
    let world = World::start().await;
    let orphan = Block::after(Some(&Block::after(None, 5)), 0);
    assert_eq!(world.refusal("preconf_publishBlock", orphan.params()).await.0, -32024);
    let preconf = Preconfirmation {
        block_number: U256::from(BASE + 1),
        timestamp: U256::from(NOW + 1_000),
        submission_window_end: U256::from(WINDOW - 1),
        ..Default::default()
    };
    let early = Block::of(preconf, 0, &key(1));
    assert_eq!(world.refusal("preconf_publishBlock", early.params()).await.0, -32602);
    world.stop().await;
}
