//! One endpoint: connected when it is needed, asked with a deadline, never trusted about its chain.

use std::time::Duration;

use alloy_primitives::{B256, U64};
use alloy_pubsub::Subscription;
use alloy_rpc_client::{ClientBuilder, RpcClient};
use alloy_transport::{RpcError, TransportError};
use alloy_transport_ws::{WebSocketConfig, WsConnect};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::timeout};
use url::Url;

use super::{
    RawHeader,
    http::{Http, MAX_BODY},
};
use crate::L1Error;

/// Longest text of an endpoint's that is shown.
const SHOWN: usize = 200;

pub(super) struct Endpoint {
    url: Url,
    chain_id: u64,
    deadline: Duration,
    client: Mutex<Option<RpcClient>>,
}

impl Endpoint {
    pub(super) fn new(url: Url, chain_id: u64, deadline: Duration) -> Self {
        Self { url, chain_id, deadline, client: Mutex::new(None) }
    }

    /// Scheme, host and port: user, password and path may be secrets.
    pub(super) fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{host}{port}", self.url.scheme())
    }

    pub(super) fn subscribes(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    /// Asks, within the deadline. After a failure the next question connects anew.
    pub(super) async fn request<R: DeserializeOwned + Send + Sync + Unpin + std::fmt::Debug + 'static>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R, L1Error> {
        let answer = timeout(self.deadline, async {
            let client = self.connected().await?;
            client.request::<Value, R>(method, params).await.map_err(|error| self.failure(error))
        });
        let answer = answer.await.unwrap_or(Err(L1Error::Timeout(self.deadline)));
        self.disconnect_after(answer).await
    }

    /// Subscribes to new heads.
    pub(super) async fn heads(&self) -> Result<Subscription<RawHeader>, L1Error> {
        let subscription = timeout(self.deadline, async {
            let client = self.connected().await?;
            let mut call = client.request::<Value, B256>("eth_subscribe", json!(["newHeads"]));
            call.set_is_subscription();
            let id = call.await.map_err(|error| self.failure(error))?;
            let frontend = client.pubsub_frontend().ok_or_else(|| self.transport("no subscriptions"))?;
            let subscription = frontend.get_subscription(id).await;
            subscription.map(Into::into).map_err(|error| self.failure(error))
        });
        let subscription = subscription.await.unwrap_or(Err(L1Error::Timeout(self.deadline)));
        self.disconnect_after(subscription).await
    }

    async fn connected(&self) -> Result<RpcClient, L1Error> {
        let mut connected = self.client.lock().await;
        if let Some(client) = connected.as_ref() {
            return Ok(client.clone());
        }
        let client = if self.subscribes() {
            // A connection that breaks is ours to replace, with whichever endpoint answers.
            let bounds =
                WebSocketConfig::default().max_message_size(Some(MAX_BODY)).max_frame_size(Some(MAX_BODY));
            let connect = WsConnect::new(self.url.as_str()).with_config(bounds).with_max_retries(0);
            ClientBuilder::default().pubsub(connect).await.map_err(|error| self.failure(error))?
        } else {
            ClientBuilder::default().transport(Http::new(self.url.clone(), MAX_BODY), false)
        };
        let actual = client.request::<Value, U64>("eth_chainId", json!([])).await;
        let actual: U64 = actual.map_err(|error| self.failure(error))?;
        let (expected, actual) = (self.chain_id, actual.to());
        if actual != expected {
            return Err(L1Error::ChainId { expected, actual });
        }
        *connected = Some(client.clone());
        Ok(client)
    }

    async fn disconnect_after<T>(&self, answer: Result<T, L1Error>) -> Result<T, L1Error> {
        if answer.as_ref().is_err_and(L1Error::is_of_endpoint) {
            self.disconnect().await;
        }
        answer
    }

    pub(super) async fn disconnect(&self) {
        *self.client.lock().await = None;
    }

    fn failure(&self, error: TransportError) -> L1Error {
        match error {
            RpcError::ErrorResp(payload) => {
                L1Error::Refused { code: payload.code, message: self.shown(&payload.message) }
            }
            other => self.transport(&other.to_string()),
        }
    }

    fn transport(&self, text: &str) -> L1Error {
        L1Error::Transport(self.shown(text))
    }

    /// What an endpoint or its client says, in short, on one line and without what is secret of the URL.
    fn shown(&self, text: &str) -> Box<str> {
        let (url, name) = (&self.url, self.name());
        let mut text = text.replace(url.as_str(), &name);
        for secret in
            [url.query(), url.password(), Some(url.path()), Some(url.username())].into_iter().flatten()
        {
            if secret.len() > 1 {
                text = text.replace(secret, "…");
            }
        }
        text.chars().filter(|c| !c.is_control()).take(SHOWN).collect::<String>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_named_without_its_secrets() {
        let name = |url: &str| Endpoint::new(url.parse().unwrap(), 1, Duration::MAX).name();
        assert_eq!(name("https://user:secret@rpc.example.org/v2/key?token=1"), "https://rpc.example.org");
        assert_eq!(name("ws://127.0.0.1:8546/key"), "ws://127.0.0.1:8546");
    }

    #[test]
    fn errors_are_short_on_one_line_and_without_secrets() {
        let url: Url = "https://user:password@rpc.example.org/v2/key?token=1".parse().unwrap();
        let endpoint = Endpoint::new(url.clone(), 1, Duration::MAX);
        let text = endpoint.transport(&format!("a\nb{}", "c".repeat(500))).to_string();
        assert_eq!((text.len(), text.contains('\n')), (SHOWN, false));
        let told = [
            format!("error sending request for url ({url})"),
            "GET /v2/key as user with password, token=1".into(),
        ];
        for text in told.map(|text| endpoint.transport(&text).to_string()) {
            assert!(
                !["key", "user", "password", "token"].iter().any(|secret| text.contains(secret)),
                "{text}"
            );
        }
    }
}
