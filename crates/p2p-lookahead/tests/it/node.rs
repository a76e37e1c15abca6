//! A real Ethereum node, and contracts on it.

use std::{
    process::Stdio,
    sync::{Arc, LazyLock},
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_client::{ClientBuilder, RpcClient};
use alloy_sol_types::{SolCall, SolValue, sol};
use p2p_lookahead::{L1Config, L1Event, L1Head, L1Lookahead, L1Service, Source};
use p2p_types::UnixSeconds;
use p2p_validation::{Admission, L1Time, Lookahead};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::broadcast,
    task::JoinHandle,
    time::timeout,
};

sol! {
    function draw(uint256 epoch, address operator);
    function add(address operator);
    function remove(address operator);
    function blacklist(bytes32 root, bool listed);
    struct Slot { address committer; uint256 timestamp; bytes32 registrationRoot; uint256 validatorLeafIndex; }
    function post(uint256 epochTimestamp, Slot[] slots);
    function propose(bytes lookahead, bytes data);
}

/// First second of epoch 0, in the past of every clock.
pub(crate) const GENESIS: u64 = 1_700_000_000;
pub(crate) const CHAIN: u64 = 31_337;
/// How long a test waits for what has to come, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const fn start(epoch: u64) -> u64 {
    GENESIS + 384 * epoch
}

/// Window end of the whitelist in an epoch.
pub(crate) const fn tail(epoch: u64) -> u64 {
    start(epoch + 1) - 12
}

pub(crate) const A: Address = Address::repeat_byte(0xa);
pub(crate) const B: Address = Address::repeat_byte(0xb);
pub(crate) const C: Address = Address::repeat_byte(0xc);

/// A node of its own for each test; it ends with it.
pub(crate) struct Node {
    _child: Child,
    client: RpcClient,
    pub(crate) port: u16,
    from: Address,
}

impl Node {
    /// None where there is no anvil; a failure in CI.
    pub(crate) async fn start() -> Option<Self> {
        Self::with(&[]).await
    }

    /// With more arguments.
    pub(crate) async fn with(arguments: &[&str]) -> Option<Self> {
        let binary = p2p_fixtures::anvil()?;
        let timestamp = GENESIS.to_string();
        let mut child = Command::new(binary)
            .args(["--port", "0", "--no-mining", "--timestamp", &timestamp, "--order", "fifo"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
            if let Some((_, port)) = line.trim().split_once("Listening on 127.0.0.1:") {
                break port.parse().unwrap();
            }
        };
        // Whoever writes to a pipe that nobody reads stands still.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = ClientBuilder::default().http(format!("http://127.0.0.1:{port}").parse().unwrap());
        let mut node = Self { _child: child, client, port, from: Address::ZERO };
        let accounts: Vec<Address> = node.rpc("eth_accounts", json!([])).await;
        node.from = accounts[0];
        Some(node)
    }

    pub(crate) async fn rpc<R: DeserializeOwned + Send + Sync + Unpin + std::fmt::Debug + 'static>(
        &self,
        method: &'static str,
        params: Value,
    ) -> R {
        self.client.request::<Value, R>(method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// Puts a contract into the next block, which is mined. Its constructor takes an address or a number.
    pub(crate) async fn deploy(&self, name: &str, argument: impl SolValue) -> Address {
        static MOCKS: LazyLock<Value> =
            LazyLock::new(|| serde_json::from_str(p2p_fixtures::CONTRACTS).unwrap());
        let code: Bytes = MOCKS[name]["bytecode"].as_str().unwrap().parse().unwrap();
        let data = Bytes::from([code.to_vec(), argument.abi_encode()].concat());
        let transaction = json!([{ "from": self.from, "data": data, "gas": "0x500000" }]);
        let hash: B256 = self.rpc("eth_sendTransaction", transaction).await;
        self.mine().await;
        let receipt: Value = self.rpc("eth_getTransactionReceipt", json!([hash])).await;
        assert_eq!(receipt["status"], "0x1", "{name}");
        receipt["contractAddress"].as_str().unwrap().parse().unwrap()
    }

    /// Has a contract called in the next block.
    pub(crate) async fn send(&self, to: Address, call: impl SolCall) {
        let data = Bytes::from(call.abi_encode());
        let transaction = json!([{ "from": self.from, "to": to, "data": data, "gas": "0x200000" }]);
        let _: B256 = self.rpc("eth_sendTransaction", transaction).await;
    }

    /// The next block, a second after the last one.
    pub(crate) async fn mine(&self) -> L1Head {
        let now = self.head().await.timestamp;
        self.mine_at(now + 1).await
    }

    pub(crate) async fn mine_at(&self, timestamp: u64) -> L1Head {
        let _: Value = self.rpc("evm_mine", json!([timestamp])).await;
        let head = self.head().await;
        assert_eq!(head.timestamp, timestamp);
        head
    }

    /// Blocks every 12 s, up to one at a second.
    pub(crate) async fn mine_to(&self, timestamp: u64) -> L1Head {
        while self.head().await.timestamp + 12 < timestamp {
            let now = self.head().await.timestamp;
            let aligned = now + 12 - (now - GENESIS) % 12;
            self.mine_at(aligned.min(timestamp)).await;
        }
        self.mine_at(timestamp).await
    }

    /// Replaces the last blocks by empty ones. One that was empty already stays the same.
    pub(crate) async fn reorg(&self, depth: u64) {
        let _: Value = self.rpc("anvil_reorg", json!([depth, []])).await;
    }

    pub(crate) async fn head(&self) -> L1Head {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Block {
            number: U64,
            hash: B256,
            parent_hash: B256,
            timestamp: U64,
        }
        let block: Block = self.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
        L1Head {
            number: block.number.to(),
            hash: block.hash,
            parent: block.parent_hash,
            timestamp: block.timestamp.to(),
        }
    }

    /// The whitelist with these operators.
    pub(crate) async fn whitelist(&self, operators: &[Address]) -> Address {
        let whitelist = self.deploy("Whitelist", U256::from(GENESIS)).await;
        for operator in operators {
            self.send(whitelist, addCall { operator: *operator }).await;
        }
        self.mine().await;
        whitelist
    }

    pub(crate) async fn draw(&self, whitelist: Address, epoch: u64, operator: Address) {
        self.send(whitelist, drawCall { epoch: U256::from(epoch), operator }).await;
    }

    pub(crate) async fn post(&self, store: Address, epoch: u64, slots: &[(Address, u64)]) {
        let slot = |(committer, slot): &(Address, u64)| Slot {
            committer: *committer,
            timestamp: U256::from(start(epoch) + 12 * slot),
            registrationRoot: committer.into_word(),
            validatorLeafIndex: U256::ZERO,
        };
        let slots = slots.iter().map(slot).collect();
        self.send(store, postCall { epochTimestamp: U256::from(start(epoch)), slots }).await;
    }

    /// Proposes, with the slots of an epoch in the calldata.
    pub(crate) async fn propose(&self, inbox: Address, epoch: u64, slots: &[(Address, u64)]) {
        let record = |(committer, slot): &(Address, u64)| {
            let timestamp = (start(epoch) + 12 * slot).to_be_bytes();
            [committer.as_slice(), &timestamp[2..], &[0, 0], committer.into_word().as_slice()].concat()
        };
        let next = Bytes::from(slots.iter().flat_map(record).collect::<Vec<u8>>());
        // A struct with bytes in it encodes as a tuple does behind an offset.
        let lookahead = (U256::ZERO, Bytes::new(), next, Bytes::new()).abi_encode().into();
        let data = U256::from(start(epoch)).abi_encode().into();
        self.send(inbox, proposeCall { lookahead, data }).await;
    }

    pub(crate) fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

pub(crate) fn config(endpoints: &[String], source: Source) -> L1Config {
    let endpoints = endpoints.iter().map(|url| url.parse().unwrap()).collect();
    L1Config {
        time: L1Time::ethereum(UnixSeconds::new(GENESIS)),
        poll_interval: Duration::from_millis(20),
        call_timeout: Duration::from_secs(10),
        ..L1Config::recommended(endpoints, CHAIN, UnixSeconds::new(GENESIS), source)
    }
}

/// A schedule that follows a node.
pub(crate) struct Follower {
    pub(crate) lookahead: Arc<L1Lookahead>,
    events: broadcast::Receiver<L1Event>,
    service: JoinHandle<Result<(), p2p_lookahead::L1Error>>,
    /// Every event but heads, in order.
    pub(crate) told: Vec<L1Event>,
}

impl Follower {
    pub(crate) fn start(config: L1Config) -> Self {
        let (lookahead, service): (_, L1Service) = L1Lookahead::start(config).unwrap();
        let events = lookahead.subscribe();
        Self { lookahead, events, service: tokio::spawn(service.run()), told: vec![] }
    }

    /// Follows a whitelist of A and B of which A is removed in the middle of its epoch, 1: the block of the removal, which has
    /// been read.
    pub(crate) async fn of_a_removal(node: &Node) -> (Self, L1Head) {
        let whitelist = node.whitelist(&[A, B]).await;
        let mut follower = Self::start(config(&[node.ws()], Source::Contract(whitelist)));
        follower.reaches(node.mine_to(start(1) + 60).await).await;
        node.send(whitelist, removeCall { operator: A }).await;
        let removed = node.mine_to(start(1) + 72).await;
        follower.reaches(removed).await;
        (follower, removed)
    }

    /// Waits until a block has been read.
    pub(crate) async fn reaches(&mut self, head: L1Head) {
        let reached = async {
            loop {
                match self.events.recv().await.unwrap() {
                    L1Event::Head(at) if at.hash == head.hash => break,
                    L1Event::Head(_) => {}
                    event => self.told.push(event),
                }
            }
        };
        timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("{:?}", self.lookahead.status()));
    }

    /// Who may sign; nobody for what is not known or not open.
    pub(crate) fn who(&self, timestamp: u64, end: u64) -> Vec<Address> {
        match self.ask(timestamp, end) {
            Admission::Open { signers, .. } => signers.as_slice().to_vec(),
            _ => vec![],
        }
    }

    pub(crate) fn ask(&self, timestamp: u64, end: u64) -> Admission {
        self.lookahead.admissible(UnixSeconds::new(timestamp), UnixSeconds::new(end)).unwrap()
    }

    /// Looks again and again until something is so of which nothing tells.
    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let so = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, so).await.unwrap_or_else(|_| panic!("{:?}", self.lookahead.status()));
    }

    /// Asks until it is known.
    pub(crate) async fn comes_to_know(&self, timestamp: u64, end: u64) -> Vec<Address> {
        self.lookahead.request(UnixSeconds::new(timestamp), UnixSeconds::new(end));
        self.until(|follower| follower.ask(timestamp, end) != Admission::NotKnown).await;
        self.who(timestamp, end)
    }

    pub(crate) async fn stop(self) {
        self.service.abort();
        assert!(self.service.await.is_err_and(|error| error.is_cancelled()), "it was still running");
    }
}
