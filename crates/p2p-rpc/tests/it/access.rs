//! Who is answered, and what is served.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use p2p_client::Base;
use p2p_fixtures::{BASE, key, schedule};
use p2p_rpc::{JwtSecret, Namespace, RpcConfig, RpcError, RpcServer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::{client::IntoClientRequest as _, http::HeaderValue};

use crate::rig::{DEADLINE, World, client_config, http, server_config};

const TIP: &str = r#"{"jsonrpc":"2.0","id":1,"method":"preconf_tip","params":[]}"#;
const JSON: &str = "content-type: application/json";

async fn world(config: RpcConfig) -> World {
    World::start_with(client_config(7), schedule(&[key(1)]), config, Some(Base::at(BASE))).await
}

#[tokio::test]
async fn a_foreign_host_or_a_web_page_is_refused() {
    let world = world(server_config().with_hosts(["node.example".to_owned()])).await;
    let post = async |headers: &[&str]| http(world.handle.address(), "POST / HTTP/1.1", headers, TIP).await;
    for host in ["host: 127.0.0.1", "host: localhost:8550", "host: node.example"] {
        assert_eq!(post(&[host, JSON]).await.0, 200, "{host}");
    }
    for host in ["host: evil.example", "host: evil.example:8550", "x-host: 127.0.0.1"] {
        let (status, body) = post(&[host, JSON]).await;
        assert_eq!(status, 403, "{host}");
        assert!(body.contains("Host"), "{body}");
    }
    let origin = "origin: http://evil.example";
    assert_eq!(post(&["host: 127.0.0.1", origin, JSON]).await.0, 403);
    // A browser sends a WebSocket's handshake to any host, without asking first.
    let mut request = format!("ws://{}", world.handle.address()).into_client_request().unwrap();
    request.headers_mut().insert("origin", HeaderValue::from_static("http://evil.example"));
    let error = tokio_tungstenite::connect_async(request).await.unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn with_a_secret_only_its_tokens_are_answered() {
    let secret = JwtSecret::from_bytes(&[3; 32]).unwrap();
    let world = world(server_config().with_secret(secret.clone())).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let bearer = |secret: &JwtSecret, now| format!("authorization: Bearer {}", secret.token(now).unwrap());
    assert_eq!(world.post_with(&[JSON, &bearer(&secret, now)], TIP).await.0, 200);
    let other = JwtSecret::from_bytes(&[4; 32]).unwrap();
    for headers in [
        vec![JSON.to_owned()],
        vec![JSON.to_owned(), bearer(&other, now)],
        vec![JSON.to_owned(), bearer(&secret, now - 300)],
        vec![JSON.to_owned(), bearer(&secret, now + 300)],
        vec![JSON.to_owned(), "authorization: Bearer nonsense".into()],
    ] {
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let (status, body) = world.post_with(&headers, TIP).await;
        assert_eq!(status, 401, "{headers:?}: {body}");
        assert!(!body.contains("jsonrpc"), "{body}");
    }
    // So it is for a WebSocket.
    let url = format!("ws://{}", world.handle.address());
    let error = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    let mut request = url.into_client_request().unwrap();
    let token = format!("Bearer {}", secret.token(now).unwrap());
    request.headers_mut().insert("authorization", token.parse().unwrap());
    assert!(tokio_tungstenite::connect_async(request).await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn another_address_than_loopback_needs_a_secret() {
    let world = World::start().await;
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = RpcServer::bind(RpcConfig::new(everywhere), world.client.clone()).await;
    assert!(matches!(refused, Err(RpcError::SecretRequired { address }) if address == everywhere));
    let secret = JwtSecret::from_bytes(&[3; 32]).unwrap();
    let config = RpcConfig::new(everywhere).with_secret(secret);
    assert!(RpcServer::bind(config, world.client.clone()).await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let world = World::start().await;
    let taken = RpcConfig::new(world.handle.address());
    let refused = RpcServer::bind(taken, world.client.clone()).await;
    assert!(matches!(refused, Err(RpcError::Bind { .. })));
    world.stop().await;
}

#[tokio::test]
async fn a_namespace_that_is_off_is_not_there() {
    let names = |document: &Value| -> Vec<String> {
        let methods = document["methods"].as_array().unwrap();
        methods.iter().map(|method| method["name"].as_str().unwrap().to_owned()).collect()
    };
    for only in Namespace::ALL {
        let world = world(server_config().with_namespaces([*only])).await;
        let document = world.call("rpc.discover", json!([])).await;
        let prefix = format!("{only}_");
        assert!(names(&document).iter().all(|name| name.starts_with(&prefix)), "{document}");
        let answer = world.ask("preconf_tip", json!([])).await;
        match only {
            Namespace::Preconf => assert_eq!(answer["result"], "0xa"),
            _ => assert_eq!(answer["error"]["code"], -32601),
        }
        world.stop().await;
    }
}

/// A request whose head the server has read when it is told to stop, and whose body comes later.
#[tokio::test]
async fn a_stop_answers_what_is_running_and_closes_the_rest() {
    let world = World::start().await;
    let address = world.handle.address();
    let mut idle = world.socket().await;
    let mut running = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\n{JSON}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        TIP.len()
    );
    running.write_all(head.as_bytes()).await.unwrap();
    let mut read = [0; 25];
    timeout(DEADLINE, running.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(&read, b"HTTP/1.1 100 Continue\r\n\r\n");

    let handle = world.handle.clone();
    let stopping = tokio::spawn(async move { handle.stop().await });
    let closed = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(DEADLINE, closed).await.unwrap();
    assert_eq!(idle.next().await, None);
    assert!(!stopping.is_finished());
    running.write_all(TIP.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, running.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#""result":"0xa"}"#), "{answer}");
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
    world.stop().await;
}
