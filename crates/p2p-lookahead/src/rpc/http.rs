//! JSON-RPC over HTTP with a bound on what an endpoint may answer.

use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use alloy_transport_http::reqwest::{Client, Response};
use tower::Service;
use url::Url;

/// Longest body that is read: 32 MiB. A page of logs, or the transactions of a block, is far below.
pub(super) const MAX_BODY: usize = 32 * 1024 * 1024;

/// An endpoint. alloy's own transport reads a body of any length.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client,
    url: Url,
    limit: usize,
}

impl Http {
    pub(super) fn new(url: Url, limit: usize) -> Self {
        Self { client: Client::new(), url, limit }
    }

    async fn ask(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let call = self.client.post(self.url).headers(request.headers()).json(&request);
        let response = call.send().await.map_err(TransportErrorKind::custom)?;
        let status = response.status();
        let body = body(response, self.limit).await?;
        match serde_json::from_slice::<ResponsePacket>(&body) {
            // Some endpoints answer an error of JSON-RPC with a status that says so as well.
            Ok(answer) if status.is_success() || answer.is_error() => Ok(answer),
            Err(error) if status.is_success() => {
                Err(TransportError::deser_err(error, String::from_utf8_lossy(&body)))
            }
            _ => Err(TransportErrorKind::http_error(status.as_u16(), String::from_utf8_lossy(&body).into())),
        }
    }
}

/// The body, if it is no longer than the limit.
async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(TransportErrorKind::custom)? {
        if body.len().saturating_add(chunk.len()) > limit {
            return Err(TransportErrorKind::custom_str(&format!("an answer of more than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Service<RequestPacket> for Http {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask(request))
    }
}

#[cfg(test)]
mod tests {
    use alloy_rpc_client::ClientBuilder;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Asks an endpoint that answers everything with this.
    async fn asked(status: &'static str, body: String, limit: usize) -> Result<String, TransportError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            // Who has read enough hangs up.
            drop(stream.write_all(body.as_bytes()).await);
        });
        let client = ClientBuilder::default().transport(Http::new(url, limit), true);
        let answer = client.request_noparams("web3_clientVersion").await;
        serving.abort();
        answer
    }

    fn result(text: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":0,"result":"{text}"}}"#)
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_not_read() {
        let body = result(&"a".repeat(100_000));
        let length = body.len();
        assert_eq!(asked("200 OK", body.clone(), length).await.unwrap().len(), 100_000);
        let refused = asked("200 OK", body, length - 1).await.unwrap_err().to_string();
        assert!(refused.contains("more than"), "{refused}");
    }

    #[tokio::test]
    async fn statuses_and_bodies_that_are_no_answer_are_errors() {
        let error = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"no such method"}}"#;
        let answered = asked("404 Not Found", error.into(), 1000).await.unwrap_err();
        assert!(answered.is_error_resp(), "{answered}");
        for (status, body) in [
            ("503 Service Unavailable", result("a")),
            ("200 OK", "<html>".into()),
            ("502 Bad Gateway", "".into()),
        ] {
            let error = asked(status, body, 1000).await.unwrap_err();
            assert!(!error.is_error_resp(), "{error}");
        }
    }
}
