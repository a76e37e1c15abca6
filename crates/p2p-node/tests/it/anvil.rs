//! A local Ethereum node that mines a block a second, and a whitelist on it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use alloy_primitives::{Address, U256, hex, keccak256};
use serde_json::{Value, json};

use crate::rig::within;

/// A node of its own for each test; it ends with it.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) port: u16,
    from: String,
}

impl Anvil {
    /// None where there is no anvil.
    pub(crate) fn start() -> Option<Self> {
        let mut child = Command::new(p2p_fixtures::anvil()?)
            .args(["--port", "0", "--block-time", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.rsplit_once("Listening on 127.0.0.1:")?.1.trim().parse().ok());
        // Whoever writes to a pipe that nobody reads stands still.
        thread::spawn(move || lines.for_each(drop));
        let mut anvil = Self { child, port: port.unwrap(), from: String::new() };
        anvil.from = anvil.rpc("eth_accounts", json!([]))[0].as_str().unwrap().to_owned();
        Some(anvil)
    }

    pub(crate) fn rpc(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: anvil\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The height of the block that a transaction is in.
    fn mined(&self, transaction: Value) -> (u64, Value) {
        let hash = self.rpc("eth_sendTransaction", json!([transaction]));
        let receipt = within("a receipt", || {
            Some(self.rpc("eth_getTransactionReceipt", json!([hash]))).filter(|receipt| !receipt.is_null())
        });
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        (number(&receipt["blockNumber"]), receipt)
    }

    /// Puts a contract on the chain whose constructor takes one word.
    pub(crate) fn deploy(&self, name: &str, word: U256) -> Address {
        let contracts: Value = serde_json::from_str(p2p_fixtures::CONTRACTS).unwrap();
        let code = contracts[name]["bytecode"].as_str().unwrap();
        let data = format!("{code}{}", hex::encode(word.to_be_bytes::<32>()));
        let (_, receipt) = self.mined(json!({ "from": self.from, "data": data, "gas": "0x500000" }));
        receipt["contractAddress"].as_str().unwrap().parse().unwrap()
    }

    /// Calls a function that takes words. Returns the height of its block.
    pub(crate) fn send(&self, to: Address, function: &str, words: &[U256]) -> u64 {
        let mut data = keccak256(function)[..4].to_vec();
        data.extend(words.iter().flat_map(|word| word.to_be_bytes::<32>()));
        let data = hex::encode_prefixed(data);
        self.mined(json!({ "from": self.from, "to": to, "data": data, "gas": "0x200000" })).0
    }

    /// Replaces the blocks from a height on by empty ones.
    pub(crate) fn replace_from(&self, height: u64) {
        let depth = number(&self.rpc("eth_blockNumber", json!([]))) + 1 - height;
        self.rpc("anvil_reorg", json!([depth, []]));
    }

    pub(crate) fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A quantity of JSON-RPC.
fn number(quantity: &Value) -> u64 {
    u64::from_str_radix(quantity.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}
