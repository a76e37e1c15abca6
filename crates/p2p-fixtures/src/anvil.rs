//! A local Ethereum node for tests, and contracts to put on it.

#![allow(clippy::panic, clippy::disallowed_methods, reason = "it watches another process in real time")]
#![allow(clippy::must_use_candidate, reason = "they are called for what they do to the chain")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, SolValue};
use serde_json::{Value, json};

/// By name, the ABI and the bytecode of the contracts in `contracts/Mocks.sol`: `Inbox`, `Whitelist`, `StoreV1`, `StoreV2`.
pub const CONTRACTS: &str = include_str!("../contracts/mocks.json");

/// How long a test waits for what comes within seconds on a machine that is not busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// The calls of the contracts that change something.
#[allow(missing_docs, reason = "they are named as in `Mocks.sol`")]
pub mod calls {
    alloy_sol_types::sol! {
        function setEpochSeconds(uint256 seconds_);
        function draw(uint256 epoch, address operator);
        function add(address operator);
        function remove(address operator);
        struct Slot { address committer; uint256 timestamp; bytes32 registrationRoot; uint256 validatorLeafIndex; }
        function post(uint256 epochTimestamp, Slot[] slots);
        function propose(bytes lookahead, bytes data);
    }
}

/// The program of anvil: the one that `cargo xtask anvil` has installed, or the first in `PATH`. None where there is none,
/// which a test says and passes.
///
/// # Panics
/// Where there is none and `CI` is `true`: a gate tests everything.
#[must_use]
pub fn anvil() -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/anvil/node_modules/@foundry-rs");
    let installed = fs::read_dir(packages).into_iter().flatten().flatten().map(|package| package.path());
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<_> = env::split_paths(&path).map(|folder| folder.join("anvil")).collect();
    let found = installed.map(|package| package.join("bin/anvil")).chain(in_path).find(|file| file.is_file());
    let is_gate = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(found.is_some() || !is_gate, "no anvil: `cargo xtask anvil` installs it");
    if found.is_none() {
        eprintln!("skipped: no anvil; `cargo xtask anvil` installs it");
    }
    found
}

/// A local Ethereum node of a process of its own that mines a block a second. It ends with this.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    port: u16,
    from: Address,
}

impl Anvil {
    /// None where there is no [`anvil`].
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::with(&["--block-time", "1"])
    }

    /// The execution node of a rollup: it mines when it is told to, and the block that it calls safe is `behind` its head.
    #[must_use]
    pub fn rollup(chain_id: u64, genesis: u64, behind: u64) -> Option<Self> {
        let [chain_id, genesis, behind] = [chain_id, genesis, behind].map(|number| number.to_string());
        let chain = ["--chain-id", &chain_id, "--timestamp", &genesis, "--slots-in-an-epoch", &behind];
        Self::with(&[&chain[..], &["--no-mining"]].concat())
    }

    fn with(arguments: &[&str]) -> Option<Self> {
        let mut child = Command::new(anvil()?)
            .args(["--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.rsplit_once("Listening on 127.0.0.1:")?.1.trim().parse().ok());
        // Whoever writes to a pipe that nobody reads stands still.
        thread::spawn(move || lines.for_each(drop));
        let mut anvil = Self { child, port: port.unwrap(), from: Address::ZERO };
        let accounts = anvil.rpc("eth_accounts", json!([]));
        anvil.from = accounts.get(0).and_then(Value::as_str).unwrap().parse().unwrap();
        Some(anvil)
    }

    /// What it answers.
    pub fn rpc(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
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
        let mut answer: Value = serde_json::from_str(body).unwrap();
        match answer.get_mut("result") {
            Some(result) => result.take(),
            None => panic!("{method}: {answer}"),
        }
    }

    /// The height of its head.
    pub fn height(&self) -> u64 {
        number(&self.rpc("eth_blockNumber", json!([])))
    }

    /// Mines a block with a timestamp.
    pub fn mine_at(&self, timestamp: u64) {
        self.rpc("evm_mine", json!([timestamp]));
    }

    /// Puts a contract on the chain. Its constructor takes an address or a number.
    pub fn deploy(&self, name: &str, argument: impl SolValue) -> Address {
        let contracts: Value = serde_json::from_str(CONTRACTS).unwrap();
        let code = contracts.get(name).and_then(|contract| contract.get("bytecode")?.as_str()).unwrap();
        let code: Bytes = code.parse().unwrap();
        let data = Bytes::from([code.to_vec(), argument.abi_encode()].concat());
        let receipt = self.mined(&json!({ "from": self.from, "data": data, "gas": "0x500000" }));
        receipt.get("contractAddress").and_then(Value::as_str).unwrap().parse().unwrap()
    }

    /// Has a contract called. Returns the height of the block that does.
    pub fn send(&self, to: Address, call: impl SolCall) -> u64 {
        let data = Bytes::from(call.abi_encode());
        let receipt = self.mined(&json!({ "from": self.from, "to": to, "data": data, "gas": "0x200000" }));
        number(receipt.get("blockNumber").unwrap())
    }

    fn mined(&self, transaction: &Value) -> Value {
        let (hash, end) = (self.rpc("eth_sendTransaction", json!([transaction])), Instant::now() + DEADLINE);
        let receipt = loop {
            let receipt = self.rpc("eth_getTransactionReceipt", json!([hash]));
            if !receipt.is_null() {
                break receipt;
            }
            assert!(Instant::now() < end, "{transaction} is not mined");
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(receipt.get("status").and_then(Value::as_str), Some("0x1"), "{receipt}");
        receipt
    }

    /// Replaces the blocks from a height on by empty ones. Returns how many. None is mined meanwhile.
    pub fn replace_from(&self, height: u64) -> u64 {
        self.rpc("evm_setIntervalMining", json!([0]));
        let depth = self.height() + 1 - height;
        self.rpc("anvil_reorg", json!([depth, []]));
        self.rpc("evm_setIntervalMining", json!([1]));
        depth
    }

    /// Has the slots of an epoch posted by a store of the first generation: who, and at which second.
    pub fn post(&self, store: Address, epoch_start: u64, slots: &[(Address, u64)]) -> u64 {
        let slot = |(committer, timestamp): &(Address, u64)| calls::Slot {
            committer: *committer,
            timestamp: U256::from(*timestamp),
            registrationRoot: committer.into_word(),
            validatorLeafIndex: U256::ZERO,
        };
        let slots = slots.iter().map(slot).collect();
        self.send(store, calls::postCall { epochTimestamp: U256::from(epoch_start), slots })
    }

    /// Has them posted by a store of the second generation, with a proposal that has them in its calldata.
    pub fn propose(&self, inbox: Address, epoch_start: u64, slots: &[(Address, u64)]) -> u64 {
        let record = |(committer, timestamp): &(Address, u64)| {
            let [_, _, timestamp @ ..] = timestamp.to_be_bytes();
            [committer.as_slice(), &timestamp, &[0, 0], committer.into_word().as_slice()].concat()
        };
        let next = Bytes::from(slots.iter().flat_map(record).collect::<Vec<u8>>());
        // A struct with bytes in it encodes as a tuple does behind an offset.
        let lookahead = (U256::ZERO, Bytes::new(), next, Bytes::new()).abi_encode().into();
        self.send(inbox, calls::proposeCall { lookahead, data: U256::from(epoch_start).abi_encode().into() })
    }

    /// Where it is asked and polled.
    #[must_use]
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it tells of new heads.
    #[must_use]
    pub fn ws(&self) -> String {
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
