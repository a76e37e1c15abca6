//! Callers that send what they should not. Each is told so, and the next one is answered as ever.

use std::{collections::HashSet, time::Duration};

use futures::SinkExt as _;
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, tungstenite::Message};

use crate::rig::{Block, DEADLINE, Socket, World, http};

const JSON: &str = "content-type: application/json";

/// The code of an answer to something that is no call.
async fn code(world: &World, body: &str) -> i64 {
    let (_, answer) = world.post(body).await;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    // A batch is answered by a list.
    let answer = answer.get(0).unwrap_or(&answer);
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn what_is_no_call_is_an_error_with_its_code() {
    let world = World::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, expected) in [
        ("{", -32700),
        ("{\"jsonrpc\":", -32700),
        ("nonsense", -32700),
        ("\u{feff}{}", -32700),
        ("{}", -32700),
        (r#"{"jsonrpc":"1.0","id":1,"method":"preconf_tip"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"preconf_nothing"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"preconf_tip","params":{"a":1}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"preconf_getTxList","params":{"hash":"0x00"}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"preconf_getTxList","params":["0x00"]}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"preconf_getTxList","params":[]}"#, -32602),
        (&deep, -32600),
    ] {
        assert_eq!(code(&world, body).await, expected, "{body:.80}");
    }
    assert_eq!(world.call("preconf_tip", json!([])).await, "0xa");
    world.stop().await;
}

#[tokio::test]
async fn a_publication_of_wrong_form_is_refused() {
    let world = World::start().await;
    let good = Block::after(None, 0).params();
    let with = |field: &str, value: Value| {
        let mut params = good.clone();
        params[0][field] = value;
        params
    };
    let cut = |field: &str, digits: usize| {
        let hex = good[0][field].as_str().unwrap();
        with(field, json!(hex[..hex.len() - digits]))
    };
    for (params, expected) in [
        (cut("commitment", 2), -32001),
        (cut("commitment", 1), -32602),
        (with("commitment", json!("0x")), -32001),
        (with("commitment", json!("0xzz")), -32602),
        (with("commitment", json!(7)), -32602),
        (cut("txListHash", 2), -32602),
        (with("txListHash", json!(null)), -32602),
        (with("txList", json!(null)), -32602),
        (json!([good[0], good[0]]), -32602),
        (json!([[]]), -32602),
        (json!([]), -32602),
        (good[0].clone(), -32602),
    ] {
        let (code, message) = world.refusal("preconf_publishBlock", params.clone()).await;
        assert_eq!(code, expected, "{params:.200}: {message}");
        assert!(message.len() < 1024, "{} bytes", message.len());
    }
    world.call("preconf_publishBlock", with("unknown", json!("ignored"))).await;
    world.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let world = World::start().await;
    // The largest list there may be fits; its digits alone are 4 MiB.
    let largest = json!([{
        "commitment": "0x", "txListHash": format!("0x{}", "0".repeat(64)),
        "txList": format!("0x{}", "0".repeat(2 * 2 * 1024 * 1024)),
    }]);
    assert_eq!(world.refusal("preconf_publishBlock", largest).await.0, -32001);
    let (status, body) = world.post(&" ".repeat(4_325_379)).await;
    assert_eq!(status, 413);
    assert!(body.contains("-32007"), "{body}");
    let mut socket = world.socket().await;
    socket.send(" ".repeat(4_325_379)).await;
    assert_eq!(socket.next().await.unwrap()["error"]["code"], -32007);
    let batch: Vec<_> =
        (0..10_000).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "preconf_tip" })).collect();
    assert_eq!(code(&world, &json!(batch).to_string()).await, -32010);
    let (_, answers) = world.post(&json!(batch[..100]).to_string()).await;
    let answers: Vec<Value> = serde_json::from_str(&answers).unwrap();
    assert!(answers.len() == 100 && answers.iter().all(|answer| answer["result"] == "0xa"));
    world.stop().await;
}

#[tokio::test]
async fn other_requests_than_posts_of_json_are_refused() {
    let world = World::start().await;
    let host = format!("host: {}", world.handle.address());
    let tip = r#"{"jsonrpc":"2.0","id":1,"method":"preconf_tip"}"#;
    for (line, header, expected) in [
        ("GET / HTTP/1.1", JSON, 405),
        ("PUT / HTTP/1.1", JSON, 405),
        ("OPTIONS / HTTP/1.1", JSON, 405),
        // What a web page may send anywhere without asking.
        ("POST / HTTP/1.1", "content-type: text/plain", 415),
        ("POST / HTTP/1.1", "accept: */*", 415),
    ] {
        let (status, _) = http(world.handle.address(), line, &[&host, header], tip).await;
        assert_eq!(status, expected, "{line} {header}");
    }
    world.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_so() {
    let world = World::start().await;
    let mut sockets = Vec::new();
    for _ in 0..64 {
        sockets.push(world.socket().await);
    }
    // Whoever comes now is told at once, however many come.
    let (status, body) = world.post("{}").await;
    assert_eq!(status, 429, "{body}");
    let refused = tokio_tungstenite::connect_async(format!("ws://{}", world.handle.address())).await;
    assert!(refused.unwrap_err().to_string().contains("429"));
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(world.handle.address()).await.unwrap());
    }
    // The sockets that were there first are served all the same.
    assert_eq!(sockets[0].ask("preconf_tip", json!([])).await["result"], "0xa");
    // Beyond what is told, connections are closed without a word.
    let last = silent.last_mut().unwrap();
    assert_eq!(timeout(DEADLINE, last.read(&mut [0])).await.unwrap().unwrap_or_default(), 0);
    drop((sockets, silent));
    let served = async {
        while world.post(r#"{"jsonrpc":"2.0","id":1,"method":"preconf_tip"}"#).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, served).await.unwrap();
    world.stop().await;
}

/// It fills the line and not the memory; what it has asked is answered when it reads.
#[tokio::test]
async fn a_caller_that_only_sends_is_not_read() {
    const MANY: u64 = 1_000_000;
    let world = World::start().await;
    // With small buffers on its side, so that the line is soon full.
    let line = TcpSocket::new_v4().unwrap();
    line.set_recv_buffer_size(4096).unwrap();
    line.set_send_buffer_size(4096).unwrap();
    let line = MaybeTlsStream::Plain(line.connect(world.handle.address()).await.unwrap());
    let url = format!("ws://{}", world.handle.address());
    let mut socket = Socket(tokio_tungstenite::client_async(url, line).await.unwrap().0);
    let mut sent = 0;
    loop {
        let call = json!({ "jsonrpc": "2.0", "id": sent, "method": "preconf_status" });
        let message = Message::text(call.to_string());
        // The last one may have been sent or not.
        if timeout(Duration::from_secs(2), socket.0.send(message)).await.is_err() {
            break;
        }
        sent += 1;
        assert!(sent < MANY, "the server reads however much comes");
    }
    assert_eq!(world.call("preconf_tip", json!([])).await, "0xa");
    let mut unanswered: HashSet<u64> = (0..sent).collect();
    while !unanswered.is_empty() {
        unanswered.remove(&socket.next().await.unwrap()["id"].as_u64().unwrap());
    }
    world.stop().await;
}
