//! What each target begins with: one file a kind of message, made from fixtures. The tests of this crate say whether those
//! in `corpus` are these, and write them anew.

use flate2::{Compression, write::ZlibEncoder};
use p2p_fixtures::{Block, DOMAIN, key, txlist};
use preconfirmation_types::{
    B256, Container, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHeadRequest,
    GetRawTxListRequest, GetRawTxListResponse, PreconfHead, RawTxListGossip, frame,
};
use std::io::Write as _;

use crate::chain::peer;

/// A file of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The target.
    pub target: &'static str,
    /// The name of the file.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

struct Seeds(Vec<Seed>);

impl Seeds {
    fn add(&mut self, target: &'static str, name: &str, parts: &[&[u8]]) {
        self.0.push(Seed { target, name: name.into(), bytes: parts.concat() });
    }

    /// Texts behind a byte that says of which kind they are.
    fn texts(&mut self, target: &'static str, prefix: &[u8], texts: &[(&str, &str)]) {
        for (name, text) in texts {
            self.add(target, name, &[prefix, text.as_bytes()]);
        }
    }
}

/// All seeds.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = Seeds(Vec::new());
    messages(&mut seeds);
    choices(&mut seeds);
    addresses(&mut seeds);
    of_l1_and_l2(&mut seeds);
    files(&mut seeds);
    seeds.0
}

/// The containers, alone, in frames and as gossip.
fn messages(seeds: &mut Seeds) {
    let blocks = Block::chain(3);
    let signed = blocks[1].signed.clone();
    let list = RawTxListGossip::from(txlist(7, 40));
    let page = blocks.iter().map(|block| block.signed.clone()).collect();
    let page = GetCommitmentsByNumberResponse::new(page).unwrap();
    let page_request =
        GetCommitmentsByNumberRequest { start_block_number: signed.preconf().block_number, max_count: 3 };
    let list_request = GetRawTxListRequest { raw_tx_list_hash: list.raw_tx_list_hash };
    let answer =
        GetRawTxListResponse { raw_tx_list_hash: list.raw_tx_list_hash, txlist: list.txlist.clone() };
    let head = PreconfHead {
        block_number: signed.preconf().block_number,
        submission_window_end: signed.preconf().submission_window_end,
    };
    for (kind, (name, ssz)) in [
        ("preconfirmation", signed.preconf().to_ssz()),
        ("commitment", signed.commitment.to_ssz()),
        ("signed", signed.to_ssz()),
        ("txlist", list.to_ssz()),
        ("head", head.to_ssz()),
        ("page", page.to_ssz()),
        ("page_request", page_request.to_ssz()),
        ("txlist_request", list_request.to_ssz()),
        ("txlist_answer", answer.to_ssz()),
        ("head_request", GetHeadRequest {}.to_ssz()),
    ]
    .into_iter()
    .enumerate()
    {
        let kind = u8::try_from(kind).unwrap();
        seeds.add("wire", name, &[&[kind], &ssz]);
        seeds.add("wire", &format!("{name}_json"), &[&[240 + kind], &ssz]);
        seeds.add("wire_fields", name, &[&[kind, kind, 1], &ssz[..ssz.len().min(24)], &[5, 0, 0, 7, 1]]);
    }
    for (kind, (name, bytes)) in [
        ("head_request", frame::write(&GetHeadRequest {})),
        ("head", frame::write(&head)),
        ("page_request", frame::write(&page_request)),
        ("page", frame::write(&page)),
        ("txlist_request", frame::write(&list_request)),
        ("txlist_answer", frame::write(&answer)),
    ]
    .into_iter()
    .enumerate()
    {
        seeds.add("frame", name, &[&[u8::try_from(kind).unwrap(), 3], &bytes]);
    }
    let control = [0x05, 0x1a, 3, 0x2a, 1, 0];
    seeds.add("gossip_stream", "control", &[&[1, 2], &control, &control]);
    seeds.add("gossip_stream", "publish", &[&[1, 9], &[0x80, 0x01], &[0x12; 128], &control]);
    seeds.add("gossip_stream", "negotiation", &[&[0, 200], b"\x13/multistream/1.0.0\n\x10/ipfs/ping/1.0.0"]);
    let mut twin = signed.to_ssz();
    twin[349] ^= 0x80;
    seeds.add("gossip", "commitment", &[&[0], &signed.to_ssz()]);
    seeds.add("gossip", "twin", &[&[0], &twin]);
    seeds.add("gossip", "txlist", &[&[1], &list.to_ssz()]);
    seeds.add("gossip", "other_topic", &[&[2], &list.to_ssz()]);
    let ssz = signed.to_ssz();
    let len = u16::try_from(ssz.len()).unwrap().to_le_bytes();
    seeds.add("intake", "commitment", &[&[0, 1], &len, &ssz]);
    seeds.add("intake", "known", &[&[6, 1, 1, 0, 3], &[3 + 1, 2, 1, 0, 3], &[9, 1, 4, 0, 5, 0, 40, 1]]);
    seeds.add("storage", "commitment", &[&[2], &[0; 16], &[0, 0, 0, 0, 0, 0, 0, 1], &[3; 20], &ssz[..64]]);
    seeds.add("storage", "record", &[&[1], &[0; 16], &ssz]);
    seeds.add("storage", "evidence", &[&[5], &[1; 20], &[0; 9], &ssz, &ssz]);
    seeds.add("storage", "state", &[&[6], &[2], &[0; 8], &[7; 32], &[0; 16]]);
    seeds.add("storage", "published", &[&[7], &[9; 64]]);
    seeds.add("storage", "packed", &[&[0], &[1, 2, 0, 9, 3, 0, 255, 0, 1]]);
    seeds.add("storage", "promise", &[&[4], &[1; 71]]);
}

/// Targets whose inputs are choices alone.
fn choices(seeds: &mut Seeds) {
    for (name, choices) in [
        ("genuine", &[3, 0][..]),
        ("changed", &[9, 1, 1, 3, 0x10, 40, 1]),
        ("border", &[20, 2, 1, 1, 3, 1]),
        ("half", &[20, 2, 1, 0, 3, 0]),
    ] {
        seeds.add("signature", name, &[choices]);
    }
    let run = |from: u8, to: u8| -> Vec<u8> { (from..to).flat_map(|which| [0, which]).collect() };
    seeds.add("chain", "in_order", &[&[0], &run(0, 24)]);
    seeds.add("chain", "no_base", &[&[8], &run(0, 8), &[22, 0, 0], &run(8, 16)]);
    seeds.add("chain", "small", &[&[3], &run(0, 40)]);
    seeds.add("chain", "pages", &[&[0], &[13, 40, 14, 90, 15, 120, 13, 200, 31, 2, 13, 255]]);
    seeds.add("chain", "l1", &[&[0], &run(0, 20), &[24, 2, 25, 1, 24, 0, 0, 30, 25, 0]]);
    seeds.add("chain", "schedule", &[&[0], &run(0, 20), &[27, 0, 1, 27, 0, 2, 31, 2, 27, 0, 0]]);
    seeds.add(
        "chain",
        "bases",
        &[&[0], &run(0, 20), &[22, 3, 3, 22, 5, 1, 22, 0, 0, 23, 2, 1, 7], &run(20, 30)],
    );
    seeds.add("chain", "published", &[&[0], &[17, 0, 1, 17, 1, 0, 18, 2, 1, 28, 0, 17, 3, 1, 20, 3]]);
    seeds.add("chain", "lists", &[&[4], &[20, 0, 1, 20, 1, 2, 0, 1, 0, 2, 21, 3, 3, 30, 60, 30, 60]]);
}

fn addresses(seeds: &mut Seeds) {
    let record = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFzntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8";
    let rlp = record.parse::<discv5::Enr>().map(alloy_rlp::encode).unwrap_or_default();
    seeds.add("enr", "bytes", &[&[0], &rlp]);
    seeds.add("enr", "text", &[&[1], record.as_bytes()]);
    let values =
        [[1, 4, 9, 9, 0, 1].as_slice(), &[5, 2, 0x23, 0x28], &[7, 2, 0x23, 0x29], &[0, 3, 2, 0x8c, 0x58]];
    seeds.add("enr", "signed", &[&[2], &[0; 8], &values.concat()]);
    let of = peer(1);
    let tcp = format!("/ip4/9.9.0.1/tcp/9222/p2p/{of}");
    let enode = format!("enode://{}@9.9.0.1:30303?discport=30301", "ab".repeat(64));
    seeds.texts(
        "bootnode",
        &[],
        &[("record", record), ("peer", &tcp), ("enode", &enode), ("contact", "/ip4/9.9.0.1/udp/9222")],
    );
    seeds.texts("address", &[1], &[("text", &tcp), ("dns", "/dns4/a.example/udp/1/quic-v1")]);
    seeds.texts("address", &[2], &[("range", "10.0.0.0/8"), ("range6", "2001:db8::/32")]);
    seeds.add("address", "bytes", &[&[0], &tcp.parse::<libp2p::Multiaddr>().unwrap().to_vec()]);
    seeds.texts(
        "agent",
        &[100, 0, 100, 0],
        &[
            ("limit", "node/1.0 requests=2048/4000ms"),
            ("deployed", "taiko-client/1"),
            ("zero", "requests=0/0ms"),
        ],
    );
    let book =
        [[0, 1, 0, 2, 3, 1, 9, 2].as_slice(), &[3, 2, 1, 3, 1, 0, 1, 1, 4, 1], &[6, 1, 0], &[7, 0, 0, 5]];
    seeds.add("peer_book", "some", &[&book.concat(), &book.concat()]);
    let peers = format!(
        r#"{{"version":1,"chain_id":7,"peers":[{{"peer":"{of}","addresses":["/ip4/9.9.0.1/tcp/1"],"last_seen":3}}]}}"#
    );
    seeds.texts("peers_file", &[], &[("one", &peers)]);
}

fn of_l1_and_l2(seeds: &mut Seeds) {
    let hash = format!("{:#x}", B256::repeat_byte(7));
    let address = "0x1111111111111111111111111111111111111111";
    let log = format!(
        r#"{{"address":"{address}","topics":["{hash}"],"data":"0x01","blockNumber":"0x5","blockHash":"{hash}","transactionHash":"{hash}"}}"#
    );
    let header =
        format!(r#"{{"number":"0x5","hash":"{hash}","parentHash":"{hash}","timestamp":"0x65000000"}}"#);
    seeds.add("l1_answer", "words", &[&[0], &[0; 12], &[0x11; 20]]);
    seeds.texts("l1_answer", &[1], &[("log", &log)]);
    seeds.texts("l1_answer", &[2], &[("header", &header)]);
    // Generation, time, topics, contract, length of the data, words, calldata.
    let event = |generation, topic, rest: &[u8]| [&[generation, 1, 2, topic, 3, 0, 0, 1][..], rest].concat();
    seeds.add("l1_event", "v1", &[&event(1, 0, &[0, 1, 2, 2, 128, 129, 200])]);
    seeds.add("l1_event", "v2", &[&event(2, 1, &[1, 3, 2, 7, 8, 9, 2, 1, 160, 5, 2, 170, 6])]);
    seeds.add("l1_event", "whitelist", &[&event(0, 2, &[])]);
    let saved = format!(
        r#"{{"facts":{{"5":[{{"operator":{{"epoch":1,"from":0,"signer":"{address}"}}}},{{"posting":{{"epoch":1,"slots":[{{"committer":"{address}","timestamp":1000396,"root":"{hash}"}}]}}}},{{"standing":{{"root":"{hash}","from":3,"counts":false}}}}]}},"scanned":[1],"headers":[{{"number":5,"hash":"{hash}","parent":"{hash}","timestamp":1000390}}]}}"#
    );
    for generation in 0..3 {
        let prefix = [&[generation, 1, 1][..], &[0; 8]].concat();
        seeds.texts("l1_saved", &prefix, &[(&format!("generation{generation}"), &saved)]);
    }
    let block = format!(
        r#"{{"number":"0x5","hash":"{hash}","timestamp":"0x65","miner":"{address}","gasLimit":"0x1c9c380","transactions":["{hash}"]}}"#
    );
    seeds.texts("l2_block", &[0, 0], &[("block", &block)]);
    seeds.texts("l2_block", &[1], &[("origin", r#"{"blockID":"0x1f4"}"#), ("number", r#"{"blockID":500}"#)]);
    seeds.add("l2_block", "anchor", &[&[2, 1, 1, 0], &[0; 4], &[0; 31], &[9]]);
    let rlp = [0xc7, 0xc2, 1, 2, 0x83, 0x02, 0xc1, 0x05];
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&rlp).unwrap();
    seeds.add("txlist", "packed", &[&[0], &zlib.finish().unwrap()]);
    seeds.add("txlist", "unpacked", &[&[1], &rlp]);
    seeds.add("txlist", "both", &[&[2], &rlp]);
}

fn files(seeds: &mut Seeds) {
    let address = key(1).address();
    let slots = format!(
        r#"[{{"signer":"{address}","start":10,"end":19}},{{"signer":"{address}","start":20,"end":29}}]"#
    );
    let rotation = format!(r#"{{"genesis":0,"window":100,"operators":["{address}","{address}"]}}"#);
    seeds.texts("schedule", &[[1].as_slice(), &[7; 8]].concat(), &[("slots", &slots)]);
    seeds.texts("schedule", &[[0].as_slice(), &[7; 8]].concat(), &[("rotation", &rotation)]);
    let network = format!(
        "chain_id = 7\ndomain = \"placeholder\"\nslasher = \"none\"\n[l1]\nchain_id = 31337\ngenesis = 1700000000\nslot_seconds = 1\nslots_per_epoch = 8\nlookahead = \"{address}\"\n[l2]\nanchor_gas = 1000\nanchor_call = {{ selector = \"0x01020304\", word = 2 }}\n"
    );
    seeds.texts("network_file", &[], &[("private", &network)]);
    let config = "network = \"hoodi\"\ndatadir = \"data\"\n[p2p]\nlisten.tcp = 9222\nbootnodes = [\"enr:-x\"]\n[log]\nlevel = 'info'\n";
    seeds.texts("config", &[0], &[("keys", config)]);
    seeds.texts("config", &[255], &[("values", config)]);
    let of = peer(1);
    let hash = format!("{:#x}", B256::repeat_byte(7));
    seeds.texts(
        "option",
        &[],
        &[
            ("base", &format!("7:{hash}")),
            ("peer", "/ip4/10.0.0.7/tcp/9222"),
            ("rate", &format!("{of}=100/10")),
            ("lookahead", "rotating:a.json"),
            ("domain", &hash),
            ("slasher", &address.to_string()),
        ],
    );
    seeds.texts(
        "key",
        &[],
        &[("secp256k1", &"42".repeat(32)), ("ed25519", &format!("ed25519:0x{}\n", "07".repeat(32)))],
    );
    let block = Block::after(None, 1);
    let header = format!(
        r#"{{"version":1,"domain":"{DOMAIN}","lowest":3,"base":{{"number":2,"hash":null}},"head":null}}"#
    );
    let mut line = serde_json::to_value(&block.signed).unwrap();
    line["kind"] = "commitment".into();
    let list = format!(r#"{{"kind":"txlist","block":5,"hash":"{hash}","txlist":"0x0102"}}"#);
    let ssz = alloy_primitives::hex::encode(block.signed.to_ssz());
    seeds.texts("export", &[0], &[("header", &header)]);
    seeds.texts("export", &[1], &[("commitment", &line.to_string()), ("txlist", &list)]);
    seeds.texts("export", &[2], &[("block", &format!(r#"{{"commitment":"0x{ssz}","txlist":"0x0102"}}"#))]);
    seeds.texts("export", &[3], &[("status", r#"{"version":"0.1","head":{"number":5}}"#)]);
    let promises = format!(
        "{{\"format\":\"preconfirmation-promises\",\"version\":1,\"chain_id\":7,\"domain\":\"{DOMAIN}\",\"pruned_below\":0}}\n{{\"signer\":\"{address}\",\"window_end\":99,\"block\":5,\"hash\":\"{hash}\",\"eop\":true,\"eop_only\":false}}\n"
    );
    seeds.texts("promises", &[], &[("one", &promises)]);
    let publish = format!(r#"[{{"commitment":"0x{ssz}","txList":"0x0102"}}]"#);
    seeds.texts(
        "rpc",
        &[255],
        &[
            ("status", r#"{"jsonrpc":"2.0","id":1,"method":"preconf_status","params":[]}"#),
            ("batch", r#"[{"jsonrpc":"2.0","id":1,"method":"preconf_tip"}]"#),
            (
                "publish",
                &format!(
                    r#"{{"jsonrpc":"2.0","id":"a","method":"preconf_publishBlock","params":{publish}}}"#
                ),
            ),
            ("peers", r#"{"jsonrpc":"2.0","id":1,"method":"opp2p_peers","params":[true]}"#),
        ],
    );
    for method in 0..40 {
        seeds.add("rpc", &format!("method{method}"), &[&[method], br#"["0x5"]"#]);
    }
}
