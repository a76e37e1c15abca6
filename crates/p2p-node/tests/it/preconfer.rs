//! `p2p-node preconfer`: a key from a keystore, blocks from a directory.

use std::{fs, path::Path, process::Stdio};

use p2p_types::B256;
use serde_json::{Value, json};

use crate::rig::{LOOPBACK, NODE, Node, ZERO, within};

/// Key 1 of the fixtures, encrypted.
const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"5962077a4566082587737960449956cf"},"ciphertext":"df3083cdf18d1e3242ac46d418089cb5c51312691f02b486131da352001dbdc7","kdf":"scrypt","kdfparams":{"dklen":32,"n":8192,"p":1,"r":8,"salt":"48d4dd02ca86ad5018bda73d8a89de1dd4e0b478ba07b84244fcf1dbf6005e95"},"mac":"675800b871f3cecfb08527b3d106e6be5a87e18f7b0ada5a0141a653ece844f0"},"id":"9e40d7d9-fc01-4e67-aba5-97da52d159a7","version":3}"#;

/// A preconfer's directory: keystore, password, schedule, blocks.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("key.json", KEYSTORE);
        folder.write("password", "correct horse\n");
        let operators = [p2p_fixtures::key(1).address()];
        let schedule = json!({ "genesis": 0, "window": 100_000_000_000_u64, "operators": operators });
        folder.write("schedule.json", &schedule.to_string());
        fs::create_dir(folder.path("blocks")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A file appears in the directory at once.
    fn block(&self, name: &str, block: &Value) {
        self.write("new", &block.to_string());
        fs::rename(self.path("new"), self.path(&format!("blocks/{name}.json"))).unwrap();
    }

    fn node(&self, command: &str, more: &[&str]) -> Node {
        let schedule = format!("rotating:{}", self.path("schedule.json"));
        let base = format!("10:{}", B256::ZERO);
        let chain = [
            command,
            "--domain",
            "placeholder",
            "--slasher",
            ZERO,
            "--lookahead",
            &schedule,
            "--base",
            &base,
        ];
        Node::spawn(NODE, &[&chain[..], &LOOPBACK, more].concat(), Stdio::null())
    }

    fn preconfer(&self) -> Node {
        let [data, key, password, blocks] =
            ["data", "key.json", "password", "blocks"].map(|name| self.path(name));
        let options =
            ["--datadir", &data, "--keystore", &key, "--password-file", &password, "--blocks", &blocks];
        self.node("preconfer", &options)
    }
}

fn is_there(path: &str) -> Option<()> {
    Path::new(path).exists().then_some(())
}

#[test]
fn blocks_of_a_directory_are_signed_and_reach_another_node() {
    let folder = Folder::new();
    folder.block("1", &json!({ "timestamp": 1_000, "gasLimit": 30_000_000, "txlist": "0x0102" }));
    folder.block("2", &json!({ "timestamp": 1_001, "gasLimit": 30_000_000, "txlist": "0x0304" }));
    let mut preconfer = folder.preconfer();
    let peer = preconfer.started()["listen"][0].as_str().unwrap().to_owned();
    within("both are published", || is_there(&folder.path("blocks/2.json.published")));
    let mut follower = folder.node("run", &["--p2p.static", &peer]);
    follower.started();
    // While it runs.
    folder.block("3", &json!({ "eop": true }));
    let ready: Vec<Value> = (0..2).map(|_| follower.event("block_ready")).collect();
    assert_eq!(ready.iter().map(|event| event["block"].as_u64().unwrap()).collect::<Vec<_>>(), [11, 12]);
    assert_eq!(follower.event("handover")["block"], 13);
    within("the handover is published", || is_there(&folder.path("blocks/3.json.published")));
    preconfer.stop();
    follower.stop();
}

#[test]
fn a_block_that_breaks_a_rule_ends_the_node_and_names_its_file() {
    let folder = Folder::new();
    folder.block("1", &json!({ "timestamp": 1_000, "txlist": "0x01" }));
    folder.block("2", &json!({ "timestamp": 1_000, "txlist": "0x02" }));
    let mut preconfer = folder.preconfer();
    assert_eq!(preconfer.ended().code(), Some(1));
    preconfer.logs(&["error", "2.json", "timestamp"]);
    assert!(Path::new(&folder.path("blocks/2.json")).exists(), "what was not published stays");
}

#[test]
fn a_key_that_cannot_be_had_is_one_line() {
    let folder = Folder::new();
    let (key, password, blocks) = (folder.path("key.json"), folder.path("password"), folder.path("blocks"));
    let options = ["--keystore", &key, "--password-file", &password, "--blocks", &blocks];
    let mut forgetful = folder.node("preconfer", &options);
    assert_eq!(forgetful.ended().code(), Some(1));
    forgetful.logs(&["error", "preconfer needs --datadir"]);

    folder.write("password", "wrong horse");
    let mut wrong = folder.preconfer();
    assert_eq!(wrong.ended().code(), Some(1));
    wrong.logs(&["error", "--keystore", "check the file and --password-file"]);

    fs::remove_file(folder.path("password")).unwrap();
    let mut missing = folder.preconfer();
    assert_eq!(missing.ended().code(), Some(1));
    missing.logs(&["error", "--password-file"]);
}
