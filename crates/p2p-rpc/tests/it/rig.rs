//! A client with a server, and callers.

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use alloy_primitives::hex;
use flate2::{Compression, write::ZlibEncoder};
use futures::{SinkExt as _, StreamExt as _};
use p2p_client::{
    Base, Bytes, Keypair, P2pClient, P2pClientConfig, PreconfCommitment, Preconfirmation, Publishing,
    SignedCommitment, SigningKey, U256, UnixSeconds, keccak256, validation::Lookahead, wire::Container as _,
};
use p2p_fixtures::{BASE, CHAIN, DOMAIN, SLASHER, WINDOW, key, rules, schedule};
use p2p_rpc::{Namespace, RpcConfig, RpcHandle, RpcServer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// For what takes milliseconds on a machine that is not busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The clock of clients whose blocks are the fixtures'.
pub(crate) const NOW: u64 = 50_000;

/// A client and its server.
pub(crate) struct World {
    pub(crate) client: P2pClient,
    pub(crate) handle: RpcHandle,
    serving: JoinHandle<()>,
}

/// How a client of the fixtures' chain is set.
pub(crate) fn client_config(identity: u8) -> P2pClientConfig {
    P2pClientConfig::local(CHAIN, Keypair::ed25519_from_bytes([identity; 32]).unwrap(), rules())
        .with_publishing(Publishing::GuardedUntilRestart)
        .with_clock(|| UnixSeconds::new(NOW))
}

/// A server on a free port.
pub(crate) fn server_config() -> RpcConfig {
    RpcConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))).with_namespaces(Namespace::ALL.iter().copied())
}

impl World {
    /// The fixtures' chain, with its base declared, whose only preconfer is the first key.
    pub(crate) async fn start() -> Self {
        Self::start_with(client_config(7), schedule(&[key(1)]), server_config(), Some(Base::at(BASE))).await
    }

    pub(crate) async fn start_with(
        client: P2pClientConfig,
        lookahead: Arc<dyn Lookahead>,
        server: RpcConfig,
        base: Option<Base>,
    ) -> Self {
        let client = P2pClient::start(client, lookahead).await.unwrap();
        if let Some(base) = base {
            client.chain().l2_synced(base).await.unwrap();
            timeout(DEADLINE, client.publisher().ready()).await.unwrap().unwrap();
        }
        let (handle, server) = RpcServer::bind(server, client.clone()).await.unwrap();
        Self { client, handle, serving: tokio::spawn(server.run()) }
    }

    /// Stops the server and the client, and checks that both end.
    pub(crate) async fn stop(self) {
        timeout(DEADLINE, self.handle.stop()).await.unwrap();
        timeout(DEADLINE, self.serving).await.unwrap().unwrap();
        self.client.shutdown().await.unwrap();
    }

    /// The whole answer to a call.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (status, body) = self.post(&request.to_string()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The result of a call that succeeds.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The code and the message of a call that fails.
    pub(crate) async fn refusal(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.ask(method, params).await;
        let error = answer.get("error").unwrap_or_else(|| panic!("{method}: {answer}"));
        assert_eq!(error.as_object().unwrap().len(), 2, "code and message alone: {error}");
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
    }

    /// The code of a call that fails, whoever answers.
    pub(crate) async fn refusal_code(&self, method: &str, params: Value) -> i64 {
        self.ask(method, params).await["error"]["code"].as_i64().unwrap()
    }

    pub(crate) async fn post(&self, body: &str) -> (u16, String) {
        self.post_with(&["content-type: application/json"], body).await
    }

    /// Posts with these headers beside `Host` and the length.
    pub(crate) async fn post_with(&self, headers: &[&str], body: &str) -> (u16, String) {
        let host = format!("host: {}", self.handle.address());
        let headers = [&[host.as_str()], headers].concat();
        http(self.handle.address(), "POST / HTTP/1.1", &headers, body).await
    }

    pub(crate) async fn socket(&self) -> Socket {
        Socket::connect(self.handle.address()).await
    }
}

/// The status and the body of an HTTP answer.
pub(crate) async fn http(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{line}\r\n{}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            headers.join("\r\n"),
            body.len()
        );
        // Whoever is refused may be hung up on while it still speaks.
        let _sent = stream.write_all(format!("{head}{body}").as_bytes()).await.is_ok();
        let mut answer = Vec::new();
        let _read = stream.read_to_end(&mut answer).await.is_ok();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    };
    timeout(DEADLINE, exchange).await.unwrap()
}

/// A WebSocket of a caller.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}")).await.unwrap();
        Self(socket)
    }

    pub(crate) async fn send(&mut self, text: String) {
        timeout(DEADLINE, self.0.send(Message::text(text))).await.unwrap().unwrap();
    }

    /// The next message that is JSON; none after the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let next = async {
            loop {
                match self.0.next().await?.ok()? {
                    Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                    Message::Close(_) => return None,
                    _ => {}
                }
            }
        };
        timeout(DEADLINE, next).await.unwrap()
    }

    /// The answer to a call. There must be no subscription, whose messages could come before it.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string()).await;
        let answer = self.next().await.unwrap();
        assert_eq!(answer["id"], 7, "{answer}");
        answer
    }

    /// Subscribes.
    pub(crate) async fn subscribe(&mut self, params: Value) {
        let answer = self.ask("preconf_subscribe", params).await;
        assert!(answer.get("result").is_some(), "{answer}");
    }

    /// The next message of a subscription.
    pub(crate) async fn message(&mut self) -> Value {
        let message = self.next().await.unwrap();
        assert_eq!(message["method"], "preconf_subscription", "{message}");
        message["params"]["result"].clone()
    }
}

/// A block with a list of the form that chains have.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) signed: SignedCommitment,
    pub(crate) txlist: Bytes,
}

impl Block {
    /// The block after another, or after the base, of the first key. Another salt makes another block.
    pub(crate) fn after(parent: Option<&Self>, salt: u8) -> Self {
        let number = parent.map_or(BASE, Self::number) + 1;
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(number),
            submission_window_end: U256::from(WINDOW - 1),
            parent_preconfirmation_hash: parent
                .map(|parent| parent.signed.preconf().hash())
                .unwrap_or_default(),
            ..Default::default()
        };
        Self::of(preconf, salt, &key(1))
    }

    /// With a list that has the salt in it.
    pub(crate) fn of(preconf: Preconfirmation, salt: u8, signer: &SigningKey) -> Self {
        let txlist = txlist(&[salt; 40]);
        let preconf = Preconfirmation { raw_tx_list_hash: keccak256(&txlist), ..preconf };
        Self { signed: sign(preconf, signer), txlist }
    }

    pub(crate) fn chain(length: usize) -> Vec<Self> {
        std::iter::successors(Some(Self::after(None, 0)), |last| Some(Self::after(Some(last), 0)))
            .take(length)
            .collect()
    }

    /// Blocks on top of each other with lists of so many bytes, which do not shrink.
    pub(crate) fn chain_of(length: usize, bytes: usize) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::new();
        while chain.len() < length {
            let Self { signed, .. } = Self::after(chain.last(), 0);
            let mut seed = signed.preconf().block_number.to::<u64>();
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed.to_be_bytes()[0]
            })
            .take(bytes)
            .collect();
            let txlist = txlist(&noise);
            let preconf =
                Preconfirmation { raw_tx_list_hash: keccak256(&txlist), ..signed.preconf().clone() };
            chain.push(Self { signed: sign(preconf, &key(1)), txlist });
        }
        chain
    }

    pub(crate) fn number(&self) -> u64 {
        self.signed.preconf().block_number.to()
    }

    pub(crate) fn hash(&self) -> String {
        self.signed.preconf().hash().to_string()
    }

    /// As `preconf_publishBlock` takes it.
    pub(crate) fn params(&self) -> Value {
        params(&self.signed, &self.txlist)
    }
}

pub(crate) fn sign(preconf: Preconfirmation, signer: &SigningKey) -> SignedCommitment {
    PreconfCommitment { preconf, slasher_address: SLASHER }.sign(signer, &DOMAIN)
}

/// As `preconf_publishBlock` takes it.
pub(crate) fn params(signed: &SignedCommitment, txlist: &[u8]) -> Value {
    json!([{
        "commitment": hex::encode_prefixed(signed.to_ssz()),
        "txListHash": keccak256(txlist),
        "txList": hex::encode_prefixed(txlist),
    }])
}

/// A compressed RLP list of one transaction.
pub(crate) fn txlist(transaction: &[u8]) -> Bytes {
    zlib(&alloy_rlp::encode(vec![Bytes::copy_from_slice(transaction)]))
}

pub(crate) fn zlib(bytes: &[u8]) -> Bytes {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(bytes).unwrap();
    zlib.finish().unwrap().into()
}

/// A height as it is answered.
pub(crate) fn quantity(number: u64) -> String {
    format!("{number:#x}")
}
