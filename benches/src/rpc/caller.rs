//! Callers of the server: a connection that is kept, and a subscriber.

use std::{net::SocketAddr, time::Instant};

use futures::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use super::PATIENCE;

/// A connection over HTTP, which is used for one call after the other.
pub(super) struct Caller {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Caller {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), address }
    }

    /// The status and the body of an answer to a call for this host, with this header more.
    pub(super) async fn send(
        &mut self,
        host: Option<&str>,
        header: Option<&str>,
        body: &str,
    ) -> (u16, String) {
        let address = self.address.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{}{}content-length: {}\r\n\r\n",
            host.unwrap_or(&address),
            header.unwrap_or_default(),
            if header.is_some() { "\r\n" } else { "" },
            body.len()
        );
        let request = [head.as_bytes(), body.as_bytes()].concat();
        timeout(PATIENCE, self.exchange(&request)).await.unwrap().unwrap()
    }

    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<(u16, String)> {
        // Whoever is refused may be hung up on while it still speaks.
        let _sent = self.stream.write_all(request).await.is_ok();
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let text = line.trim_end().to_ascii_lowercase();
            if let Some(told) = text.strip_prefix("http/1.1 ") {
                status = told.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or_default();
            } else if let Some(told) = text.strip_prefix("content-length:") {
                length = told.trim().parse().unwrap_or_default();
            } else if text.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Calls, and gives the run up where that fails.
    pub(super) async fn call(&mut self, body: &str) {
        let (status, answer) = self.send(None, None, body).await;
        assert!(status == 200 && answer.contains(r#""result""#), "{status}: {answer}");
    }
}

/// A WebSocket.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(super) async fn socket(address: SocketAddr) -> Socket {
    tokio_tungstenite::connect_async(format!("ws://{address}")).await.unwrap().0
}

/// Subscribes to blocks from a height on.
pub(super) async fn subscribe(address: SocketAddr, from: u64) -> Socket {
    let mut socket = socket(address).await;
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"preconf_subscribe","params":[{{"from":{from}}}]}}"#);
    socket.send(Message::text(call)).await.unwrap();
    let answered = async {
        loop {
            // Beside pings.
            if let Message::Text(answer) = socket.next().await.unwrap().unwrap() {
                return answer;
            }
        }
    };
    let answer = timeout(PATIENCE, answered).await.unwrap();
    assert!(answer.contains(r#""result""#), "{answer}");
    socket
}

/// A message of a subscription, as far as it is looked at.
#[derive(Deserialize)]
struct Notified {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    result: Told,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    kind: String,
    #[serde(default)]
    block: String,
}

/// When each of so many blocks from a height on was here, complete. All come, once and in order.
pub(super) async fn blocks(mut socket: Socket, from: u64, count: usize) -> Vec<Instant> {
    let mut arrived = Vec::with_capacity(count);
    while arrived.len() < count {
        let message = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        let Message::Text(text) = message else { continue };
        let at = Instant::now();
        let Told { kind, block } = serde_json::from_str::<Notified>(&text).unwrap().params.result;
        if kind == "block" {
            let expected = from + u64::try_from(arrived.len()).unwrap();
            assert_eq!(block, format!("{expected:#x}"), "a gap or a duplicate");
            arrived.push(at);
        }
    }
    arrived
}
