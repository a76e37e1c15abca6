//! Endpoints that fail in every way that was seen.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use p2p_lookahead::{L1Config, Source};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::node::{A, B, Follower, Node, config, start, tail};

/// What stands between the service and its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Good,
    /// Closes every connection.
    Dead,
    /// Accepts, reads, and never answers.
    Hung,
    /// Answers queries for logs of more than ten blocks with an error.
    Narrow,
    /// Claims to be another chain.
    Liar,
    /// Has come to the third block and no further.
    Behind,
    /// Answers with the first block, whichever is asked for by number.
    OtherBlocks,
    /// Claims that its head is of the year 2100.
    FarFuture,
    /// Is synchronizing itself.
    Syncing,
}

/// An HTTP endpoint before a node, in a mood.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    mood: AtomicU8,
    refused: AtomicU64,
    /// What `taiko_headL1Origin` answers, which the node behind does not serve.
    origin: Mutex<Option<u64>>,
}

impl Endpoint {
    pub(crate) async fn before(node: &Node, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mood, refused) = (AtomicU8::new(mood as u8), AtomicU64::new(0));
        let shared = Arc::new(Shared { mood, refused, origin: Mutex::new(None) });
        let (port, serving) = (node.port, Arc::clone(&shared));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { drop(serve(stream, port, &shared).await) });
            }
        });
        Self { url, shared, task }
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::Relaxed);
    }

    /// From now on this is the last block that came from L1.
    pub(crate) fn originates(&self, block: u64) {
        *self.shared.origin.lock().unwrap() = Some(block);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request after the other, for as long as the mood is good.
async fn serve(mut stream: TcpStream, port: u16, shared: &Shared) -> std::io::Result<()> {
    while let Some(body) = request(&mut stream).await? {
        let now = shared.mood.load(Ordering::Relaxed);
        let is = |mood: Mood| now == mood as u8;
        if is(Mood::Dead) {
            return Ok(());
        }
        if is(Mood::Hung) {
            std::future::pending::<()>().await;
        }
        let mut asked: serde_json::Value = serde_json::from_slice(&body)?;
        if asked["method"] == "eth_getBlockByNumber" {
            let number = &mut asked["params"][0];
            match *number == "latest" {
                true if is(Mood::Behind) => *number = "0x3".into(),
                false if is(Mood::OtherBlocks) => *number = "0x1".into(),
                _ => {}
            }
        }
        let (id, body) = (&asked["id"], serde_json::to_vec(&asked)?);
        let result = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let origin = shared.origin.lock().unwrap().filter(|_| asked["method"] == "taiko_headL1Origin");
        let asks_for_head = asked["method"] == "eth_getBlockByNumber" && asked["params"][0] == "latest";
        let answer = if is(Mood::FarFuture) && asks_for_head {
            let mut answer: serde_json::Value = serde_json::from_str(&forward(port, &body).await?)?;
            answer["result"]["timestamp"] = "0xf4865700".into();
            answer.to_string()
        } else if is(Mood::Liar) && asked["method"] == "eth_chainId" {
            result(r#""0x1""#)
        } else if let Some(origin) = origin {
            result(&format!(r#"{{"blockID":"{origin:#x}","l1BlockHeight":"0x7"}}"#))
        } else if is(Mood::Syncing) && asked["method"] == "eth_syncing" {
            result(r#"{"startingBlock":"0x0","currentBlock":"0x1","highestBlock":"0x9"}"#)
        } else if is(Mood::Narrow) && is_wide(&asked) {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32005,"message":"range too wide"}}}}"#)
        } else {
            forward(port, &body).await?
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

fn is_wide(asked: &serde_json::Value) -> bool {
    let number = |field: &str| {
        let text = asked["params"][0][field].as_str()?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    asked["method"] == "eth_getLogs"
        && number("fromBlock").zip(number("toBlock")).is_some_and(|(from, to)| to - from >= 10)
}

/// The body of the next request.
async fn request(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            while bytes.len() < end + 4 + length {
                if stream.read_buf(&mut bytes).await? == 0 {
                    return Ok(None);
                }
            }
            return Ok(Some(bytes.split_off(end + 4)));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// What the node answers.
async fn forward(port: u16, body: &[u8]) -> std::io::Result<String> {
    let mut node = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    node.write_all(head.as_bytes()).await?;
    node.write_all(body).await?;
    Ok(String::from_utf8_lossy(&request(&mut node).await?.unwrap_or_default()).into_owned())
}

/// Two endpoints before one node, of which the first is to fail.
async fn two(mood: Mood) -> Option<(Node, [Endpoint; 2], L1Config)> {
    let node = Node::start().await?;
    let whitelist = node.whitelist(&[A]).await;
    let endpoints = [Endpoint::before(&node, mood).await, Endpoint::before(&node, Mood::Good).await];
    let urls = endpoints.each_ref().map(|endpoint| endpoint.url.clone());
    let mut config = config(&urls, Source::Contract(whitelist));
    config.call_timeout = Duration::from_secs(1);
    Some((node, endpoints, config))
}

#[tokio::test]
async fn an_endpoint_that_dies_or_hangs_gives_way_to_the_next() {
    for failing in [Mood::Dead, Mood::Hung] {
        let Some((node, endpoints, config)) = two(Mood::Good).await else { return };
        let mut follower = Follower::start(config);
        follower.reaches(node.mine_to(start(1)).await).await;
        assert!(follower.lookahead.status().endpoints[0].in_use);
        endpoints[0].turn(failing);
        follower.reaches(node.mine_to(start(2)).await).await;
        let status = follower.lookahead.status();
        assert!(status.endpoints[1].in_use && status.endpoints[0].failure.is_some(), "{status:?}");
        assert_eq!(follower.who(start(2), tail(2)), [A]);
        // The other way round.
        endpoints[0].turn(Mood::Good);
        endpoints[1].turn(failing);
        follower.reaches(node.mine_to(start(3)).await).await;
        assert_eq!(follower.who(start(3), tail(3)), [A]);
        follower.stop().await;
    }
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_never_followed() {
    let Some((node, endpoints, config)) = two(Mood::Liar).await else { return };
    let mut follower = Follower::start(config);
    follower.reaches(node.mine_to(start(1)).await).await;
    let status = follower.lookahead.status();
    let failure = status.endpoints[0].failure.clone().unwrap();
    assert!(failure.contains("chain 1, not 31337"), "{failure}");
    assert!(status.endpoints[1].in_use);
    drop(endpoints);
    follower.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_answers_with_other_blocks_gives_way() {
    let Some((node, endpoints, config)) = two(Mood::OtherBlocks).await else { return };
    node.mine_to(start(3)).await;
    let mut follower = Follower::start(config);
    follower.reaches(node.mine_to(start(3) + 24).await).await;
    let status = follower.lookahead.status();
    let failure = status.endpoints[0].failure.clone().unwrap();
    assert!(failure.contains("another block"), "{failure}");
    assert!(status.endpoints[1].in_use, "{status:?}");
    assert_eq!(follower.who(start(3) + 12, tail(3)), [A]);
    drop(endpoints);
    follower.stop().await;
}

#[tokio::test]
async fn an_endpoint_from_the_future_makes_no_other_one_old() {
    let Some((node, endpoints, config)) = two(Mood::FarFuture).await else { return };
    let mut follower = Follower::start(config);
    follower.reaches(node.mine_to(start(1)).await).await;
    let status = follower.lookahead.status();
    let failure = status.endpoints[0].failure.clone().unwrap();
    assert!(failure.contains("ahead of the clock"), "{failure}");
    assert!(status.endpoints[1].in_use && status.endpoints[1].failure.is_none(), "{status:?}");
    assert_eq!(follower.who(start(1) + 9, tail(1)), [A]);
    drop(endpoints);
    follower.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_falls_behind_gives_way_and_is_no_reorg() {
    let Some((node, endpoints, config)) = two(Mood::Good).await else { return };
    let mut follower = Follower::start(config);
    follower.reaches(node.mine_to(start(1)).await).await;
    endpoints[0].turn(Mood::Behind);
    follower.until(|follower| follower.lookahead.status().endpoints[0].failure.is_some()).await;
    follower.reaches(node.mine_to(start(2)).await).await;
    let status = follower.lookahead.status();
    let failure = status.endpoints[0].failure.clone().unwrap();
    assert!(failure.contains("older"), "{failure}");
    assert_eq!((status.endpoints[1].in_use, status.reorgs), (true, 0));
    assert_eq!(follower.who(start(1) + 9, tail(1)), [A], "what was known still is");
    follower.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_ranges_is_asked_for_smaller_ones() {
    let Some(node) = Node::start().await else { return };
    let whitelist = node.whitelist(&[A]).await;
    let store = node.deploy("StoreV1", whitelist).await;
    node.mine_to(start(1) + 12).await;
    node.post(store, 2, &[(B, 4)]).await;
    node.mine_to(start(2)).await;
    let endpoint = Endpoint::before(&node, Mood::Narrow).await;
    let mut follower = Follower::start(config(std::slice::from_ref(&endpoint.url), Source::Contract(store)));
    follower.reaches(node.head().await).await;
    assert_eq!(follower.who(start(2), start(2) + 48), [B]);
    assert!(endpoint.shared.refused.load(Ordering::Relaxed) > 0);
    follower.stop().await;
}

#[tokio::test]
async fn what_is_known_is_answered_while_no_endpoint_is() {
    let Some((node, endpoints, config)) = two(Mood::Good).await else { return };
    let mut follower = Follower::start(config);
    follower.reaches(node.mine_to(start(1)).await).await;
    endpoints.iter().for_each(|endpoint| endpoint.turn(Mood::Dead));
    let head = node.mine_to(start(2)).await;
    let all_fail = |follower: &Follower| {
        follower.lookahead.status().endpoints.iter().all(|endpoint| endpoint.failure.is_some())
    };
    follower.until(all_fail).await;
    assert_eq!(follower.who(start(1) + 100, tail(1)), [A]);
    assert_eq!(follower.who(start(2), tail(2)), [A], "foretold");
    assert_eq!(follower.ask(start(3), tail(3)), p2p_validation::Admission::NotKnown);
    endpoints[1].turn(Mood::Good);
    follower.reaches(head).await;
    assert!(!follower.who(start(3), tail(3)).is_empty());
    follower.stop().await;
}
